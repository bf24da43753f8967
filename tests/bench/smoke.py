#!/usr/bin/python3
"""lethe-bench and lethe-quantize on a tiny model: they run, and what they print can be true. No figure is judged.

usage: tests/bench/smoke.py BUILD
"""
import csv
import os
import subprocess
import sys
import tempfile

count = failed = 0


def report(good, what, output=""):
    global count, failed
    count += 1
    failed += not good
    print(f"{'ok' if good else 'not ok'} {count} - {what}")
    if not good:
        print("\n".join("# " + line for line in output.splitlines()[-20:]))


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def perplexities(done):
    """{precision: perplexity} of a table."""
    lines = done.stdout.splitlines()[1:]
    return {words[0]: float(words[3]) for words in map(str.split, lines)}


def main():
    build = os.path.abspath(sys.argv[1])
    bench, quantize = f"{build}/bin/lethe-bench", f"{build}/bin/lethe-quantize"
    with tempfile.TemporaryDirectory() as folder:
        model, table = f"{folder}/model", f"{folder}/table.csv"
        text = os.path.join(os.path.dirname(os.path.abspath(__file__)), "smoke.py")
        subprocess.run([f"{build}/tests/make_random_model", model, "5", "64", "2", "400"], check=True)
        done = run(bench, "model", model, "--quick", "--precision", "all", "--prefill", "40", "--batch", "1,3",
                   "--threads", "2", "--csv", table)
        report(done.returncode == 0, "a table for every precision", done.stderr)
        with open(table, newline="") as f:
            rows = list(csv.DictReader(f))
        report({row["precision"] for row in rows} == {"f32", "bf16", "q8", "q4"} and
               all(float(row["median"]) > 0 and float(row["least"]) <= float(row["median"]) <= float(row["most"])
                   for row in rows), "its figures are positive and in order", str(rows))
        done = run(bench, "perplexity", model, text, "--window", "50", "--tokens", "400")
        values = perplexities(done)
        report(done.returncode == 0 and list(values) == ["f32", "bf16", "q8", "q4"] and
               all(abs(v / values["f32"] - 1) < 0.1 for v in values.values()), "perplexities near float32's",
               done.stdout + done.stderr)
        one = perplexities(run(bench, "perplexity", model, text, "--window", "50", "--tokens", "400", "--precision", "q8",
                               "--threads", "2"))
        run(quantize, model, f"{folder}/q8", "q8")
        again = perplexities(run(bench, "perplexity", f"{folder}/q8", text, "--window", "50", "--tokens", "400",
                                 "--precision", "stored"))
        report(one == again == {"q8": values["q8"]}, "a quantised folder's is that of quantising on opening",
               f"{one} {again} {values}")
        examples = os.path.join(os.path.dirname(text), "..", "..", "examples", "library")
        files = [os.path.join(where, n) for where, _, names in os.walk(examples) for n in names if n.endswith(".md")]
        done = run(bench, "constraint", *files, "--vocabulary", "4096", "--rounds", "5")
        costs = [line.split()[-3:] for line in done.stdout.splitlines() if line.startswith(("first token", "dearest"))]
        report(done.returncode == 0 and len(costs) == 2 and
               all(0 < float(median) <= float(most) and float(let) > 0 for median, most, let in costs), "what the constraint costs", done.stdout + done.stderr)
        for arguments in (["model"], ["constraint"], ["perplexity", model], ["perplexity", model, text, "--window", "1"], ["nothing"]):
            done = run(bench, *arguments)
            report(done.returncode == 2 and "usage" in done.stderr, f"usage: {' '.join(arguments[:1])}", done.stderr)
        for command in (["perplexity", f"{folder}/none", text], ["constraint", f"{folder}/none"]):
            done = run(bench, *command)
            report(done.returncode == 1 and done.stderr != "", f"{command[0]} of nothing: a message", done.stderr)
    print(f"1..{count}")
    return failed > 0


sys.exit(main())
