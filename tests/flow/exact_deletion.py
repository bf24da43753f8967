#!/usr/bin/python3
"""Exact deletion and history independence, over the real server. Prints TAP.

usage: tests/flow/exact_deletion.py BUILD [--count ERASURES] [--cases N] [--seed S]

Server A gets survivors and doomed documents in between, is searched and asked, and erases the doomed. Server B
never had them; server C gets the survivors in another order. All three start from copies of one folder, so ids
are equal. What three readers receive (searches of all kinds, answers, lists, documents) must be the same bytes,
from A's warm caches and from A started again. Then ERASURES documents are put and erased one after the other,
and what the readers receive must stay as it was.
"""
import argparse
import os
import random
import shutil
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import two_runs  # noqa: E402
from two_runs import grpc, histories, house  # noqa: E402

READERS = ("uma", "bob", "cay")
# Which documents go, by case.
CHOICES = ("random", "retrieved most", "same sentences", "half", "all but one")


def documents(rng, count, prefix):
    made = []
    for n in range(count):
        actor = rng.choice(READERS)
        share = rng.sample(("user:uma", "group:team", "group:crew", "group:vault"), rng.randrange(3))
        made.append(("put", actor, f"{prefix}{n}", f"{prefix}{n}", actor, tuple(share), histories.text(rng),
                     False))
    return made


class Observer:
    def __init__(self, rng, count):
        self.steps = []
        for _ in range(count):
            words, mode = histories.query(rng), rng.randrange(3)
            self.steps += [("search", r, words, 100, mode, "") for r in READERS]
            self.steps.append(("ask", rng.choice(READERS), words, 5, 2, 1, 0, "", 0))
        self.steps += [("list", r) for r in READERS]

    def look(self, run, names=()):
        seen = []
        for step in self.steps + [("get", r, n) for r in READERS for n in names]:
            method, request = run.request(step)
            seen.append((step, run.server.call("/lethe.v1." + method, run.meta[step[1]],
                                               request.SerializeToString(deterministic=True))))
        return seen


def must(got):
    if got[0] != "OK":
        raise RuntimeError(f"refused: {got[:2]}")
    return got


def erase(run, actor, name):
    method, request = run.request(("erase", actor, name))
    must(run.server.call("/lethe.v1." + method, run.meta[actor], request.SerializeToString()))


def choose(rng, choice, docs, run, observer):
    """The names of those that are to go, in the order in which they go."""
    names = [d[2] for d in docs]
    if choice == "retrieved most":
        hits = {}
        by_id = {run.ids[n]: n for n in names}
        for step, got in observer.look(run):
            if step[0] == "search" and got[0] == "OK":
                for hit in run.pb.SearchResponse.FromString(got[3][0]).hits[:5]:
                    hits[by_id[hit.document]] = hits.get(by_id[hit.document], 0) + 1
        return sorted(names, key=lambda n: (-hits.get(n, 0), n))[:len(names) // 3]
    if choice == "same sentences":
        return names[1::2]
    size = {"random": rng.randint(1, len(names) - 1), "half": len(names) // 2, "all but one": len(names) - 1}
    return rng.sample(names, size[choice])


def restart(server):
    server.house.stop()
    server.house.start()
    server.channel.close()
    server.calls = {}
    server.channel = grpc.insecure_channel("unix:" + server.socket, options=[
        ("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", 64 << 20)])


def difference(name, one, other):
    for (step, a), (_, b) in zip(one, other):
        if a != b:
            return [f"{name}: {step}", f"  {house.short(a, 600)}", f"  {house.short(b, 600)}"]
    return [] if len(one) == len(other) else [f"{name}: {len(one)} and {len(other)} observations"]


def case(start, seed, options):
    """(words, what differs, observations compared)"""
    rng = random.Random(seed)
    choice = CHOICES[seed % len(CHOICES)]
    observer, docs = Observer(rng, 6), documents(rng, rng.randint(6, 24), f"s{seed}x")
    if choice == "same sentences":       # each survivor has a doomed twin with the same text
        docs[1::2] = [(*d[:6], t[6], d[7]) for d, t in zip(docs[1::2], docs[::2])]
    servers = []

    def fresh(name):
        server = two_runs.Server(start, name, options)
        servers.append(server)
        return two_runs.Run(server, 0, start.tokens[0], start.world.pb, "tenant")
    try:
        a = fresh("a")
        for d in docs:
            must(a.put(d))
            if rng.random() < 0.3:
                observer.look(a)
        doomed = choose(rng, choice, docs, a, observer)
        actors = {d[2]: d[1] for d in docs}
        for name in doomed:
            erase(a, actors[name], name)
        left = [d for d in docs if d[2] not in doomed]
        names = [d[2] for d in left]
        warm = observer.look(a, names)
        restart(a.server)
        cold = observer.look(a, names)
        others = []
        for name, order in (("b", left), ("c", rng.sample(left, len(left)))):
            run = fresh(name)
            for d in order:
                must(run.put(d))
            others.append(observer.look(run, names))
        wrong = (difference("never had them", warm, others[0]) + difference("other order", warm, others[1]) +
                 difference("started again", warm, cold))
        return f"{choice}: {len(doomed)} of {len(docs)} erased", wrong, 3 * len(warm)
    finally:
        for server in servers:
            server.end()


def sequence(start, seed, count, options):
    """Documents put and erased one after the other: the first that changes anything for the rest."""
    rng = random.Random(seed)
    server = two_runs.Server(start, "a", options)
    try:
        run, observer = two_runs.Run(server, 0, start.tokens[0], start.world.pb, "tenant"), Observer(rng, 2)
        kept = documents(rng, 12, "kept")
        for d in kept:
            must(run.put(d))
        names = [d[2] for d in kept[:3]]
        before = observer.look(run, names)
        for d in documents(rng, count, "gone"):
            must(run.put(d))
            erase(run, d[1], d[2])
            wrong = difference(f"after {d[2]}", before, observer.look(run, names))
            if wrong:
                return wrong, len(before)
        return [], count * len(before)
    finally:
        server.end()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--cases", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    world = house.World(args.build)
    if os.path.isdir("/dev/shm"):
        shutil.rmtree(world.folder, ignore_errors=True)
        world.folder = house.tempfile.mkdtemp(prefix="lethe-exact-", dir="/dev/shm")
        house.atexit.register(shutil.rmtree, world.folder, ignore_errors=True)
    scene = house.Scene(world, house.contextlib.ExitStack(), "exact")
    model = scene.model(d_model=32, layers=2)
    start, failed = two_runs.Start(world, scene.folder, 1), 0
    base = args.seed * 1000005
    for n in range(args.cases + 1):
        options = two_runs.server_options(base + n, model if n % 2 else None)
        options += ["--quota-requests-per-second", "100000", "--quota-tokens-per-minute", "0"]
        if n < args.cases:
            words, wrong, seen = case(start, base + n, options)
        else:
            words, (wrong, seen) = f"{args.count} erasures in sequence", sequence(start, base, args.count, options)
        failed += bool(wrong)
        print(f"{'not ok' if wrong else 'ok'} {n + 1} - {words}: {seen} observations compared, seed {args.seed}",
              flush=True)
        for line in wrong:
            print("#   " + line)
    print(f"1..{args.cases + 1}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
