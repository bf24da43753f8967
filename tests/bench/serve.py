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

    with house.House(options.build) as h:
        server = h.start()
        row("memory idle", resident_mb(server.pid), "MB")
        ada = h.client(h.add_user("ada"))
        documents = [(f"d/{i}.txt", shuffled(base[i % len(base)], rng).encode())
                     for i in range(options.documents)]
        size = sum(len(d) for _, d in documents)
        start = time.perf_counter()
        for at in range(0, len(documents), 250):
            ada.put(documents[at:at + 250])
        seconds = time.perf_counter() - start
        row(f"ingest ({len(documents)} documents, {size / 1e6:.1f} MB)", size / 1e6 / seconds, "MB/s")
        for name, call in (("search, k = 10", lambda i: ada.search(questions[i % len(questions)], 10)),
                           ("ask, 5 passages, extractive", lambda i: ada.ask(questions[i % len(questions)]))):
            call(0)
            p50, p99 = timed(options.queries, call)
            row(f"{name}: p50", p50, "ms")
            row(f"{name}: p99", p99, "ms")
        row(f"memory with that store open ({len(documents)} documents)", resident_mb(server.pid), "MB")
        before = resident_mb(server.pid)
        for i in range(options.stores):
            user = h.client(h.add_user(f"user{i}"))
            user.put([(f"u/{n}.txt", text.encode()) for n, text in enumerate(base[:10])])
            user.search(questions[0], 3)
        row(f"memory with {options.stores} stores more open (10 documents each)",
            resident_mb(server.pid), "MB")
        row("  of which each store", (resident_mb(server.pid) - before) / options.stores, "MB")
    if options.csv:
        with open(options.csv, "w", newline="", encoding="utf-8") as f:
            csv.writer(f).writerows([("measure", "value", "unit"), *rows])


if __name__ == "__main__":
    main()
