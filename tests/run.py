#!/usr/bin/python3
"""Runs the tests of one or more build folders and end-to-end scripts; each prints TAP.

usage: tests/run.py [--jobs N] [--filter WORD] BUILD... [-- SCRIPT ARG... [-- SCRIPT ARG...]]

A build's tests are those that ctest knows. Prints a line a program, the output of those that failed,
and the sum as the last line: "N passed, M failed".
"""
import concurrent.futures
import json
import os
import re
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def ctest_list(build):
    """(name, command, environment) of every test of a build folder."""
    out = subprocess.run(["ctest", "--test-dir", build, "--show-only=json-v1"], check=True,
                         capture_output=True, text=True).stdout
    for test in json.loads(out)["tests"]:
        environment = {}
        for prop in test.get("properties", []):
            if prop["name"] == "ENVIRONMENT":
                environment.update(entry.split("=", 1) for entry in prop["value"])
        yield f"{os.path.basename(build)}/{test['name']}", test["command"], environment


def run_one(name, command, environment):
    """Returns (name, passed, failed, seconds, output). A crash or a short plan counts as a failure."""
    env = dict(os.environ, **environment)
    env.setdefault("ASAN_OPTIONS", "detect_leaks=1:abort_on_error=0")
    env.setdefault("LSAN_OPTIONS", "print_suppressions=0")
    env.setdefault("LETHE_SOURCE", ROOT)
    start = time.monotonic()
    try:
        done = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=900, cwd=ROOT)
        output, code = done.stdout.decode(errors="replace"), done.returncode
    except subprocess.TimeoutExpired as e:
        output, code = (e.stdout or b"").decode(errors="replace") + "\ntimed out", 124
    passed = len(re.findall(r"^ok\b", output, re.M))
    failed = len(re.findall(r"^not ok\b", output, re.M))
    plan = re.search(r"^1\.\.(\d+)\s*(?:# SKIP\b.*)?$", output, re.M)
    if plan is None or int(plan.group(1)) != passed + failed or (code != 0 and failed == 0):
        failed += 1
    return name, passed, failed, time.monotonic() - start, output


def main():
    arguments = sys.argv[1:]
    jobs, word = os.cpu_count() or 1, ""
    while arguments and arguments[0] in ("--jobs", "--filter"):
        if arguments[0] == "--jobs":
            jobs = int(arguments[1])
        else:
            word = arguments[1]
        arguments = arguments[2:]
    groups = [[]]
    for a in arguments:
        if a == "--":
            groups.append([])
        else:
            groups[-1].append(a)
    work = [t for build in groups[0] for t in ctest_list(build)]
    work += [(" ".join(os.path.basename(p) for p in g), g, {}) for g in groups[1:] if g]
    work = [t for t in work if word in t[0]]
    passed = failed = 0
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(run_one, *t) for t in work]
        for future in concurrent.futures.as_completed(futures):
            name, p, f, seconds, output = future.result()
            passed, failed = passed + p, failed + f
            print(f"{'ok  ' if f == 0 else 'FAIL'} {name}: {p} passed, {f} failed ({seconds:.1f} s)",
                  flush=True)
            if f:
                lines = output.splitlines()
                print("\n".join("    " + line for line in lines[-60:]), flush=True)
    if not work:
        failed += 1
        print("no tests found")
    print(f"{passed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
