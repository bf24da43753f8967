"""Answers that stop when they are no longer wanted, and a foreign client made from the .proto files."""
import json
import signal
import threading
import time

import grpc

from house import CALL_S, SERVICES, check, expect, expect_equal, readers, refusal

FACTS = ("The ferry to Gull Island leaves at seven in the morning. It carries forty people and no cars.\n\n"
         "The lighthouse keeper is called Maren. She polishes the lens every Friday.\n\n"
         "Blue buoys mark the channel; red ones mark the sandbank. Tides turn twice a day.\n")


def bearer(token):
    return (("authorization", "Bearer " + token),)


class Generator:
    """A town with a small random Mamba, and one channel over which ada asks and the operator counts."""

    def __init__(self, scene, *options, tokens_max=65536, **shape):
        self.town = scene.town("--model", scene.model(**shape), "--tokens-max", str(tokens_max),
                               "--quota-tokens-per-minute", "0", "--model-threads", "1", *options)
        self.town.ada.store("ferry.txt", FACTS)
        self.client = self.town.house.client(None)
        self.pb = self.client.pb

    def ask(self, tokens, timeout=CALL_S, client=None, **more):
        """In free text: a grounded answer ends with its passage."""
        request = self.pb.AskRequest(question="When does the ferry leave?", passages=1, repeats=1,
                                     max_tokens=tokens, free_text=True, **more)
        return (client or self.client).answers.Ask(request, timeout=timeout,
                                                   metadata=bearer(self.town.token["ada"]))

    def steps(self):
        """Decoding steps so far, of all sequences."""
        stats = self.client.admin.Stats(self.pb.StatsRequest(), timeout=CALL_S,
                                        metadata=bearer(self.town.house.operator_token))
        return stats.server.decode_steps

    def steps_at_rest(self, most_s=20):
        """Once they no longer grow, or after most_s."""
        last, end = -1, time.monotonic() + most_s
        while time.monotonic() < end:
            now = self.steps()
            if now == last:
                break
            last = now
            time.sleep(0.3)
        return self.steps()


def frames_read(call, count):
    """Reads up to the count-th token; the size of each token's frame."""
    sizes = []
    for frame in call:
        if frame.WhichOneof("frame") == "token":
            sizes.append(frame.ByteSize())
            if len(sizes) == count:
                break
    return sizes


@check("cancel", cancel_ignored="goes on after")
def cancel(scene):
    """Cancelling, and hanging up, stop decoding within one step.

    The count is read over the same connection, so the server has seen the cancel when it answers; the
    smallest of a few tries keeps a busy machine's delays out."""
    g = Generator(scene)
    further = []
    for _ in range(4):
        before = g.steps()
        call = g.ask(20000)
        expect_equal(len(frames_read(call, 3)), 3, "token frames before the cancel")
        call.cancel()
        seen = g.steps()
        further.append(g.steps_at_rest() - seen)
        expect(seen - before < 1000, "steps far beyond what was received")
        if further[-1] > 1000:
            break
    expect(min(further) <= 1 and max(further) < 1000, f"decoding goes on after a cancel: {further} steps")
    other = g.town.house.client(None)
    call = g.ask(20000, client=other)
    frames_read(call, 3)
    other.close()
    before = g.steps()
    rest = g.steps_at_rest()
    expect(rest - before < 1000, f"decoding goes on after hanging up: {rest - before} steps")


@check("cancel.deadline")
def deadline(scene):
    """A deadline ends the answer with DEADLINE_EXCEEDED, and the decoding with it."""
    g = Generator(scene)
    call = g.ask(60000, timeout=2)
    code = refusal(lambda: list(call))
    expect_equal(code, "DEADLINE_EXCEEDED", "the status of an answer that ran out of time")
    before = g.steps()
    rest = g.steps_at_rest()
    expect(rest < 40000 and rest - before < 1000, f"decoding goes on after the deadline: {rest - before}")
    # An answer that ends in time has all its tokens, and the steps are what it took.
    before = g.steps_at_rest()
    final = [f for f in g.ask(20) if f.WhichOneof("frame") == "final"][0].final
    expect_equal(final.usage.output_tokens, 20, "output tokens")
    expect_equal(g.steps() - before, 19, "steps of an answer of 20 tokens")


@check("answers.generated")
def generated(scene):
    """Frames of one size; the same request has the same bytes, alone, from the cache and in a batch."""
    g = Generator(scene, "--not-found-percent", "0", d_model=64, layers=2)
    ada, pb = g.town.ada, g.pb
    requests = [pb.AskRequest(question="Who polishes the lens?", max_tokens=60, temperature=1.0, seed=seed,
                              order=order, free_text=free)
                for seed in (1, 2, 3) for order in (1, 2) for free in (False, True)]
    alone = [ada.seen("Answers/Ask", r) for r in requests]
    expect(len(set(alone)) > 1, "seeds and orders make a difference")
    for seen in alone:
        expect_equal(seen.code, "OK", "an answer")
        frames = [pb.AskFrame.FromString(m) for m in seen.messages]
        kinds = [f.WhichOneof("frame") for f in frames]
        expect_equal((kinds[0], kinds[-1]), ("passages", "final"), "the first frame and the last")
        sizes = {len(m) for m, k in zip(seen.messages, kinds) if k == "token"}
        expect_equal(len(sizes), 1, "sizes of token frames")
        final = frames[-1].final
        text = b"".join(f.token.text for f in frames if f.WhichOneof("frame") == "token")
        expect_equal(text.decode(), final.answer, "the frames' text and the final answer")
        expect_equal(final.mode, "generative", "mode")
    together = [None] * len(requests)

    def run(i):
        together[i] = ada.seen("Answers/Ask", requests[i])
    # As many at once as ada's share of concurrent answers lets.
    for first in range(0, len(requests), 3):
        threads = [threading.Thread(target=run, args=(i,)) for i in range(first, first + 3)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    for i, seen in enumerate(together):
        expect(seen == alone[i], f"an answer in a batch differs from the same alone ({i})")


# ---- a foreign client -------------------------------------------------------------------------------------------
@check("client.python")
def python_client(scene):
    """Put, ask, search, share, get, list, erase, whoami, stats: with stubs made from the .proto files."""
    town = scene.town()
    ada, bob, pb = town.ada, town.bob, town.ada.pb
    nonce = bytes(range(16))
    response = ada.put({"path": "ferry.txt", "content": FACTS, "nonce": nonce},
                       {"path": "notes.md", "content": "# Notes\n\nThe *anchor* weighs 90 kg.\n"},
                       {"path": "page.html", "content": "<p>The mast is <b>pine</b>.</p>"},
                       {"path": "empty.txt", "content": ""}, piece=7)
    stored = {d.path: d for d in response.documents}
    expect({"ferry.txt", "notes.md", "page.html"} <= set(stored), f"stored documents: {sorted(stored)}")
    ferry = stored["ferry.txt"].id
    expect(len(ferry) == 32 and int(ferry, 16) >= 0, "an id of 32 hexadecimal digits")
    again = ada.put({"path": "ferry.txt", "content": FACTS, "nonce": nonce})
    expect_equal([d.id for d in again.documents], [ferry], "the retry of a put")
    expect_equal(ada.get(ferry).decode(), FACTS, "the text as stored")

    passages, tokens, final = ada.ask("Who polishes the lens?")
    expect_equal(final.mode, "extractive", "mode without a model")
    expect("Maren" in final.answer or "Friday" in final.answer, f"an answer from the text: {final.answer}")
    cited = final.citations[0]
    expect_equal(ada.get(cited.document)[cited.start:cited.end].decode(), final.answer,
                 "the cited span's bytes and the answer")
    expect_equal(b"".join(t.token.text for t in tokens).decode(), final.answer, "the streamed answer")
    expect_equal(len({t.ByteSize() for t in tokens}), 1, "sizes of token frames")
    expect(passages and readers(final.label) == {"user:ada"}, f"the answer's label: {final.label}")
    for hit in ada.search("lighthouse keeper"):
        if hit.document == ferry:
            expect_equal(FACTS.encode()[hit.start:hit.end].decode(), hit.text, "a hit's span and its text")

    expect_equal(refusal(lambda: bob.get(ferry)), "NOT_FOUND", "bob, before it is shared")
    shared = ada.share(ferry, "group:oncall").document
    expect_equal((shared.owner, shared.path, shared.bytes), ("user:ada", "ferry.txt", len(FACTS.encode())),
                 "the shared document")
    expect_equal(readers(shared.label), {"user:ada", "group:oncall"}, "its label")
    expect_equal(bob.get(ferry).decode(), FACTS, "bob, once it is shared")
    expect_equal([d.id for d in bob.list()], [ferry], "bob's list")

    me = ada.whoami()
    expect_equal((me.name, me.tenant, me.role, sorted(me.groups)),
                 ("ada", "harbour", "user", ["garden", "oncall"]), "who ada is")
    stats = ada.stats()
    expect_equal(stats.documents, len(stored), "ada's documents")
    expect(stats.bytes > len(FACTS) and stats.limits.document_max_bytes and not stats.HasField("server"),
           "ada's figures, and not the server's")
    expect(town.operator.stats().server.stores_open >= 1, "the operator's figures")

    erased = ada.erase(document=ferry)
    receipt = json.loads(erased.receipt)
    expect_equal(receipt["kind"], "document", "the receipt's kind")
    expect(len(erased.salt) == 64 and ferry in erased.target, "what opens the commitment")
    expect_equal(ada.erasure.GetReceipt(pb.GetReceiptRequest(id=receipt["id"])).receipt, erased.receipt,
                 "the receipt again")
    expect_equal([e.id for e in ada.erasure.ListErasures(pb.ListErasuresRequest()).erasures],
                 [receipt["id"]], "ada's erasures")
    for client in (ada, bob):
        expect_equal(refusal(lambda: client.get(ferry)), "NOT_FOUND", "an erased document")
        expect(ferry not in {h.document for h in client.search("lighthouse keeper")}, "erased, yet found")
        expect(ferry not in {d.id for d in client.list()}, "erased, yet listed")
    expect("mast" in ada.ask("What is the mast made of?")[2].answer, "the others are there")


@check("client.pages")
def pages(scene):
    """A list in pages of any size is the same list."""
    town = scene.town()
    pb = town.ada.pb
    for first in range(0, 30, 10):
        town.ada.put(*({"path": f"{n}.txt", "content": f"number {n}"} for n in range(first, first + 10)))
    whole = [d.id for d in town.ada.list()]
    expect_equal((len(set(whole)), whole), (30, sorted(whole)), "all documents, by id")
    for size in (1, 7, 29, 30, 31):
        got, token = [], ""
        while True:
            page = town.ada.documents.List(pb.ListRequest(page_size=size, page_token=token))
            expect(len(page.documents) <= size, "a page larger than asked for")
            got += [d.id for d in page.documents]
            token = page.next_page_token
            if not token:
                break
        expect_equal(got, whole, f"in pages of {size}")


@check("client.health")
def health(scene):
    """grpc.health.v1: Check, and a Watch that sees the server go."""
    house = scene.house()
    pb, channel = scene.world.pb, house.client(None).channel
    stub = pb.HealthStub(channel)
    for service in ["", *("lethe.v1." + s for s in SERVICES)]:
        answer = stub.Check(pb.HealthCheckRequest(service=service), timeout=CALL_S)
        expect_equal(answer.status, pb.HealthCheckResponse.SERVING, f"health of '{service}'")
    expect_equal(refusal(lambda: stub.Check(pb.HealthCheckRequest(service="nobody"), timeout=CALL_S)),
                 "NOT_FOUND", "health of an unknown service")
    watch = stub.Watch(pb.HealthCheckRequest(), timeout=CALL_S)
    expect_equal(next(watch).status, pb.HealthCheckResponse.SERVING, "the first of a Watch")
    house.process.send_signal(signal.SIGTERM)
    expect_equal(next(watch).status, pb.HealthCheckResponse.NOT_SERVING, "a Watch when the server stops")
    expect(refusal(lambda: list(watch)) in (None, "UNAVAILABLE", "CANCELLED"), "the end of the Watch")
    expect_equal(house.process.wait(CALL_S), 0, "the exit code with a Watch open")


@check("client.reflection")
def reflection(scene):
    """grpc.reflection.v1alpha lists the services and describes them; unknown methods end at once."""
    from google.protobuf import descriptor_pb2
    house = scene.house()
    pb, channel = scene.world.pb, house.client(None).channel
    stub = pb.ServerReflectionStub(channel)

    def ask(**what):
        return next(stub.ServerReflectionInfo(iter([pb.ServerReflectionRequest(**what)]), timeout=CALL_S))
    names = {s.name for s in ask(list_services="").list_services_response.service}
    expect({"lethe.v1." + s for s in SERVICES} <= names and "grpc.health.v1.Health" in names,
           f"the services listed: {sorted(names)}")
    for symbol, file in (("lethe.v1.Answers", "answers"), ("lethe.v1.Documents.Put", "documents"),
                         ("lethe.v1.AskFrame", "answers"), ("lethe.v1.Quota", "admin")):
        files = [descriptor_pb2.FileDescriptorProto.FromString(b) for b in
                 ask(file_containing_symbol=symbol).file_descriptor_response.file_descriptor_proto]
        expect(f"lethe/v1/{file}.proto" in {f.name for f in files}, f"the file of {symbol}")
    by_name = ask(file_by_filename="lethe/v1/access.proto").file_descriptor_response
    service = descriptor_pb2.FileDescriptorProto.FromString(by_name.file_descriptor_proto[0]).service[0]
    expect("WhoAmI" in {m.name for m in service.method}, "the methods of Access")
    expect_equal(ask(file_containing_symbol="lethe.v1.Nothing").WhichOneof("message_response"),
                 "error_response", "an unknown symbol")
    for path in ("/lethe.v1.Answers/Nothing", "/nobody.Here/Call", "/x"):
        for kind in (channel.unary_unary, channel.stream_stream):
            call = kind(path)
            request = b"" if kind == channel.unary_unary else iter([b"", b""])
            code = refusal(lambda: list(call(request, timeout=30) or ()))
            expect_equal(code, "UNIMPLEMENTED", f"the unknown method {path}")


# ---- going down gracefully ------------------------------------------------------------------------------------------
@check("graceful")
def graceful(scene):
    """SIGTERM lets a put and an answer that are under way end well, and refuses what is new."""
    g = Generator(scene, "--grace-ms", "100000", d_model=192, layers=4)
    pb, house = g.pb, g.town.house
    undisturbed = list(g.ask(400))[-1].final
    half, go_on = threading.Event(), threading.Event()

    def documents():
        yield pb.PutRequest(header=pb.PutHeader(path="late.txt"))
        yield pb.PutRequest(data=b"the first half, ")
        half.set()
        go_on.wait(CALL_S)
        yield pb.PutRequest(data=b"the second half")
    put = g.client.documents.Put.future(documents(), timeout=CALL_S,
                                        metadata=bearer(g.town.token["ada"]))
    answer = g.ask(400)
    read = frames_read(answer, 2)
    half.wait(CALL_S)
    process = house.process
    process.send_signal(signal.SIGTERM)
    while "stopping" not in house.log_text():
        time.sleep(0.01)
    go_on.set()
    frames = list(answer)
    expect_equal(frames[-1].WhichOneof("frame"), "final", "the answer's last frame")
    expect_equal(undisturbed.usage.output_tokens, 400, "the answer's tokens")
    expect(frames[-1].final == undisturbed, "the answer differs from the undisturbed one")
    expect(len(read) == 2, "frames before the signal")
    document = put.result().documents[0].id
    expect(refusal(lambda: house.client(g.town.token["ada"]).whoami()) == "UNAVAILABLE",
           "a new call while stopping")
    expect_equal(process.wait(CALL_S), 0, "the exit code")
    house.kill()
    house.start()
    g.town.again()
    expect_equal(g.town.ada.get(document), b"the first half, the second half",
                 "what was acknowledged while stopping")


@check("unix_socket")
def unix_socket(scene):
    """Plaintext on a Unix socket, for those who ask for it; the lethe program speaks it too."""
    path = scene.path("socket")
    house = scene.house(start=False)
    house.start("--listen", "unix:" + path, "--plaintext")
    expect_equal(house.address, "unix:" + path, "the address printed")
    me = house.lethe(house.admin_token, "whoami", "--plaintext", "--server", "unix:" + path)
    expect_equal((me.code, me.json["name"]), (0, "admin"), "whoami over the Unix socket")
    with grpc.insecure_channel("unix:" + path) as channel:
        me = scene.world.pb.AccessStub(channel).WhoAmI(scene.world.pb.WhoAmIRequest(),
                                                       metadata=bearer(house.admin_token))
        expect_equal(me.name, "admin", "Python over the Unix socket")
    house.stop()
    code, said = house.fails_to_start("--plaintext", "--listen", "0.0.0.0:0")
    expect_equal(code, 1, "plaintext on every interface")
    expect("plaintext" in said.lower() or "loopback" in said.lower(), f"words that help: {said[-300:]}")
