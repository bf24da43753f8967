#!/usr/bin/python3
"""The two-run fuzzer must see each of these broken variants, and nothing without. Prints TAP.

usage: tests/flow/mutants.py BUILD      (a build with LETHE_MUTANTS=ON)
"""
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
# name: arguments besides a seed. The first difference ends a run.
MUTANTS = {
    "filter_after_search": ("--load", "0", "--generator", "0"),
    "statistics_shared": ("--load", "0", "--generator", "0"),
    "ids_from_counter": ("--load", "0", "--generator", "0"),
    "denied_told": ("--load", "0", "--generator", "0"),
    "receipt_shows_global_epoch": ("--load", "0", "--generator", "0"),
    "quota_shared": ("--load", "1", "--generator", "0"),
}
COUNT = "80"


def run(build, name, more):
    env = dict(os.environ, LETHE_MUTANT=name)
    if not name:
        del env["LETHE_MUTANT"]
    done = subprocess.run(["/usr/bin/python3", os.path.join(HERE, "two_runs.py"), build, "--count", COUNT, *more],
                          env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600)
    return done.returncode, done.stdout.decode(errors="replace")


def main():
    build, number = sys.argv[1], 0
    work = [("", ("--load", "1", "--generator", "1"))] + list(MUTANTS.items())
    for name, more in work:
        code, output = run(build, name, more)
        differs = code != 0 and "# pair" in output and "not ok 1 - " in output
        good = differs if name else code == 0
        number += 1
        print(f"{'ok' if good else 'not ok'} {number} - "
              f"{'two runs differ under ' + name if name else 'no difference without a mutant'}", flush=True)
        if not good:
            print("#   " + output[-3000:].rstrip().replace("\n", "\n#   "))
    print(f"1..{number}")


if __name__ == "__main__":
    main()
