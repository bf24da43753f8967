#!/usr/bin/python3
"""Erasure by subject on labelled data: what is found about each author, against what is about it.

usage: tests/bench/eval_subject.py BUILD FILE [--authors N] [--split]

FILE: one JSON object a line with "author" (a number), "question" and "answer". Each pair becomes a document
of its own (--split: question and answer become two, so that many name nobody); all go into one store. The author's name is taken to be the most frequent run
of two to four capitalised words of its questions. Prints recall and precision of what is found by name, of
all that counts as likely, and with weak neighbours, and how many documents name the author at all.
"""
import collections
import json
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
import house as h  # noqa: E402

RUN = re.compile(r"\b[A-Z][\w'’]*(?:-[A-Z]\w*)*(?: (?:[A-Z][\w'’]*(?:-[A-Z]\w*)*|al|van|von|de|bin)){1,3}")
COMMON = {"The", "What", "How", "Can", "Has", "Does", "Did", "Is", "Are", "In", "Who", "Could", "Which", "Where"}


def name_of(rows):
    runs = collections.Counter()
    for row in rows:
        for text in (row["question"], row["answer"]):
            for run in RUN.findall(text):
                words = re.sub(r"['’]s?$", "", run).split()
                while words and words[0] in COMMON:
                    words = words[1:]
                if len(words) > 1:
                    runs[" ".join(words)] += 1
    return runs.most_common(1)[0][0]


def rate(found, wanted):
    return len(found & wanted), len(found), len(wanted)


def main():
    arguments = sys.argv[1:]
    most = int(arguments[arguments.index("--authors") + 1]) if "--authors" in arguments else None
    split = "--split" in arguments
    build, file = arguments[0], arguments[1]
    authors = collections.defaultdict(list)
    with open(file) as f:
        for line in f:
            row = json.loads(line)
            if row.get("author") is not None:
                authors[row["author"]].append(row)
    names = {a: name_of(rows) for a, rows in sorted(authors.items())[:most]}
    totals = collections.defaultdict(lambda: [0, 0, 0])

    def work(scene):
        house = scene.house()
        client = house.client(house.admin_token)
        about, named = collections.defaultdict(set), collections.defaultdict(set)
        for a in names:
            texts = [[r["question"], r["answer"]] if split else [r["question"] + "\n" + r["answer"]]
                     for r in authors[a]]
            documents = [{"path": f"{a}-{n}", "content": t + "\n"} for n, t in enumerate(sum(texts, []))]
            response = client.put(*documents)
            about[a] = {d.id for d in response.documents}
            surname = names[a].split()[-1]
            named[a] = {d.id for d, r in zip(response.documents, documents)
                        if surname.lower() in r["content"].lower()}
        for a, name in names.items():
            found = client.erasure.FindSubject(client.pb.FindSubjectRequest(text=name), timeout=h.CALL_S)
            by = collections.defaultdict(set)
            for c in found.candidates:
                by[("", "neighbour", "identifier", "alias", "name")[c.reason]].add(c.document)
                by["likely" if c.likely else "weak"].add(c.document)
            by["likely and weak"] = by["likely"] | by["weak"]
            row = {k: rate(by[k], about[a]) for k in
                   ("name", "alias", "identifier", "neighbour", "likely", "likely and weak")}
            row["names it"] = rate(named[a], about[a])
            for k, values in row.items():
                totals[k] = [x + y for x, y in zip(totals[k], values)]
            print(f"# {name:28}" + "  ".join(f"{k} {v[0]}/{v[1]}" for k, v in row.items()) + f"  of {len(about[a])}")
        print(f"{'class':16} {'recall':>8} {'precision':>10} {'found':>7}")
        for k, (hit, found, wanted) in totals.items():
            print(f"{k:16} {hit / wanted:8.4f} {hit / found if found else 1:10.4f} {found:7}")

    h.CHECKS.clear()
    h.check("eval_subject")(work)
    return h.run_checks(h.World(build), [])


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__.strip())
    sys.exit(main())
