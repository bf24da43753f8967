#!/usr/bin/python3
"""Each end-to-end assertion must be able to fail: under every mutant that a check names, that check must
find Lethe wrong, in the words it names, and without a mutant the same checks must pass.

usage: tests/e2e/mutants.py BUILD [MUTANT]...      (BUILD made with -DLETHE_MUTANTS=ON)

A check that fails for another reason (no server, a crash) does not count as one that caught the mutant.
"""
import concurrent.futures
import os
import re
import subprocess
import sys

import house
import e2e  # noqa: F401  (registers the checks)

JOBS = 2


def run(build, names, mutant):
    """(TAP output, exit code) of these checks under the mutant; "" is none."""
    env = {k: v for k, v in os.environ.items() if k != "LETHE_MUTANT"}
    if mutant:
        env["LETHE_MUTANT"] = mutant
    command = [os.path.join(os.path.dirname(os.path.abspath(__file__)), "e2e.py"), build, "--exact"]
    for name in names:
        command += ["--only", name]
    try:
        done = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=300)
        return done.stdout.decode(errors="replace"), done.returncode
    except subprocess.TimeoutExpired as e:
        return (e.stdout or b"").decode(errors="replace") + "\ntimed out", 124


def caught(build, name, mutant, words):
    """None when the check found the mutant out; else what happened."""
    output, _ = run(build, [name], mutant)
    wrong = re.search(r"^# wrong: (.*)", output, re.M | re.S)
    if wrong is None:
        return "not caught:\n" + output
    return None if re.search(words, wrong.group(1)) else "caught in other words:\n" + output


def is_mutant_build(build):
    with open(os.path.join(build, "bin", "lethed"), "rb") as f:
        return b"mutant_build" in f.read()


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__.strip())
    build, chosen = sys.argv[1], sys.argv[2:]
    if not is_mutant_build(build):
        sys.exit("this build has no mutants: configure with -DLETHE_MUTANTS=ON")
    work = [(c.name, m, words) for c in house.CHECKS for m, words in c.mutants.items()
            if not chosen or m in chosen]
    names = sorted({name for name, _, _ in work})
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        sound = pool.submit(run, build, names, "")
        results = [(name, m, pool.submit(caught, build, name, m, words)) for name, m, words in work]
        for number, (name, mutant, future) in enumerate(results, 1):
            trouble = future.result()
            failed += trouble is not None
            print(f"{'ok' if trouble is None else 'not ok'} {number} - {mutant} fails {name}")
            if trouble:
                print("#   " + trouble.rstrip().replace("\n", "\n#   "))
            sys.stdout.flush()
        output, code = sound.result()
        failed += code != 0
        print(f"{'ok' if code == 0 else 'not ok'} {len(results) + 1} - without a mutant they pass")
        if code:
            print("#   " + output.rstrip().replace("\n", "\n#   "))
    print(f"1..{len(results) + 1}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
