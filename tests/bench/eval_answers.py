#!/usr/bin/python3
"""What answers are worth, over the whole path: passages of a QA file put as one user's documents, its
questions asked through gRPC.

usage: tests/bench/eval_answers.py BUILD QA.jsonl[.gz] [--questions N] [--model DIR]

The file has a line a question: context_id, context, question, answers. Prints how often the document
cited is the question's own, and how often the answer contains an expected one.
"""
import argparse
import gzip
import json
import os
import random
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))
import house  # noqa: E402


def normal(text):
    words = "".join(c.lower() if c.isalnum() else " " for c in text).split()
    return " " + " ".join(w for w in words if w not in ("a", "an", "the")) + " "


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("qa")
    parser.add_argument("--questions", type=int, default=1000)
    parser.add_argument("--model")
    options = parser.parse_args()
    opener = gzip.open if options.qa.endswith(".gz") else open
    with opener(options.qa, "rt", encoding="utf-8") as f:
        rows = [r for r in map(json.loads, f) if r["answers"]]
    contexts = {r["context_id"]: r["context"] for r in rows}
    random.Random(1).shuffle(rows)
    rows = rows[:options.questions]
    world = house.World(options.build)
    h = house.House(world, os.path.join(world.folder, "data"),
                    options=["--model", options.model] if options.model else [])
    h.init()
    h.start()
    try:
        admin = h.client(h.admin_token)
        admin.user("ada")
        ada = h.client(admin.issue("ada").token)
        items = list(contexts.items())
        for at in range(0, len(items), 500):
            ada.put(*[{"path": p, "content": c, "media_type": "text/plain"}
                      for p, c in items[at:at + 500]])
        found = right = contained = length = 0
        for r in rows:
            passages, _, final = ada.ask(r["question"])
            found += any(p.path == r["context_id"] for p in passages)
            right += any(c.path == r["context_id"] for c in final.citations)
            contained += any(normal(a) in normal(final.answer) for a in r["answers"])
            length += len(final.answer)
    finally:
        h.stop()
    n = len(rows)
    print(f"{len(contexts)} documents, {n} questions\n"
          f"own document among the passages read  {found / n:.3f}\n"
          f"own document cited                    {right / n:.3f}\n"
          f"an expected answer in the answer      {contained / n:.3f}\n"
          f"mean length of an answer, characters  {length / n:.0f}")


if __name__ == "__main__":
    main()
