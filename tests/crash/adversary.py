#!/usr/bin/python3
"""The thief: who holds every image of the data folder that ever was, the root folder and the server's memory of after
the erasure, reads nothing of what was erased. Prints TAP.

usage: tests/crash/adversary.py BUILD [CASE...]

The images are rebuilt from the journal of every write (shim.c). scanner.c does the trying, and must read all of the
erased documents' text when it gets the root key of before (control), and when it gets the memory of before (control).
"""
import json
import os
import shutil
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import matrix  # noqa: E402
import images  # noqa: E402
import memory  # noqa: E402

house = matrix.house
# name: (which documents go, how)
CASES = {
    "document": (["s2"], lambda a: a.erase("s2")),
    "user": (["s4"], lambda a: a.erase_user("cay")),
    "tenant": (["z1"], lambda a: a.erase_tenant()),
    "replace": (["s1"], lambda a: a.put("ada", "s1-new", replace="s1")),
}


class Theft:
    def __init__(self, m, name):
        self.m, self.name = m, name
        self.names, self.act = CASES[name]
        self.folder = os.path.join(m.folder, "theft")
        shutil.rmtree(self.folder, ignore_errors=True)
        os.mkdir(self.folder)

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, content):
        with open(self.path(name), "wb") as f:
            f.write(content)
        return self.path(name)

    def run(self):
        """The server lives through the erasure; what the thief gets lies in the folder then."""
        self.data = self.m.prepare("run")
        ledger = self.m.ledger.copy()
        self.documents = {n: ledger.there[n][1] for n in self.names}
        h = self.m.house(self.data, self.m.shimmed(self.data, 0))
        h.start()
        try:
            actor = matrix.Actor(h, self.m.tokens, ledger)
            for n in self.names:
                user, document = ledger.there[n]
                house.expect(actor.clients[user].get(document).decode() == matrix.text(n), "the text before")
                actor.clients[user].search(n)
            self.write("memory.before", memory.whole(h.process.pid))
            self.act(actor)
            self.write("memory.after", memory.whole(h.process.pid))
        finally:
            h.kill()
        self.count = self.rebuild()

    def rebuild(self):
        """Each state of the key tree becomes an image; each write is kept for its bytes."""
        files, raw, count = {}, [], 0

        def image():
            nonlocal count
            os.mkdir(self.path(f"image{count}"))
            for path, f in files.items():
                with open(os.path.join(self.path(f"image{count}"), os.path.basename(path)), "wb") as out:
                    out.write(f)
            count += 1

        for where, _, names in os.walk(self.m.data):
            for n in names:
                with open(os.path.join(where, n), "rb") as f:
                    content = f.read()
                raw.append(content)
                if where.endswith("/keytree"):
                    files[os.path.join(self.data, "keytree", n)] = bytearray(content)
        image()
        for op, offset, path, data in images.journal(self.data + ".journal"):
            if not path.startswith(self.data + "/"):
                continue                                       # the root folder is not in any image
            if op in (images.WRITE, images.WRITE_SYNC):
                raw.append(data)
            if os.path.dirname(path) != os.path.join(self.data, "keytree"):
                continue
            if op == images.CREATE:
                files[path] = bytearray()
            elif op in (images.WRITE, images.WRITE_SYNC) and path in files:
                f = files[path]
                f.extend(bytes(max(0, offset + len(data) - len(f))))
                f[offset:offset + len(data)] = data
                image()
            elif op == images.RENAME and path in files:
                files[data.decode()] = files.pop(path)
                image()
            elif op == images.UNLINK:
                files.pop(path, None)
        self.write("writes", b"".join(r + bytes(-len(r) % 8) for r in raw))
        return count

    def scan(self, *loot):
        """(figures, the text read) with what is given besides the images."""
        for suffix in ("", ".root"):
            shutil.rmtree(self.path("truth") + suffix, ignore_errors=True)
            shutil.copytree(self.m.data + suffix, self.path("truth") + suffix)
        pictures = [x for n in range(self.count) for x in ("--image", self.path(f"image{n}"))]
        begun = time.monotonic()
        done = subprocess.run([self.m.world.find("crash_scanner"), self.path("truth"), self.path("truth") + ".root",
                               self.path("text"), *self.documents.values(), "--", *pictures, *loot],
                              stdout=subprocess.PIPE, check=True, timeout=600)
        with open(self.path("text"), "rb") as f:
            return dict(json.loads(done.stdout), seconds=round(time.monotonic() - begun, 1)), f.read().decode()

    def roots(self, folder):
        return [x for n in sorted(os.listdir(folder)) if n.startswith("root.")
                for x in ("--root", os.path.join(folder, n))]

    def judge(self):
        whole = "".join(matrix.text(n) for n in self.names)
        figures, text = self.scan(*self.roots(self.m.data + ".root"))
        house.expect(text == whole, f"control: with the root key of before not all text is read: {figures}")
        figures, text = self.scan("--memory", self.path("memory.before"))
        house.expect(text == whole, f"control: with the memory of before not all text is read: {figures}")
        figures, text = self.scan(*self.roots(self.data + ".root"), "--files", self.path("writes"),
                                  "--memory", self.path("memory.after"))
        house.expect(figures["heads_opened"] > 0 and figures["pages_opened"] > 0,
                     f"the root key of after opens nothing: {figures}")
        house.expect(figures["values_opened"] == 0 and not text, f"values of the erased open: {figures}")
        return figures


def main():
    world = house.World(sys.argv[1])
    base = "/dev/shm" if os.path.isdir("/dev/shm") else None
    folder = house.tempfile.mkdtemp(prefix="lethe-thief-", dir=base)
    house.atexit.register(shutil.rmtree, folder, ignore_errors=True)
    m, failed = matrix.Matrix(world, folder, []), 0
    chosen = sys.argv[2:] or list(CASES)
    for number, name in enumerate(chosen, 1):
        if os.geteuid() != 0:
            print(f"ok {number} - a thief reads nothing of an erased {name} # SKIP taking a process's memory needs root")
            continue
        theft = Theft(m, name)
        try:
            theft.run()
            f = theft.judge()
            print(f"ok {number} - a thief reads nothing of an erased {name}: {theft.count} images, {f['heads']} heads,"
                  f" {f['pages']} pages, {f['values']} values, {f['keys']} keys, {f['openings']} openings"
                  f" ({f['seconds']} s)", flush=True)
        except house.Wrong as e:
            failed += 1
            print(f"not ok {number} - a thief reads nothing of an erased {name}\n# wrong: {e}", flush=True)
    print(f"1..{len(chosen)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
