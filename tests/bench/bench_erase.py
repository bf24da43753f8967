#!/usr/bin/env python3
"""The same deletion in Lethe and in Chroma (PyPI), and what of it still stands in their files afterwards.

usage: tests/bench/bench_erase.py BUILD [--count N] [--chroma-python PATH] [--folder DIR] [--csv FILE]

Two users' chunks, half of N (default 20,000; by 200) each, with their texts and vectors, are made by
BUILD/bin/bench_erase --beside and go into a Lethe store and into one Chroma collection, on the same disk. One user is
deleted: there by an erasure, here by collection.delete(where=...), both timed inside their process. Then all files of
both are scanned for the deleted texts and vectors (float32 bytes).

A text counts as found where 48 consecutive bytes of it stand in a file, a vector where 64 do; each is looked for at
three places in it, since a database may split it over pages. That the scan finds what is there is shown for Chroma by
a scan before the deletion and by one for the other user. For Lethe it cannot be shown so: its files are ciphertext,
and 0 before the erasure says no more than 0 behind it. What the erasure adds is that the keys are gone; the control
for that is the scanner which opens what it has keys for (`lethe audit`, tests/crash/matrix.py).

Chroma is for comparison only: no part of Lethe uses it. --chroma-python: a Python that has it; else a virtual
environment is made in a temporary folder, `pip install chromadb` run in it (some 400 MB), and removed. Exits with 2 if
that fails, with 1 if anything of the erased is found in Lethe's files, or if the scan is blind.
"""
import argparse
import csv
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import venv

TEXT_BYTES, VECTOR_BYTES, KEY_BYTES = 48, 64, 8


def fail(message):
    print(f"bench_erase.py: {message}", file=sys.stderr)
    sys.exit(2)


# ---- the part that runs in Chroma's Python, which has numpy ---------------------------------------------------------
def chunks_read(path):
    """[(user, text bytes, vector bytes)]"""
    with open(path, "rb") as f:
        data = f.read()
    dimensions, at, out = struct.unpack_from("<I", data)[0], 4, []
    while at < len(data):
        user, size = struct.unpack_from("<II", data, at)
        at += 8
        out.append((user, data[at:at + size], data[at + size:at + size + 4 * dimensions]))
        at += size + 4 * dimensions
    return out


def excerpts(value, size):
    step = max((len(value) - size) // 2, 1)
    return [value[at:at + size] for at in range(0, len(value) - size + 1, step)][:3]


class Needles:
    """Looks for many byte strings of one length at once: by their first bytes, at every offset."""

    def __init__(self, values, size):
        import numpy
        self.np, self.size, self.owners = numpy, size, {}
        for number, value in enumerate(values):
            for e in excerpts(value, size):
                self.owners.setdefault(e, set()).add(number)
        self.keys = numpy.unique(numpy.array([struct.unpack("<Q", e[:KEY_BYTES])[0] for e in self.owners],
                                             dtype=numpy.uint64))

    def found(self, data):
        np, out = self.np, set()
        for shift in range(KEY_BYTES):
            words = np.frombuffer(data, dtype="<u8", offset=shift, count=(len(data) - shift) // 8) \
                if len(data) >= shift + 8 else np.array([], dtype=np.uint64)
            place = np.minimum(np.searchsorted(self.keys, words), len(self.keys) - 1)
            for at in np.flatnonzero(self.keys[place] == words):
                start = int(at) * 8 + shift
                out |= self.owners.get(data[start:start + self.size], set())
        return out


def scan(folders, chunks, user):
    texts = Needles([c[1] for c in chunks if c[0] == user], TEXT_BYTES)
    vectors = Needles([c[2] for c in chunks if c[0] == user], VECTOR_BYTES)
    seen_texts, seen_vectors, size = set(), set(), 0
    for folder in folders:
        for where, _, names in os.walk(folder):
            for name in names:
                with open(os.path.join(where, name), "rb") as f:
                    data = f.read()
                size += len(data)
                seen_texts |= texts.found(data)
                seen_vectors |= vectors.found(data)
    return f"{len(seen_texts)} {len(seen_vectors)} {size}"


def chroma_part(step, folder, chunks_path):
    """Prints one line; each step is a process of its own, so that the database is closed between them."""
    import time

    chunks = chunks_read(chunks_path)
    if step.startswith("scan"):
        print(scan(folder.split(":"), chunks, int(step[4:])))
        return
    import chromadb
    import numpy

    client = chromadb.PersistentClient(folder, settings=chromadb.Settings(anonymized_telemetry=False))
    collection = client.get_or_create_collection("chunks", embedding_function=None)
    batch = min(client.get_max_batch_size(), 5000)
    since = time.monotonic()
    if step == "put":
        for first in range(0, len(chunks), batch):
            part = chunks[first:first + batch]
            collection.add(ids=[str(first + i) for i in range(len(part))],
                           embeddings=numpy.array([numpy.frombuffer(c[2], dtype="<f4") for c in part]),
                           documents=[c[1].decode() for c in part],
                           metadatas=[{"user": "kept" if c[0] else "erased"} for c in part])
    else:
        collection.delete(where={"user": "erased"})
    took, left = time.monotonic() - since, collection.count()
    if hasattr(client, "close"):
        client.close()
    print(f"{1e3 * took:.3f} {left} {chromadb.__version__}")


# ---- the part that is called --------------------------------------------------------------------------------------
def chroma_make(folder):
    """A fresh environment with chromadb; its Python."""
    where = os.path.join(folder, "chroma")
    try:
        venv.create(where, with_pip=True)
        done = subprocess.run([os.path.join(where, "bin", "pip"), "install", "-q", "--disable-pip-version-check",
                               "chromadb"], capture_output=True, text=True, check=False)
    except (OSError, subprocess.SubprocessError) as e:
        fail(f"cannot make a virtual environment for chromadb: {e}")
    if done.returncode != 0:
        fail("chromadb cannot be installed from PyPI (give a Python that has it: --chroma-python PATH):\n" +
             done.stderr[-2000:])
    return os.path.join(where, "bin", "python")


def ask(python, *arguments):
    done = subprocess.run([python, os.path.abspath(__file__), "--part", *arguments], capture_output=True, text=True,
                          check=False)
    if done.returncode != 0:
        fail(f"{arguments[0]} failed:\n{done.stderr[-2000:]}")
    return done.stdout.split()


def lethe(build, *arguments):
    done = subprocess.run([os.path.join(build, "bin", "bench_erase"), *arguments], capture_output=True, text=True,
                          check=False)
    if done.returncode != 0:
        fail(f"bench_erase failed:\n{done.stderr[-2000:]}")
    return dict(line.split() for line in done.stdout.splitlines() if not line.startswith("#"))


def measure(o, folder):
    """Rows (what, deletion ms, texts found, vectors found, bytes scanned); the last column of each: must it be 0?"""
    python = o.chroma_python or chroma_make(folder)
    if subprocess.run([python, "-c", "import chromadb, numpy"], capture_output=True, check=False).returncode != 0:
        fail(f"{python} has no chromadb: pip install chromadb, or leave --chroma-python out")
    chunks, house, db = (os.path.join(folder, n) for n in ("chunks", "house", "db"))
    homes, rows = f"{house}:{house}.root", []
    lethe(o.build, "--beside", folder, "--chunks", str(o.count))
    rows.append(["Lethe, before", "", *ask(python, "scan0", homes, chunks)])
    ask(python, "put", db, chunks)
    rows.append(["Chroma, before", "", *ask(python, "scan0", db, chunks)])
    took = lethe(o.build, "--beside", folder)
    rows.append(["Lethe, erased", took["whole_ms"], *ask(python, "scan0", homes, chunks)])
    ms, left, version = ask(python, "delete", db, chunks)
    if int(left) != o.count // 2:
        fail(f"Chroma holds {left} chunks after the deletion")
    rows.append([f"Chroma {version}, deleted", ms, *ask(python, "scan0", db, chunks)])
    rows.append(["Chroma, the other user", "", *ask(python, "scan1", db, chunks)])
    tool = os.path.join(os.path.dirname(python), "chroma")
    done = os.path.exists(tool) and subprocess.run([tool, "vacuum", "--path", db, "--force"], capture_output=True,
                                                   check=False).returncode == 0
    if done:
        rows.append(["Chroma, `chroma vacuum` after it", "", *ask(python, "scan0", db, chunks)])
    return rows, took


def main():
    if len(sys.argv) > 1 and sys.argv[1] == "--part":
        chroma_part(*sys.argv[2:])
        return 0
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("build")
    p.add_argument("--count", type=int, default=20000)
    p.add_argument("--chroma-python")
    p.add_argument("--folder", help="where the temporary folder goes (the disk that is measured)")
    p.add_argument("--csv")
    o = p.parse_args()
    if o.count < 200 or o.count % 200:
        p.error("--count goes by 200")
    folder = tempfile.mkdtemp(prefix="bench_erase.", dir=o.folder)
    try:
        rows, took = measure(o, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    half = o.count // 2
    print(f"one of two users deleted: {half} chunks of {o.count}")
    print(f"{'':32} {'ms':>10} {'texts found':>12} {'vectors found':>14} {'of MB':>8}")
    for what, ms, texts, vectors, size in rows:
        print(f"{what:32} {ms:>10} {texts:>12} {vectors:>14} {int(size) / 1e6:8.1f}")
    print(f"Lethe: until no key opens them {took['fence_to_commit_ms']} ms; waiting for the disk "
          f"{took['whole_sync_ms']} ms of the whole")
    if o.csv:
        with open(o.csv, "w", newline="", encoding="utf-8") as f:
            csv.writer(f).writerows([["case", "ms", "texts_found", "vectors_found", "bytes"], *rows])
    sighted = all(int(n) == half for row in (rows[1], rows[4]) for n in row[2:4])
    if not sighted:
        print("the scan does not find all that is there")
    return 0 if sighted and rows[2][2:4] == ["0", "0"] else 1


if __name__ == "__main__":
    sys.exit(main())
