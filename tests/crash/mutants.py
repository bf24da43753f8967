#!/usr/bin/python3
"""The crash matrix must see each of these broken variants at the operation named, and nothing there without; the thief
must read under those of theirs. Prints TAP.

usage: tests/crash/mutants.py BUILD      (a build with LETHE_MUTANTS=ON)
"""
import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
# name: the case (see matrix.py), images, a pattern of what it must complain of.
MATRIX = {
    "ack_before_commit": ("put_and_erase:create@intents#2", 0, "which was acknowledged, is lost"),
    "head_unsynced": ("put_and_erase:unlink@keytree/head", 8, "does not start"),
    "root_destroyed_early": ("put_and_erase:unlink@root+2", 1, "does not start"),
    "intent_dropped_early": ("put_and_erase:unlink@intents+2", 0, "no erasure of it is on record"),
    "store_torn": ("replace_and_share:create@stores#4+2", 8, "is lost|DATA_LOSS|does not start"),
}
# name: (script, its arguments, what it must complain of)
OTHERS = {
    "erase_keeps_root": ("adversary.py", ["document"], "values of the erased open"),
    "free_unwiped": ("residue.py", ["--only", "files, log"], "left behind: .*text"),
    "tls_buffers_kept": ("residue.py", ["--only", "files, log"], "left behind: .*text"),
    "stack_unwiped": ("residue.py", ["--only", "files, log"], "left behind: .*key"),
}


def script(build, name, file, *arguments):
    env = dict(os.environ)
    env.pop("LETHE_MUTANT", None)
    if name:
        env["LETHE_MUTANT"] = name
    done = subprocess.run(["/usr/bin/python3", os.path.join(HERE, file), build, *arguments],
                          env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600)
    return done.returncode, done.stdout.decode(errors="replace")


def matrix(build, name, case, images):
    return script(build, name, "matrix.py", "--case", case, "--images", str(images), "--double", "0")


def main():
    build, number = sys.argv[1], 0

    def report(good, words, output):
        nonlocal number
        number += 1
        print(f"{'ok' if good else 'not ok'} {number} - {words}", flush=True)
        if not good:
            print("#   " + output[-3000:].rstrip().replace("\n", "\n#   "))

    for name, (case, images, pattern) in MATRIX.items():
        code, output = matrix(build, name, case, images)
        report(code != 0 and re.search(r"--case \S.*: .*(" + pattern + ")", output) is not None,
               f"the crash matrix catches {name}", output)
        code, output = matrix(build, "", case, images)
        report(code == 0, f"nothing at {case} without {name}", output)
    for name, (file, arguments, pattern) in OTHERS.items():
        code, output = script(build, name, file, *arguments)
        report(code != 0 and re.search(r"# wrong: .*(" + pattern + ")", output) is not None,
               f"{file} catches {name}", output)
    print(f"1..{number}")


if __name__ == "__main__":
    main()
