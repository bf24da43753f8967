"""What lies on the disk: models, embedders, configuration, keys, folders to be put, and a port in use."""
import json
import os
import re
import shutil
import socket
import struct
import subprocess

from house import ROOT, check, expect, expect_equal

KEPT = "What was acknowledged before stays.\n"


def refuses(house, words, what, *options):
    """lethed ends with exit code 1 (2: a wrong setting) and says why, in words that match."""
    code, said = house.fails_to_start(*options)
    expect(code in (1, 2), f"{what}: lethed's exit code is {code}; it said {said[-300:]}")
    expect("Sanitizer" not in said and "Assert" not in said, f"{what}: {said[-1000:]}")
    last = [line for line in said.splitlines() if line.startswith("lethed: ")]
    expect(last and re.search(words, last[-1]), f"{what}: '{words}' is not in what lethed said: {said[-300:]}")


def edit_header(path, change):
    """Rewrites a safetensors header; change gets and returns (size, JSON text, data)."""
    with open(path, "rb") as f:
        content = f.read()
    size = struct.unpack("<Q", content[:8])[0]
    size, header, data = change(size, content[8:8 + size], content[8 + size:])
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", size) + header + data)


def edit_json(path, change):
    with open(path) as f:
        value = json.load(f)
    change(value)
    with open(path, "w") as f:
        json.dump(value, f)


def lie(field, value):
    """Every tensor's header says so."""
    def change(size, header, data):
        tensors = json.loads(header)
        for name, tensor in tensors.items():
            if name != "__metadata__":
                tensor[field] = value
        text = json.dumps(tensors).encode()
        return len(text), text, data
    return lambda path: edit_header(path, change)


def cut(part):
    return lambda path: os.truncate(path, int(os.path.getsize(path) * part))


WEIGHTS = {
    "truncated in the data": cut(0.7), "truncated in the header": cut(0.001), "empty": cut(0),
    "a header larger than the file": lambda p: edit_header(p, lambda s, h, d: (1 << 40, h, d)),
    "a header of 2^64-1 bytes": lambda p: edit_header(p, lambda s, h, d: ((1 << 64) - 1, h, d)),
    "a header that is no JSON": lambda p: edit_header(p, lambda s, h, d: (s, b"[" * s, d)),
    "offsets past the end": lie("data_offsets", [0, 1 << 60]),
    "offsets that run backwards": lie("data_offsets", [100, 4]),
    "a shape of 2^62 elements": lie("shape", [1 << 31, 1 << 31]),
    "a shape of nothing": lie("shape", []), "an unknown type": lie("dtype", "F3"),
    "bytes missing in the middle": lambda p: edit_header(p, lambda s, h, d: (s, h, d[:100] + d[200:])),
}


@check("model_files")
def model_files(scene):
    """Truncated, lying and mismatched model folders: lethed does not start and names the file."""
    house = scene.house(start=False)
    good = scene.model(d_model=32, layers=2)
    folder = scene.path("broken")

    def broken(file, change, what, words=None):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(good, folder)
        change(os.path.join(folder, file))
        refuses(house, words or file.split(".")[0], f"{file}, {what}", "--model", folder)
    for what, change in WEIGHTS.items():
        broken("model.safetensors", change, what)
    for file in ("model.safetensors", "tokenizer.json", "config.json"):
        broken(file, os.remove, "missing")
    for what, change in {
            "no merges": lambda v: v["model"].pop("merges"),
            "a merge of unknown parts": lambda v: v["model"]["merges"].append("xyzzy plugh"),
            "a merge with no result": lambda v: v["model"]["merges"].append("q q"),
            "another kind of model": lambda v: v["model"].update(type="Unigram"),
            "no vocabulary": lambda v: v["model"].update(vocab={}),
            "ids past the model": lambda v: v["model"]["vocab"].update({"qq": 1 << 30})}.items():
        broken("tokenizer.json", lambda p, c=change: edit_json(p, c), what)
    for what, change in {
            "another architecture": lambda v: v.update(architectures=["GPT2LMHeadModel"], model_type="gpt2"),
            "no size": lambda v: v.pop("hidden_size"), "a size of 0": lambda v: v.update(hidden_size=0),
            "a negative size": lambda v: v.update(num_hidden_layers=-1),
            "an enormous size": lambda v: v.update(vocab_size=1 << 40)}.items():
        broken("config.json", lambda p, c=change: edit_json(p, c), what, "config|architecture|supported")
    broken("config.json", lambda p: scene.write("broken/config.json", "{"), "half a JSON", "config")
    refuses(house, "model|config", "a model folder that is none", "--model", scene.path("none"))
    house.start("--model", good)


@check("embedder_files")
def embedder_files(scene):
    """The same for the embedder."""
    house = scene.house(start=False)
    good = os.path.join(ROOT, "model", "bundled", "embedder")
    folder = scene.path("broken")
    for file, changes in (("model.safetensors", WEIGHTS), ("tokenizer.json", {"half": cut(0.5), "empty": cut(0)})):
        for what, change in {**changes, "missing": os.remove}.items():
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(good, folder)
            change(os.path.join(folder, file))
            refuses(house, file.split(".")[0] + "|embedder", f"embedder's {file}, {what}", "--embedder", folder)
    for what, change in WEIGHTS.items():
        shutil.copytree(good, folder, dirs_exist_ok=True)
        change(os.path.join(folder, "centroids.safetensors"))
        refuses(house, "centroids", f"centroids, {what}", "--embedder", folder)
    shutil.copytree(good, folder, dirs_exist_ok=True)
    os.remove(os.path.join(folder, "centroids.safetensors"))       # then everything is read
    house.start("--embedder", folder)


@check("settings")
def settings(scene):
    """Unknown keys, numbers out of range, bad addresses, a port in use: exit code and words."""
    house = scene.house(start=False)
    for content, words in (("nonsense = 1\n", "nonsense"), ("[server]\nthreads_max = many\n", "threads_max.*from"),
                           ("threads_max = 0\n", "line 1.*threads_max"), ("stores_open_max = -3\n", "stores_open_max"),
                           ("tokens_max\n", "line 1"), ("plaintext = maybe\n", "plaintext"),
                           ("passages_default = 32\npassages_max = 3\n", "passages_default"),
                           ("listen = " + "x" * 5000 + "\n", "line|listen|configuration")):
        refuses(house, words, f"the configuration {content[:40]!r}", "--config", scene.write("c.ini", content))
    refuses(house, "no file|no such|cannot", "a missing configuration", "--config", scene.path("none"))
    for options, words in ((["--nonsense", "1"], "nonsense"), (["--threads-max", "x"], "threads_max"),
                           (["--threads-max"], "value"), (["stray"], "argument"),
                           (["--listen", "nowhere"], "address|host:port|listen"),
                           (["--listen", "127.0.0.1:99999"], "port|address"),
                           (["--listen", "unix:" + scene.path("a" * 200)], "long|address|path"),
                           (["--listen", "192.0.2.1:0"], "address|bind|assign")):
        refuses(house, words, " ".join(options)[:60], *options)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = "127.0.0.1:%d" % taken.getsockname()[1]
        refuses(house, "in use", "a port in use", "--listen", address)
    done = subprocess.run([scene.world.program("lethed"), "--help"], stdout=subprocess.PIPE)
    expect(done.returncode == 0 and b"threads_max" in done.stdout, "lethed --help")
    good = scene.write("good.ini", "# a comment\n[limits]\nstores_open_max = 3\ntokens_default = 12\n")
    house.start("--config", good)


@check("keys_and_folders")
def keys_and_folders(scene):
    """A wrong root, missing and damaged parts of the data folder: no start, a sentence, no harm."""
    town = scene.town()
    document = town.ada.store("kept.txt", KEPT)
    house = town.house
    house.stop()
    other = scene.house(name="other", start=False)
    refuses(house, "root|key", "another house's root", "--root", other.root)
    refuses(house, "root", "a root that is not there", "--root", scene.path("none"))
    empty = scene.path("empty.root")
    os.mkdir(empty, 0o700)
    refuses(house, "root|key", "an empty root", "--root", empty)
    whole = scene.path("whole")
    shutil.copytree(house.data, whole)

    def damaged(part, change, words):
        shutil.rmtree(house.data)
        shutil.copytree(whole, house.data)
        change(os.path.join(house.data, part))
        refuses(house, words, f"{part} damaged by {change.__name__}")

    def flipped(path):
        with open(path, "r+b") as f:
            f.seek(os.path.getsize(path) // 2)
            byte = f.read(1)[0]
            f.seek(-1, os.SEEK_CUR)
            f.write(bytes([byte ^ 1]))

    def halved(path):
        os.truncate(path, os.path.getsize(path) // 2)

    def emptied(path):
        os.truncate(path, 0)
    head = [n for n in os.listdir(os.path.join(whole, "keytree")) if n.startswith("head.")][0]
    for change in (flipped, halved, emptied, os.remove):
        damaged("keytree/" + head, change, "key tree|key|head|root")
    for change in (halved, emptied, os.remove):
        damaged("keytree/pages", change, "key tree|page")
    for part, words in (("sign/secret.sealed", "sign|seal|key|secret|open|authentic"),
                        ("tls/key.sealed", "tls|seal|key|open|authentic")):
        for change in (flipped, emptied, os.remove):
            damaged(part, change, words)
    shutil.rmtree(house.data)
    shutil.copytree(whole, house.data)
    os.chmod(house.root, 0o777)
    refuses(house, "600|700|permission|others|private|mode", "a root that others may read")
    os.chmod(house.root, 0o700)
    missing = scene.path("nothing-here")
    refuses(house, "init", "no data folder", "--data", missing)
    house.start()
    town.again()
    expect_equal(town.ada.get(document).decode(), KEPT, "what was acknowledged before")


@check("damaged_store")
def damaged_store(scene):
    """Bits that flip in a store: DATA_LOSS or a refusal, never other text, never a crash; others unharmed."""
    town = scene.town()
    documents = town.ada.put(*({"path": f"{n}.txt", "content": f"Number {n}. " * 400} for n in range(5)))
    kept = town.bob.store("kept.txt", KEPT)
    before = set(os.listdir(os.path.join(town.house.data, "stores")))
    town.house.stop()
    whole = scene.path("whole")
    shutil.copytree(town.house.data, whole)
    largest = max((n for n in before if n.endswith(".mdb")),
                  key=lambda n: os.path.getsize(os.path.join(whole, "stores", n)))
    path = os.path.join(town.house.data, "stores", largest)
    harmed = 0
    for turn in range(4):
        with open(os.path.join(whole, "stores", largest), "rb") as f:
            content = bytearray(f.read())
        # Within ciphertext: LMDB checks no sums, and damage to its own pages may end the process.
        for at in range(8192 + turn * 37, len(content), 257):
            around = content[at - 32:at + 32]
            if b"\0\0\0\0" not in around and len(set(around)) > 40:
                content[at] ^= 1 << turn
        with open(path, "wb") as f:
            f.write(content)
        town.house.start()
        town.again()
        for n, d in enumerate(documents.documents):
            seen = town.ada.seen("Documents/Get", town.ada.pb.GetRequest(id=d.id))
            expect(seen.code in ("DATA_LOSS", "NOT_FOUND", "UNAVAILABLE", "OK"), f"a damaged store: {seen}")
            harmed += seen.code != "OK"
            if seen.code == "OK":
                expect_equal(town.ada.get(d.id), b"Number %d. " % n * 400, "text from a damaged store")
        town.ada.seen("Answers/Search", town.ada.pb.SearchRequest(query="number"))
        expect(town.house.process.poll() is None, "the server is alive")
        expect_equal(town.bob.get(kept).decode(), KEPT, "bob's, beside ada's damaged store")
        town.house.stop()
    expect(harmed > 0, "the damage was found by somebody")


@check("folders")
def folders(scene):
    """put of folders with unreadable files, dangling links, loops, pipes: the rest is stored."""
    town = scene.town()
    folder = scene.path("files")
    for name in ("a.txt", "b/c.txt", "b/secret.txt", "closed/d.txt"):
        scene.write("files/" + name, KEPT + name)
    scene.write("files/.hidden", "not to be put")
    os.symlink("nowhere", os.path.join(folder, "dangling.txt"))
    os.symlink("..", os.path.join(folder, "b", "up"))
    os.mkfifo(os.path.join(folder, "pipe.txt"))
    with open(os.path.join(os.fsencode(folder), b"\xff\xfe.txt"), "w") as f:
        f.write("a name that is no UTF-8")
    os.chmod(os.path.join(folder, "b/secret.txt"), 0)
    os.chmod(os.path.join(folder, "closed"), 0)
    scene.stack.callback(os.chmod, os.path.join(folder, "closed"), 0o700)
    command = [scene.world.program("lethe"), "put", "files", "--json"]
    failing = {"files/dangling.txt", "files/pipe.txt"}
    if os.getuid() == 0:                       # root reads everything: somebody else puts
        command = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", *command]
        for place in (scene.world.folder, scene.folder):
            os.chmod(place, 0o711)
    ca = scene.write("ca.pem", town.house.ca_pem)
    environment = dict(os.environ, LETHE_TOKEN=town.token["ada"], LETHE_CA=ca,
                       LETHE_SERVER=town.house.address)
    if subprocess.run([*command[:-3], "--help"], stdout=subprocess.DEVNULL,
                      stderr=subprocess.DEVNULL).returncode == 0:
        failing |= {"files/b/secret.txt", "files/closed"}
    else:                                      # nobody may not even reach the program: as root, then
        command = command[-4:] if command[0] != "setpriv" else command[command.index("--clear-groups") + 1:]
    done = subprocess.run(command, cwd=scene.folder, env=environment, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=120)
    expect_equal(done.returncode, 1, f"exit code of a put that failed partly ({done.stderr[-300:]})")
    out = json.loads(done.stdout.decode(errors="replace"))
    stored = {d["path"] for d in out["documents"]}
    failed = {f["path"] for f in out["failed"]}
    expect({"files/a.txt", "files/b/c.txt"} <= stored, f"what is readable: {sorted(stored)}")
    expect(failing <= failed, f"what is not: {sorted(failed)}")
    expect(not {p for p in stored if "hidden" in p or "secret" in p and p in failing}, "stored, and should not be")
    expect(all(f["reason"] for f in out["failed"]), "a reason for each")
    expect_equal({d.path for d in town.ada.list()}, stored, "what was acknowledged is there")
    for words in (["files/none"], [""], ["files/pipe.txt"]):
        done = town.house.lethe(town.token["ada"], "put", *words, cwd=scene.folder)
        expect((done.code, len(done.json["failed"])) == (1, 1), f"put {words}: {done}")
