"""Tombstones: what was erased does not come back unnoticed, to its owner; nobody else is told anything."""
import json

import house as h
from house import check, expect, expect_equal, refusal
from e2e_backup import backup, lose, restore, town_of

LETTER = ("Dear Quentin, the brass key lies under the third step of the cellar stairs, and nobody but you and me "
          "knows that the ledger is behind the kiln. Burn this when you have read it.\n")
SENTENCE = "nobody but you and me knows that the ledger is behind the kiln"
OTHER = "The harbour crane lifts forty tonnes when the wind is low, and the pilot boat leaves at dawn.\n"
REFUSAL = "this repeats content that you had erased; change the tombstones policy to allow it"
NOTICE = "this repeats content that you had erased"
OFF, FLAG, REFUSE = 0, 1, 2


def policy(client, value=None, owner=""):
    if value is None:
        return client.erasure.GetTombstones(client.pb.GetTombstonesRequest(owner=owner), timeout=h.CALL_S)
    return client.erasure.SetTombstones(client.pb.SetTombstonesRequest(owner=owner, policy=value), timeout=h.CALL_S)


def put(client, text, path="letter.txt", **header):
    return client.put({"path": path, "content": text, **header})


def refused(response):
    """The reasons given; nothing else may have happened."""
    return [(f.code, f.reason) for f in response.failed] if not response.documents else "stored"


def residue(erased):
    return json.loads(erased.receipt)["residue"]


@check("tombstones", tombstones_shared="another owner")
def tombstones(scene):
    """Off, flag, refuse; in puts and questions; receipts name them; nobody else is answered otherwise."""
    town = h.Town(scene.house())
    ada, bob = town.ada, town.bob
    expect_equal((policy(ada).policy, policy(ada).marks), (OFF, 0), "the policy at first")
    expect_equal(residue(ada.erase(document=ada.store("a", LETTER))), "none", "what is left while it is off")
    policy(ada, FLAG)
    before = [bob.put({"path": "l", "content": LETTER}).documents[0].notice, bob.ask(SENTENCE + "?")[2].notice]
    expect_equal(before, ["", ""], "bob's notices before")
    kept = ada.store("kept", OTHER)
    expect_equal(residue(ada.erase(document=ada.store("a", LETTER))), "tombstones", "what is left while it is flag")
    expect_equal(policy(ada).documents, 1, "documents that left tombstones")
    flagged = put(ada, LETTER)
    expect_equal([d.notice for d in flagged.documents], [NOTICE], "the notice of the same again")
    expect_equal([d.notice for d in put(ada, OTHER).documents], [""], "the notice of something else")
    expect_equal(ada.ask("Is it true that " + SENTENCE + "?")[2].notice, NOTICE, "the notice of a question")
    expect_equal(ada.ask("Where is the harbour crane?")[2].notice, "", "the notice of another question")
    policy(ada, REFUSE)
    for name, text in (("the same", LETTER), ("other case and marks", LETTER.upper().replace(",", ";")),
                       ("a sentence of it", OTHER + SENTENCE + ". " + OTHER)):
        expect_equal(refused(put(ada, text)), [(9, REFUSAL)], f"{name}, refused")
    expect_equal(refusal(lambda: ada.ask(SENTENCE)), "FAILED_PRECONDITION", "a question, refused")
    mixed = ada.put({"path": "1", "content": LETTER}, {"path": "2", "content": OTHER})
    expect_equal(([f.path for f in mixed.failed], [d.path for d in mixed.documents]), (["1"], ["2"]), "one of two")
    ada.ask("Where is the harbour crane?")
    # Nobody else: bob's own, and the group's, which ada belongs to.
    for response in (put(bob, LETTER), put(ada, LETTER, owner="group:oncall"), put(town.cay, SENTENCE)):
        expect(response.documents and not response.documents[0].notice, "another owner is refused or told")
    expect_equal(bob.ask(SENTENCE + "?")[2].notice, "", "another owner's question")
    town.house.restart()
    town.again()
    expect_equal(refused(put(town.ada, LETTER)), [(9, REFUSAL)], "after a restart")
    expect_equal(town.ada.get(kept), OTHER.encode(), "what was kept")
    policy(town.ada, OFF)
    expect_equal((policy(town.ada).documents, policy(town.ada).marks), (0, 0), "what is left after off")
    expect(put(town.ada, LETTER).documents, "stored after off")
    policy(town.ada, REFUSE)
    expect(put(town.ada, LETTER).documents, "off took them away for good")


@check("tombstones_of_kinds")
def of_kinds(scene):
    """Subjects leave them, replaced documents do not; groups' are an admin's to set; an owner's erasure ends them."""
    town = h.Town(scene.house())
    ada = town.ada
    policy(ada, REFUSE)
    ada.store("n", OTHER)
    for version in (" one", " two", " three"):          # each a little newer than what it takes the place of
        ada.store("n", OTHER + version, replace=True)
    expect_equal(policy(ada).documents, 0, "replaced documents' tombstones")
    done = ada.erase(subject=ada.pb.ConfirmedSubject(text="Quentin", documents=[ada.store("a", LETTER)]))
    expect_equal(residue(done), "tombstones", "an erasure by subject")
    expect_equal(refused(put(ada, LETTER)), [(9, REFUSAL)], "after an erasure by subject")
    # A group's: its members see the policy, an admin who belongs to it sets it.
    group = "group:oncall"
    expect_equal(refusal(lambda: policy(ada, REFUSE, group)), "PERMISSION_DENIED", "a member sets the group's")
    expect_equal(refusal(lambda: policy(town.admin, REFUSE, group)), "NOT_FOUND", "an admin outside sets the group's")
    expect_equal(refusal(lambda: policy(town.cay, None, group)), "NOT_FOUND", "somebody outside sees the group's")
    town.admin.join("oncall", "admin")
    policy(town.admin, REFUSE, group)
    expect_equal(policy(town.bob, None, group).policy, REFUSE, "a member sees the group's")
    expect_equal(residue(town.bob.erase(document=town.bob.store("g", LETTER, owner=group))), "tombstones", "a group's")
    expect_equal(refused(put(town.bob, LETTER, owner=group)), [(9, REFUSAL)], "the group's, again")
    expect(put(town.bob, LETTER).documents, "bob's own stays his own")
    expect_equal(refusal(lambda: policy(ada, 3)), "INVALID_ARGUMENT", "a policy that there is not")
    expect(refusal(lambda: policy(town.operator)) is not None, "the operator has none")
    expect_equal(residue(town.admin.erase(user="ada")), "none", "the erasure of their owner")
    # The verb.
    bob = town.token["bob"]
    shown = town.house.lethe(bob, "tombstones")
    expect_equal((shown.code, shown.json["policy"]), (0, "off"), "lethe tombstones")
    expect_equal(town.house.lethe(bob, "tombstones", "refuse").json["policy"], "refuse", "lethe tombstones refuse")
    expect_equal(town.house.lethe(bob, "tombstones", "maybe").code, 2, "a policy that there is not, by the verb")
    letter = scene.write("letter.txt", LETTER)
    stored = town.house.lethe(bob, "put", letter)
    town.house.lethe(bob, "erase", "doc", stored.json["documents"][0]["id"])
    again = town.house.lethe(bob, "put", letter)
    expect_equal((again.code, again.json["failed"][0]["reason"]), (1, REFUSAL), "lethe put, refused")
    expect_equal(town.house.lethe(bob, "ask", SENTENCE).code, 1, "lethe ask, refused")
    town.house.lethe(bob, "tombstones", "flag")
    expect_equal(town.house.lethe(bob, "put", letter).json["documents"][0]["notice"], NOTICE, "lethe put, flagged")
    expect_equal(town.house.lethe(bob, "ask", SENTENCE).json["notice"], NOTICE, "lethe ask, flagged")


@check("tombstones_restored")
def restored(scene):
    """A backup holds them sealed, and a restore keeps them."""
    town, _ = town_of(scene)
    policy(town.ada, REFUSE)
    town.ada.erase(document=town.ada.store("a", LETTER))
    marks = policy(town.ada).marks
    path = backup(town, "one")
    town.house.stop()
    lose(town.house, "stores")
    restore(town.house, path)
    town.house.start()
    town.again()
    expect_equal((policy(town.ada).policy, policy(town.ada).marks), (REFUSE, marks), "after the restore")
    expect_equal(refused(put(town.ada, LETTER)), [(9, REFUSAL)], "the same, after the restore")
