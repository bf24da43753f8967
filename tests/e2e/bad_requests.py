"""What a client can send: broken messages, tokens, sizes, deadlines, texts."""
import contextlib
import json
import os
import threading

import grpc

from house import CALL_S, SERVICES, check, expect, expect_equal, refusal

KEPT = "What was acknowledged before stays.\n"


@contextlib.contextmanager
def still_there(town):
    """The server outlives what is done within, and keeps what it has."""
    document = town.ada.store("kept.txt", KEPT, share=["user:bob"])
    pid = town.house.process.pid
    yield document
    expect(town.house.process.poll() is None and town.house.process.pid == pid, "the server is alive")
    town.again()
    for client in (town.ada, town.bob):
        expect_equal(client.get(document).decode(), KEPT, "what was acknowledged before")
        expect(document in {h.document for h in client.search("acknowledged before")}, "it is found")
    town.house.stop()
    expect("Sanitizer" not in town.house.log_text(), "a sanitizer's report")
    town.house.start()
    town.again()
    expect_equal(town.ada.get(document).decode(), KEPT, "what was acknowledged before, after a restart")


METHODS = {
    "Answers": ["Ask", "Search"], "Documents": ["Put", "Get", "List", "Share", "Unshare"],
    "Erasure": ["Erase", "GetReceipt", "ListErasures"],
    "Access": ["CreateUser", "CreateGroup", "JoinGroup", "LeaveGroup", "IssueToken", "RevokeToken",
               "WhoAmI", "CreateTenant"],
    "Admin": ["Stats", "SetQuota"]}
GARBAGE = {"a length past the end": b"\x0a\xff\xff\xff\xff\x0f", "a cut varint": b"\x08\x80",
           "field number 0": b"\x02\x00", "a wrong wire type": b"\x0f", "a string cut off": b"\x0a\x05ab",
           "text": b"GET / HTTP/1.1\r\n\r\n"}


@check("protobuf")
def protobuf(scene):
    """Malformed messages are INVALID_ARGUMENT in every method, as are strings that are not UTF-8."""
    town = scene.town()
    with still_there(town):
        expect_equal(set(METHODS), set(SERVICES), "the services")
        for service, methods in METHODS.items():
            for method in methods:
                client = town.operator if method == "CreateTenant" else town.admin
                for what, content in GARBAGE.items():
                    seen = client.seen(f"{service}/{method}", content)
                    expect_equal(seen.code, "INVALID_ARGUMENT", f"{service}/{method} with {what}")
                    expect("well-formed" in seen.details, f"words that help: {seen.details}")
        for method, content in (("Answers/Search", b"\x0a\x02\xc3\x28"), ("Answers/Ask", b"\x0a\x01\xff"),
                                ("Access/CreateUser", b"\x0a\x03\xed\xa0\x80"),
                                ("Documents/Share", b"\x12\x04\xf8\x88\x80\x80"),
                                ("Answers/Ask", b"\x0a\x01a\x4a\x01\xfe")):
            seen = town.admin.seen(method, content)
            expect_equal(seen.code, "INVALID_ARGUMENT", f"{method} with a string that is not UTF-8")
            expect("UTF-8" in seen.details, f"words that help: {seen.details}")
        # A message of very many empty submessages, and unknown fields, which are no error.
        many = b"\x0a\x00" * 300000
        expect(town.ada.seen("Admin/SetQuota", many).code in ("PERMISSION_DENIED", "INVALID_ARGUMENT"),
               "many empty fields")
        unknown = town.ada.pb.SearchRequest(query="before").SerializeToString() + b"\xfa\x3f\x03abc"
        expect_equal(town.ada.seen("Answers/Search", unknown).code, "OK", "an unknown field")


@check("tokens")
def tokens(scene):
    """No token, garbage, another scheme, a revoked one: UNAUTHENTICATED, with one sentence."""
    town = scene.town()
    with still_there(town):
        revoked = town.admin.issue("ada")
        town.admin.revoke(revoked.id)
        client, pb = town.house.client(None), town.ada.pb

        def seen(*values):
            client.metadata = tuple(("authorization", v) for v in values)
            return client.seen("Documents/List", pb.ListRequest())
        good = town.token["ada"]
        expect_equal(seen("Bearer " + good).code, "OK", "the control")
        for values in ((), ("",), ("Bearer",), ("Bearer ",), ("Basic YWRhOmFkYQ==",), (good,),
                       ("Bearer " + good[:-1],), ("Bearer " + good + "x",), ("Bearer " + good.upper(),),
                       ("Bearer  " + good,), ("Bearer lethe_",), ("Bearer " + "A" * 4000,),
                       ("Bearer %s%n%s",), ("Bearer lethe_" + "-" * 43,), ("Bearer lethe_" + "=" * 43,)):
            answer = seen(*values)
            expect_equal(answer.code, "UNAUTHENTICATED", f"the header {values}")
            expect(answer.details and good not in answer.details, "words that help and tell nothing")
        expect_equal(seen("Bearer " + revoked.token), seen("Bearer lethe_" + "A" * 43),
                     "revoked and unknown alike")


@check("limits")
def limits(scene):
    """Sizes: messages, metadata, questions, k, passages, tokens, stop sequences, names, pages."""
    town = scene.town("--message-max-bytes", "1048576")
    pb, ada = town.ada.pb, town.ada
    with still_there(town):
        def code(method, request, who=ada):
            seen = who.seen(method, request)
            expect(seen.details or seen.code == "OK", f"{method}: an error without words")
            return seen.code
        invalid = {
            "Answers/Search": [dict(query=""), dict(query="x" * 16385), dict(query="x", k=101),
                               dict(query="x", k=2**32 - 1), dict(query="x", mode=3)],
            "Answers/Ask": [dict(question=""), dict(question="x" * 16385), dict(question="x", passages=33),
                            dict(question="x", repeats=5), dict(question="x", max_tokens=1 << 20),
                            dict(question="x", temperature=-1), dict(question="x", temperature=float("nan")),
                            dict(question="x", top_p=1.5), dict(question="x", order=7),
                            dict(question="x", stop=[""]), dict(question="x", stop=["y" * 65]),
                            dict(question="x", stop=["y"] * 9)],
            "Documents/List": [dict(page_size=1001), dict(page_token="nonsense")],
            "Erasure/Erase": [dict()],
        }
        kinds = {"Answers/Search": pb.SearchRequest, "Answers/Ask": pb.AskRequest,
                 "Documents/List": pb.ListRequest, "Erasure/Erase": pb.EraseRequest}
        for method, requests in invalid.items():
            for fields in requests:
                expect_equal(code(method, kinds[method](**fields)), "INVALID_ARGUMENT",
                             f"{method} with {str(fields)[:80]}")
        for query in ("x" * 16384, " ", "\t\n", "?!", "\u202e\ufeff", "\U0001f980" * 100, "a" * 5000):
            expect_equal(code("Answers/Search", pb.SearchRequest(query=query)), "OK",
                         f"the odd query {query[:10]!r}")
            expect_equal(code("Answers/Ask", pb.AskRequest(question=query)), "OK",
                         f"the odd question {query[:10]!r}")
        for request in (pb.SearchRequest(query="x\0y"), pb.SearchRequest(query="\0")):
            expect_equal(code("Answers/Search", request), "INVALID_ARGUMENT", "a query with a NUL character")
        for audience in ("group:none", "\t", "group:" + "x" * 100000, "user:ada"):
            expect_equal(code("Answers/Search", pb.SearchRequest(query="x", audience=audience)), "NOT_FOUND",
                         f"the audience {audience[:20]!r}")
        for name in ("", "a b", "Ada", "-x", "a" * 65, "group:x", "a/b", "\u00e4da", "ada\n", "..\\"):
            expect_equal(code("Access/CreateUser", pb.NameRequest(name=name), town.admin),
                         "INVALID_ARGUMENT", f"the name {name!r}")
        expect_equal(code("Access/CreateUser", pb.NameRequest(name="ada"), town.admin), "ALREADY_EXISTS",
                     "a name that is taken")
        town.admin.group("inner", "ada")
        town.admin.group("outer", "group:inner")
        expect_equal(code("Access/JoinGroup", pb.MembershipRequest(group="inner", member="group:outer"),
                          town.admin), "INVALID_ARGUMENT", "a circle of groups")
        # Larger than one message may be: refused, and the connection goes on.
        expect_equal(ada.seen("Documents/Share", pb.ShareRequest(document="x" * (2 << 20))).code,
                     "RESOURCE_EXHAUSTED", "a message over the limit")
        client = town.house.client(town.token["ada"], metadata=(("x-long", "y" * 200000),))
        expect(client.seen("Documents/List", pb.ListRequest()).code not in ("OK", "DEADLINE_EXCEEDED"),
               "200 kB of metadata")
        client = town.house.client(town.token["ada"],
                                   metadata=tuple((f"x-{n}", "y") for n in range(50)))
        expect_equal(client.seen("Documents/List", pb.ListRequest()).code, "OK", "50 unknown headers")


@check("deadlines")
def deadlines(scene):
    """Deadlines that pass: DEADLINE_EXCEEDED; a put that is cut off by one leaves nothing behind."""
    town = scene.town()
    pb = town.ada.pb
    with still_there(town):
        never = threading.Event()

        def half():
            yield pb.PutRequest(header=pb.PutHeader(path="half.txt"))
            yield pb.PutRequest(data=b"half of it")
            never.wait(CALL_S)
        for end in ("deadline", "cancel"):
            call = town.ada.documents.Put.future(half(), timeout=1 if end == "deadline" else CALL_S)
            if end == "cancel":
                call.cancel()
            else:
                expect_equal(refusal(call.result), "DEADLINE_EXCEEDED", "a put whose deadline passes")
        never.set()
        expect_equal([d.path for d in town.ada.list()], ["kept.txt"], "what a put cut off leaves behind")


@check("put")
def put(scene):
    """Streams and headers that are wrong, one by one: a failure concerns its document alone."""
    town = scene.town()
    pb, ada = town.ada.pb, town.ada
    with still_there(town) as kept:
        def stream(*parts):
            return refusal(lambda: ada.documents.Put(iter(parts), timeout=CALL_S))
        expect_equal(stream(), "INVALID_ARGUMENT", "an empty stream")
        expect_equal(stream(pb.PutRequest(data=b"x")), "INVALID_ARGUMENT", "data before any header")
        expect_equal(stream(pb.PutRequest()), "INVALID_ARGUMENT", "neither header nor data")
        headers = {
            "an empty path": (dict(path=""), 3), "a long path": (dict(path="p" * 1024), 3),
            "a short nonce": (dict(path="a", nonce=b"123"), 3),
            "a group that one is not in": (dict(path="a", owner="group:nobody"), 5),
            "a user for an owner": (dict(path="a", owner="user:bob"), 5),
            "nobody to share with": (dict(path="a", share=["user:nobody"]), 5),
            "another tenant's": (dict(path="a", share=["harbour/bob"]), 5),
            "many to share with": (dict(path="a", share=["user:bob"] * 33), 3),
            "an unknown media type": (dict(path="a", media_type="application/x-nonsense"), 3),
        }
        good = {"path": "good.txt", "content": "A good one in between."}
        for what, (header, code) in headers.items():
            response = ada.put(good, {**header, "content": "words"}, good)
            expect_equal([f.code for f in response.failed], [code], f"the failure of {what}")
            expect(response.failed[0].reason, f"a reason for {what}")
            expect_equal(len(response.documents), 2, f"the others beside {what}")
        contents = {
            "invalid UTF-8": b"abc \xff\xfe def", "half a character": b"na\xc3", "a surrogate": b"\xed\xa0\x80",
            "overlong": b"\xc0\xaf", "a program": b"\x7fELF\x02\x01\x01" + os.urandom(500),
        }
        for what, content in contents.items():
            response = ada.put(good, {"path": "bad.txt", "content": content}, good)
            expect_equal([(f.path, f.code) for f in response.failed], [("bad.txt", 3)], what)
            expect_equal(len(response.documents), 2, f"the others beside {what}")
        # Odd, but text: stored as it is, or refused with a reason.
        for what, content in {"empty": b"", "NUL bytes": b"one\0two\0three", "white space": b" \n\t\n ",
                              "one line": b"word " * 100000, "no spaces": b"x" * 300000, "CR": b"a\r\rb\r\n",
                              "a byte-order mark": b"\xef\xbb\xbfmarked", "marks": "\u0301".encode() * 50000,
                              "newlines": b"\n" * 200000, "controls": bytes(range(1, 32))}.items():
            response = ada.put({"path": "odd.txt", "content": content})
            expect_equal(len(response.documents) + len(response.failed), 1, what)
            for f in response.failed:
                expect(f.code == 3 and f.reason, f"{what}: {f}")
            for d in response.documents:
                expect_equal(ada.get(d.id), content.removeprefix(b"\xef\xbb\xbf"), f"{what}, as stored")
        for what, (path, content) in {
                "a broken PDF": ("a.pdf", b"%PDF-1.4\nnonsense" + os.urandom(1000)),
                "deep HTML": ("a.html", b"<div>" * 30000), "HTML cut off": ("b.html", b"<p><a href='"),
                "deep Markdown": ("a.md", b"> " * 20000 + b"[" * 20000)}.items():
            response = ada.put({"path": path, "content": content}, good)
            expect(all(f.code == 3 and f.reason for f in response.failed), f"{what}: {response.failed}")
            expect("good.txt" in {d.path for d in response.documents}, f"the other beside {what}")
        expect(kept in {d.id for d in ada.list()}, "what was there before")


@check("large")
def large(scene):
    """A document of 50 MB works; one over the limit fails alone, with a clear error."""
    town = scene.town()
    with still_there(town):
        sentence = "The quick brown fox number %d jumps over the lazy dog by the river. "
        block = "".join(sentence % n for n in range(13000)) + "\n\n"
        content = (block * (50_000_000 // len(block) + 1)).encode()
        document = town.bob.store("large.txt", content)
        expect(town.bob.get(document) == content, "a document of 50 MB, as stored")
        expect_equal([d.bytes for d in town.bob.list() if d.id == document], [len(content)], "its size")
        over = town.bob.put({"path": "small.txt", "content": "before"},
                            {"path": "over.txt", "content": b"word " * ((64 << 20) // 5 + 2)},
                            {"path": "after.txt", "content": "after"}, piece=1 << 20)
        expect_equal([(f.path, f.code) for f in over.failed], [("over.txt", 3)], "over the limit")
        expect("limit" in over.failed[0].reason, f"words that help: {over.failed[0].reason}")
        expect_equal([d.path for d in over.documents], ["small.txt", "after.txt"], "the others")
        town.bob.erase(document=document)


@check("foreign_ids")
def foreign_ids(scene):
    """Another tenant's ids, everywhere an id or a name is taken: NOT_FOUND as for absent ones."""
    town = scene.town()
    with still_there(town) as kept:
        pb = town.ada.pb
        made = town.operator.access.CreateTenant(pb.CreateTenantRequest(name="island"))
        stranger = town.house.client(made.token)
        token_id = town.admin.issue("ada").id
        receipt = json.loads(town.bob.erase(document=town.bob.store("x", "x")).receipt)["id"]
        for method, foreign, absent in (
                ("Documents/Get", pb.GetRequest(id=kept), pb.GetRequest(id="11" * 16)),
                ("Documents/Share", pb.ShareRequest(document=kept, who="user:admin"),
                 pb.ShareRequest(document="11" * 16, who="user:admin")),
                ("Erasure/Erase", pb.EraseRequest(document=kept), pb.EraseRequest(document="11" * 16)),
                ("Erasure/Erase", pb.EraseRequest(user="bob"), pb.EraseRequest(user="nobody")),
                ("Erasure/GetReceipt", pb.GetReceiptRequest(id=receipt), pb.GetReceiptRequest(id="zz")),
                ("Access/RevokeToken", pb.RevokeTokenRequest(id=token_id), pb.RevokeTokenRequest(id="")),
                ("Access/IssueToken", pb.NameRequest(name="bob"), pb.NameRequest(name="nobody")),
                ("Access/JoinGroup", pb.MembershipRequest(group="oncall", member="admin"),
                 pb.MembershipRequest(group="nothing", member="admin"))):
            one, other = stranger.seen(method, foreign), stranger.seen(method, absent)
            expect_equal(one.code, "NOT_FOUND", method + " across tenants")
            expect(one == other, f"{method}: {one} / {other}")


@check("untrusted")
def untrusted(scene):
    """A certificate that is not the one trusted, a plaintext client, bytes that are no HTTP/2."""
    import socket
    town = scene.town()
    with still_there(town):
        other = scene.house(name="other", start=False)
        client = town.house.client(town.token["ada"], ca=other.ca_pem)
        expect_equal(refusal(lambda: client.access.WhoAmI(client.pb.WhoAmIRequest(), timeout=20)),
                     "UNAVAILABLE", "Python, trusting another certificate")
        done = town.house.lethe(town.token["ada"], "whoami", env={"LETHE_CA": other.ca})
        expect_equal(done.code, 3, "lethe, trusting another certificate")
        expect("certificate" in done.err.lower(), f"words that help: {done.err}")
        for ca in (scene.path("missing.pem"), scene.write("bad.pem", "nonsense"), scene.write("empty.pem", "")):
            done = town.house.lethe(town.token["ada"], "whoami", env={"LETHE_CA": ca})
            expect(done.code in (1, 2, 3) and done.err, f"lethe with the certificate {ca}: {done}")
        with grpc.insecure_channel(town.house.address) as channel:
            stub = scene.world.pb.AccessStub(channel)
            expect_equal(refusal(lambda: stub.WhoAmI(scene.world.pb.WhoAmIRequest(), timeout=20)),
                         "UNAVAILABLE", "plaintext to a TLS port")
        place, port = town.house.address.rsplit(":", 1)
        for noise in (b"GET / HTTP/1.1\r\n\r\n", os.urandom(4000), b"", b"\x16\x03\x01\xff\xff" + b"\0" * 100):
            with contextlib.suppress(OSError), socket.create_connection((place, int(port))) as s:
                s.sendall(noise)
                s.shutdown(socket.SHUT_WR)
                s.settimeout(20)
                s.recv(1000)
