#!/usr/bin/python3
"""Measures the generator behind a running server, through gRPC with TLS, against the engine alone.

usage: tests/bench/serve_generator.py BUILD [--precision bf16] [--temperature 0] [--rounds 5] [--csv FILE]

The model has mamba-130m's shape and random weights; each of its tokens is a word, so that each comes as a frame. In each round:

1. engine: what `lethe-bench model` decodes at batch 16 (without a server in between), before and after
2. askers: 16 users ask at once, each on a connection of its own; tokens a second while all 16 are being answered.
   Limit: 85 % of the engine's.
3. held up: one user is being answered while another's prompt of 8,192 tokens is read. Limit: the 99th percentile of the
   times between tokens then is at most 3 times their median. Beside it, the same percentile against the median before.

The clients (bench_serve) run on the same processors as the server. Medians over the rounds count; the exit code is 1 where
a limit is missed. Other work on the machine falsifies all of it: the 99th percentile of one alone shows how much.
"""
import argparse
import csv
import json
import os
import statistics
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))
import house  # noqa: E402

VOCAB = 50280
ASKERS, ASKED_TOKENS = 16, 480
BESIDE_TOKENS, BESIDE_START_MS, LONG_CONTEXT = 900, 1500, 4096
SHARE_LEAST, HELD_UP_MOST = 0.85, 3.0
QUESTION = "What did the keeper of the harbour write down?"


def make_model(world, folder):
    subprocess.run([world.find("make_random_model"), folder, "7", "768", "24", str(VOCAB)], check=True)
    path = os.path.join(folder, "config.json")
    with open(path, encoding="utf-8") as f:
        config = json.load(f)
    config["eos_token_id"] = None
    with open(path, "w", encoding="utf-8") as f:
        json.dump(config, f)
    path = os.path.join(folder, "tokenizer.json")
    with open(path, encoding="utf-8") as f:
        tokenizer = json.load(f)
    vocab = tokenizer["model"]["vocab"]
    # Bytes stay bytes (a prompt needs them); what they decode to is made whole characters by words of its own.
    for token in range(len(vocab), VOCAB):
        vocab["q" + "".join(chr(97 + token // 26 ** i % 26) for i in range(4))] = token
    with open(path, "w", encoding="utf-8") as f:
        json.dump(tokenizer, f)


def engine(world, model, options):
    """Tokens a second of one decoding step after another, 16 sequences each."""
    path = os.path.join(world.folder, "engine.csv")
    subprocess.run([world.program("lethe-bench"), "model", model, "--precision", options.precision, "--threads",
                    str(os.cpu_count()), "--prefill", "0", "--batch", str(ASKERS), "--steps", "512", "--repeat", "3",
                    "--csv", path], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with open(path, newline="", encoding="utf-8") as f:
        return next(float(row["median"]) for row in csv.DictReader(f) if row["what"] == "decode")


def ask(h, asks):
    """[(sent, input tokens, [time of each piece])] of asks (token, start in ms, tokens, passages, temperature)."""
    lines = "".join(f"{token} {start} {tokens} {passages} 2 {temperature} {QUESTION}\n"
                    for token, start, tokens, passages, temperature in asks)
    done = subprocess.run([h.world.program("bench_serve"), h.address, h.ca], input=lines, stdout=subprocess.PIPE,
                          text=True, check=True)
    out = []
    for line in done.stdout.splitlines():
        _, sent, read, *times = line.split()
        out.append((float(sent), int(read), [float(t) for t in times]))
    return out


def askers(h, tokens, temperature):
    """Tokens a second while all are being answered, and the times between tokens of each, in ms."""
    answers = ask(h, [(token, 0, ASKED_TOKENS, 1, temperature) for token in tokens])
    start = max(times[0] for _, _, times in answers)
    end = min(times[-1] for _, _, times in answers)
    if end <= start:
        raise RuntimeError("the answers do not overlap: ask for longer ones")
    count = sum(start < t <= end for _, _, times in answers for t in times)
    return count / (end - start), [1e3 * (b - a) for _, _, times in answers
                                   for a, b in zip(times, times[1:]) if a >= start and b <= end]


def held_up(h, one, other):
    """Times between one's tokens in ms: before, and while other's prompt is read; and how long that was and took."""
    (_, _, times), (sent, read, first) = ask(h, [(one, 0, BESIDE_TOKENS, 1, 0),
                                                 (other, BESIDE_START_MS, 1, 32, 0)])
    gaps = list(zip(times, times[1:]))
    before = [1e3 * (b - a) for a, b in gaps if b < sent]
    during = [1e3 * (b - a) for a, b in gaps if a >= sent and b <= first[0]]
    if times[-1] < first[0]:
        print(f"note: the answer ended {first[0] - times[-1]:.1f} s before the prompt was read")
    return before, during, read, first[0] - sent


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def settle(h):
    """Users with a small document each, and one with 8,192 tokens to read."""
    admin = h.client(h.admin_token)
    tokens = []
    for i in range(ASKERS + 1):
        admin.user(f"user{i}")
        tokens.append(admin.issue(f"user{i}").token)
    for i, token in enumerate(tokens[:ASKERS]):
        h.client(token).put({"path": "log.txt", "content": f"The keeper of harbour {i} wrote down each ship."})
    page = " ".join(f"On day {i} the keeper of the harbour wrote down ship number {i * 7}." for i in range(1500))
    h.client(tokens[ASKERS]).put({"path": "long.txt", "content": page})
    return tokens


def measure(h, world, model, options, row):
    tokens = settle(h)
    for i in range(options.rounds):
        rates = [engine(world, model, options)]
        rate, between = askers(h, tokens[:ASKERS], options.temperature)
        before, during, read, took = held_up(h, tokens[0], tokens[ASKERS])
        rates.append(engine(world, model, options))
        alone = statistics.mean(rates)
        row(i, "engine, batch 16", alone, "tokens/s")
        row(i, "16 askers", rate, "tokens/s")
        row(i, "16 askers, of the engine", rate / alone, "")
        row(i, "between tokens of 16: p50", statistics.median(between), "ms")
        row(i, "between tokens of 16: p99", percentile(between, 0.99), "ms")
        row(i, "between tokens of one, alone: p50", statistics.median(before), "ms")
        row(i, "between tokens of one, alone: p99", percentile(before, 0.99), "ms")
        row(i, "between tokens of one, beside a long prompt: p50", statistics.median(during), "ms")
        row(i, "between tokens of one, beside a long prompt: p99", percentile(during, 0.99), "ms")
        row(i, "p99 of the median", percentile(during, 0.99) / statistics.median(during), "")
        row(i, "p99 of the median alone", percentile(during, 0.99) / statistics.median(before), "")
        row(i, "the long prompt", read / took, "tokens/s")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--temperature", type=float, default=0)
    parser.add_argument("--csv")
    options = parser.parse_args()
    rows, medians = [], {}

    def row(i, name, value, unit):
        rows.append((i, name, value, unit))
        medians.setdefault((name, unit), []).append(value)
        print(f"round {i + 1}  {name:50s} {value:10.2f} {unit}", flush=True)

    world = house.World(options.build)
    model = os.path.join(world.folder, "model")
    make_model(world, model)
    h = house.House(world, os.path.join(world.folder, "data"),
                    options=["--model", model, "--model-precision", options.precision, "--context-tokens-max",
                             str(LONG_CONTEXT), "--model-threads", str(os.cpu_count()), "--state-cache-bytes", "0",
                             "--quota-tokens-per-minute", "0"])
    h.init()
    h.start()
    try:
        measure(h, world, model, options, row)
    finally:
        h.stop()
    print()
    for (name, unit), values in medians.items():
        print(f"median   {name:50s} {statistics.median(values):10.2f} {unit}")
    share = statistics.median(medians["16 askers, of the engine", ""])
    ratio = statistics.median(medians["p99 of the median", ""])
    print(f"{'ok' if share >= SHARE_LEAST else 'MISSED'}: 16 askers get {share:.1%} of the engine's; at least {SHARE_LEAST:.0%}")
    print(f"{'ok' if ratio <= HELD_UP_MOST else 'MISSED'}: p99 is {ratio:.2f} times the median beside a prompt of 8,192 "
          f"tokens; at most {HELD_UP_MOST:g}")
    if options.csv:
        with open(options.csv, "w", newline="", encoding="utf-8") as f:
            csv.writer(f).writerows([("round", "measure", "value", "unit"), *rows])
    return share < SHARE_LEAST or ratio > HELD_UP_MOST


if __name__ == "__main__":
    sys.exit(main())
