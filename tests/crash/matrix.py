#!/usr/bin/python3
"""The crash matrix: lethed is killed before every kind of operation on its files, on the way through puts, shares,
replacements and erasures, and the disk is looked at as it is, and as it may be when what was never synced got
lost or torn. Prints TAP.

usage: tests/crash/matrix.py BUILD [--count KILLS] [--seed S] [--images N] [--case SCENARIO:OPERATION] [--double 0|1]

OPERATION: a number, or KIND@PLACE[#NTH][+MORE], such as unlink@root+2: the second operation after the first
unlink of a root key.

After each kill, and for each image, a server starts again, and:
  what was acknowledged and not begun to be erased is there, byte for byte
  what an acknowledged erasure took is not, and its receipt is there and verifies
  what an interrupted erasure was to take is either wholly there or gone; with its intent on disk, gone
  what an interrupted erasure took has its receipt
  interrupted puts are wholly there or not at all
  the server takes puts, searches and erasures
  the folder of before the erasure does not open with the root key of after it
"""
import argparse
import contextlib
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import house  # noqa: E402
import images  # noqa: E402

grpc = house.grpc
WORDS = "crane pump buoy pilot tide gasket anchor lantern surgeon ledger harbour vessel radio engine signal".split()


def text(name, sentences=12):
    rng = random.Random(name)
    return " ".join(f"{rng.choice(WORDS).capitalize()} {rng.choice(WORDS)} {name} {rng.choice(WORDS)} {n}."
                    for n in range(sentences))


def nonce(name):
    return hashlib.sha256(name.encode()).digest()[:16]


# ---- what a client did, and what it was told ---------------------------------------------------------------
class Ledger:
    """there: name -> (user, id). Of what was under way when the server died nothing is certain."""

    def __init__(self):
        self.there, self.gone, self.doubtful, self.begun = {}, {}, {}, []
        self.receipts = []                       # (user, receipt id)
        self.erasures = []                       # who asked, of each that was acknowledged
        self.users_gone, self.user_doubtful = set(), set()

    def copy(self):
        other = Ledger()
        for k, v in vars(self).items():
            setattr(other, k, v.copy())
        return other


class Actor:
    """The clients of one house; each act is noted before, and settled after it was acknowledged."""

    def __init__(self, h, tokens, ledger):
        self.house, self.ledger, self.pb = h, ledger, h.world.pb
        self.clients = {u: h.client(t) for u, t in tokens.items()}

    def put(self, user, *names, replace=None, share=(), owner=""):
        documents = [{"path": replace or n, "content": text(n), "nonce": nonce(n), "share": list(share),
                      "owner": owner, "replace": replace is not None} for n in names]
        for n in names:
            self.ledger.doubtful[n] = (user, None)
        old = self.ledger.there.pop(replace, None) if replace else None
        if old:
            self.ledger.doubtful[replace] = old
        response = self.clients[user].put(*documents)
        assert len(response.documents) == len(names), response
        for n, d in zip(names, response.documents):
            self.ledger.doubtful.pop(n)
            self.ledger.there[n] = (user, d.id)
        if old:
            self.ledger.gone[replace] = self.ledger.doubtful.pop(replace)
            self.ledger.erasures.append(user)

    def share(self, name, who):
        user, document = self.ledger.there[name]
        self.clients[user].share(document, who)

    def unshare(self, name, who):
        user, document = self.ledger.there[name]
        self.clients[user].unshare(document, who)

    def erase(self, name):
        user, document = self.ledger.there.pop(name)
        self.ledger.doubtful[name] = (user, document)
        self.settle_erasure(user, self.clients[user].erase(document=document), [name])

    def erase_user(self, user):
        names = [n for n, (u, _) in self.ledger.there.items() if u == user]
        for n in names:
            self.ledger.doubtful[n] = self.ledger.there.pop(n)
        self.ledger.user_doubtful.add(user)
        response = self.clients["admin"].erase(user=user)
        self.ledger.user_doubtful.discard(user)
        self.ledger.users_gone.add(user)
        self.settle_erasure("admin", response, names)

    def erase_tenant(self):
        names = [n for n, (u, _) in self.ledger.there.items() if u == "zed"]
        for n in names:
            self.ledger.doubtful[n] = self.ledger.there.pop(n)
        self.ledger.user_doubtful.add("zed")
        response = self.clients["operator"].erase(tenant="second")
        self.ledger.user_doubtful.discard("zed")
        self.ledger.users_gone.add("zed")
        self.settle_erasure(None, response, names)

    def settle_erasure(self, user, response, names):
        for n in names:
            self.ledger.gone[n] = self.ledger.doubtful.pop(n)
        self.ledger.receipts.append((user, response.receipt))
        self.ledger.erasures.append(user)


# Each is what the server is at when it dies; short, so that a case is quick.
def put_and_erase(a):
    a.put("ada", "a1", "a2", "a3", share=["user:bob"])
    a.share("s1", "group:oncall")
    a.erase("a2")
    a.put("ada", "a4")
    a.erase("s2")


def replace_and_share(a):
    a.put("ada", "s1-new", replace="s1")
    a.unshare("s3", "user:bob")
    a.put("bob", "b1", owner="group:oncall")
    a.put("bob", "b2", "b3")
    a.erase("b2")


def erase_user(a):
    a.put("cay", "c1", "c2", share=["user:ada"])
    a.erase_user("cay")
    a.put("ada", "a5")


def erase_tenant(a):
    a.put("zed", "z2")
    a.erase_tenant()
    a.put("ada", "a6")


SCENARIOS = {f.__name__: f for f in (put_and_erase, replace_and_share, erase_user, erase_tenant)}


class Matrix:
    def __init__(self, world, folder, options):
        self.world, self.folder, self.options = world, folder, options
        self.shim = world.find("libcrash_shim.so")
        self.table = {}
        self.kills = self.images = self.doubles = 0
        self.failures = []
        self.make_start()

    # ---- the start: two tenants, some documents ----
    def make_start(self):
        self.data = os.path.join(self.folder, "start")
        h = house.House(self.world, self.data, self.options)
        h.init()
        h.start()
        admin, operator = h.client(h.admin_token), h.client(h.operator_token)
        self.tokens = {"admin": h.admin_token, "operator": h.operator_token}
        for user in ("ada", "bob", "cay"):
            admin.user(user)
            self.tokens[user] = admin.issue(user).token
        admin.group("oncall", "ada", "bob")
        second = operator.access.CreateTenant(self.world.pb.CreateTenantRequest(name="second", admin="zed"))
        self.tokens["zed"] = second.token
        self.ledger = Ledger()
        actor = Actor(h, self.tokens, self.ledger)
        actor.put("ada", "s1", "s2", "s3", share=["user:bob"])
        actor.put("cay", "s4", share=["user:ada"])
        actor.put("zed", "z1")
        h.stop()

    def house(self, data, env=None):
        # The shim kills from within: behind the sandbox it could not.
        sandbox = ["--sandbox", "off"] if env else []
        h = house.House(self.world, data, ["--log-level", "2", *sandbox, *self.options], env=env or {},
                        log=data + ".log")
        h.ca_pem = open(os.path.join(data, "tls", "certificate.pem"), "rb").read()
        h.key = os.path.join(data, "sign", "public.key")
        return h

    def shimmed(self, data, kill):
        return {"LD_PRELOAD": self.shim, "SHIM_PREFIX": data, "SHIM_JOURNAL": data + ".journal",
                "SHIM_KILL": str(kill), "SHIM_KILL_PARENT": "lethe-keeper"}

    def prepare(self, name):
        data = os.path.join(self.folder, name)
        images.copy(self.data, data)
        for end in (".journal", ".journal.count"):
            with contextlib.suppress(OSError):
                os.unlink(data + end)
        return data

    def run(self, scenario, kill):
        """The folder, its ledger and the journal after the server died (or did not: None instead of it)."""
        data = self.prepare("run")
        ledger = self.ledger.copy()
        h = self.house(data, self.shimmed(data, kill))
        try:
            h.start()
        except RuntimeError:
            return data, ledger, images.journal(data + ".journal")
        actor = Actor(h, self.tokens, ledger)
        died = False
        try:
            SCENARIOS[scenario](actor)
        except grpc.RpcError as e:
            if h.process.poll() is None:
                time.sleep(0.2)
            if h.process.poll() is None:
                raise AssertionError(f"refused while alive: {e.code().name} {e.details()}") from e
            died = True
        h.kill()
        return data, ledger, images.journal(data + ".journal") if died else None

    def operations(self, scenario):
        data, _, _ = self.run(scenario, 0)
        return images.journal(data + ".journal")

    # ---- after it ----
    def check(self, data, ledger, intents):
        h = self.house(data)
        try:
            h.start()
        except RuntimeError as e:
            raise house.Wrong(f"does not start: {e}") from e
        try:
            self.look(h, ledger, intents)
        finally:
            h.kill()

    def look(self, h, ledger, intents):
        clients = {u: h.client(t) for u, t in self.tokens.items()}
        for name, (user, document) in ledger.there.items():
            if user in ledger.users_gone | ledger.user_doubtful:
                continue
            code = house.refusal(lambda: clients[user].get(document))
            house.expect(code is None, f"{name}, which was acknowledged, is lost: {code}")
            house.expect(clients[user].get(document) == text(name).encode(), f"{name}'s bytes differ")
        for name, (user, document) in ledger.gone.items():
            code = house.refusal(lambda: clients[user].get(document))
            house.expect(code in ("NOT_FOUND", "UNAUTHENTICATED"), f"{name}, which was erased, is served: {code}")
        for name, (user, document) in ledger.doubtful.items():
            if document is None:
                continue
            code = house.refusal(lambda: clients[user].get(document))
            if code is None:
                house.expect(document not in intents and user not in intents,
                             f"{name}, whose erasure had its intent on disk, is served")
                house.expect(clients[user].get(document) == text(name).encode(), f"{name}: half of it is left")
            else:
                house.expect(code in ("NOT_FOUND", "UNAUTHENTICATED"), f"{name}: {code}")
        self.look_at_lists(clients, ledger)
        self.look_at_receipts(h, clients, ledger)
        self.look_at_interrupted(clients, ledger)
        for n in ("ada", "bob"):                      # and life goes on
            if n in ledger.users_gone | ledger.user_doubtful:
                continue
            new = clients[n].store(f"after-{n}", text(f"after-{n}"))
            hits = clients[n].search(f"after-{n}")
            house.expect(any(x.document == new for x in hits), "a new document is not found")
            clients[n].erase(document=new)
            house.expect_equal(house.refusal(lambda: clients[n].get(new)), "NOT_FOUND", "erased after the crash")

    def look_at_lists(self, clients, ledger):
        gone = {d for _, d in ledger.gone.values()}
        for user in ("ada", "bob"):
            listed = {d.id for d in clients[user].list()}
            house.expect(not listed & gone, f"{user} is listed what was erased")
            found = {x.document for x in clients[user].search(" ".join(WORDS))}
            house.expect(not found & gone, f"{user} finds what was erased")
            whole = {d: n for n, (_, d) in ledger.there.items()}
            for document in found & set(whole):
                house.expect(document in listed, f"{whole[document]} is found and not listed")
            for document in listed - {d for _, d in ledger.there.values()}:
                content = clients[user].get(document).decode()      # an interrupted put: all of it or nothing
                names = [n for n in ledger.doubtful if text(n) == content]
                house.expect(names, "an interrupted put left something else than its document")

    def look_at_interrupted(self, clients, ledger):
        """Whose document is gone without an acknowledgement finds the erasure among theirs all the same."""
        for name, (user, document) in ledger.doubtful.items():
            if document is None or user == "zed":
                continue
            if house.refusal(lambda: clients[user].get(document)) is None:
                continue
            asked = "admin" if user in ledger.user_doubtful else user
            listed = list(clients[asked].erasure.ListErasures(self.world.pb.ListErasuresRequest(),
                                                              timeout=house.CALL_S).erasures)
            house.expect(len(listed) > ledger.erasures.count(asked),
                         f"{name} is gone, and no erasure of it is on record")
            for one in listed:
                code = house.refusal(lambda: clients[asked].erasure.GetReceipt(
                    self.world.pb.GetReceiptRequest(id=one.id), timeout=house.CALL_S))
                house.expect(code is None, f"an erasure on record has no receipt: {code}")

    def look_at_receipts(self, h, clients, ledger):
        for user, receipt in ledger.receipts:
            path = h.data + ".receipt"
            with open(path, "w") as f:
                f.write(receipt)
            done = subprocess.run([self.world.program("lethe"), "verify", path, "--key", h.key, "--json"],
                                  stdout=subprocess.PIPE)
            verdict = json.loads(done.stdout)
            house.expect(verdict["valid"] and verdict["trusted"], f"a receipt does not verify: {verdict}")
            if user and user not in ledger.users_gone | ledger.user_doubtful:
                known = clients[user].erasure.GetReceipt(
                    self.world.pb.GetReceiptRequest(id=json.loads(receipt)["id"]), timeout=house.CALL_S)
                house.expect(json.loads(known.receipt)["id"] == json.loads(receipt)["id"], "a receipt is lost")

    def intents_in(self, data):
        """Ids that the intents on disk name."""
        found = set()
        folder = os.path.join(data, "intents")
        for name in os.listdir(folder) if os.path.isdir(folder) else ():
            if len(name) != 32:                  # not yet under its name, or done with
                continue
            with contextlib.suppress(ValueError, OSError):
                with open(os.path.join(folder, name)) as f:
                    intent = json.load(f)
                for entry in intent.get("documents", []):
                    found.add(entry["id"])
        return found

    def dead_before(self, data, ledger):
        """The folder of before, with the root keys of now, must not open once an erasure was acknowledged."""
        if not ledger.receipts:
            return
        old = os.path.join(self.folder, "old")
        images.copy(self.data, old)
        shutil.rmtree(old + ".root")
        shutil.copytree(data + ".root", old + ".root")
        code, said = self.house(old).fails_to_start()
        house.expect(code is not None, "the folder of before the erasure opens with the root key of after")

    def case(self, scenario, kill, rng, image_count, double):
        data, ledger, records = self.run(scenario, kill)
        if records is None:
            return None
        self.kills += 1
        died = next((r for r in reversed(records) if r[0] == images.KILLED), None)
        place = images.place_of(died[2]) if died else "?"
        kind = (place, images.NAMES.get(died[1], "?") if died else "?")
        self.table[kind] = self.table.get(kind, 0) + 1
        disk = self.moved_disk(data)
        disk.replay([r for r in records if r[0] != images.KILLED])
        # As the process alone left it; then as the disk might have.
        kept = os.path.join(self.folder, "kept")
        images.copy(data, kept)
        self.check(kept, ledger, self.intents_in(kept))
        self.dead_before(kept, ledger)
        for n in range(image_count):
            to = os.path.join(self.folder, "image")
            for suffix in ("", ".root"):
                shutil.rmtree(to + suffix, ignore_errors=True)
            disk.image(rng, lambda p: to + p[len(data):])
            self.images += 1
            self.check(to, ledger, self.intents_in(to))
            self.dead_before(to, ledger)
        if double:
            self.crash_again(data, ledger, rng)
        return kind

    def moved_disk(self, data):
        """The start's content under the run's paths."""
        disk = images.Disk(self.data, self.data + ".root")
        for attribute in ("now", "durable"):
            entries = getattr(disk, attribute)
            setattr(disk, attribute, {data + k[len(self.data):]: v for k, v in entries.items()})
        return disk

    def crash_again(self, data, ledger, rng):
        """Recovery itself dies, at some operation of its own; then the server starts a third time."""
        again = os.path.join(self.folder, "again")
        images.copy(data, again)
        for end in (".journal", ".journal.count"):
            with contextlib.suppress(OSError):
                os.unlink(again + end)
        h = self.house(again, self.shimmed(again, rng.randint(1, 40)))
        with contextlib.suppress(RuntimeError):
            h.start()
        h.kill()
        self.doubles += 1
        self.check(again, ledger, self.intents_in(again))
        self.dead_before(again, ledger)


def number_of(operations, words):
    """Which operation `words` means; see the usage."""
    if words.isdigit():
        return int(words)
    kind, place, nth, more = re.fullmatch(r"([a-z ]+)@([a-z./]+)(?:#(\d+))?(?:\+(\d+))?", words).groups()
    found = [n for n, r in enumerate(operations, 1)
             if images.NAMES.get(r[0]) == kind and images.place_of(r[2]) == place]
    return found[int(nth or 1) - 1] + int(more or 0)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--count", type=int, default=32)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--double", type=int, default=1)
    parser.add_argument("--case")
    args = parser.parse_args()
    world = house.World(args.build)
    base = "/dev/shm" if os.path.isdir("/dev/shm") else None
    folder = house.tempfile.mkdtemp(prefix="lethe-crash-", dir=base)
    house.atexit.register(shutil.rmtree, folder, ignore_errors=True)
    matrix, begun, rng = Matrix(world, folder, []), time.monotonic(), random.Random(args.seed)
    chosen = [args.case.split(":")[0]] if args.case else SCENARIOS
    operations = {name: matrix.operations(name) for name in chosen}
    totals = {name: len(found) for name, found in operations.items()}
    if args.case:
        name, words = args.case.split(":")
        cases = [(name, number_of(operations[name], words))]
    else:
        # Spread evenly over each scenario's operations, the phase by the seed.
        per = max(1, args.count // len(SCENARIOS))
        cases = [(name, 1 + int((i + rng.random()) * total / per))
                 for name, total in totals.items() for i in range(per)]
    for name, number in cases:
        try:
            matrix.case(name, number, random.Random(f"{args.seed}:{name}:{number}"), args.images,
                        args.double)
        except (house.Wrong, AssertionError, grpc.RpcError) as e:
            matrix.failures.append((name, number))
            print(f"# {sys.argv[0]} {args.build} --seed {args.seed} --case {name}:{number}: {e}", flush=True)
            for line in world.last_log(6):
                print("#   log: " + line)
            if len(matrix.failures) >= 20:
                break
    print("# operations: " + ", ".join(f"{k} {v}" for k, v in totals.items()))
    for (place, what), n in sorted(matrix.table.items()):
        print(f"# killed before {what:14} {place:16} {n}")
    words = (f"{matrix.kills} kills, {matrix.images} images of lost or torn writes, {matrix.doubles} second crashes,"
             f" seed {args.seed}: {len(matrix.failures)} violations ({time.monotonic() - begun:.0f} s)")
    good = not matrix.failures and matrix.kills > 0
    print(f"{'ok' if good else 'not ok'} 1 - {words}\n1..1")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
