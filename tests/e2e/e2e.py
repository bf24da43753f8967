#!/usr/bin/python3
"""The whole path end to end, over TLS, against the programs as built: a server of its own for each check.
Prints TAP.

usage: tests/e2e/e2e.py BUILD [--exact] [--only WORD]... [--list]

A check is chosen when its name contains one of the words (with --exact: is one of them). --list prints
each check and the mutants that must make it fail (tests/e2e/mutants.py).
"""
import sys

import house
import e2e_isolation  # noqa: F401  (each module registers its checks)
import e2e_answers  # noqa: F401
import e2e_durable  # noqa: F401
import e2e_forget  # noqa: F401
import e2e_cli  # noqa: F401
import e2e_log  # noqa: F401
import e2e_subject  # noqa: F401
import e2e_backup  # noqa: F401
import e2e_audit  # noqa: F401
import e2e_tombstones  # noqa: F401
import e2e_keeper  # noqa: F401
import e2e_grounded  # noqa: F401
import e2e_eval  # noqa: F401


def main():
    arguments = sys.argv[1:]
    if len(arguments) < 1 or arguments[0].startswith("-"):
        sys.exit(__doc__.strip())
    build, words, exact, rest = arguments[0], [], False, arguments[1:]
    while rest:
        if rest[0] == "--list":
            for c in house.CHECKS:
                print(c.name, " ".join(c.mutants))
            return 0
        if rest[0] == "--exact":
            exact, rest = True, rest[1:]
            continue
        if rest[0] != "--only" or len(rest) < 2:
            sys.exit(__doc__.strip())
        words.append(rest[1])
        rest = rest[2:]
    return house.run_checks(house.World(build), words, exact)


if __name__ == "__main__":
    sys.exit(main())
