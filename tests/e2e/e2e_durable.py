"""What was acknowledged stays: over kill -9, a full disk, restarts, replacement."""
import json
import os
import random
import shutil
import signal
import subprocess
import threading
import time

import grpc

from house import Skip, check, expect, expect_equal, refusal


def body(generator, size):
    """Text of about size bytes, ASCII, that compresses badly."""
    words = ("".join(generator.choices("abcdefghijklmnopqrstuvwxyz", k=generator.randint(2, 9)))
             for _ in range(size // 6))
    return " ".join(words).capitalize() + ".\n"


class Writer(threading.Thread):
    """Puts documents in call after call until the server is gone; remembers what was acknowledged."""

    def __init__(self, client, seed):
        super().__init__(daemon=True)
        self.client, self.random, self.acknowledged = client, random.Random(seed), {}

    def run(self):
        number = 0
        with_failures = (grpc.RpcError, ValueError)          # ValueError: the channel was closed
        try:
            while True:
                batch = []
                for _ in range(self.random.randint(1, 8)):
                    number += 1
                    batch.append({"path": f"{number}.txt",
                                  "content": body(self.random, self.random.randint(40, 6000))})
                texts = {d["path"]: d["content"] for d in batch}
                for d in self.client.put(*batch).documents:
                    self.acknowledged[d.id] = texts[d.path].encode()
        except with_failures:
            pass


def all_there(client, acknowledged, when):
    listed = {d.id for d in client.list()}
    for document, content in acknowledged.items():
        expect(document in listed, f"an acknowledged document is lost from the list {when}")
        expect_equal(refusal(lambda: client.get(document)), None,
                     f"an acknowledged document is lost {when}")
        expect(client.get(document) == content, f"an acknowledged document's bytes are lost {when}")


def complaints(text):
    """Errors in the server's log."""
    return [line for line in text.splitlines() if '"error"' in line or "ERROR:" in line]


@check("kill9", ack_before_commit="is lost")
def kill9(scene):
    """kill -9 at random moments of putting: what was acknowledged is there, byte for byte."""
    town = scene.town()
    generator = random.Random(20)
    known = {"ada": {}, "bob": {}}
    calls = 0
    for turn in range(5):
        writers = {name: Writer(getattr(town, name), turn * 10 + i)
                   for i, name in enumerate(("ada", "bob"))}
        for w in writers.values():
            w.start()
        # A moment of its own each turn: after so many acknowledged documents and a little more.
        enough = generator.randint(1, 40)
        end = time.monotonic() + 60
        while time.monotonic() < end and sum(len(w.acknowledged) for w in writers.values()) < enough:
            time.sleep(0.002)
        time.sleep(generator.random() * 0.05)
        town.house.process.kill()
        for w in writers.values():
            w.join(60)
        town.house.kill()
        before = len(town.house.log_text())
        town.house.start()
        town.again()
        expect_equal(complaints(town.house.log_text()[before:]), [], "complaints at the start")
        for name, w in writers.items():
            known[name].update(w.acknowledged)
            all_there(getattr(town, name), known[name], f"after kill -9 ({turn}, {name})")
            calls += len(w.acknowledged)
    expect(calls > 10, "documents were acknowledged at all")
    some, content = next(iter(known["ada"].items()))
    words = content.decode().split("\n")[0]
    expect(some in {h.document for h in town.ada.search(words[:200])}, "what survived is found")
    document = town.ada.store("after.txt", "and it goes on")
    expect_equal(town.ada.get(document), b"and it goes on", "a put after all that")


# ---- a full disk ---------------------------------------------------------------------------------------------
class SmallDisk:
    """A tmpfs of a few MiB: mounted here, or in a namespace of our own where we may not mount."""

    def __init__(self, scene, mib):
        self.folder, self.prefix, self.holder = scene.path("disk"), [], None
        os.makedirs(self.folder)
        options = ["-t", "tmpfs", "-o", f"size={mib}m,mode=0700", "none", self.folder]
        if subprocess.run(["mount", *options], stderr=subprocess.DEVNULL).returncode == 0:
            scene.stack.callback(subprocess.run, ["umount", "-l", self.folder])
            return
        words = f"mount {' '.join(options)} && echo ready && exec sleep 100000"
        self.holder = subprocess.Popen(["unshare", "-rm", "sh", "-c", words], stdout=subprocess.PIPE,
                                       stderr=subprocess.DEVNULL)
        scene.stack.callback(self.release)
        if self.holder.stdout.readline() != b"ready\n":
            raise Skip("neither mount nor a mount namespace")
        self.prefix = ["nsenter", "-t", str(self.holder.pid), "-U", "-m", "--preserve-credentials"]

    def release(self):
        self.holder.kill()
        self.holder.wait()
        self.holder.stdout.close()

    def grow(self, mib):
        subprocess.run([*self.prefix, "mount", "-o", f"remount,size={mib}m", self.folder], check=True)

    def fill(self):
        """Takes all the room there is left."""
        subprocess.run([*self.prefix, "sh", "-c", f"cat /dev/zero >'{self.folder}/ballast'"],
                       stderr=subprocess.DEVNULL)

    def unfill(self):
        subprocess.run([*self.prefix, "rm", f"{self.folder}/ballast"], check=True)


def fill_up(client, generator, known, size, most=2000):
    """Puts until one fails; its failure. known: what was acknowledged."""
    for n in range(most):
        content = body(generator, size)
        try:
            response = client.put({"path": f"{size}-{n}.txt", "content": content})
        except grpc.RpcError as e:
            return e.code().value[0], e.details()
        if response.failed:
            return response.failed[0].code, response.failed[0].reason
        known[response.documents[0].id] = content.encode()
    return None, "the disk never got full"


@check("full_disk", enospc_ignored="lost|instead of 14")
def full_disk(scene):
    """A full disk refuses a put with UNAVAILABLE and loses nothing acknowledged; room lets it go on."""
    disk = SmallDisk(scene, 6)
    town = scene.town(name="disk/data", prefix=disk.prefix, log=scene.path("lethed.log"))
    generator, known = random.Random(5), {}
    code, words = fill_up(town.ada, generator, known, 60000)
    expect_equal(code, 14, f"the code of a put on a full disk ({words})")
    expect("full" in words or "space" in words, f"words that help: {words}")
    expect(known, "something was stored before")
    for size in (9000, 300):
        code, words = fill_up(town.ada, generator, known, size)
        expect_equal(code, 14, f"the code of a small put on a full disk ({words})")
    all_there(town.ada, known, "on a full disk")
    town.house.kill()
    town.house.start()
    town.again()
    all_there(town.ada, known, "on a full disk, after a restart")
    # With nothing left at all it starts, reads, and says no.
    disk.fill()
    town.house.kill()
    town.house.start()
    town.again()
    all_there(town.ada, known, "with no byte left")
    code, words = fill_up(town.ada, generator, known, 30000)
    expect_equal(code, 14, f"the code of a put with no byte left ({words})")
    disk.unfill()
    disk.grow(8)
    # Erasing makes room again.
    largest = sorted(known, key=lambda d: -len(known[d]))[:6]
    for document in largest:
        town.ada.erase(document=document)
        del known[document]
    document = town.ada.store("again.txt", body(generator, 20000))
    known[document] = town.ada.get(document)
    town.house.restart()
    town.again()
    all_there(town.ada, known, "after room was made")
    for gone in largest:
        expect_equal(refusal(lambda: town.ada.get(gone)), "NOT_FOUND", "an erased document")


# ---- restarts ------------------------------------------------------------------------------------------------
def picture(client):
    pb = client.pb
    requests = [("Answers/Search", pb.SearchRequest(query="the harbour crane", k=50)),
                ("Answers/Ask", pb.AskRequest(question="What does the crane lift?", passages=10)),
                ("Documents/List", pb.ListRequest()), ("Access/WhoAmI", pb.WhoAmIRequest()),
                ("Admin/Stats", pb.StatsRequest())]
    requests += [("Documents/Get", pb.GetRequest(id=d.id)) for d in client.list()]
    return [client.seen(*r) for r in requests]


@check("restart")
def restart(scene):
    """After a restart everybody receives the same bytes; one server per data folder."""
    town = scene.town("--stores-open-max", "1")
    generator = random.Random(3)
    for name in ("ada", "bob", "cay"):
        getattr(town, name).put(*({"path": f"{name}/{n}", "content": "The harbour crane lifts. " +
                                   body(generator, 1500), "share": ["user:bob"]} for n in range(4)))
    town.ada.store("oncall/duty", "The crane lifts forty tonnes.", owner="group:oncall")
    before = {name: picture(getattr(town, name)) for name in town.token}
    code, said = House(town.house).fails_to_start()
    expect_equal(code, 1, "a second lethed on the same data folder")
    expect("data folder" in said, f"words that help: {said[-200:]}")
    twice = subprocess.run([scene.world.program("lethe"), "init", "--data", town.house.data],
                           stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    expect_equal(twice.returncode, 1, "init on a data folder that is there")
    town.house.restart()
    town.again()
    for name in town.token:
        expect(picture(getattr(town, name)) == before[name], f"what {name} receives after a restart")
    # The data folder may move; its keys are found where --root says.
    town.house.stop()
    moved, keys = scene.path("elsewhere"), scene.path("keys")
    os.rename(town.house.data, moved)
    os.rename(town.house.root, keys)
    town.house.data = moved
    town.house.options += ["--root", keys]
    town.house.start()
    town.again()
    for name in town.token:
        expect(picture(getattr(town, name)) == before[name], f"what {name} receives after moving")
    town.house.stop()


def House(other):
    """A second server's handle on the same folder."""
    import house
    twin = house.House(other.world, other.data, other.options)
    twin.log = other.data + ".twin.log"
    return twin


@check("replace")
def replace(scene):
    """put --replace leaves one document of the path and erases the old one; without it there are two."""
    town = scene.town()
    folder = scene.path("files")
    os.makedirs(folder)

    def put(content, *more):
        with open(os.path.join(folder, "plan.txt"), "w") as f:
            f.write(content)
        done = town.house.lethe(town.token["ada"], "put", "plan.txt", *more, cwd=folder)
        expect_equal(done.code, 0, f"lethe put: {done.err}")
        return done.json["documents"][0]["id"]
    first = put("the old plan")
    second = put("the other plan")
    expect_equal({d.id for d in town.ada.list()}, {first, second}, "put twice without --replace")
    town.ada.erase(document=first)
    third = put("the new plan", "--replace")
    expect_equal({d.id for d in town.ada.list()}, {third}, "after --replace")
    expect_equal(refusal(lambda: town.ada.get(second)), "NOT_FOUND", "the replaced document")
    expect_equal(town.ada.get(third), b"the new plan", "the new one")
    erasures = town.ada.erasure.ListErasures(town.ada.pb.ListErasuresRequest()).erasures
    expect_equal([e.kind for e in erasures], ["document"] * 2, "a replacement is an erasure")
    # Another's document of the same path is not touched.
    town.bob.store("plan.txt", "bob's plan")
    put("the newest plan", "--replace")
    expect_equal([d.path for d in town.bob.list()], ["plan.txt"], "bob's of the same path")
    # Twice in one call: the later one stands.
    response = town.ada.put({"path": "twice.txt", "content": "sooner", "replace": True},
                            {"path": "other.txt", "content": "between", "replace": True},
                            {"path": "twice.txt", "content": "later", "replace": True})
    expect_equal(len(response.documents), 3, "replacements in one call")
    left = [town.ada.get(d.id) for d in town.ada.list() if d.path == "twice.txt"]
    expect_equal(left, [b"later"], "the same path twice in one call, with --replace")


@check("mirror")
def mirror(scene):
    """The key tree's mirror opens the house when the disk that held the tree is lost."""
    mirrored = scene.path("mirror")
    town = scene.town("--keytree-mirror", mirrored)
    document = town.ada.store("a.txt", "what the mirror must open")
    gone = town.ada.store("b.txt", "what nobody may open")
    town.ada.erase(document=gone)
    town.house.stop()
    expect(os.listdir(mirrored), "something in the mirror")
    shutil.rmtree(os.path.join(town.house.data, "keytree"))
    shutil.copytree(mirrored, os.path.join(town.house.data, "keytree"))
    town.house.start()
    town.again()
    expect_equal(town.ada.get(document), b"what the mirror must open", "from the mirror's tree")
    expect_equal(refusal(lambda: town.ada.get(gone)), "NOT_FOUND", "an erased document")


@check("signals")
def signals(scene):
    """SIGINT ends the server as SIGTERM does; idle clients do not hold it."""
    house = scene.house()
    client = house.client(house.admin_token)
    client.whoami()
    start = time.monotonic()
    house.process.send_signal(signal.SIGINT)
    expect_equal(house.process.wait(120), 0, "the exit code after SIGINT")
    expect(time.monotonic() - start < 60, "an idle client's channel holds the server")
    expect(json.loads(house.log_text().splitlines()[-1]), "a log of JSON lines")
