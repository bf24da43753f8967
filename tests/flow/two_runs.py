#!/usr/bin/python3
"""Non-interference, tried: two histories that differ only in what may not flow to the observer must give the
observer the same bytes. Prints TAP.

usage: tests/flow/two_runs.py BUILD [--count PAIRS] [--seed S] [--load 0|1|both] [--pair N] [--worlds N]
                              [--generator 0|1|both]

A start state with many tenants ("worlds") is made once. For each round it is copied twice; a server runs the
first histories of all worlds on one copy, another the second ones on the other. Principals' ids and secrets
and so documents' ids are equal in both; the clock is fixed. Whatever the observer of a world receives (status,
details, metadata, number, order and bytes of messages) is compared as bytes. With --load the worlds run at the
same time, so that answers share the engine's batches with others; without, one request after the other.

Masked, in the observer's own receipts only: what is drawn at random for each erasure (id, salt, commitment),
signatures, key tree and log hashes; and where the tenant's own secrets differ, the tenant's epoch and the log's
size (they count the tenant's erasures and shares, as SECURITY.md says).

--pair N runs that pair alone and, where it differs, looks for a shorter history.
"""
import argparse
import json
import os
import random
import re
import shutil
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import house  # noqa: E402
import histories  # noqa: E402
from histories import OBSERVER  # noqa: E402

grpc = house.grpc
CLOCK_MS = "1700000000000"
RECEIPT_RANDOM = {"id", "commitment", "signature", "subtree_before", "subtree_after", "absence", "log_path", "log_root",
                  "log_signature"}
RECEIPT_TENANT = {"epoch", "log_index", "log_size"}


# ---- the start state -----------------------------------------------------------------------------------
class Start:
    """The folder that every run begins with: worlds with users, groups and tokens."""

    def __init__(self, world, folder, count):
        self.world, self.folder = world, folder
        self.data = os.path.join(folder, "start")
        h = house.House(world, self.data)
        h.init()
        h.start()
        operator = h.client(h.operator_token)
        self.tokens = []
        for n in range(count):
            tenant = operator.access.CreateTenant(world.pb.CreateTenantRequest(name=f"w{n}"))
            admin = h.client(tenant.token)
            tokens = {"admin": tenant.token}
            for user in histories.USERS:
                admin.user(user)
                tokens[user] = admin.issue(user).token
            for group, members in histories.GROUPS.items():
                admin.group(group, *members)
            admin.close()
            self.tokens.append(tokens)
        h.stop()

    def copy(self, name):
        to = os.path.join(self.folder, name)
        for suffix in ("", ".root"):
            shutil.rmtree(to + suffix, ignore_errors=True)
            shutil.copytree(self.data + suffix, to + suffix)
        return to


class Server:
    """lethed on a copy, in plain text over a Unix socket: what is compared is inside."""

    def __init__(self, start, name, options):
        self.data = start.copy(name)
        self.socket = self.data + ".sock"
        with house.contextlib.suppress(OSError):
            os.unlink(self.socket)
        self.house = house.House(start.world, self.data, ["--plaintext", *options],
                                 env={"LETHE_CLOCK_FIXED_MS": CLOCK_MS})
        command = self.house.command
        self.house.command = lambda options=(): [
            a if a != "127.0.0.1:0" else "unix:" + self.socket for a in command(options)]
        self.house.start()
        self.channel = grpc.insecure_channel("unix:" + self.socket, options=[
            ("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", 64 << 20)])
        self.calls = {}

    def call(self, method, token, request):
        """(status, details, metadata, messages): all that the caller receives."""
        if isinstance(request, list):
            many = self.calls.get(method) or self.channel.stream_unary(method, None, None)
            self.calls[method] = many
            try:
                answer, call = many.with_call(iter(request), timeout=house.CALL_S, metadata=token)
                return ("OK", call.details(), tuple(map(tuple, call.trailing_metadata())), (answer,))
            except grpc.RpcError as e:
                return (e.code().name, e.details(), tuple(map(tuple, e.trailing_metadata() or ())), ())
        one = self.calls.get(method) or self.channel.unary_stream(method, None, None)
        self.calls[method] = one
        call, messages = one(request, timeout=house.CALL_S, metadata=token), []
        try:
            messages.extend(call)
        except grpc.RpcError:
            pass
        return (call.code().name, call.details(), tuple(map(tuple, call.trailing_metadata() or ())),
                tuple(messages))

    def end(self):
        self.channel.close()
        self.house.kill()
        self.house.process = None
        for suffix in ("", ".root"):
            shutil.rmtree(self.data + suffix, ignore_errors=True)


# ---- one world in one run --------------------------------------------------------------------------------
class Run:
    """Carries out one history; what uma receives is in seen. known: ids by name from the pair's first run,
    so that both runs ask for the same ids."""

    def __init__(self, server, world_number, tokens, pb, kind, known=None):
        self.server, self.number, self.pb, self.kind = server, world_number, pb, kind
        self.meta = {u: (("authorization", "Bearer " + t),) for u, t in tokens.items()}
        self.ids, self.known = {}, known
        self.seen = []

    def id_of(self, name):
        odd = {"?absent": "7f" * 16, "?short": "7f", "?words": "no such thing"}
        if name in odd:
            return odd[name]
        if self.known is not None and name in self.known:
            return self.known[name]
        return self.ids.get(name, "00" * 16)

    def request(self, step):
        pb, kind = self.pb, step[0]
        if kind == "search":
            return "Answers/Search", pb.SearchRequest(query=step[2], k=step[3], mode=step[4], audience=step[5])
        if kind == "ask":
            return "Answers/Ask", pb.AskRequest(question=step[2], passages=step[3], repeats=step[4],
                                                seed=step[5], temperature=step[6], audience=step[7],
                                                order=step[8], max_tokens=12, free_text=step[5] % 3 == 2)
        if kind == "get":
            return "Documents/Get", pb.GetRequest(id=self.id_of(step[2]))
        if kind in ("share", "unshare"):
            return f"Documents/{kind.capitalize()}", pb.ShareRequest(document=self.id_of(step[2]), who=step[3])
        if kind == "erase":
            return "Erasure/Erase", pb.EraseRequest(document=self.id_of(step[2]))
        if kind in ("join", "leave"):
            return f"Access/{kind.capitalize()}Group", pb.MembershipRequest(group=step[2], member=step[3])
        if kind == "gone":
            return "Erasure/Erase", pb.EraseRequest(user=step[2])
        if kind == "quota":
            return "Admin/SetQuota", pb.SetQuotaRequest(name=step[2], quota=pb.Quota(documents_max=step[3]))
        simple = {"list": ("Documents/List", pb.ListRequest()), "stats": ("Admin/Stats", pb.StatsRequest()),
                  "whoami": ("Access/WhoAmI", pb.WhoAmIRequest()),
                  "erasures": ("Erasure/ListErasures", pb.ListErasuresRequest()),
                  "token": ("Access/IssueToken", pb.NameRequest(name=step[-1])),
                  "user": ("Access/CreateUser", pb.NameRequest(name=step[-1])),
                  "score": ("Admin/Stats", pb.StatsRequest())}
        return simple[kind]

    def put(self, step):
        _, actor, name, path, owner, share, content, replace = step
        nonce = random.Random(name).getrandbits(128).to_bytes(16, "big")
        header = self.pb.PutHeader(path=path, nonce=nonce, media_type="text/plain", share=share,
                                   owner=owner if owner.startswith("group:") else "", replace=replace)
        messages = [self.pb.PutRequest(header=header), self.pb.PutRequest(data=content.encode())]
        got = self.server.call("/lethe.v1.Documents/Put", self.meta[actor],
                               [m.SerializeToString() for m in messages])
        if got[0] == "OK":
            for d in self.pb.PutResponse.FromString(got[3][0]).documents:
                self.ids[name] = d.id
        return got

    def step(self, visible, step):
        actor = step[1]
        if step[0] == "put":
            got = self.put(step)
        else:
            method, request = self.request(step)
            got = self.server.call("/lethe.v1." + method, self.meta[actor],
                                   request.SerializeToString(deterministic=True))
            if method.startswith("Erasure/"):
                got = (*got[:3], tuple(self.masked(method, m) for m in got[3]))
        if actor == OBSERVER:
            assert visible
            self.seen.append(got)

    def masked(self, method, message):
        hidden = RECEIPT_RANDOM | (RECEIPT_TENANT if self.kind == "tenant" else set())
        if method.endswith("ListErasures"):
            listed = self.pb.ListErasuresResponse.FromString(message)
            return repr([(e.kind, e.time_ms, 0 if self.kind == "tenant" else e.epoch)
                         for e in listed.erasures])
        response = self.pb.EraseResponse.FromString(message)
        receipt = {k: ("" if k in hidden or isinstance(v, (list, dict)) else v)
                   for k, v in json.loads(response.receipt).items()}
        return json.dumps([receipt, response.target], sort_keys=True)


# ---- rounds ---------------------------------------------------------------------------------------------------
def server_options(seed, model):
    rng = random.Random(seed)
    options = ["--stores-open-max", str(rng.choice((2, 8, 128))), "--batch-max", str(rng.choice((2, 4, 16))),
               "--log-level", "3", "--quota-requests-per-second", "200"]
    if model:
        options += ["--model", model, "--model-threads", "1",
                    "--state-cache-bytes", str(rng.choice((0, 60000, 1 << 20))),
                    "--not-found-percent", str(rng.choice((0, 100)))]
    return options


def carry_out(server, runs, plans, load):
    """All worlds' histories. load: by some threads at once; else step by step in turn."""
    if not load:
        for n in range(max(len(p) for p in plans)):
            for run, plan in zip(runs, plans):
                if n < len(plan):
                    run.step(*plan[n])
        return
    work, lock, errors = list(zip(runs, plans)), threading.Lock(), []

    def worker():
        try:
            while True:
                with lock:
                    if not work:
                        return
                    run, plan = work.pop()
                for visible, step in plan:
                    run.step(visible, step)
        except Exception as e:          # told by the main thread
            errors.append(e)
    threads = [threading.Thread(target=worker) for _ in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if errors:
        raise errors[0]


def first_difference(a, b):
    for n, (one, other) in enumerate(zip(a, b)):
        if one != other:
            return n, one, other
    return None if len(a) == len(b) else (min(len(a), len(b)), len(a), len(b))


class Fuzzer:
    def __init__(self, start, model):
        self.start, self.model = start, model
        self.requests = self.bytes = self.pairs = 0

    def round(self, pairs, options, load):
        """pairs: [(kind, a, b)], one a world. The differences: [(index, difference)]."""
        known, seen = [], []
        for side in (0, 1):
            server = Server(self.start, "ab"[side], options)
            try:
                runs = [Run(server, n, self.start.tokens[n], self.start.world.pb, p[0],
                            known[n] if side else None) for n, p in enumerate(pairs)]
                carry_out(server, runs, [p[1 + side] for p in pairs], load)
            finally:
                server.end()
            known = [r.ids for r in runs] if side == 0 else known
            seen.append([r.seen for r in runs])
        found = []
        for n, _ in enumerate(pairs):
            self.pairs += 1
            self.requests += len(seen[0][n])
            self.bytes += sum(len(m) for s in seen[0][n] for m in s[3])
            different = first_difference(seen[0][n], seen[1][n])
            if different:
                found.append((n, different))
        return found

    def shrink(self, pair, options, load):
        """Drops secret steps as long as a difference is left."""
        kind, a, b = pair
        for tries in range(60):
            rng = random.Random(tries)
            drop = {s for s in a + b if not s[0] and rng.random() < 0.5}
            one, other = ([s for s in h if s not in drop] for h in (a, b))
            if drop and self.round([(kind, one, other)], options, load):
                a, b = one, other
        return kind, a, b


def describe(pair, difference):
    n, one, other = difference
    lines = [f"kind {pair[0]}; observation {n}:", f"  first run  {house.short(one, 900)}",
             f"  second run {house.short(other, 900)}"]
    mine = [s for v, s in pair[1] if s[1] == OBSERVER]
    if n < len(mine):
        lines.insert(1, f"  request {mine[n]}")
    return lines


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--count", type=int, default=240)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--load", choices=("0", "1", "both"), default="both")
    parser.add_argument("--generator", choices=("0", "1", "both"), default="both")
    parser.add_argument("--worlds", type=int, default=40)
    parser.add_argument("--pair", type=int)
    args = parser.parse_args()
    world = house.World(args.build)
    if os.path.isdir("/dev/shm"):            # fsync costs nothing there; what is compared is the same
        shutil.rmtree(world.folder, ignore_errors=True)
        world.folder = house.tempfile.mkdtemp(prefix="lethe-flow-", dir="/dev/shm")
        house.atexit.register(shutil.rmtree, world.folder, ignore_errors=True)
    scene = house.Scene(world, house.contextlib.ExitStack(), "flow")
    model = scene.model(d_model=32, layers=2)
    worlds = 1 if args.pair is not None else min(args.worlds, args.count)
    start = Start(world, scene.folder, worlds)
    fuzzer, failures, begun, told = Fuzzer(start, model), [], time.monotonic(), time.monotonic()
    base = args.seed * 1000003
    number = args.pair if args.pair is not None else 0
    last = number + (1 if args.pair is not None else args.count)
    rounds = {"serial": 0, "load": 0, "extractive": 0, "generator": 0}
    while number < last:
        size = min(worlds, last - number)
        # A pair's settings follow from its number alone, so that --pair N runs it as it was run.
        block = number // args.worlds
        load = {"0": False, "1": True, "both": block % 2 == 1}[args.load]
        generator = {"0": False, "1": True, "both": block % 4 < 2}[args.generator]
        options = server_options(base + block, model if generator else None)
        pairs = [histories.pair(base + number + n) for n in range(size)]
        rounds["load" if load else "serial"] += size
        rounds["generator" if generator else "extractive"] += size
        for n, difference in fuzzer.round(pairs, options, load):
            failures.append(number + n)
            print(f"# pair {number + n} differs: {sys.argv[0]} {args.build} --seed {args.seed} --pair {number + n}")
            for line in describe(pairs[n], difference):
                print("#   " + line)
            if args.pair is not None:
                kind, a, b = fuzzer.shrink(pairs[n], options, load)
                print("#   shrunk:")
                for name, history in (("first", a), ("second", b)):
                    print(f"#   {name}:")
                    for visible, step in history:
                        print(f"#     {'' if visible else '(secret) '}{step}")
        number += size
        sys.stdout.flush()
        if len(failures) >= 10:
            break
        if time.monotonic() - told > 60:
            told = time.monotonic()
            print(f"# {fuzzer.pairs} pairs, {fuzzer.requests} answers, {told - begun:.0f} s", flush=True)
    words = (f"{fuzzer.pairs} pairs of histories, seed {args.seed}: {fuzzer.requests} answers, {fuzzer.bytes} bytes"
             f" equal ({', '.join(f'{v} {k}' for k, v in rounds.items())};"
             f" {time.monotonic() - begun:.0f} s)")
    print(f"{'not ok' if failures else 'ok'} 1 - {words}")
    print("1..1")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
