#!/usr/bin/python3
"""Makes collections with many relevant passages to a query, on which the second ranking's weights were chosen (search.c).

usage: tests/bench/make_topics.py QA_TRAIN.jsonl.gz TEXT.jsonl.gz OUT

Writes OUT/questions, OUT/sentences and OUT/medical, each in Cranfield's layout, for
`lethe_eval_retrieval --cranfield OUT/...`:

  questions   10 passages of each of 200 SQuAD articles; a question has its own passage (grade 4) and its article's (1)
  sentences   a sentence of a passage that is left out, without the title's words: its neighbours (3), its article (1)
  medical     MedQuAD's sections without their headings; a sentence of one that is left out, without the disease's
              name: the other sections on the disease (1)

The bundled embedder was trained on these passages: dense and hybrid figures flatter, differences between lexical
settings do not. Seeded: the same files give the same collections.
"""
import collections
import gzip
import json
import os
import random
import re
import sys

SENTENCE_ENDS = re.compile(r"(?<=[.?!])\s+")


def rows(path):
    with gzip.open(path, "rt", encoding="utf-8") as f:
        return [json.loads(line) for line in f]


def write(folder, documents, queries, grades):
    os.makedirs(folder, exist_ok=True)
    for name, texts in (("docs.jsonl", documents), ("queries.jsonl", queries)):
        with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
            for i, text in enumerate(texts):
                f.write(json.dumps({"id": str(i + 1), "title": "", "text": text}) + "\n")
    with open(os.path.join(folder, "qrels.tsv"), "w", encoding="utf-8") as f:
        for q, judged in enumerate(grades):
            for d, grade in sorted(judged.items()):
                f.write(f"{q + 1}\t{d + 1}\t{grade}\n")
    print(f"{folder}: {len(documents)} documents, {len(queries)} queries")


def sentence_of(rng, text, title):
    """A sentence of middle length without the title's words, or None."""
    fit = [s for s in SENTENCE_ENDS.split(text) if 60 < len(s) < 300]
    if not fit:
        return None
    banned = set(re.findall(r"\w+", title.lower()))
    return " ".join(w for w in rng.choice(fit).split() if re.sub(r"\W", "", w.lower()) not in banned)


def squad(path, out):
    rng = random.Random(1)
    articles = collections.OrderedDict()
    for row in rows(path):
        if row["source"] == "squad1.1-train":
            articles.setdefault(row["title"], {}).setdefault(row["context"], []).append(row["question"])
    documents, queries, grades = [], [], []
    for title in rng.sample(sorted(articles), 200):
        passages, first = list(articles[title].items())[:10], len(documents)
        documents += [text for text, _ in passages]
        for own in rng.sample(range(len(passages)), min(3, len(passages))):
            queries.append(rng.choice(passages[own][1]))
            grades.append({first + i: 4 if i == own else 1 for i in range(len(passages))})
    write(os.path.join(out, "questions"), documents, queries, grades)
    documents, queries, grades = [], [], []
    for title in rng.sample(sorted(articles), 200):
        passages, first = list(articles[title])[:12], len(documents)
        own = rng.randrange(len(passages))
        query = sentence_of(rng, passages[own], title)
        if query is None or len(passages) < 5:
            continue
        others = [i for i in range(len(passages)) if i != own]
        documents += [passages[i] for i in others]
        queries.append(query)
        grades.append({first + k: 3 if abs(i - own) <= 2 else 1 for k, i in enumerate(others)})
    write(os.path.join(out, "sentences"), documents, queries, grades)


def medical(path, out):
    rng = random.Random(1)
    diseases = collections.OrderedDict()
    for row in rows(path):
        if row["source"] != "medquad":
            continue
        for section in re.split(r"\n\n(?=[^\n]{5,200}\?\n)", row["text"]):
            heading, _, body = section.partition("\n")
            if heading.strip().endswith("?") and len(body) > 300:
                diseases.setdefault(row["title"].lower().strip(), []).append(body[:1800])
    documents, queries, grades = [], [], []
    names = [name for name in sorted(diseases) if len(diseases[name]) >= 3]
    for name in rng.sample(names, 400):
        sections, first = diseases[name][:8], len(documents)
        own = rng.randrange(len(sections))
        query = sentence_of(rng, sections[own], name)
        if query is None:
            continue
        documents += [text for i, text in enumerate(sections) if i != own]
        queries.append(query)
        grades.append({i: 1 for i in range(first, len(documents))})
    write(os.path.join(out, "medical"), documents, queries, grades)


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    squad(sys.argv[1], sys.argv[3])
    medical(sys.argv[2], sys.argv[3])


main()
