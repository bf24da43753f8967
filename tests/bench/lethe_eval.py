#!/usr/bin/python3
"""lethe-eval: what answers and searches are worth, over the whole path: documents put and questions asked through
gRPC and TLS, of a server that it starts.

usage: tests/bench/lethe_eval.py BUILD DATA [--model DIR] [--questions N] [--reads LIST] [--passages LIST]
           [--repeats LIST] [--orders LIST] [--not-found-percent N] [--cranfield] [--csv FILE] [--seed N]

DATA has qa-dev.jsonl.gz (a line a question: title, context_id, context, question, answers, answerable) and cranfield/
(docs.jsonl, queries.jsonl, qrels.tsv). Without --model the extractive reader answers; passages read twice and the
prompt's order then change nothing, and are not tried.

What a question's asker may read (--reads):
    gold       its own passage alone
    own        the passages of its article, which one user has (about 40)
    everybody  all passages of the file, in one store: no rights, the ceiling that isolation is measured against
    nothing    no passage: what the weights know. Lethe then answers "not found"; with a generator, the expected
               answer's likelihood tells (log p)

Of answerable questions: exact match and F1 (SQuAD's normalisation, best of the expected answers), contains (an expected
answer in the answer, normalised), recall@1, @5, @10 of the passage and nDCG@10 (its documents in the search's order).
none: the share of unanswerable questions that get "not found"; refused: the same of answerable ones. All in percent.
log p: of the expected answer, a token (natural logarithm). first, whole: milliseconds to the first piece of the answer's
text and to its end, medians. Behind each figure the 95 % interval, by 1,000 bootstrap samples of the questions.

A model that marks its answers reads the question first in any case, and has no log p if it does not write as well.

A generator's answers are asked for with not_found_percent = 0, and its rule (server/grounded.h) is applied here, so that
one run shows other settings too.
"""
import argparse
import collections
import csv
import gzip
import json
import math
import os
import random
import re
import statistics
import string
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))
import house  # noqa: E402

READS = ("gold", "own", "everybody", "nothing")
ORDERS = {"passages-first": 1, "question-first": 2}
SAMPLES, BATCH = 1000, 200
PERCENTS = (1, 10, 25, 50, 100, 200, 400, 1000, 10000)


# ---- scores of one answer -------------------------------------------------------------------------------------
def normal(text):
    """SQuAD's: lower case, no punctuation, no articles, single spaces."""
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def f1_of(got, wanted):
    a, b = normal(got).split(), normal(wanted).split()
    same = sum((collections.Counter(a) & collections.Counter(b)).values())
    if not a or not b or not same:
        return float(a == b)
    return 2 * same / (len(a) + len(b))


def text_scores(got, answers):
    whole = f" {normal(got)} "
    return {"exact": max(float(normal(got) == normal(a)) for a in answers),
            "f1": max(f1_of(got, a) for a in answers),
            "contains": max(float(f" {normal(a)} " in whole) for a in answers)}


def rank_scores(ranked, gold):
    """ranked: different documents, best first."""
    rank = ranked.index(gold) if gold in ranked else math.inf
    return {"recall@1": float(rank < 1), "recall@5": float(rank < 5), "recall@10": float(rank < 10),
            "nDCG@10": 1 / math.log2(rank + 2) if rank < 10 else 0.0}


def graded_scores(ranked, grades):
    """Linear gain; grades: {document: grade of 1 or more}."""
    gain = sum(grades.get(d, 0) / math.log2(i + 2) for i, d in enumerate(ranked[:10]))
    best = sum(g / math.log2(i + 2) for i, g in enumerate(sorted(grades.values(), reverse=True)[:10]))
    return {"nDCG@10": gain / best if best else 0.0,
            "recall@10": sum(d in grades for d in ranked[:10]) / len(grades) if grades else 0.0}


def interval(values, mean, seed=1):
    """(the mean, or median, and its 95 % interval by resampling)."""
    r = random.Random(seed)
    drawn = sorted(mean(r.choices(values, k=len(values))) for _ in range(SAMPLES))
    return mean(values), drawn[int(SAMPLES * 0.025)], drawn[int(SAMPLES * 0.975) - 1]


def average(values):
    return sum(values) / len(values)


# ---- the server and what is in it --------------------------------------------------------------------------------
def distinct(values):
    return list(dict.fromkeys(values))


class Scene:
    """A server with users; documents are put under their passage's name."""

    def __init__(self, build, options):
        world = house.World(build)
        self.house = house.House(world, os.path.join(world.folder, "data"), options=options)
        self.house.init()
        self.house.start()
        self.pb = world.pb
        self.admin = self.house.client(self.house.admin_token)
        self.channel = self.house.client(None)
        self.tokens = {}

    def user(self, name, documents):
        """documents: {path: text}"""
        if name in self.tokens:
            return
        self.admin.user(name)
        self.tokens[name] = (("authorization", "Bearer " + self.admin.issue(name).token),)
        client = self.house.client(self.tokens[name][0][1].split()[1])
        items = list(documents.items())
        for at in range(0, len(items), BATCH):
            put = client.put(*({"path": p, "content": t, "media_type": "text/plain"} for p, t in items[at:at + BATCH]))
            for failure in put.failed:
                print(f"{failure.path} is left out: {failure.reason}", file=sys.stderr)
        client.close()
        self.house.clients.remove(client)

    def search(self, name, query, mode=0):
        request = self.pb.SearchRequest(query=query, k=60, mode=mode)
        response = self.channel.answers.Search(request, timeout=house.CALL_S, metadata=self.tokens[name])
        return distinct(h.path for h in response.hits)

    def ask(self, name, question, **more):
        """(final frame, milliseconds to the first text, to the end)"""
        start, first, final = time.perf_counter(), None, None
        for frame in self.channel.answers.Ask(self.pb.AskRequest(question=question, **more), timeout=house.CALL_S,
                                              metadata=self.tokens[name]):
            if first is None and frame.WhichOneof("frame") == "token":
                first = time.perf_counter()
            final = frame.final
        end = time.perf_counter()
        return final, ((first or end) - start) * 1e3, (end - start) * 1e3

    def log_p(self, name, question, answer, **more):
        """Of the expected answer, a token."""
        scores = self.channel.answers.Score(
            self.pb.ScoreRequest(question=question, continuation=" " + answer, closed_book=name == "nothing", **more),
            timeout=house.CALL_S, metadata=self.tokens[name])
        return average(scores.log_probs)


# ---- questions ---------------------------------------------------------------------------------------------------------
def read_questions(data):
    """(rows, {passage's name: text}): the same text under several ids is one passage, by its first."""
    with gzip.open(os.path.join(data, "qa-dev.jsonl.gz"), "rt", encoding="utf-8") as f:
        rows = [json.loads(line) for line in f]
    names, articles = {}, {}
    for row in rows:
        row["passage"] = names.setdefault(row["context"], row["context_id"])
        row["article"] = articles.setdefault(row["title"], f"article{len(articles)}")
    return rows, {name: text for text, name in names.items()}


def asker(scene, read, row, rows, passages):
    """The user who asks, with what that user may read."""
    if read == "gold":
        name, names = f"gold{list(passages).index(row['passage'])}", [row["passage"]]
    elif read == "own":
        name, names = row["article"], distinct(r["passage"] for r in rows if r["article"] == row["article"])
    else:
        name, names = read, list(passages) if read == "everybody" else []
    scene.user(name, {n: passages[n] for n in names})
    return name


def ask_one(scene, name, row, writes, percent, prompt):
    """One question's figures."""
    final, first, whole = scene.ask(name, row["question"], **prompt)
    margin = final.log_likelihood_none - final.log_likelihood if final.readings else -math.inf
    none = final.mode == "none" or percent > 0 and margin > -math.log(percent / 100)
    out = {"first": first, "whole": whole, "margin": math.inf if final.mode == "none" else margin}
    if not row["answerable"]:
        return {**out, "none": float(none)}
    out.update(text_scores("" if none else final.answer, row["answers"]), refused=float(none),
               given=text_scores(final.answer, row["answers"])["f1"], **rank_scores(scene.search(name, row["question"]),
                                                                                   row["passage"]))
    if writes:
        more = {k: v for k, v in prompt.items() if k in ("passages", "repeats", "order")}
        out["log p"] = scene.log_p(name, row["question"], row["answers"][0], **more)
    return out


def layout_of(folder):
    """config.json's "lethe": how a model that marks answers reads."""
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as f:
        return json.load(f).get("lethe") or {}


def settings_of(options):
    """Prompts to try, each a request's fields and words for the table."""
    out = []
    for count in options.passages:
        if not options.model:
            out.append(({"passages": count}, (count, "-", "-")))
            continue
        out += [({"passages": count, "repeats": n, "order": ORDERS[o]}, (count, n, o))
                for n in options.repeats for o in options.orders]
    return out


QUALITY = ("exact", "f1", "contains", "refused", "none", "recall@1", "recall@5", "recall@10", "nDCG@10")


def summary(figures, name):
    """(value, low, high) in the table's unit, or None."""
    values = [f[name] for f in figures if name in f]
    if not values:
        return None
    scale = 100 if name in QUALITY else 1
    return tuple(scale * v for v in interval(values, statistics.median if name in ("first", "whole") else average))


def show(name, value):
    if value is None:
        return "-"
    digits = 2 if name == "log p" else 1
    return f"{value[0]:.{digits}f} [{value[1]:.{digits}f}, {value[2]:.{digits}f}]"


def print_table(title, rows):
    """rows: [(words, {figure: (value, low, high)})]; one line a figure, one column a row."""
    names = distinct(n for _, f in rows for n in f)
    cells = [[title, *(w for w, _ in rows)]] + [[n, *(show(n, f.get(n)) for _, f in rows)] for n in names]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    for line in cells:
        print("  ".join(c.ljust(w) for c, w in zip(line, widths)).rstrip())
    print(flush=True)


def print_percents(figures):
    """What other settings of not_found_percent would give."""
    answerable = [f for f in figures if "given" in f]
    others = [f for f in figures if "none" in f]
    print("not_found_percent  F1 of answerable  not found of unanswerable")
    for percent in PERCENTS:
        least = -math.log(percent / 100)
        f1 = average([0.0 if f["margin"] > least else f["given"] for f in answerable]) if answerable else 0
        none = average([float(f["margin"] > least) for f in others]) if others else 0
        print(f"{percent:17d}  {100 * f1:16.1f}  {100 * none:25.1f}")
    print(flush=True)


def questions(scene, options, out):
    rows, passages = read_questions(options.data)
    asked = random.Random(options.seed).sample(rows, min(options.questions, len(rows)))
    print(f"{len(passages)} passages, {len(asked)} questions ({sum(r['answerable'] for r in asked)} answerable), "
          f"{'generator' if options.model else 'extractive reader'}\n", flush=True)
    for prompt, (count, repeats, order) in settings_of(options):
        table, figures = [], []
        for read in options.reads:
            figures = []
            for row in asked:
                name = asker(scene, read, row, rows, passages)
                figures.append(ask_one(scene, name, row, options.writes, options.not_found_percent, prompt))
            found = {n: summary(figures, n) for n in (*QUALITY, "log p", "first", "whole")}
            table.append((read, {n: v for n, v in found.items() if v}))
            out += [("qa-dev", read, count, repeats, order, n, len(asked), *v) for n, v in table[-1][1].items()]
            if options.model and read != "nothing":
                print(f"{read}:")
                print_percents(figures)
        print_table(f"passages {count}, repeats {repeats}, {order}", table)


def cranfield(scene, options, out):
    def lines(name):
        with open(os.path.join(options.data, "cranfield", name), encoding="utf-8") as f:
            return f.read().splitlines()
    documents = {d["id"]: f"{d['title']}\n\n{d['text']}\n" for d in map(json.loads, lines("docs.jsonl"))}
    grades = collections.defaultdict(dict)
    for line in lines("qrels.tsv"):
        query, document, grade = line.split("\t")
        if float(grade) >= 1:
            grades[query][document] = float(grade)
    scene.user("cranfield", documents)
    queries = [json.loads(line) for line in lines("queries.jsonl")]
    table = []
    for mode, name in ((2, "lexical"), (1, "dense"), (0, "hybrid")):
        figures = [graded_scores(scene.search("cranfield", q["text"], mode), grades[q["id"]]) for q in queries]
        table.append((name, {n: summary(figures, n) for n in ("nDCG@10", "recall@10")}))
        out += [("cranfield", name, "-", "-", "-", n, len(queries), *v) for n, v in table[-1][1].items()]
    print_table(f"Cranfield, {len(queries)} queries", table)


def listed(kind, allowed=None):
    def parse(text):
        values = [kind(v) for v in text.split(",")]
        if allowed and not set(values) <= set(allowed):
            raise argparse.ArgumentTypeError(f"of {', '.join(map(str, allowed))}")
        return values
    return parse


def arguments():
    parser = argparse.ArgumentParser(description="What answers and searches are worth.")
    parser.add_argument("build")
    parser.add_argument("data")
    parser.add_argument("--model", help="generator (Hugging Face folder)")
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--reads", type=listed(str, READS), default=list(READS))
    parser.add_argument("--passages", type=listed(int), default=[5])
    parser.add_argument("--repeats", type=listed(int, (1, 2, 3, 4)), default=[1, 2])
    parser.add_argument("--orders", type=listed(str, tuple(ORDERS)), default=list(ORDERS))
    parser.add_argument("--not-found-percent", type=int, default=100)
    parser.add_argument("--cranfield", action="store_true", help="the search on Cranfield as well")
    parser.add_argument("--csv")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def main():
    options = arguments()
    layout = layout_of(options.model) if options.model else {}
    options.writes = bool(options.model) and layout.get("writes", True)
    if layout:
        options.orders = ["question-first"]
    server = ["--quota-tokens-per-minute", "0", "--quota-documents", "0", "--log-level", "3"]
    if options.model:
        server += ["--model", os.path.abspath(options.model), "--not-found-percent", "0"]
    scene, out = Scene(options.build, server), []
    try:
        if options.questions > 0:
            questions(scene, options, out)
        if options.cranfield:
            cranfield(scene, options, out)
    finally:
        scene.house.stop()
    if options.csv:
        with open(options.csv, "w", newline="", encoding="utf-8") as f:
            csv.writer(f).writerows([("set", "reads", "passages", "repeats", "order", "figure", "questions", "value",
                                      "low", "high"), *out])


if __name__ == "__main__":
    main()
