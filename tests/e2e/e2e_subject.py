"""Erasure by subject: what is found about a person, in whose documents, and what erasing it leaves."""
import json

import house as h
from house import check, expect, expect_equal, refusal

ABOUT = {
    "full": "Quentin Marlowe-Übel repaired the harbour clock in spring.",
    "case": "the invoice went to QUENTIN MARLOWE ÜBEL on friday",
    "inverted": "Index of members: Marlowe-Übel, Quentin (since 2001).",
    "initial": "Signed in haste, Q. Marlowe-Übel.",
    "possessive": "Nobody liked Marlowe-Ubel's parrot.",
    "hyphenated": "The letter was addressed to Quentin Marlowe-\nÜbel himself.",
    "misspelt": "We owe Quentin Marlowe-Übell four crowns.",
    "ties": "Quentin Marlowe-Übel, also known as Brasswhistle, can be reached at clock.fixer@harbour.example "
            "or +49 30 5550 1234.",
    "alias": "Brasswhistle came by again and left his ladder.",
    "mail": "Forward all complaints to clock.fixer@harbour.example, please.",
    "phone": "Rang (+49) 30-55501234 twice without an answer.",
}
NOT_ABOUT = {
    "else": "Rosalind Ferrante teaches algebra at the upper school.",
    "namesake": "Ottilie Marlowe-Übel sells cheese in the market.",
    "weather": "Rain is expected over the western islands until Tuesday.",
}
SUBJECT = "Quentin Marlowe-Übel"


def fill(client, **header):
    return ({k: client.store(k, v, **header) for k, v in ABOUT.items()},
            {k: client.store(k, v, **header) for k, v in NOT_ABOUT.items()})


def find(client, text=SUBJECT):
    return list(client.erasure.FindSubject(client.pb.FindSubjectRequest(text=text), timeout=h.CALL_S).candidates)


def likely(found):
    return {c.document for c in found if c.likely}


def confirm(client, documents, text=SUBJECT):
    return client.erase(subject=client.pb.ConfirmedSubject(text=text, documents=documents))


@check("subject", subject_erases_first_only="still served")
def subject(scene):
    """All variants are found with their reason and span; one erasure takes what was confirmed, in every store."""
    town = h.Town(scene.house())
    mine, others = fill(town.ada)
    group = town.ada.store("minutes", ABOUT["full"], owner="group:oncall")
    found = find(town.ada)
    names = {v: k for k, v in [*mine.items(), *others.items(), ("group", group)]}
    expect_equal(sorted(names[d] for d in likely(found)), sorted([*mine, "group"]), "found about the subject")
    reasons = {names[c.document]: c.reason for c in found}

    for name, reason in (("full", 4), ("alias", 3), ("mail", 2), ("phone", 2)):
        expect_equal(reasons[name], reason, f"the reason of {name}")
    for c in found:
        text = {**ABOUT, **NOT_ABOUT, "group": ABOUT["full"]}[names[c.document]].encode()
        expect(all(s.start < s.end <= len(text) for s in c.spans) and c.spans, "spans lie in the text")
    one = [c for c in found if names[c.document] == "full"][0]
    expect_equal(ABOUT["full"].encode()[one.spans[0].start:one.spans[0].end].decode(), SUBJECT, "the span's text")
    late = town.ada.store("late", ABOUT["full"])
    done = confirm(town.ada, sorted(likely(found)) + ["0" * 32])
    expect_equal(set(done.documents), likely(found), "erased")
    expect_equal(list(done.remaining), [late], "new since it was shown")
    receipt = json.loads(done.receipt)
    expect('"kind":"subject"' in json.dumps(receipt, separators=(",", ":")) or '\\"kind\\":\\"subject\\"' in done.receipt,
           "the receipt's kind")
    for name, document in [*mine.items(), ("group", group)]:
        expect_equal(refusal(lambda d=document: town.ada.get(d)), "NOT_FOUND", f"{name} is still served")
    expect_equal(refusal(lambda: town.bob.get(group)), "NOT_FOUND", "the group's document is still served")
    for name, document in others.items():
        expect_equal(town.ada.get(document).decode().strip(), NOT_ABOUT[name].strip(), "what is not about it stays")
    file = scene.write("receipt", done.receipt)
    scene.write("receipt.opening", json.dumps({"salt": done.salt, "target": done.target}))
    verdict = town.house.lethe(None, "verify", file, "--key", town.house.key)
    expect(verdict.json["valid"] and verdict.json["opened"], f"the receipt verifies: {verdict.out}")
    town.house.restart()
    town.again()
    expect_equal(refusal(lambda: town.ada.get(mine["full"])), "NOT_FOUND", "erased, after a restart")
    expect_equal(town.ada.get(late).decode().strip(), ABOUT["full"], "unconfirmed, after a restart")


@check("subject_of_others", subject_reads_shared="others' documents|somebody else's")
def subject_of_others(scene):
    """Only one's own and one's groups' documents are looked at, and nobody else's changes what is found."""
    town = h.Town(scene.house())
    mine, _ = fill(town.ada)
    before = [(c.document, c.score, c.words, c.likely) for c in find(town.ada)]
    shared = [town.bob.store(f"bob/{k}", v, share=["user:ada"]) for k, v in ABOUT.items()]
    private = [town.cay.store(f"cay/{k}", v) for k, v in ABOUT.items()]
    expect_equal([(c.document, c.score, c.words, c.likely) for c in find(town.ada)], before,
                 "found before and after others' documents came")
    expect_equal(refusal(lambda: confirm(town.ada, shared + private)), "NOT_FOUND",
                 "confirming somebody else's documents")
    for d in shared:
        town.bob.get(d)
    for d in private:
        town.cay.get(d)
    expect(set(mine.values()) >= likely(find(town.ada)), "all that is found is one's own")
    for bad in ("", "x" * 257, "?!", "a"):
        expect_equal(refusal(lambda b=bad: find(town.ada, b)), "INVALID_ARGUMENT", f"a subject of {len(bad)} bytes")
    expect_equal(refusal(lambda: confirm(town.ada, [])), "INVALID_ARGUMENT", "nothing confirmed")
    expect_equal(refusal(lambda: confirm(town.ada, ["0" * 32] * 1025)), "INVALID_ARGUMENT", "too much confirmed")
    expect(refusal(lambda: find(town.operator)) is not None, "the operator finds nothing")


@check("subject_verb")
def subject_verb(scene):
    """lethe erase subject shows and erases nothing without --yes; weak ones only with --include-similar."""
    town = h.Town(scene.house())
    mine, others = fill(town.ada)
    weak = town.ada.store("given", "Then Quentin said goodbye.")
    ada = town.token["ada"]
    shown = town.house.lethe(ada, "erase", "subject", SUBJECT)
    expect_equal(shown.code, 0, "showing")
    by_id = {c["document"]: c for c in shown.json["candidates"]}
    expect(set(mine.values()) <= set(by_id) and weak in by_id, "all are shown")
    expect_equal((by_id[weak]["likely"], by_id[weak]["reason"]), (False, "name"), "the given name alone")
    plain = town.house.lethe(ada, "erase", "subject", SUBJECT, json_out=False)
    expect(plain.code == 0 and "perhaps" in plain.out and "COMPLETE" not in plain.out, "shown without a terminal")
    for d in mine.values():
        town.ada.get(d)
    file = scene.path("receipt")
    done = town.house.lethe(ada, "erase", "subject", SUBJECT, "--yes", "--receipt", file)
    expect_equal(done.code, 0, "erasing: " + done.err)
    for d in mine.values():
        expect_equal(refusal(lambda x=d: town.ada.get(x)), "NOT_FOUND", "after --yes")
    town.ada.get(weak)
    expect_equal(town.house.lethe(None, "verify", file, "--key", town.house.key).code, 0, "verify")
    town.ada.store("again", ABOUT["full"])
    expect_equal(town.house.lethe(ada, "erase", "subject", SUBJECT, "--yes", "--include-similar").code, 0, "similar too")
    expect_equal(refusal(lambda: town.ada.get(weak)), "NOT_FOUND", "after --include-similar")
    for name in ("else", "weather"):
        town.ada.get(others[name])
    nothing = town.house.lethe(ada, "erase", "subject", "Ebenezer Nowhere", "--yes")
    expect_equal((nothing.code, nothing.json["error"]["code"]), (1, "NOT_FOUND"), "nothing found")
