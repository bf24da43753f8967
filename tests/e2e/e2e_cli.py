"""The lethe program: every verb's JSON object and exit code, on which scripts rely."""
import json
import os
import subprocess

from house import check, expect, expect_equal, readers

TEXT = "The ferry leaves at seven. The lighthouse keeper is called Maren.\n"
HIT = {"document", "chunk", "start", "end", "score", "text"}
CITATION = {"document", "chunk", "start", "end", "score"}
DOCUMENT = {"id", "path", "owner", "label", "bytes"}


class Shell:
    """lethe, verb by verb, each checked for its exit code."""

    def __init__(self, house):
        self.house = house

    def __call__(self, token, *arguments, code=0, **more):
        done = self.house.lethe(token, *arguments, **more)
        expect_equal(done.code, code, f"exit code of lethe {' '.join(arguments)} ({done.err.strip()})")
        expect("Sanitizer" not in done.err, done.err)
        if code == 0 and more.get("json_out", True):
            expect(done.json is not None, f"lethe {arguments[0]} --json printed nothing")
        if code in (1, 3) and "failed" not in (done.json or {}):
            expect_equal(set(done.json["error"]), {"code", "message"}, "an error's object")
            expect(done.json["error"]["message"] and done.err, "words that help")
        if code == 2:
            expect_equal(done.out, "", "usage errors leave standard output alone")
            expect(done.err, "usage errors say what is right")
        return done.json if more.get("json_out", True) else done


def has(value, keys, what):
    expect(set(keys) <= set(value), f"{what}: {sorted(value)} lacks {sorted(set(keys) - set(value))}")


@check("cli.shapes")
def shapes(scene):
    """Every verb's JSON object has the fields that are promised."""
    house = scene.house()
    lethe, admin = Shell(house), house.admin_token
    other = subprocess.run([scene.world.program("lethe"), "init", "--data", scene.path("d2"), "--root",
                            scene.path("r2"), "--tenant", "island", "--json"], stdout=subprocess.PIPE)
    made = json.loads(other.stdout)
    expect_equal((set(made), made["tenant"], made["user"]),
                 ({"tenant", "user", "token", "operator_token", "ca", "key"}, "island", "admin"), "init")
    expect(os.listdir(scene.path("r2")) and os.path.exists(made["ca"]) and os.path.exists(made["key"]),
           "what init made")
    made = lethe(house.operator_token, "tenant", "add", "island")
    expect_equal((set(made), made["tenant"]), ({"tenant", "user", "token"}, "island"), "tenant add")
    tokens = {}
    for name in ("ada", "bob"):
        has(lethe(admin, "user", "add", name), ("id", "name"), "user add")
        issued = lethe(admin, "token", "issue", name)
        has(issued, ("id", "token"), "token issue")
        tokens[name] = issued["token"]
    has(lethe(admin, "group", "add", "oncall"), ("id", "name"), "group add")
    lethe(admin, "group", "join", "oncall", "bob")
    me = lethe(tokens["bob"], "whoami")
    expect_equal((me["name"], me["tenant"], me["groups"]), ("bob", "harbour", ["oncall"]), "whoami")
    ada = tokens["ada"]

    scene.write("docs/a.txt", TEXT)
    scene.write("docs/deep/b.md", "# Tides\n\nThe tide turns twice a day.\n")
    put = lethe(ada, "put", "docs", "--share", "user:bob", cwd=scene.folder)
    expect_equal(set(put), {"documents", "failed"}, "put")
    expect_equal(sorted(d["path"] for d in put["documents"]), ["docs/a.txt", "docs/deep/b.md"], "paths")
    for d in put["documents"]:
        has(d, ("id", "path", "chunks"), "a document of put")
    document = put["documents"][0]["id"]
    for d in lethe(ada, "ls")["documents"]:
        has(d, DOCUMENT, "a document of ls")
        expect_equal(readers(d["label"]), {"user:ada", "user:bob"}, "its label")
    got = lethe(tokens["bob"], "get", document)
    has(got, ("id", "path", "owner", "label", "text"), "get")
    expect_equal((got["text"], got["owner"]), (TEXT, "user:ada"), "get")
    has(lethe(ada, "share", document, "group:oncall"), DOCUMENT, "share")
    has(lethe(ada, "unshare", document, "group:oncall"), DOCUMENT, "unshare")
    hits = lethe(ada, "search", "lighthouse keeper", "-k", "1")["hits"]
    expect_equal(len(hits), 1, "search -k 1")
    has(hits[0], HIT, "a hit")
    expect_equal(TEXT.encode()[hits[0]["start"]:hits[0]["end"]].decode(), hits[0]["text"], "a hit's span")
    expect_equal(lethe(admin, "search", "lighthouse")["hits"], [], "no hits is done")
    answer = lethe(ada, "ask", "Who is the lighthouse keeper?")
    has(answer, ("answer", "mode", "citations", "label", "usage"), "ask")
    expect("Maren" in answer["answer"] and answer["mode"] == "extractive", f"ask: {answer}")
    has(answer["citations"][0], CITATION, "a citation")
    nothing = lethe(admin, "ask", "Who is the lighthouse keeper?")
    expect_equal((nothing["mode"], nothing["answer"], nothing["citations"]), ("none", "not found in the documents you can read", []),
                 "nothing to answer from is done")
    stats = lethe(ada, "stats")
    has(stats, ("documents", "bytes", "quota", "limits"), "stats")
    expect_equal(stats["documents"], 2, "stats")
    has(lethe(house.operator_token, "stats"), ("server",), "the operator's stats")
    lethe(admin, "quota", "ada", "documents=5", "requests-per-second=1000")
    expect_equal(lethe(ada, "stats")["quota"]["documents_max"], 5, "the quota as set")

    receipt = scene.path("receipt.json")
    has(lethe(ada, "erase", "doc", document, "--receipt", receipt), ("commitment", "epoch", "signature"),
        "erase")
    verdict = lethe(None, "verify", receipt, "--key", house.key)
    expect_equal((set(verdict), verdict["valid"], verdict["trusted"]),
                 ({"valid", "trusted", "opened", "signer", "reason"}, True, True), "verify")
    lethe(admin, "group", "leave", "oncall", "bob")
    issued = lethe(admin, "token", "issue", "bob")
    lethe(tokens["bob"], "token", "revoke", issued["id"])
    lethe(issued["token"], "whoami", code=1)
    lethe(admin, "erase", "user", "bob")
    lethe(made["token"], "erase", "tenant", "island")
    # For people: words, and no JSON.
    for arguments in (["ls"], ["search", "tide"], ["ask", "When does the tide turn?"], ["stats"], ["whoami"]):
        done = lethe(ada, *arguments, json_out=False)
        expect(done.out.strip(), f"lethe {arguments[0]} says something")
    token_file = scene.write("token", ada + "\n")
    expect_equal(lethe(None, "whoami", "--token-file", token_file)["name"], "ada", "--token-file")
    # Whatever stands behind -- is no option.
    done = lethe(ada, "search", "--json", "--", "--audience", json_out=False)
    expect("hits" in json.loads(done.out), "a query that looks like an option")


@check("cli.codes")
def codes(scene):
    """Exit codes: 1 refused, not found, invalid or partly failed; 2 usage; 3 not reachable."""
    house = scene.house()
    lethe, admin = Shell(house), house.admin_token
    lethe(admin, "user", "add", "ada")
    ada = lethe(admin, "token", "issue", "ada")["token"]
    scene.write("good.txt", TEXT)
    # 1
    for arguments in (["get", "00" * 16], ["get", "nonsense"], ["share", "00" * 16, "user:ada"],
                      ["erase", "doc", "00" * 16], ["erase", "user", "nobody"], ["user", "add", "eve"],
                      ["tenant", "add", "x"], ["search", ""], ["ask", ""], ["search", "x", "-k", "1000"],
                      ["ask", "x", "--audience", "group:none"], ["ask", "x", "--repeats", "9"],
                      ["token", "revoke", "zz"], ["quota", "ada", "documents=1"],
                      ["erase", "tenant", "harbour"]):
        lethe(ada, *arguments, code=1)
    for arguments in (["user", "add", "ada"], ["user", "add", "Bad Name"], ["group", "join", "no", "ada"]):
        lethe(admin, *arguments, code=1)
    for wrong in ("lethe_" + "A" * 43, "", "x" * 3000, None):
        lethe(wrong, "whoami", code=1)
    lethe(house.operator_token, "ls", code=1)
    partly = lethe(ada, "put", "good.txt", "missing.txt", code=1, cwd=scene.folder)
    expect_equal(([d["path"] for d in partly["documents"]], [f["path"] for f in partly["failed"]]),
                 (["good.txt"], ["missing.txt"]), "a put that failed partly")
    expect(partly["failed"][0]["reason"], "the reason of a failure")
    lethe(None, "verify", scene.path("missing"), code=1)
    # 2
    for arguments in ([], ["nonsense"], ["get"], ["get", "a", "b"], ["put"], ["ask"], ["search", "a", "b"],
                      ["erase", "planet", "x"], ["erase", "doc"], ["ls", "x"], ["ask", "x", "--seed"],
                      ["ask", "x", "--seed", "many"], ["search", "x", "-k", "-1"], ["whoami", "--frobnicate"],
                      ["group", "rename", "a", "b"], ["init"], ["verify"], ["quota", "ada"],
                      ["quota", "ada", "flies=3"], ["search", "x", "--mode", "psychic"]):
        lethe(ada, *arguments, code=2)
    lethe(ada, "whoami", code=2, env={"LETHE_CA": ""})
    # 3
    lethe(ada, "whoami", "--server", "127.0.0.1:1", code=3)
    lethe(ada, "whoami", "--server", "unix:" + scene.path("none"), "--plaintext", code=3)
    house.stop()
    for arguments in (["ls"], ["ask", "x"], ["get", "00" * 16], ["put", "good.txt"]):
        lethe(ada, *arguments, code=3, cwd=scene.folder)
