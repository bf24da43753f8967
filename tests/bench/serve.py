#!/usr/bin/python3
"""Measures a running server from outside, over TLS, with the Python client made from the .proto files.

usage: tests/bench/serve.py BUILD [--documents N] [--stores N] [--csv FILE]

Prints ingest MB/s, search and ask latency (p50, p99), and the server's resident memory idle and with N
stores open. The documents are those of examples/library, repeated under other names with their
sentences in another order, so that sizes are as in life; questions are examples/questions.jsonl's.
"""
import argparse
import csv
import json
import os
import random
import statistics
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))
import house  # noqa: E402


def resident_mb(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        for line in f:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    return float("nan")


def texts():
    out = []
    for where, _, names in os.walk(os.path.join(ROOT, "examples", "library")):
        for name in sorted(names):
            if name.endswith((".txt", ".md")):
                with open(os.path.join(where, name), encoding="utf-8") as f:
                    out.append(f.read())
    return out


def shuffled(text, rng):
    sentences = text.replace("\n", " \n").split(". ")
    rng.shuffle(sentences)
    return ". ".join(sentences)


def percentiles(seconds):
    ordered = sorted(seconds)
    return (statistics.median(ordered) * 1e3,
            ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1e3)


def timed(count, call):
    out = []
    for i in range(count):
        start = time.perf_counter()
        call(i)
        out.append(time.perf_counter() - start)
    return percentiles(out)


def user(h, admin, name):
    admin.user(name)
    return h.client(admin.issue(name).token)


def measure(h, options, base, questions, rng, row):
    pid, admin = h.process.pid, h.client(h.admin_token)
    row("memory idle", resident_mb(pid), "MB")
    ada = user(h, admin, "ada")
    documents = [{"path": f"d/{i}.txt", "content": shuffled(base[i % len(base)], rng).encode()}
                 for i in range(options.documents)]
    size = sum(len(d["content"]) for d in documents)
    start = time.perf_counter()
    for at in range(0, len(documents), 250):
        ada.put(*documents[at:at + 250])
    seconds = time.perf_counter() - start
    row(f"ingest ({len(documents)} documents, {size / 1e6:.1f} MB)", size / 1e6 / seconds, "MB/s")
    for name, call in (
            ("search, k = 10", lambda i: ada.search(questions[i % len(questions)], 10)),
            ("ask, 5 passages, extractive", lambda i: ada.ask(questions[i % len(questions)]))):
        call(0)
        p50, p99 = timed(options.queries, call)
        row(f"{name}: p50", p50, "ms")
        row(f"{name}: p99", p99, "ms")
    row(f"memory with that store open ({len(documents)} documents)", resident_mb(pid), "MB")
    before = resident_mb(pid)
    for i in range(options.stores):
        other = user(h, admin, f"user{i}")
        other.put(*[{"path": f"u/{n}.txt", "content": text} for n, text in enumerate(base[:10])])
        other.search(questions[0], 3)
    row(f"memory with {options.stores} stores more open (10 documents each)", resident_mb(pid), "MB")
    row("  of which each store", (resident_mb(pid) - before) / options.stores, "MB")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--documents", type=int, default=2000)
    parser.add_argument("--stores", type=int, default=100)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--csv")
    options = parser.parse_args()
    rng, base = random.Random(1), texts()
    with open(os.path.join(ROOT, "examples", "questions.jsonl"), encoding="utf-8") as f:
        questions = [json.loads(line)["question"] for line in f if line.strip()]
    rows = []

    def row(name, value, unit):
        rows.append((name, value, unit))
        print(f"{name:45s} {value:10.2f} {unit}", flush=True)

    world = house.World(options.build)
    h = house.House(world, os.path.join(world.folder, "data"),
                    options=["--stores-open-max", str(options.stores + 100)])
    h.init()
    h.start()
    try:
        measure(h, options, base, questions, rng, row)
    finally:
        h.stop()
    if options.csv:
        with open(options.csv, "w", newline="", encoding="utf-8") as f:
            csv.writer(f).writerows([("measure", "value", "unit"), *rows])


if __name__ == "__main__":
    main()
