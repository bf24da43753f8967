"""Forgetting: nothing readable on the disk, keys that are gone for good, receipts that prove it."""
import base64
import hashlib
import json
import os
import re
import shutil
import subprocess

import grpc

import house as h
from house import CALL_S, check, expect, expect_equal, readers, refusal

CANARY = "The heliotrope manticore whispered kumquat syllables under the corrugated observatory"
NAME, GROUP, PATH = "zephyrine-quillfeather", "umbrella-menders", "drawer/peregrination-diary.txt"


# ---- the disk ---------------------------------------------------------------------------------------------
def needles(town):
    """What must be nowhere: words of the text, in three encodings, the path, the names, the tokens."""
    words = [w for w in CANARY.split() if len(w) >= 9] + [CANARY, PATH, "peregrination", NAME, GROUP,
                                                          "zephyrine", "umbrella", town.house.tenant]
    found = {}
    for word in words:
        for encoding in ("utf-8", "utf-16-le", "utf-16-be"):
            for form in {word, word.lower(), word.upper()}:
                found[form.encode(encoding)] = word
        found[base64.b64encode(word.encode())[:-4]] = word + " in base64"
        found[word.encode().hex().encode()] = word + " in hexadecimal"
    for token in town.house.tokens:
        secret = token.split("_", 1)[1]
        found[secret.encode()] = "a token"
        found[base64.urlsafe_b64decode(secret + "=" * (-len(secret) % 4))] = "a token's bytes"
    return {k: v for k, v in found.items() if len(k) >= 8}


def scan(found, *folders):
    """{file: what of found is in it}: all bytes of all files, and their names."""
    hits = {}
    for folder in folders:
        for where, _, files in os.walk(folder):
            for name in files:
                path = os.path.join(where, name)
                with open(path, "rb") as f:
                    content = f.read() + b"\0" + os.fsencode(os.path.relpath(path, folder))
                for needle, what in found.items():
                    if needle in content:
                        hits.setdefault(path, set()).add(what)
    return hits


@check("canary")
def canary(scene):
    """While it is stored, a text, its path, the names and the tokens are nowhere on the disk or in the log."""
    house = scene.house(tenant="thistledown-wharf")
    town = h.Town(house)
    town.house.tenant = "thistledown-wharf"
    client = town.add_user(NAME)
    town.admin.group(GROUP, NAME)
    one = client.store(PATH, CANARY + ".\n" * 3, share=["user:bob"])
    for n in range(20):
        client.store(f"{PATH}.{n}", f"{CANARY} {n}.\n" * 40, owner="group:" + GROUP)
    # All that leaves traces: searching, asking, sharing, replacing, erasing, being refused.
    client.search(CANARY)
    client.ask(CANARY + "?")
    client.share(one, "group:" + GROUP)
    two = client.store(PATH, CANARY + " again.\n", replace=True)
    client.erase(document=two)
    for act in (lambda: town.cay.get(one), lambda: client.share(one, "user:" + NAME + "x"),
                lambda: house.client(town.token["ada"][:-1]).whoami(),
                lambda: client.search(CANARY, audience="group:" + GROUP + "x"),
                lambda: client.store(PATH, CANARY, owner="group:" + GROUP + "x")):
        with h.contextlib.suppress(grpc.RpcError, RuntimeError):
            act()
    found = needles(town)
    for when in ("while the server runs", "after it has stopped"):
        hits = scan(found, house.data, house.root)
        expect(not hits, f"in the clear on the disk, {when}: {hits}")
        log = house.log_text().encode()
        expect(not [w for n, w in found.items() if n in log], f"in the clear in the log, {when}")
        if when.startswith("while"):
            house.stop()
    # The control: the scanner finds what is there.
    planted = scene.path("data", "stores", "planted")
    with open(planted, "wb") as f:
        f.write(os.urandom(4097) + CANARY.encode("utf-16-le") + os.urandom(100))
    expect_equal(list(scan(found, house.data)), [planted], "the scanner finds a planted canary")
    expect(scan({b"BEGIN CERTIFICATE": "certificate"}, house.data), "the scanner finds the certificate")


# ---- old images of the disk -----------------------------------------------------------------------------------
def opens(scene, town, data, root, token, document):
    """The document's bytes as a server on these folders gives them; None when it gives nothing."""
    twin = h.House(scene.world, data, [*town.house.options, "--root", root])
    twin.ca_pem = town.house.ca_pem
    twin.tokens = set()
    try:
        twin.start()
    except RuntimeError:
        twin.kill()
        return None
    try:
        return twin.client(token).get(document)
    except grpc.RpcError:
        return None
    finally:
        twin.kill()


def copy(source, target):
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    return target


def attempts(scene, old_data, new_root):
    """The old folder with the new root keys: as they are, and each key under each name that the old key
    tree might look for, alone."""
    yield copy(old_data, scene.path("try")), copy(new_root, scene.path("try.root"))
    heads = [n.split(".")[1] for n in os.listdir(os.path.join(old_data, "keytree"))
             if n.startswith("head.")]
    for key in sorted(os.listdir(new_root)):
        for epoch in heads:
            data, root = copy(old_data, scene.path("try")), scene.path("try.root")
            shutil.rmtree(root)
            os.mkdir(root, 0o700)
            shutil.copy(os.path.join(new_root, key), os.path.join(root, "root." + epoch))
            yield data, root


def unreadable_afterwards(scene, town, token, document, content, erase):
    """The old image opens with the old root (the control), and with the new one in no way."""
    town.house.stop()
    old_data = copy(town.house.data, scene.path("old"))
    old_root = copy(town.house.root, scene.path("old-root"))
    town.house.start()
    town.again()
    result = erase()
    town.house.stop()
    expect_equal(opens(scene, town, copy(old_data, scene.path("try")),
                       copy(old_root, scene.path("try.root")), token, document), content,
                 "the control: the old image with the old root key")
    for data, root in attempts(scene, old_data, town.house.root):
        expect(opens(scene, town, data, root, token, document) is None,
               "the old image can be decrypted with the root of after the erasure")
    # Nor does putting back old parts of the folder bring it back.
    for part in ("stores", "acl.mdb", "keytree"):
        data = copy(town.house.data, scene.path("try"))
        old = os.path.join(old_data, part)
        if os.path.isdir(old):
            copy(old, os.path.join(data, part))
        else:
            shutil.copy(old, os.path.join(data, part))
        expect(opens(scene, town, data, copy(town.house.root, scene.path("try.root")), token,
                     document) is None, f"erased content comes back with the old {part}")
    town.house.start()
    town.again()
    return result


@check("forget.document", erase_keeps_root="can be decrypted", erase_keeps_path="can be decrypted")
def old_image_document(scene):
    """After erase doc, the folder of before cannot be decrypted with the root of after."""
    town = scene.town()
    kept = town.ada.store("kept.txt", "what stays")
    document = town.ada.store("gone.txt", CANARY)
    unreadable_afterwards(scene, town, town.token["ada"], document, CANARY.encode(),
                          lambda: town.ada.erase(document=document))
    expect_equal(refusal(lambda: town.ada.get(document)), "NOT_FOUND", "the erased document")
    expect_equal(town.ada.get(kept), b"what stays", "the other document")


@check("forget.user", erase_keeps_root="can be decrypted", erase_keeps_path="can be decrypted")
def old_image_user(scene):
    """The same for a whole user, whose token does not work in the old image either."""
    town = scene.town()
    document = town.bob.store("gone.txt", CANARY)
    kept = town.ada.store("kept.txt", "what stays")
    unreadable_afterwards(scene, town, town.token["bob"], document, CANARY.encode(),
                          lambda: town.admin.erase(user="bob"))
    expect_equal(town.ada.get(kept), b"what stays", "ada's document")


# ---- nothing of it in any answer ---------------------------------------------------------------------------------
def picture(client):
    pb = client.pb
    seen = [client.seen("Answers/Search", pb.SearchRequest(query=q, k=50, mode=m))
            for q in (CANARY, "the harbour crane", "kumquat") for m in (0, 1, 2)]
    seen += [client.seen("Answers/Ask", pb.AskRequest(question=q)) for q in (CANARY, "What does it lift?")]
    seen.append(client.seen("Documents/List", pb.ListRequest()))
    return seen


@check("forget.answers", erase_keeps_index="differs|erased")
def answers(scene):
    """After an erasure every answer is as if the document had never been, to the byte."""
    town = scene.town()
    kept = [town.ada.store(f"{n}.txt", f"The harbour crane lifts {n} tonnes. " * 3, share=["user:bob"])
            for n in range(5)]
    before = {name: picture(getattr(town, name)) for name in town.token}
    gone = [town.ada.store(f"gone-{n}.txt", f"{CANARY}. The crane lifts {n} kumquat.", share=["user:bob"])
            for n in range(5)]
    expect(set(gone) & {x.document for x in town.bob.search(CANARY)}, "bob finds it before")
    for document in gone:
        town.ada.erase(document=document)
    for name in town.token:
        expect(before[name] == picture(getattr(town, name)), f"what {name} receives differs afterwards")
    for document in gone:
        expect_equal(refusal(lambda: town.bob.get(document)), "NOT_FOUND", "an erased document")
        expect_equal(refusal(lambda: town.ada.share(document, "user:cay")), "NOT_FOUND", "sharing it")
        expect_equal(refusal(lambda: town.ada.erase(document=document)), "NOT_FOUND", "erasing it again")
    town.house.restart()
    town.again()
    for name in town.token:
        expect(before[name] == picture(getattr(town, name)), f"what {name} receives after a restart differs")
    expect_equal({d.id for d in town.ada.list()}, set(kept), "what is left")


@check("forget.under_way")
def under_way(scene):
    """An erasure cancels the answers that are being made from the erased, and completes."""
    town = scene.town("--model", scene.model(), "--tokens-max", "65536", "--quota-tokens-per-minute",
                      "0")
    document = town.ada.store("gone.txt", CANARY + ".", share=["user:bob"])
    town.cay.store("mine.txt", "The harbour crane lifts forty tonnes.")
    pb = town.ada.pb
    calls = {name: getattr(town, name).answers.Ask(
        pb.AskRequest(question="crane manticore", max_tokens=n, passages=1, free_text=True), timeout=CALL_S)
        for name, n in (("ada", 60000), ("bob", 60000), ("cay", 60))}
    for call in calls.values():
        while next(call).WhichOneof("frame") != "token":
            pass
    town.ada.erase(document=document)
    for name in ("ada", "bob"):
        expect(refusal(lambda: list(calls[name])) in ("CANCELLED", "UNAVAILABLE", "NOT_FOUND"),
               f"{name}'s answer from an erased document ends")
    expect_equal(list(calls["cay"])[-1].WhichOneof("frame"), "final", "cay's answer goes on")


@check("forget.in_flight", mark_hits_only="was counted", cancel_ignores_labels="goes on")
def in_flight(scene):
    """A call that began before an erasure ends if the erased document was permitted to it, although it is none of its
    passages: it was counted. A call to which it was not permitted goes on."""
    town = scene.town("--model", scene.model(d_model=128, layers=4), "--tokens-max", "65536", "--quota-tokens-per-minute", "0")
    town.bob.store("crane.txt", "The harbour crane lifts forty tonnes.", share=["user:ada", "user:cay"])
    pb = town.ada.pb

    def begin(name):
        call = getattr(town, name).answers.Ask(
            pb.AskRequest(question="What does the harbour crane lift?", max_tokens=60000, passages=1,
                          free_text=True), timeout=CALL_S)
        passages = next(call)
        expect_equal([p.path for p in passages.passages.passages], ["crane.txt"], f"{name}'s passages")
        expect_equal(next(call).WhichOneof("frame"), "token", f"{name}'s first token")
        return call

    def erase(**target):
        calls = {name: begin(name) for name in ("ada", "bob", "cay")}
        (town.admin if "user" in target else town.bob).erase(**target)
        return calls

    def ends(call, words):
        expect(refusal(lambda: list(call)) in ("CANCELLED", "UNAVAILABLE"), words)

    def goes_on(call, words):
        try:
            for _ in range(2000):        # more than was under way to the client
                next(call)
        except grpc.RpcError as e:
            raise h.Wrong(f"{words}: {e.code().name}")
        call.cancel()
    # Permitted to bob and ada; cay's search looks into bob's store as well, but never at this document.
    calls = erase(document=town.bob.store("shared.txt", "Kumquats from the north.", share=["user:ada"]))
    for name in ("ada", "bob"):
        ends(calls[name], f"{name}'s answer, in which the erased was counted, ends")
    goes_on(calls["cay"], "cay's answer goes on")
    # Private to bob.
    calls = erase(document=town.bob.store("private.txt", "Kumquats from the south."))
    ends(calls["bob"], "bob's answer, in which the erased was counted, ends")
    for name in ("ada", "cay"):
        goes_on(calls[name], f"{name}'s answer goes on")
    # All of cay's: private, but for one that ada may read.
    town.cay.store("private.txt", "Kumquats from the east.")
    town.cay.store("lent.txt", "Kumquats from the west.", share=["user:ada"])
    calls = erase(user="cay")
    ends(calls["ada"], "ada's answer, in which cay's was counted, ends")
    ends(calls["cay"], "cay's own answer ends")
    goes_on(calls["bob"], "bob's answer goes on")


# ---- users and tenants ---------------------------------------------------------------------------------------------
@check("forget.namesake")
def namesake(scene):
    """Erasing a user: token, documents and grants go; the group's stay; a namesake inherits nothing."""
    town = scene.town()
    bobs = town.bob.store("bob.txt", CANARY, share=["user:ada"])
    duty = town.bob.store("duty.txt", "The group's own.", owner="group:oncall")
    lent = town.ada.store("lent.txt", "What ada lent to bob.", share=["user:bob", "user:cay"])
    expect_equal(town.ada.get(bobs), CANARY.encode(), "ada reads bob's before")
    expect_equal(refusal(lambda: town.ada.erase(user="bob")), "PERMISSION_DENIED", "ada erases bob")
    receipt = json.loads(town.admin.erase(user="bob").receipt)
    expect_equal(receipt["kind"], "user", "the receipt's kind")
    expect_equal(refusal(town.bob.whoami), "UNAUTHENTICATED", "the erased user's token")
    expect_equal(refusal(lambda: town.ada.get(bobs)), "NOT_FOUND", "the erased user's document")
    expect_equal(town.ada.get(duty), b"The group's own.", "the group's document")
    label = {d.id: d.label for d in town.ada.list()}[lent]
    expect_equal(readers(label), {"user:ada", "user:cay"}, "the label of what was lent")
    expect_equal(refusal(lambda: town.ada.share(lent, "user:bob")), "NOT_FOUND", "sharing with the erased")
    town.add_user("bob")
    for turn in ("at once", "after a restart"):
        expect_equal(list(town.bob.whoami().groups), [], f"the namesake's groups {turn}")
        expect_equal(list(town.bob.list()), [], f"the namesake's documents {turn}")
        for document in (bobs, duty, lent):
            expect_equal(refusal(lambda: town.bob.get(document)), "NOT_FOUND", f"the namesake {turn}")
        expect_equal(town.cay.get(lent), b"What ada lent to bob.", f"cay's share {turn}")
        expect_equal({d.id for d in town.ada.list()}, {duty, lent}, f"ada's list {turn}")
        town.house.restart()
        town.again()
    # A user may erase itself; a group is erased by the admin, its documents with it.
    town.cay.erase(user="cay")
    expect_equal(refusal(town.cay.whoami), "UNAUTHENTICATED", "cay, who erased herself")
    town.admin.erase(user="group:oncall")
    expect_equal({d.id for d in town.ada.list()}, {lent}, "after the group's erasure")


@check("forget.tenant")
def tenant(scene):
    """Erasing a tenant: by the operator; nothing of it is left, the others do not notice."""
    town = scene.town()
    town.ada.store("stays.txt", "The harbour crane lifts forty tonnes.")
    before = picture(town.ada)
    made = town.operator.access.CreateTenant(town.ada.pb.CreateTenantRequest(name="island"))
    admin = town.house.client(made.token)
    stores = set(os.listdir(os.path.join(town.house.data, "stores")))
    admin.user("ada")
    islander = town.house.client(admin.issue("ada").token)
    islander.store("gone.txt", CANARY)
    expect(set(os.listdir(os.path.join(town.house.data, "stores"))) > stores, "a store of the island's")
    expect_equal(refusal(lambda: town.operator.erase(tenant="atlantis")), "NOT_FOUND", "no such tenant")
    expect_equal(refusal(lambda: town.operator.erase(user="ada")), "PERMISSION_DENIED",
                 "the operator erases a user")
    receipt = json.loads(town.operator.erase(tenant="island").receipt)
    expect_equal(receipt["kind"], "tenant", "the receipt's kind")
    for client in (admin, islander):
        expect_equal(refusal(client.whoami), "UNAUTHENTICATED", "a token of the erased tenant")
    left = {n for n in os.listdir(os.path.join(town.house.data, "stores"))}
    expect_equal({n for n in left if ".mdb-lock" not in n},
                 {n for n in stores if ".mdb-lock" not in n}, "the stores left")
    expect(before == picture(town.ada), "what the other tenant's ada receives")
    again = town.operator.access.CreateTenant(town.ada.pb.CreateTenantRequest(name="island"))
    expect_equal(list(town.house.client(again.token).list()), [], "the namesake's documents")


# ---- receipts --------------------------------------------------------------------------------------------------------
def verify(house, path, *key):
    done = subprocess.run([house.world.program("lethe"), "verify", path, *key, "--json"],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return done.returncode, json.loads(done.stdout)


@check("receipts")
def receipts(scene):
    """A receipt verifies offline with the server's key; any change to it shows."""
    town = scene.town()
    document = town.ada.store("gone.txt", CANARY)
    path = scene.path("receipt.json")
    done = town.house.lethe(town.token["ada"], "erase", "doc", document, "--receipt", path)
    expect_equal(done.code, 0, "lethe erase doc")
    with open(path, "rb") as f:
        text = f.read()
    expect_equal(json.loads(text), done.json, "the receipt printed and the one in the file")
    # "ada" is three hexadecimal digits, too: a hash may hold them by chance.
    named = re.search(rb"(?<![0-9a-f])ada(?![0-9a-f])", text)
    expect(document.encode() not in text and not named, "a receipt that names something")
    code, verdict = verify(town.house, path, "--key", town.house.key)
    expect_equal((code, verdict["valid"], verdict["trusted"]), (0, True, True), "a good receipt")
    expect(verdict["opened"], "the keys of what was erased are proven absent")
    with open(path + ".opening") as f:
        opening = json.load(f)
    opening["target"] = opening["target"][:-1] + ("1" if opening["target"][-1] == "0" else "0")
    code, verdict = verify(town.house, path, "--key", town.house.key, "--opening",
                           scene.write("wrong.opening", json.dumps(opening)))
    expect_equal((code, verdict["valid"], verdict["opened"]), (1, False, False), "another opening")
    code, verdict = verify(town.house, path)
    expect_equal((code, verdict["valid"], verdict["trusted"]), (0, True, False), "without a key")
    with open(town.house.key) as f:
        expect_equal(verdict["signer"], f.read().strip(), "the signer's key")
    other = scene.house(name="other", start=False)
    code, verdict = verify(town.house, path, "--key", other.key)
    expect_equal((code, verdict["trusted"]), (1, False), "another server's key")
    for at in range(0, len(text), max(1, len(text) // 60)):
        bad = text[:at] + bytes([text[at] ^ 1]) + text[at + 1:]
        code, verdict = verify(town.house, scene.write("bad.json", bad), "--key", town.house.key)
        expect((code, verdict["valid"], verdict["trusted"]) == (1, False, False),
               f"a receipt tampered with at byte {at} verifies")
        expect(verdict["reason"], "a reason why not")
    for bad in (b"", b"{}", text[:-2], text + b"x", b" " + text, b"\xff" * 300, b"[" * 5000):
        code, verdict = verify(town.house, scene.write("bad.json", bad), "--key", town.house.key)
        expect_equal((code, verdict["valid"]), (1, False), "no receipt at all")
    # The salt, which only the requester has, opens the commitment.
    document = town.ada.store("gone.txt", CANARY)
    erased = town.ada.erase(document=document)
    opened = hashlib.blake2b(b"erased\0" + (erased.salt + erased.target).encode(), digest_size=32)
    expect_equal(json.loads(erased.receipt)["commitment"], opened.hexdigest(), "the commitment, opened")
    expect(document in erased.target, "the target names the document")
    first, second = done.json, json.loads(erased.receipt)
    expect_equal(second["epoch"], first["epoch"] + 1, "the tenant's epoch")
