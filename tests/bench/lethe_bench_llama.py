#!/usr/bin/python3
"""Lethe's generator beside llama.cpp: prefill of one prompt and decoding of one sequence, tokens a second.

usage: tests/bench/lethe_bench_llama.py --llama-bench PATH --gguf-dir DIR --model MODEL_DIR --lethe-bench PATH
           [--precision f32,bf16,q8,q4] [--threads N] [--prefill 2048] [--steps 64] [--repeat 5] [--csv FILE]

Both programs run in turn, round by round and each first in every other one, so that what else the machine does slows
both; medians are compared, and the best rounds, since a machine that is not left alone slows them unequally (threads
that wait for one another by spinning, as OpenMP's do, lose far more). Each run is a process of its own with a warm-up.
DIR holds the same shape as MODEL_DIR in files whose names contain f32, bf16, f16, q8_0 or q4_0 and end in .gguf;
Lethe's bf16 is set beside both bf16 and f16, whichever there are. Values of weights do not matter to the speed.
"""
import argparse
import csv
import glob
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile

PEERS = {"f32": ["f32"], "bf16": ["bf16", "f16"], "q8": ["q8_0"], "q4": ["q4_0"]}
PREFILL, DECODE = "prefill", "decode"


def run_lethe(args, precision):
    """({what: tokens a second}, the precision held); ({}, None) where the engine does not have it."""
    with tempfile.NamedTemporaryFile(suffix=".csv") as out:
        command = [args.lethe_bench, "model", args.model, "--precision", precision, "--threads", str(args.threads),
                   "--prefill", str(args.prefill), "--batch", "1", "--steps", str(args.steps), "--repeat", "1",
                   "--csv", out.name]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with open(out.name, encoding="utf-8", newline="") as f:
            rows = list(csv.DictReader(f))
    values = {r["what"]: float(r["median"]) for r in rows if r["what"] in (PREFILL, DECODE)}
    return values, rows[0]["precision"] if rows else None


def run_llama(args, path):
    command = [args.llama_bench, "-m", path, "-p", str(args.prefill), "-n", str(args.steps), "-t", str(args.threads),
               "-r", "1", "-o", "json"]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    return {PREFILL if r["n_prompt"] > 0 else DECODE: float(r["avg_ts"]) for r in json.loads(out)}


def peers_of(folder, precision):
    """{type: path} of the files to set beside a precision."""
    found = {}
    for path in sorted(glob.glob(os.path.join(folder, "*.gguf"))):
        for kind in PEERS[precision]:
            if re.search(rf"(?<![a-z0-9]){kind}(?![a-z0-9_])", os.path.basename(path).lower()):
                found[kind] = path
    return found


def measure(args, precision, peers):
    """{"lethe" or a peer's type: {what: [a value a round]}}, the precision held; None where it is not there."""
    seen, held = {}, None
    for number in range(args.repeat):
        for name in (["lethe", *peers] if number % 2 == 0 else [*peers, "lethe"]):
            if name == "lethe":
                values, held = run_lethe(args, precision)
                if held is None:
                    return None, None
            else:
                values = run_llama(args, peers[name])
            for what, value in values.items():
                seen.setdefault(name, {}).setdefault(what, []).append(value)
            print(f"{precision}, round {number + 1} of {args.repeat}, {name}: "
                  + ", ".join(f"{what} {value:.1f}" for what, value in values.items()), file=sys.stderr)
    return seen, held


def rows_of(seen, precision, held, peers):
    for what in (PREFILL, DECODE):
        for kind in peers:
            ours, theirs = seen["lethe"][what], seen[kind][what]
            a, b = statistics.median(ours), statistics.median(theirs)
            yield {"what": what, "precision": precision, "held": held, "lethe": a, "lethe_least": min(ours),
                   "lethe_most": max(ours), "peer": kind, "llama": b, "llama_least": min(theirs),
                   "llama_most": max(theirs), "ratio": a / b, "ratio_of_best": max(ours) / max(theirs)}


def print_table(args, rows):
    print(f"tokens a second, threads: {args.threads}, medians of {args.repeat} rounds [least-most]; prefill of "
          f"{args.prefill}, decoding {args.steps}")
    print(f"{'':8} {'Lethe':18} {'':20} {'llama.cpp':30} ratio  of best")
    for r in rows:
        held = r["precision"] if r["held"] == r["precision"] else f"{r['precision']} (holds {r['held']})"
        print(f"{r['what']:8} {held:18} {r['lethe']:7.1f} [{r['lethe_least']:.0f}-{r['lethe_most']:.0f}]".ljust(47)
              + f" {r['peer']:5} {r['llama']:7.1f} [{r['llama_least']:.0f}-{r['llama_most']:.0f}]".ljust(32)
              + f" {r['ratio']:5.2f}    {r['ratio_of_best']:5.2f}")


def write_csv(path, rows):
    with open(path, "w", encoding="utf-8", newline="") as f:
        out = csv.DictWriter(f, list(rows[0]), lineterminator="\n")
        out.writeheader()
        out.writerows({k: f"{v:.3f}" if isinstance(v, float) else v for k, v in r.items()} for r in rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("--llama-bench", "--gguf-dir", "--model", "--lethe-bench"):
        parser.add_argument(name, required=True)
    parser.add_argument("--precision", default="f32,bf16,q8,q4")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--prefill", type=int, default=2048)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--csv")
    args = parser.parse_args()
    rows = []
    for precision in args.precision.split(","):
        if precision not in PEERS:
            parser.error(f"no precision {precision}")
        peers = peers_of(args.gguf_dir, precision)
        if not peers:
            print(f"{precision}: skipped: no such file in {args.gguf_dir}")
            continue
        seen, held = measure(args, precision, peers)
        if seen is None:
            print(f"{precision}: skipped: the engine does not have it")
            continue
        rows += rows_of(seen, precision, held, peers)
    if not rows:
        sys.exit("nothing to compare")
    print_table(args, sorted(rows, key=lambda r: r["what"] == DECODE))
    if args.csv:
        write_csv(args.csv, rows)


if __name__ == "__main__":
    main()
