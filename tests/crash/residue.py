#!/usr/bin/python3
"""What an erasure leaves behind, looked for byte by byte where it could be: in every file, in the log, in the memory of
the server and of its keeper. Prints TAP.

usage: tests/crash/residue.py BUILD [--seed S] [--where] [--only WORDS]

Documents and a user with invented words are put, shared, read, searched for and asked about, and then erased. Sought
after the receipt, and after some requests of others: the text and the paths (UTF-8, lower case, UTF-16), token ids of
the text, vectors (f32 and f16, as stored and scaled to length 1), the keys of the documents, of the user and the
root key of before, the user's name and bearer token. Controls: while the documents are there the same search finds
them in memory, and finds in a file what is planted there; mutants.py runs this with a free() that does not wipe.
--where: the bytes around what was found.
"""
import argparse
import bisect
import binascii
import contextlib
import glob
import json
import os
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "e2e"))
sys.path.insert(0, HERE)
import house  # noqa: E402
import memory  # noqa: E402

LETTERS = "bcdfghjkmnpqrtvwxz"
OPTIONS = argparse.Namespace(seed=1, where=False)


# ---- what is sought ----------------------------------------------------------------------------------------
class Needles:
    """[(kind, what, bytes)]. A kind is judged as one."""

    def __init__(self):
        self.all = []

    def add(self, kind, what, needle):
        if len(needle) >= 8 and needle.count(0) < len(needle):
            self.all.append((kind, what, bytes(needle)))

    def words(self, kind, word):
        for what, w in (("", word), ("lower case ", word.lower()), ("upper case ", word.upper())):
            self.add(kind, what + "UTF-8", w.encode())
            self.add(kind, what + "UTF-16", w.encode("utf-16le"))

    def vector(self, raw):
        """Eight neighbouring dimensions are enough to know it by, at three places."""
        values = struct.unpack(f"<{len(raw) // 4}f", raw)
        length = sum(v * v for v in values) ** 0.5 or 1.0
        for scaled, factor in (("as stored", 1.0), ("of length 1", 1 / length)):
            for code, name in (("f", "f32"), ("e", "f16")):
                for at in (0, len(values) // 2, len(values) - 8):
                    piece = [v * factor for v in values[at:at + 8]]
                    if sum(map(bool, piece)) >= 6:
                        self.add("vectors", f"{name} {scaled}", struct.pack(f"<8{code}", *piece))

    def key(self, kind, what, key):
        self.add(kind, what + ", first half", key[:len(key) // 2])
        self.add(kind, what + ", second half", key[len(key) // 2:])

    def token_ids(self, ids):
        for code, name in (("I", "32-bit"), ("Q", "64-bit"), ("H", "16-bit")):
            self.add("token ids", name, struct.pack(f"<{len(ids)}{code}", *ids))


class Seeker:
    """Looks for all needles in what it is given, piece by piece, when found() is called."""

    def __init__(self, world, needles, folder):
        self.world, self.needles, self.folder = world, needles, folder
        self.pieces, self.size = [], 0              # (offset, place)
        self.out = open(os.path.join(folder, "sought"), "w+b")

    def add(self, place, content):
        self.pieces.append((self.size, place))
        self.out.write(content + bytes(128))
        self.size += len(content) + 128

    def found(self):
        """[(kind, what, place, the bytes around)]: of each needle one place per kind of places."""
        hay, names = self.out.name, self.out.name + ".needles"
        self.out.flush()
        with open(names, "w") as f:
            f.write("".join(n.hex() + "\n" for _, _, n in self.needles.all))
        done = subprocess.run([self.world.find("crash_seek"), names, hay], stdout=subprocess.PIPE, check=True, timeout=120)
        out = []
        for line in done.stdout.decode().splitlines():
            number, _, at = map(int, line.split())
            kind, what, _ = self.needles.all[number]
            place = self.pieces[bisect.bisect_right(self.pieces, (at, chr(0x10ffff))) - 1][1]
            self.out.seek(max(0, at - 96))
            out.append((kind, what, place, self.out.read(256)))
        self.out.close()
        os.unlink(hay)
        return out


def wordpieces(folder, word):
    """The ids that the embedder's tokenizer gives one lower-case word: the longest piece first."""
    with open(os.path.join(folder, "tokenizer.json"), encoding="utf-8") as f:
        vocabulary = json.load(f)["model"]["vocab"]
    ids, at = [], 0
    while at < len(word):
        end = len(word)
        while end > at and ("##" if at else "") + word[at:end] not in vocabulary:
            end -= 1
        if end == at:
            return []
        ids.append(vocabulary[("##" if at else "") + word[at:end]])
        at = end
    return ids


# ---- where it is sought ------------------------------------------------------------------------------------
def seek_files(seeker, folders):
    """Files as they are read, holes too, and their names."""
    for folder in folders:
        for where, _, names in os.walk(folder):
            for name in names:
                with open(os.path.join(where, name), "rb") as f:
                    seeker.add(os.path.join(where, name), f.read() + name.encode())


def seek_descriptors(seeker, pid):
    """Files that are open and have no name any more."""
    for member in memory.family(pid):
        for path in glob.glob(f"/proc/{member}/fd/*"):
            try:
                if os.readlink(path).endswith(" (deleted)"):
                    with open(path, "rb") as f:
                        seeker.add(f"open file {os.readlink(path)}", f.read())
            except OSError:
                continue


def seek_memory(seeker, pid):
    for number, member in enumerate(memory.family(pid)):
        who = "keeper" if number else "server"
        for address, name, piece in memory.read(member):
            seeker.add(f"{who}'s memory, {name or 'anonymous'} {address:x}", piece)


def describe(found):
    kinds = {}
    for kind, what, place, around in found:
        kinds.setdefault(kind, []).append(f"{what} in {os.path.basename(place)}")
        if OPTIONS.where:
            print(f"# {kind}, {what}, {place}: {around!r}", flush=True)
    return "; ".join(f"{kind} ({len(places)}: {', '.join(sorted(set(places))[:4])})"
                     for kind, places in sorted(kinds.items()))


# ---- the town whose documents go ---------------------------------------------------------------------------
class Life:
    def __init__(self, scene, *options):
        self.scene, self.rng = scene, random.Random(OPTIONS.seed)
        self.mirror = scene.path("mirror")
        os.mkdir(self.mirror, 0o700)
        self.options = ["--log-level", "0", "--tokens-max", "65536", "--quota-tokens-per-minute", "0", "--model-threads", "1",
                        "--model", scene.model(d_model=64, layers=2), *options]
        self.town = scene.town("--keytree-mirror", self.mirror, *self.options)
        self.house = self.town.house
        self.needles, self.documents = Needles(), {}
        # A start of its own for each document's words: one search finds any of them.
        self.word = {n: self.invent() for n in ("plan", "diary", "draft", "long", "path", "user")}
        self.word["user"] = self.word["user"].lower()            # names are
        self.fill()

    def invent(self):
        return "".join(self.rng.choice(LETTERS + LETTERS.upper()) for _ in range(12))

    def text(self, name, sentences=12):
        rng, word = random.Random(f"{OPTIONS.seed} {name}"), self.word[name]
        return " ".join(f"The {rng.choice(('crane', 'pump', 'buoy'))} {word}{n} is kept by {word}{n + 7} until the "
                        f"{rng.choice(('winter', 'flood', 'audit'))} of {word}{n + 3}." for n in range(sentences))

    def fill(self):
        t = self.town
        t.add_user(self.word["user"])
        self.eve = getattr(t, self.word["user"])
        t.ada.store("kept", "The lantern at the north pier is oiled on Mondays.", share=["user:bob"])
        t.bob.store("kept too", "The signal mast carries three lamps.", share=["group:oncall"])
        self.documents["plan"] = t.ada.store(self.word["path"] + "/plan", self.text("plan"),
                                             share=["user:bob", "group:garden"])
        self.documents["draft"] = t.ada.store("draft", self.text("draft"), share=["user:bob"])
        self.documents["long"] = t.ada.store("long", self.text("long", 6000))
        self.documents["diary"] = self.eve.store(self.word["path"] + "/diary", self.text("diary"), share=["user:ada"])

    def use(self):
        """Everything that brings the documents into memory."""
        t = self.town
        for client, name in ((t.ada, "plan"), (t.bob, "plan"), (t.cay, "plan"), (t.bob, "draft"), (self.eve, "diary"), (t.ada, "diary")):
            document = self.documents[name]
            house.expect(client.get(document).decode() == self.text(name), f"{name} is not what was put")
            question = f"Who keeps {self.word[name]}3?"
            house.expect(any(h.document == document for h in client.search(question)), f"{name} is not found")
            client.ask(question, max_tokens=8)
            client.ask(question, max_tokens=8, order=2, free_text=True)
            client.list()
        house.expect(t.ada.get(self.documents["long"]).decode() == self.text("long", 6000), "long is not what was put")
        t.ada.erasure.FindSubject(house_subject(t, self.word["plan"] + "3"), timeout=house.CALL_S)

    def learn(self):
        """Keys and vectors, from a copy of the folder and the root key of now."""
        copy = self.scene.path("copy")
        for suffix in ("", ".root"):
            shutil.copytree(self.house.data + suffix, copy + suffix)
        out = self.scene.path("secrets")
        subprocess.run([self.house.world.find("crash_scanner"), "--secrets", copy, copy + ".root", out,
                        *self.documents.values()], check=True, timeout=120)
        with open(out) as f:
            secrets = json.load(f)
        for name, s in zip(self.documents, secrets):
            for kind, content in s.items():
                raw = binascii.unhexlify(content)
                if kind.startswith("vector"):
                    if name != "long" or kind in ("vector0", "vector7"):
                        self.needles.vector(raw)
                elif kind != "owner_secret":
                    self.needles.key("document keys", f"{name}'s {kind}", raw)
                elif name == "diary":
                    self.needles.key("the user's key", kind, raw)
        for path in glob.glob(copy + ".root/root.*"):
            with open(path, "rb") as f:
                self.needles.key("root key of before", os.path.basename(path), f.read())
        for suffix in ("", ".root"):
            shutil.rmtree(copy + suffix)
        os.unlink(out)
        for name in ("plan", "diary", "draft", "long"):
            self.needles.words("text", self.word[name])
            ids = wordpieces(os.path.join(house.ROOT, "model/bundled/embedder"), self.word[name].lower())
            self.needles.token_ids(ids[:-1])             # the last may be one with the number behind the word
        self.needles.words("paths", self.word["path"])
        self.needles.words("the user's name", self.word["user"])
        self.needles.add("bearer token", "whole", self.town.token[self.word["user"]].encode())

    def erase(self):
        t = self.town
        for name in ("plan", "long"):
            house.expect(json.loads(t.ada.erase(document=self.documents[name]).receipt)["id"], "no receipt")
        t.ada.store("draft", "The draft is withdrawn.", replace=True)
        house.expect(json.loads(t.admin.erase(user=self.word["user"]).receipt)["id"], "no receipt")
        self.eve.close()

    def go_on(self):
        t = self.town
        for n in range(3):
            for client in (t.ada, t.bob, t.cay):
                client.store(f"later {n}", f"The harbour office opens at {n + 6} and closes at dusk.")
                client.search("When does the harbour office open?")
                client.ask("When does the harbour office open?", max_tokens=8)
                client.list()
                client.stats()

    def look(self, everything=True):
        """(what is found, bytes of files, bytes of memory)."""
        h = self.house
        seeker = Seeker(h.world, self.needles, self.scene.folder)
        if everything:
            seek_files(seeker, [h.data, h.root, self.mirror])
            seek_descriptors(seeker, h.process.pid)
            with open(h.log, "rb") as f:
                seeker.add("log", f.read())
            for name, told in self.told():
                seeker.add(name, told.SerializeToString())
        files = seeker.size
        seek_memory(seeker, h.process.pid)
        return seeker.found(), files, seeker.size - files

    def told(self):
        """What the server tells about itself and of its erasures."""
        t, pb = self.town, self.house.world.pb
        yield "audit log", t.admin.erasure.ListLog(pb.ListLogRequest(), timeout=house.CALL_S)
        yield "erasures told", t.admin.erasure.ListErasures(pb.ListErasuresRequest(), timeout=house.CALL_S)
        for client in (t.admin, t.ada):
            yield "statistics", client.stats()

    def look_at_files(self):
        seeker = Seeker(self.house.world, self.needles, self.scene.folder)
        seek_files(seeker, [self.house.data, self.house.root, self.mirror])
        return seeker.found()


def house_subject(town, words):
    pb = town.house.world.pb
    return pb.FindSubjectRequest(text=words)


def need_root():
    if os.geteuid() != 0:
        raise house.Skip("looking into another process needs root")


@house.check("nothing of what was erased is left in files, log and memory")
def residue(scene):
    need_root()
    life = Life(scene)
    life.use()
    life.learn()
    # Control: the documents are there, and one is on its way to somebody who does not read on.
    call = life.town.ada.documents.Get(life.house.world.pb.GetRequest(id=life.documents["long"]), timeout=house.CALL_S)
    next(call)
    kinds = {kind for kind, _, _, _ in life.look(everything=False)[0]}
    print(f"# in memory before the erasure: {', '.join(sorted(kinds))}")
    for kind in ("text", "paths", "vectors", "the user's name", "bearer token"):
        house.expect(kind in kinds, f"control: {kind} not found in memory before the erasure, only {sorted(kinds)}")
    house.expect(any(k == "root key of before" and life.house.root in p for k, _, p, _ in life.look_at_files()),
                 "control: the root key is not found in the root folder before the erasure")
    planted = os.path.join(life.house.data, "planted")
    with open(planted, "wb") as f:
        f.seek(1 << 20)
        f.write(life.word["plan"].encode())
    house.expect(any(p == planted for _, _, p, _ in life.look_at_files()), "control: a planted word is not found")
    os.unlink(planted)
    life.erase()
    house.refusal(lambda: list(call))        # cut off, or all of it was on its way
    life.go_on()
    found, files, size = life.look()
    print(f"# seed {OPTIONS.seed}: {len(life.needles.all)} needles in {files >> 10} KiB of files and {size >> 20} MiB of"
          f" memory; found: {describe(found) or 'nothing'}", flush=True)
    house.expect(not found, f"left behind: {describe(found)}")


# ---- other ways out of memory ------------------------------------------------------------------------------
def lines_of(pid, name):
    with open(f"/proc/{pid}/{name}") as f:
        return f.read().splitlines()


def locked_and_swapped(pid):
    """(kB locked, kB of that in swap), page by page range."""
    locked = swapped = 0
    swap = 0
    for line in lines_of(pid, "smaps"):
        word, _, rest = line.partition(":")
        if word == "Swap":
            swap = int(rest.split()[0])
        elif word == "Locked":
            here = int(rest.split()[0])
            locked, swapped = locked + here, swapped + (swap if here else 0)
    return locked, swapped


def dumps_core(pid):
    """Whether the child leaves a core when it aborts."""
    os.kill(pid, signal.SIGABRT)
    return os.WCOREDUMP(os.waitpid(pid, 0)[1])


@house.check("no swap, no core dump")
def ways_out(scene):
    need_root()
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))      # what the server inherits
    scene.stack.callback(resource.setrlimit, resource.RLIMIT_CORE, before)
    h = scene.house()
    server, keeper = memory.family(h.process.pid)
    for pid, who in ((server, "the server"), (keeper, "the keeper")):
        core = next(x for x in lines_of(pid, "limits") if x.startswith("Max core file size"))
        house.expect(core.split()[4:6] == ["0", "0"], f"{who} may dump core: {core}")
        locked, swapped = locked_and_swapped(pid)
        house.expect(locked > 0 and swapped == 0, f"{who}: {locked} kB locked, {swapped} kB of it in swap")
        print(f"# {who}: {locked} kB locked, none in swap")
    print(f"# {'GPU memory is not looked at' if glob.glob('/dev/nvidia*') else 'no GPU here'}")
    control = subprocess.Popen(["sleep", "60"], cwd=scene.folder)
    if not dumps_core(control.pid):
        raise house.Skip("this system writes no core dumps")
    house.expect(not dumps_core(server), "the server left a core dump")
    h.process.returncode = -signal.SIGABRT
    h.process.stdout.close()
    h.process = None


@house.check("no other process of the same user reads the memory")
def no_debugger(scene):
    need_root()
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    for folder in (scene.world.folder, scene.folder):
        os.chmod(folder, 0o711)
    os.chown(scene.folder, 65534, 65534)

    def readable(pid):
        return subprocess.run([*nobody, "head", "-c", "0", f"/proc/{pid}/mem"], stderr=subprocess.DEVNULL).returncode == 0

    sleeper = subprocess.Popen([*nobody, "sleep", "60"])
    try:
        for _ in range(50):                      # until it has become nobody
            if "65534" in next(x for x in lines_of(sleeper.pid, "status") if x.startswith("Uid")):
                break
            time.sleep(0.02)
        time.sleep(0.1)
        if subprocess.run([*nobody, scene.world.program("lethed"), "--version"], stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL).returncode != 0:
            raise house.Skip("the build folder is closed to other users")
        if not readable(sleeper.pid):
            raise house.Skip("this system lets no process read another's memory")
    finally:
        sleeper.kill()
        sleeper.wait()
    h = scene.house(prefix=nobody)
    for pid in memory.family(h.process.pid):
        house.expect(not readable(pid), "the memory is open to another process of the same user")


@house.check("a connection is replaced at its age, and no call fails of it")
def connection_age(scene):
    need_root()
    h = scene.house("--connection-age-ms", "1000")
    client, seen = h.client(h.admin_token), set()

    def sockets():
        found = set()
        for path in glob.glob(f"/proc/{h.process.pid}/fd/*"):
            with contextlib.suppress(OSError):
                found.add(os.readlink(path))
        return {x for x in found if x.startswith("socket:")}

    client.whoami()
    first, until = sockets(), time.monotonic() + 20
    while time.monotonic() < until and len(seen) < 2:
        client.whoami()                          # raises if one is refused
        seen |= sockets() - first
        time.sleep(0.05)
    house.expect(len(seen) >= 2, "the connection was not replaced")


@house.check("the programs' own free is what their libraries call")
def free_is_ours(scene):
    for name in ("lethed", "lethe", "lethe-keeper"):
        out = subprocess.run(["nm", "-D", "--defined-only", scene.world.program(name)], stdout=subprocess.PIPE, check=True)
        defined = {line.split()[-1] for line in out.stdout.decode().splitlines()}
        house.expect({"free", "realloc", "reallocarray"} <= defined, f"{name} does not export its free")
        house.expect(name != "lethed" or {"SSL_CTX_new", "SSL_write"} <= defined, "lethed does not stand before OpenSSL")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--where", action="store_true")
    parser.add_argument("--only", action="append", default=[], help="checks whose name contains this")
    parser.parse_args(namespace=OPTIONS)
    return house.run_checks(house.World(OPTIONS.build), OPTIONS.only)


if __name__ == "__main__":
    sys.exit(main())
