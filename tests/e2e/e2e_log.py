"""The audit log: what is in it, and that a witness sees a log that was rolled back or forked."""
import os
import shutil

from house import check, expect, expect_equal, refusal


def entries(town):
    done = town.house.lethe(town.house.admin_token, "log", "ls")
    expect_equal(done.code, 0, "lethe log ls")
    return done.json["entries"]


@check("log.entries")
def log_entries(scene):
    """Shares, their withdrawals and erasures are in the tenant's log, by ids alone; only its admin reads it."""
    town = scene.town()
    document = town.ada.store("for-bob.txt", "the crane was inspected", share=["user:bob"])
    town.ada.share(document, "group:garden")
    town.ada.unshare(document, "user:bob")
    town.ada.erase(document=document)
    log = entries(town)
    expect_equal([e["event"] for e in log], ["grant", "grant", "revoke", "erasure"], "the events")
    expect(all(e["documents"] == document for e in log[:3]), "the document's id")
    expect("ada" not in [str(v) for e in log for v in e.values()], "a name in the log")
    expect_equal(refusal(lambda: town.ada.erasure.GetLogHead(town.ada.pb.GetLogHeadRequest())),
                 "PERMISSION_DENIED", "a user's look at the log")


@check("log.witness")
def witness(scene):
    """A witness follows the log; an older copy of it, or another that grew from there, is seen."""
    town = scene.town()
    seen = scene.path("seen.head")

    def look():
        return town.house.lethe(town.house.admin_token, "log", "witness", seen, "--key", town.house.key).code

    def grow(times):
        for _ in range(times):
            town.ada.erase(document=town.ada.store("x", "x y z"))

    grow(3)
    expect_equal(look(), 0, "the first look")
    grow(4)
    expect_equal(look(), 0, "a continuation")
    town.house.stop()
    shutil.copytree(os.path.join(town.house.data, "log"), scene.path("old-log"))
    town.house.start()
    town.again()
    grow(2)
    expect_equal(look(), 0, "after a restart")
    before = open(seen).read()
    town.house.stop()
    shutil.rmtree(os.path.join(town.house.data, "log"))
    shutil.copytree(scene.path("old-log"), os.path.join(town.house.data, "log"))
    town.house.start()
    town.again()
    expect_equal(look(), 1, "a log that was rolled back")
    grow(5)
    expect_equal(look(), 1, "a log that was rolled back and went another way")
    expect_equal(open(seen).read(), before, "what the witness keeps")
