"""Backups: ciphertext alone; restoring brings back what was lost and nothing that was erased or forbidden since."""
import os
import shutil
import threading

import house as h
from house import check, expect, expect_equal, readers, refusal
from e2e_forget import scan

SECRET = "The heliotrope manticore whispered kumquat syllables"


def town_of(scene):
    backups = scene.path("backups")
    os.makedirs(backups, exist_ok=True)
    return h.Town(scene.house("--backup-dir", backups)), backups


def lose(house, *parts):
    for part in parts:
        path = os.path.join(house.data, part)
        if os.path.isdir(path):
            shutil.rmtree(path)
        elif os.path.exists(path):
            os.remove(path)


def backup(town, name):
    done = town.house.lethe(town.house.operator_token, "backup", name)
    expect_equal(done.code, 0, "backup: " + done.err)
    return done.json["path"]


def restore(house, path):
    done = house.lethe(None, "restore", path, "--data", house.data)
    expect_equal(done.code, 0, "restore: " + done.err)
    return done.json


def root_keys(house):
    keys = {}
    for name in os.listdir(house.root):
        with open(os.path.join(house.root, name), "rb") as f:
            content = f.read()
        if len(content) >= 32:
            keys[content[:32]] = "the root key"
            keys[content[-32:]] = "the root key"
    return keys


@check("backup", restore_takes_keytree="lethed did not start|keytree", backup_includes_root="root key|in the backup")
def backup_all(scene):
    """Everything but the keys is lost and put back: survivors bit for bit, the erased nowhere, while others write."""
    town, backups = town_of(scene)
    house = town.house
    kept = {town.ada.store(f"kept/{n}", f"{SECRET} {n}\n" * (n + 1)): f"{SECRET} {n}\n" * (n + 1) for n in range(30)}
    group = town.bob.store("minutes", SECRET + " of the group\n", owner="group:oncall")
    gone = town.ada.store("gone", SECRET + " gone\n")
    town.bob.store("bob", SECRET + " bob\n")
    town.operator.access.CreateTenant(town.operator.pb.CreateTenantRequest(name="inland"), timeout=h.CALL_S)
    for who in (town.ada, town.admin):
        expect_equal(refusal(lambda w=who: w.admin.Backup(w.pb.BackupRequest(name="x"))), "PERMISSION_DENIED",
                     "a backup by somebody else than the operator")
    for bad in ("", "..", "../x", "/etc/x", ".x", "a/b", "x" * 65):
        expect_equal(refusal(lambda b=bad: town.operator.admin.Backup(town.operator.pb.BackupRequest(name=b))),
                     "INVALID_ARGUMENT", f"a backup named {bad}")
    # While somebody writes.
    stop, written = threading.Event(), {}

    def write():
        n = 0
        while not stop.is_set():
            text = f"{SECRET} written meanwhile {n}\n"
            written[town.cay.store(f"cay/{n}", text)] = text
            n += 1
    writer = threading.Thread(target=write)
    writer.start()
    try:
        path = backup(town, "first")
    finally:
        stop.set()
        writer.join()
    expect_equal(path, os.path.join(backups, "first"), "where the backup is")
    expect_equal(town.house.lethe(house.operator_token, "backup", "first").code, 1, "a backup over a backup")
    names = {os.path.relpath(os.path.join(w, f), path) for w, _, files in os.walk(path) for f in files}
    expect({"acl.mdb", "files", "manifest", "sign/secret.sealed"} <= names, f"what is in it: {sorted(names)[:20]}")
    needles = {**root_keys(house), **{w.encode(): w for w in SECRET.split() if len(w) > 8}}
    expect(root_keys(house), "the root key is known to the test")
    hits = scan(needles, path)
    expect(not hits, f"in the backup: {hits}")
    expect(scan(root_keys(house), house.root), "the scanner finds the root key where it is")
    # Erased since.
    town.ada.erase(document=gone)
    town.admin.erase(user="bob")
    town.operator.erase(tenant="inland")
    log_size = sum(os.path.getsize(os.path.join(w, f)) for w, _, fs in os.walk(house.data + "/log") for f in fs)
    house.stop()
    lose(house, "stores", "acl.mdb", "sign", "tls", "intents")
    expect(house.fails_to_start()[0] not in (0, None), "lethed starts on what is left")
    report = restore(house, path)
    expect(report["access_restored"] and report["stores_restored"] >= 2, f"what was put back: {report}")
    expect_equal(report["stores_erased"], 1, "stores of erased users")
    house.ca_pem = house.slurp(house.ca)
    try:
        house.start()
    except RuntimeError as e:
        raise h.Wrong(f"lethed did not start after the restore: {e}")
    for token in [house.admin_token, house.operator_token, *town.token.values()]:
        expect_equal(refusal(lambda t=token: house.client(t).whoami()), "UNAUTHENTICATED", "a token of the backup")
    admin = [t for t in report["tokens"] if t["tenant"] == house.tenant]
    expect_equal([t["user"] for t in admin], ["admin"], "whose tokens were issued")
    expect_equal([t["tenant"] for t in report["tokens"]], [house.tenant], "tenants that are left")
    house.admin_token, house.operator_token = admin[0]["token"], report["operator_token"]
    house.tokens |= {house.admin_token, house.operator_token}
    admin = house.client(house.admin_token)
    expect_equal(refusal(lambda: admin.issue("bob")), "NOT_FOUND", "an erased user")
    ada = house.client(admin.issue("ada").token)
    expect_equal(refusal(lambda: ada.get(group)), "NOT_FOUND", "a membership of the backup")
    admin.join("oncall", "ada")
    for document, text in kept.items():
        expect_equal(ada.get(document).decode(), text, "a survivor")
    expect_equal(ada.get(group).decode(), SECRET + " of the group\n", "the group's survivor")
    expect_equal(refusal(lambda: ada.get(gone)), "NOT_FOUND", "what was erased since")
    expect_equal(ada.stats().documents, len(kept), "documents counted")
    expect(not [x for x in ada.search("heliotrope gone") if x.document == gone], "what was erased is found")
    cay = house.client(admin.issue("cay").token)
    for d in cay.list():
        expect_equal(cay.get(d.id).decode(), written[d.id], "written while the backup was made")
    now = sum(os.path.getsize(os.path.join(w, f)) for w, _, fs in os.walk(house.data + "/log") for f in fs)
    expect(now >= log_size, "the audit log was rolled back")
    expect_equal(refusal(lambda: house.client(house.operator_token).erase(tenant="inland")), "NOT_FOUND",
                 "an erased tenant")


@check("restore_access", restore_keeps_shares="unshared since", restore_keeps_tokens="revoked since")
def restore_access(scene):
    """What was unshared or revoked after the backup stays so; what is intact is not replaced."""
    town, _ = town_of(scene)
    house = town.house
    shared = town.ada.store("shared", SECRET + "\n", share=["user:cay", "group:oncall"])
    # Shared all along: what leads cay's requests into ada's store.
    still = town.ada.store("still", SECRET + " still\n", share=["user:cay"])
    spare = town.admin.issue("cay")
    expect_equal(town.cay.get(shared).decode(), SECRET + "\n", "shared with cay")
    path = backup(town, "one")
    town.ada.unshare(shared, "user:cay")
    town.admin.leave("oncall", "bob")
    town.admin.revoke(spare.id)
    late = town.ada.store("late", "after the backup\n")
    bobs = town.bob.store("bobs", "bob's, after the backup\n")
    # Nothing is missing: nothing changes.
    house.stop()
    report = restore(house, path)
    expect_equal((report["stores_restored"], report["access_restored"], report["files_restored"]), (0, False, 0),
                 "put back into a sound folder")
    # The stores alone are lost.
    lose(house, "stores")
    report = restore(house, path)
    expect(not report["access_restored"], "an intact acl.mdb was replaced")
    house.start()
    town.again()
    expect_equal(refusal(lambda: town.cay.get(shared)), "NOT_FOUND", "unshared since the backup")
    expect_equal(refusal(lambda: town.bob.get(shared)), "NOT_FOUND", "unshared since the backup, by leaving the group")
    expect_equal(refusal(lambda: house.client(spare.token).whoami()), "UNAUTHENTICATED", "a token revoked since")
    expect_equal(town.ada.get(shared).decode(), SECRET + "\n", "the owner's own")
    expect_equal(refusal(lambda: town.cay.get(still)), "NOT_FOUND", "a share that the backup alone vouches for")
    expect_equal(report["shares_withdrawn"], 2, "told how many shares were withdrawn")
    for client, document in ((town.ada, late), (town.bob, bobs)):
        expect_equal(refusal(lambda c=client, d=document: c.get(d)), "NOT_FOUND", "newer than the backup")
    town.ada.share(shared, "user:cay")
    expect_equal(town.cay.get(shared).decode(), SECRET + "\n", "shared again")
    expect_equal(readers(town.cay.list()[0].label), {"user:ada", "user:cay"}, "the label")
    # acl.mdb alone is lost.
    house.stop()
    lose(house, "acl.mdb")
    report = restore(house, path)
    house.start()
    expect_equal(refusal(lambda: house.client(spare.token).whoami()), "UNAUTHENTICATED", "a token revoked since")
    town.admin = house.client(report["tokens"][0]["token"])
    bob = house.client(town.admin.issue("bob").token)
    expect_equal(list(bob.whoami().groups), [], "memberships revoked since")


@check("restore_refusals")
def restore_refusals(scene):
    """A backup that is damaged or another server's changes nothing; an older key tree is refused."""
    town, backups = town_of(scene)
    house = town.house
    document = town.ada.store("one", SECRET + "\n")
    path = backup(town, "one")
    expect_equal(house.lethe(None, "restore", path, "--data", house.data).code, 1, "a restore while lethed runs")
    old = scene.path("old-keytree")
    shutil.copytree(os.path.join(house.data, "keytree"), old)
    town.ada.erase(document=town.ada.store("two", "short-lived\n"))
    house.stop()
    lose(house, "stores")
    for victim in ("acl.mdb", "files", "manifest"):
        copy = scene.path("damaged-" + victim)
        shutil.copytree(path, copy)
        with open(os.path.join(copy, victim), "r+b") as f:
            f.seek(40)
            byte = f.read(1)
            f.seek(40)
            f.write(bytes([byte[0] ^ 1]))
        done = house.lethe(None, "restore", copy, "--data", house.data)
        expect_equal(done.code, 1, f"a backup with a damaged {victim}")
        expect(not os.listdir(os.path.join(house.data, "stores")), f"restored from a damaged {victim}")
    other = h.Town(scene.house("--backup-dir", backups, name="other"))
    foreign = backup(other, "foreign")
    done = house.lethe(None, "restore", foreign, "--data", house.data)
    expect_equal((done.code, done.json["error"]["code"]), (1, "PERMISSION_DENIED"), "another server's backup")
    restore(house, path)
    house.start()
    town.again()
    expect_equal(town.ada.get(document).decode(), SECRET + "\n", "put back")
    house.stop()
    # The old key tree under today's root: refused, in words that say why.
    aside = scene.path("new-keytree")
    shutil.move(os.path.join(house.data, "keytree"), aside)
    shutil.copytree(old, os.path.join(house.data, "keytree"))
    code, said = house.fails_to_start()
    expect(code not in (0, None) and "older" in said, f"an older key tree: {code} {said[-300:]}")
    shutil.rmtree(os.path.join(house.data, "keytree"))
    shutil.move(aside, os.path.join(house.data, "keytree"))
    house.start()
    plain = scene.house(name="plain")
    client = plain.client(plain.operator_token)
    expect_equal(refusal(lambda: client.admin.Backup(client.pb.BackupRequest(name="x"))), "FAILED_PRECONDITION",
                 "a backup without backup_dir")
