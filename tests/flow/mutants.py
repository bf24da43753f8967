#!/usr/bin/python3
"""Non-interference and exact deletion: the scripts must see each of these broken variants, and nothing without.
Prints TAP.

usage: tests/flow/mutants.py BUILD      (a build with LETHE_MUTANTS=ON)
"""
import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
SERIAL = ("two_runs.py", "--count", "80", "--load", "0", "--generator", "0")
DELETION = ("exact_deletion.py", "--cases", "2", "--count", "2")
# name ("": none): the script and its arguments, and what a failure's lines must match.
RUNS = [
    ("", ("two_runs.py", "--count", "40", "--load", "1", "--generator", "1"), ""),
    ("filter_after_search", SERIAL, "# pair .* differs"),
    ("statistics_shared", SERIAL, "# pair .* differs"),
    ("ids_from_counter", SERIAL, "# pair .* differs"),
    ("denied_told", SERIAL, "# pair .* differs"),
    ("receipt_shows_global_epoch", SERIAL, "# pair .* differs"),
    ("quota_shared", ("two_runs.py", "--count", "80", "--load", "1", "--generator", "0"), "# pair .* differs"),
    ("", DELETION, ""),
    ("erase_keeps_index", DELETION, "not ok"),
]


def run(build, name, script, more):
    env = dict(os.environ, LETHE_MUTANT=name)
    if not name:
        del env["LETHE_MUTANT"]
    done = subprocess.run(["/usr/bin/python3", os.path.join(HERE, script), build, *more],
                          env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600)
    return done.returncode, done.stdout.decode(errors="replace")


def main():
    build, number = sys.argv[1], 0
    for name, (script, *more), words in RUNS:
        code, output = run(build, name, script, more)
        good = (code != 0 and "not ok" in output and re.search(words, output)) if name else code == 0
        number += 1
        print(f"{'ok' if good else 'not ok'} {number} - {script} {'sees ' + name if name else 'passes without a mutant'}",
              flush=True)
        if not good:
            print("#   " + output[-3000:].rstrip().replace("\n", "\n#   "))
    print(f"1..{number}")


if __name__ == "__main__":
    main()
