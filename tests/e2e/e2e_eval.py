"""lethe_eval.py on a handful of made-up passages, where what must come out is known."""
import csv
import gzip
import json
import os
import subprocess
import sys

from house import ROOT, check, expect, expect_equal

sys.path.insert(0, os.path.join(ROOT, "tests", "bench"))
import lethe_eval  # noqa: E402

NAMES = ("Maren", "Jorn", "Edda", "Tilo", "Runa", "Sven", "Asta", "Odo")


def rows():
    for n, name in enumerate(NAMES):
        row = {"title": f"article {n // 4}", "context_id": f"p{n}", "answers": [name], "answerable": True,
               "context": f"The keeper of lighthouse number {n} is {name}.",
               "question": f"Who is the keeper of lighthouse number {n}?"}
        yield row
        yield {**row, "answers": [], "answerable": False, "question": "zyx wvu?"}


def figures(scene, *arguments):
    """{(reads, repeats, figure): value} of a run."""
    out = scene.path("out.csv")
    subprocess.run([sys.executable, os.path.join(ROOT, "tests", "bench", "lethe_eval.py"), scene.world.build,
                    scene.folder, "--csv", out, *arguments], check=True, stdout=subprocess.DEVNULL)
    with open(out, newline="", encoding="utf-8") as f:
        return {(r["reads"], r["repeats"], r["figure"]): float(r["value"]) for r in csv.DictReader(f)}


@check("eval")
def evaluation(scene):
    """Its scores of texts and ranks; the extractive reader's and a random generator's figures."""
    expect_equal(lethe_eval.text_scores("The  Ferry, of 1871", ["a ferry of 1871", "1871"]),
                 {"exact": 1, "f1": 1, "contains": 1}, "normalised alike")
    expect_equal(lethe_eval.text_scores("in March 1871", ["1871"]), {"exact": 0, "f1": 0.5, "contains": 1}, "one of three")
    expect_equal(lethe_eval.rank_scores(["b", "a"], "a"), {"recall@1": 0, "recall@5": 1, "recall@10": 1,
                                                         "nDCG@10": 1 / lethe_eval.math.log2(3)}, "second")
    expect_equal(lethe_eval.graded_scores(["x", "a"], {"a": 2, "b": 1})["recall@10"], 0.5, "one of two")
    with gzip.open(scene.path("qa-dev.jsonl.gz"), "wt", encoding="utf-8") as f:
        f.writelines(json.dumps(row) + "\n" for row in rows())
    got = figures(scene)
    for read in ("gold", "own", "everybody"):
        expect_equal([got[read, "-", n] for n in ("contains", "recall@5", "refused", "none")], [100, 100, 0, 100],
                     f"extractive, {read}")
    expect_equal([got["nothing", "-", n] for n in ("exact", "f1", "recall@10", "refused")], [0, 0, 0, 100], "no passage")
    got = figures(scene, "--model", scene.model(d_model=32, layers=2), "--reads", "own,nothing", "--orders",
                  "question-first", "--not-found-percent", "0")
    for repeats in "12":
        expect_equal([got["own", repeats, n] for n in ("refused", "none", "recall@5")], [0, 0, 100], "generator")
        expect(got["own", repeats, "log p"] < 0 and got["nothing", repeats, "log p"] < 0, "log p")
    expect(got["own", "1", "log p"] != got["own", "2", "log p"], "a second reading makes a difference")
