#!/usr/bin/env python3
"""What a trained generator's marks are worth on questions with their passage.

    generator_eval.py --pack DIR --run DIR --qa FILE.jsonl.gz [--questions N] [--repeats 1,2] [--neighbours N]
                      [--narrow TOKENS]

Question first; the answer is the span of whole words, of at most 24 tokens, with the greatest sum of START at its
first and STOP at its last token, of both readings added. It is withheld where NONE exceeds half of that by more than
a threshold. Exact match and F1 as SQuAD counts them, with 95 % intervals from 1,000 resamples. --neighbours N: N
passages of the same article are read too, the right one at a random place. --narrow: not the passages are read but
those of their sentences that carry most of the question's information (IDF over the file's passages), best first, about
so many tokens. Needs tokenizers.
"""
import argparse
import collections
import gzip
import json
import math
import os
import random
import re
import string

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

import generator_batch as batch
import generator_model
from generator_data import WORD, sentence_starts, stem

SPAN_TOKENS_MAX = 24


def words_of(text):
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


def exact(answer, expected):
    return float(any(words_of(answer) == words_of(e) for e in expected))


def f1(answer, expected):
    best = 0.0
    for e in expected:
        a, b = words_of(answer), words_of(e)
        shared = sum((collections.Counter(a) & collections.Counter(b)).values())
        if shared:
            best = max(best, 2 * shared / (len(a) + len(b)))
    return best


def interval(values):
    """-> mean, and the 2.5th and 97.5th percentile of resampled means, in percent"""
    values = np.array(values)
    means = values[np.random.default_rng(1).integers(0, len(values), (1000, len(values)))].mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return f"{100 * values.mean():.1f} ({100 * low:.1f} to {100 * high:.1f})"


class Asked:
    """A question and its passages: their text, the readings' tokens with SEEN where it belongs, and for each token of the
    passages its characters (none for gaps), its passage (by its first token) and its places in both readings."""

    def __init__(self, tokenizer, frequent, pack, question, passages):
        self.text, self.spans, parts = "", [], []
        asked = {stem(w) for w in WORD.findall(question)} - frequent
        ids, hits = [], []
        for passage in passages:
            encoded = tokenizer.encode(passage, add_special_tokens=False)
            ends = np.array([b for _, b in encoded.offsets])
            seen = {int(np.searchsorted(ends, m.start(), "right"))
                    for m in WORD.finditer(passage) if stem(m.group()) in asked}
            hits += [number in seen for number in range(len(encoded.ids))] + [False] * len(pack.cue_gap)
            ids += [*encoded.ids, *pack.cue_gap]
            parts += [len(parts)] * (len(encoded.ids) + len(pack.cue_gap))
            self.spans += [(a + len(self.text), b + len(self.text)) for a, b in encoded.offsets]
            self.spans += [(0, 0)] * len(pack.cue_gap)
            self.text += passage + "\n\n"
        self.ids, self.parts = ids, parts = np.array(ids), np.array(parts)
        hits = np.array(hits)
        found = {stem(w) for passage in passages for w in WORD.findall(passage)} & asked
        encoded = tokenizer.encode(question.strip(), add_special_tokens=False)
        ends = np.array([b for _, b in encoded.offsets])
        told = np.zeros(len(ends), bool)
        told[[int(np.searchsorted(ends, m.start(), "right")) for m in WORD.finditer(question.strip())
              if stem(m.group()) in found]] = True
        head = batch.flagged(np.array(encoded.ids), told, np.arange(len(ends)))[0]
        self.head = [*pack.cue_question, *head, *pack.cue_gap]
        self.once, self.first = batch.flagged(ids, hits, np.arange(len(ids)))
        again, self.second = batch.flagged(ids, hits, batch.turned(pack, ids))
        self.again = np.concatenate([again, pack.cue_gap])
        # The last gap speaks for none; in the second reading, the one behind it does.
        self.second[-1] = len(self.again) - 1

    def read(self, repeats):
        """-> the tokens, and the places in them of each token's readings"""
        head = len(self.head)
        if repeats == 1:
            return [*self.head, *self.once], [head + self.first]
        return [*self.head, *self.once, *self.again], [head + self.first, head + len(self.once) + self.second]

    def edges(self):
        """Where a span may start and end: (T,) bool twice."""
        t = self.text
        opens = [a < b and t[a:b].strip() != "" and (a == 0 or not (t[a - 1].isalnum() and t[a].isalnum()))
                 for a, b in self.spans]
        closes = [a < b and not (t[b - 1].isalnum() and t[b:b + 1].isalnum()) for a, b in self.spans]
        return np.array(opens), np.array(closes)


def scores_of(model, kind, asked, repeats):
    """[(T,) start, (T,) stop, none] of each question's tokens"""
    read = [a.read(repeats) for a in asked]
    ids = np.full((len(read), max(len(tokens) for tokens, _ in read)), batch.PADDING, np.int64)
    for row, (tokens, _) in zip(ids, read):
        row[:len(tokens)] = tokens
    device = model.embeddings.device
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
        hidden = model(torch.from_numpy(ids).to(device), kind)
        marks = F.linear(hidden, model.embeddings[[batch.START, batch.STOP, batch.NONE]]).float().cpu().numpy()
    out = []
    for m, (_, places) in zip(marks, read):
        s = sum(m[p] for p in places)
        out.append((s[:, 0], s[:, 1], s[-1, 2]))
    return out


def best_span(a, start, stop):
    """-> score, text of the best span"""
    opens, closes = a.edges()
    start, stop = np.where(opens, start, -1e9), np.where(closes, stop, -1e9)
    best = (-1e9, 0, 0)
    for length in range(min(SPAN_TOKENS_MAX, len(start))):
        within = a.parts[:len(start) - length] == a.parts[length:]
        sums = np.where(within, start[:len(start) - length] + stop[length:], -1e9)
        at = int(sums.argmax())
        best = max(best, (float(sums[at]), at, at + length))
    _, first, last = best
    return best[0], a.text[a.spans[first][0]:a.spans[last][1]].strip()


def answers(model, kind, asked, repeats, size=32):
    """[(span's score, none's score, text)] in the questions' order"""
    order = sorted(range(len(asked)), key=lambda i: len(asked[i].once))
    out = [None] * len(asked)
    for at in range(0, len(order), size):
        some = order[at:at + size]
        for i, (start, stop, none) in zip(some, scores_of(model, kind, [asked[i] for i in some], repeats)):
            score, text = best_span(asked[i], start, stop)
            out[i] = (score, 2 * float(none), text)
    return out


def spoken(model, kind, pack, asked, repeats, size=32):
    """The answers that the model writes behind the cue, greedily, held to spans of whole words."""
    out = []
    for at in range(0, len(asked), size):
        some = asked[at:at + size]
        rows = [[*a.read(repeats)[0], *a.head[:-len(pack.cue_gap)], *pack.cue_answer] for a in some]
        edges = [a.edges() for a in some]
        # The places where the words so far end: at first, in front of every word.
        plain = [[i for i, (b, e) in enumerate(a.spans) if e > b] for a in some]
        places = [[(None, k) for k, i in enumerate(p) if opens[i]] for p, (opens, _) in zip(plain, edges)]
        said, over = [""] * len(some), [False] * len(some)
        for _ in range(SPAN_TOKENS_MAX + 1):
            logits = last_logits(model, kind, rows)
            for n, a in enumerate(some):
                if over[n]:
                    continue
                choices = {}
                for first, k in places[n]:
                    if k < len(plain[n]):
                        choices.setdefault(int(a.ids[plain[n][k]]), []).append((k if first is None else first, k))
                ended = [(f, k) for f, k in places[n] if f is not None and edges[n][1][plain[n][k - 1]]]
                best = max([*choices, *([batch.END] if ended else [])], key=lambda t: logits[n, t], default=batch.END)
                if best == batch.END:
                    first, end = (ended or [(0, 1)])[0]
                    said[n] = a.text[a.spans[plain[n][first]][0]:a.spans[plain[n][end - 1]][1]].strip()
                    over[n] = True
                    continue
                rows[n].append(best)
                places[n] = [(f, k + 1) for f, k in choices[best]]
            if all(over):
                break
        out += said
    return out


def last_logits(model, kind, rows):
    ids = np.full((len(rows), max(map(len, rows))), batch.PADDING, np.int64)
    for row, tokens in zip(ids, rows):
        row[:len(tokens)] = tokens
    at = torch.tensor([len(r) - 1 for r in rows])
    with torch.no_grad(), torch.autocast(model.embeddings.device.type, torch.bfloat16):
        hidden = model(torch.from_numpy(ids).to(model.embeddings.device), kind)
        return model.logits(hidden[torch.arange(len(rows)), at]).float().cpu().numpy()


def information(passages, frequent):
    """{stem: inverse document frequency}"""
    count = collections.Counter(s for p in passages for s in {stem(w) for w in WORD.findall(p)})
    return {s: math.log((len(passages) + 2) / (n + 1)) for s, n in count.items() if s not in frequent}


def best_sentences(tokenizer, weight, question, passages, budget):
    """As generator_batch.best_sentences; each with a blank in front."""
    asked, found = {stem(w) for w in WORD.findall(question)}, []
    for passage in passages:
        starts = sentence_starts(passage)
        for a, b in zip(starts, starts[1:] + [len(passage)]):
            shared = asked & {stem(w) for w in WORD.findall(passage[a:b])}
            found.append((-sum(weight.get(s, 0) for s in sorted(shared)), len(found), " " + passage[a:b].strip()))
    chosen, total = [], 0
    for _, _, text in sorted(found):
        size = len(tokenizer.encode(text, add_special_tokens=False).ids)
        if not chosen or total + size <= budget:
            chosen.append(text)
            total += size
    return chosen


def rows_of(path, count, neighbours):
    """[(question, passages, expected answers)]"""
    with gzip.open(path, "rt", encoding="utf-8") as f:
        rows = [json.loads(line) for line in f]
    chance, near = random.Random(1), {}
    for r in rows:
        near.setdefault(r["title"], {})[r["context_id"]] = r["context"]
    chance.shuffle(rows)
    out = []
    for r in rows[:count or len(rows)]:
        others = [c for i, c in near[r["title"]].items() if i != r["context_id"]]
        passages = chance.sample(others, min(neighbours, len(others))) + [r["context"]]
        chance.shuffle(passages)
        out.append((r["question"], passages, r["answers"]))
    return out


def withheld(found, rows):
    """The threshold at which the F1 of answerable questions falls by 3 points at most. -> accuracy on the others"""
    can = [(s - n, f1(t, e)) for (s, n, t), (_, _, e) in zip(found, rows) if e]
    cannot = np.array([s - n for (s, n, _), (_, _, e) in zip(found, rows) if not e])
    if len(cannot) == 0 or len(can) == 0:
        return 0.0
    margins, gains = np.array([c[0] for c in can]), np.array([c[1] for c in can])
    allowed = [m for m in np.quantile(margins, np.linspace(0, 1, 201))
               if gains.mean() - np.where(margins >= m, gains, 0).mean() <= 0.03]
    return float((cannot < max(allowed)).mean()) if allowed else 0.0


def measure(model, kind, pack, asked, rows, repeats, args):
    found = answers(model, kind, asked, repeats)
    said = [(t, e) for (_, _, t), (_, _, e) in zip(found, rows) if e]
    print(f"read {repeats} times, {args.neighbours} neighbours, narrowed to {args.narrow}, {len(said)} answerable: "
          f"exact match {interval([exact(*s) for s in said])}, F1 {interval([f1(*s) for s in said])}, unanswerable ones "
          f"withheld at 3 points of F1: {100 * withheld(found, rows):.1f} %", flush=True)
    if not args.spoken:
        return
    can = [(a, e) for a, (_, _, e) in zip(asked, rows) if e]
    said = list(zip(spoken(model, kind, pack, [a for a, _ in can], repeats), [e for _, e in can]))
    print(f"  written behind the cue: exact match {interval([exact(*s) for s in said])}, F1 "
          f"{interval([f1(*s) for s in said])}", flush=True)


def main():
    parser = argparse.ArgumentParser(description="Measures the generator's marks.")
    parser.add_argument("--pack", required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--qa", required=True, help="question, context, context_id, title, answers")
    parser.add_argument("--questions", type=int, default=0)
    parser.add_argument("--repeats", default="1,2")
    parser.add_argument("--neighbours", type=int, default=0)
    parser.add_argument("--narrow", type=int, default=0)
    parser.add_argument("--spoken", action="store_true", help="also what is written behind the cue, held to spans")
    args = parser.parse_args()
    pack = batch.Pack(os.path.join(args.pack, "pack.npz"))
    tokenizer = Tokenizer.from_file(os.path.join(args.pack, "tokenizer.json"))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = generator_model.load(os.path.join(args.run, "checkpoint.pt"), device)
    rows = rows_of(args.qa, args.questions, args.neighbours)
    with open(os.path.join(args.pack, "frequent.json"), encoding="utf-8") as f:
        frequent = set(json.load(f))
    if args.narrow:
        weight = information(sorted({p for _, passages, _ in rows for p in passages}), frequent)
        rows = [(q, best_sentences(tokenizer, weight, q, p, args.narrow), e) for q, p, e in rows]
    asked = [Asked(tokenizer, frequent, pack, q, passages) for q, passages, _ in rows]
    for repeats in map(int, args.repeats.split(",")):
        measure(model, generator_model.choose_scan(device), pack, asked, rows, repeats, args)



if __name__ == "__main__":
    main()
