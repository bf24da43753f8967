#!/usr/bin/python3
"""Bad input of every kind: each gets a clear error with the right status or exit code, the server goes on,
and what was acknowledged before is still there. Prints TAP.

usage: tests/e2e/bad_input.py BUILD [--only WORD]...
"""
import sys

import house
import bad_files  # noqa: F401  (each module registers its checks)
import bad_requests  # noqa: F401


def main():
    arguments = sys.argv[1:]
    if not arguments or len(arguments) % 2 == 0 or set(arguments[1::2]) - {"--only"}:
        sys.exit(__doc__.strip())
    return house.run_checks(house.World(arguments[0]), arguments[2::2])


if __name__ == "__main__":
    sys.exit(main())
