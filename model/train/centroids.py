#!/usr/bin/env python3
"""Trains the frozen centroids by which a dense search over many chunks picks what it reads.

    centroids.py --data DIR [--embedder DIR] [--out DIR] [--count N] [--seed N] [--measure]

The data folder holds text.jsonl.gz and qa-train.jsonl.gz; nothing else in it is opened. The result is
centroids.safetensors in the embedder's folder (or --out): "centroids" I8 (N, D) and "scales" F32 (N), a
centroid being its row times its scale, of length 1. Public text alone goes in: no centroid was ever
fitted to what a server holds.

Steps, each a function below:
 1. tokens      WordPiece as the embedder's tokenizer.json describes it; unknown tokens have no vector
 2. chunks      whole sentences up to the server's chunk size, about where the server cuts
 3. embed       L2-normalised sum of the tokens' rows: sums of small integers, so the server's numbers
 4. kmeans      spherical: the nearest centroid is the one of the greatest inner product
 5. write       rows to 8 bits, the greatest element to 127; the scale makes the length 1 again
Needs numpy. Same seed, data, numpy and machine type: the same bytes. --measure writes nothing: it
trains on four documents of five and prints what probing finds among the chunks of the fifth, of all, and of
the medical ones alone, which lie in few lists.
"""
import argparse
import array
import gzip
import hashlib
import json
import os
import re
import struct
import time
import unicodedata

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")      # sums in one order; one core is enough

import numpy as np

CHUNK_BYTES = 600
# One part in so many of a source is read: the novels are half of the text, and the least like what is asked.
SOURCE_EVERY = {"squad1.1-train-wikipedia": 1, "medquad": 1, "english-novels": 4}
SENTENCE = re.compile(r"(?<=[.!?])\s+|\n\s*\n")
START = time.time()


def say(text):
    print(f"[{time.time() - START:6.1f} s] {text}", flush=True)


# ---- 1. tokens ---------------------------------------------------------------------------------

class Tokenizer:
    """Ids of a text's known tokens. Only for vocabularies without punctuation, which then only separates."""

    def __init__(self, folder):
        with open(os.path.join(folder, "tokenizer.json"), encoding="utf-8") as file:
            model = json.load(file)["model"]
        self.ids, self.longest = model["vocab"], model["max_input_chars_per_word"]
        self.known, self.gaps = {}, {}
        for token in self.ids:
            if not token.startswith("[") and any(self.separates(c) for c in token.removeprefix("##")):
                raise SystemExit("the vocabulary has punctuation: not a tokenizer that this tool reads")

    @staticmethod
    def separates(c):
        return (c.isascii() and c.isprintable() and not c.isalnum()) or unicodedata.category(c)[0] == "P"

    def gap(self, c):
        kind = unicodedata.category(c)
        if kind == "Mn" or (kind in ("Cc", "Cf", "Co") and not c.isspace()) or c == "\ufffd":
            return ""
        if 0x4E00 <= ord(c) <= 0x9FFF or 0x3400 <= ord(c) <= 0x4DBF:
            return f" {c} "
        return " " if self.separates(c) else c

    def pieces(self, word):
        """Greedy longest match; nothing when a part of the word is unknown."""
        at, out = 0, []
        if len(word) > self.longest:
            return ()
        while at < len(word):
            end, mark = len(word), "##" if at else ""
            while end > at and mark + word[at:end] not in self.ids:
                end -= 1
            if end == at:
                return ()
            out.append(self.ids[mark + word[at:end]])
            at = end
        return tuple(out)

    def encode(self, text):
        text = unicodedata.normalize("NFD", text)
        for c in set(text) - self.gaps.keys():
            self.gaps[c] = self.gap(c)
        out = []
        for word in text.translate({ord(c): self.gaps[c] for c in set(text) if self.gaps[c] != c}).lower().split():
            if word not in self.known:
                self.known[word] = self.pieces(word)
            out += self.known[word]
        return out


# ---- 2. chunks ---------------------------------------------------------------------------------

def rows(path):
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def chunks_of(text):
    held, size, out = [], 0, []
    for sentence in SENTENCE.split(text):
        if held and size + len(sentence) > CHUNK_BYTES:
            out.append(" ".join(held))
            held, size = [], 0
        held.append(sentence)
        size += len(sentence) + 1
    return out + [" ".join(held)] if held else out


def corpus(data):
    """-> chunks [text], document number of each, source of each, questions"""
    texts, owner, source, seen, number = [], [], [], {}, 0

    def take(text, name):
        nonlocal number
        for chunk in chunks_of(text):
            texts.append(chunk)
            owner.append(number)
            source.append(name)
        number += 1
    for row in rows(os.path.join(data, "text.jsonl.gz")):
        seen[row["source"]] = seen.get(row["source"], 0) + 1
        if seen[row["source"]] % SOURCE_EVERY[row["source"]] == 0:
            take(row["text"], row["source"])
    questions, passages = [], set()
    for row in rows(os.path.join(data, "qa-train.jsonl.gz")):
        if row["source"] == "qamr":          # elliptical questions: they do not say what about
            continue
        questions.append(row["question"])
        # SQuAD's passages stand in text.jsonl.gz already.
        if row["source"] == "nq-open-oracle" and row["context_id"] not in passages:
            passages.add(row["context_id"])
            take(row["context"], row["source"])
    return texts, np.array(owner), np.array(source), questions


# ---- 3. embed ----------------------------------------------------------------------------------

def read_table(folder):
    with open(os.path.join(folder, "model.safetensors"), "rb") as file:
        size, = struct.unpack("<Q", file.read(8))
        entry = json.loads(file.read(size))["embeddings"]
        if entry["dtype"] != "I8":
            raise SystemExit("embeddings are not I8: not an embedder that this tool reads")
        file.seek(8 + size + entry["data_offsets"][0])
        return np.frombuffer(file.read(entry["data_offsets"][1] - entry["data_offsets"][0]),
                             np.int8).reshape(entry["shape"])


def embed(tokenizer, table, texts, block=512):
    """(n, D) float32, zero where no token is known."""
    out = np.zeros((len(texts), table.shape[1]), np.float32)
    for begin in range(0, len(texts), block):
        ids, starts, which = array.array("i"), [], []
        for i, text in enumerate(texts[begin:begin + block], begin):
            one = tokenizer.encode(text)
            if one:
                starts.append(len(ids))
                which.append(i)
                ids.extend(one)
        if which:
            out[which] = np.add.reduceat(table[np.array(ids)].astype(np.float32), starts, axis=0)
    return unit(out)


def unit(x):
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-6)


# ---- 4. k-means --------------------------------------------------------------------------------

def nearest(vectors, centroids, block=8192):
    """-> number (lowest on ties) and inner product of each vector's centroid"""
    which, score = [], []
    for begin in range(0, len(vectors), block):
        dots = vectors[begin:begin + block] @ centroids.T
        which.append(dots.argmax(axis=1))
        score.append(dots.max(axis=1))
    return np.concatenate(which), np.concatenate(score)


def kmeans(vectors, count, rounds, random):
    centroids = vectors[random.choice(len(vectors), count, replace=False)]
    for number in range(rounds):
        which, score = nearest(vectors, centroids)
        order = np.argsort(which, kind="stable")
        present, starts = np.unique(which[order], return_index=True)
        sums = np.add.reduceat(vectors[order], starts, axis=0)
        # What has lost all of its vectors starts again at those that are served worst.
        empty = np.setdiff1d(np.arange(count), present)
        centroids = np.empty_like(centroids)
        centroids[present] = unit(sums)
        centroids[empty] = vectors[np.argsort(score, kind="stable")[:len(empty)]]
        if (number + 1) % 10 == 0:
            say(f"  round {number + 1}: mean cosine {score.mean():.4f}, {len(empty)} empty")
    return centroids


# ---- 5. output ---------------------------------------------------------------------------------

def quantise(centroids):
    eight = np.rint(centroids * (127 / np.abs(centroids).max(axis=1, keepdims=True))).astype(np.int8)
    return eight, (1 / np.linalg.norm(eight.astype(np.float64), axis=1)).astype(np.float32)


def write(folder, eight, scales):
    header = json.dumps({"centroids": {"dtype": "I8", "shape": list(eight.shape), "data_offsets": [0, eight.size]},
                         "scales": {"dtype": "F32", "shape": [len(scales)],
                                    "data_offsets": [eight.size, eight.size + scales.nbytes]}},
                        separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    data = struct.pack("<Q", len(header)) + header + eight.tobytes() + scales.astype("<f4").tobytes()
    with open(os.path.join(folder, "centroids.safetensors"), "wb") as file:
        file.write(data)
    say(f"{hashlib.sha256(data).hexdigest()}  centroids.safetensors  {len(data)} bytes")


# ---- what it finds -----------------------------------------------------------------------------

def measure(name, vectors, queries, centroids, best=10):
    """Recall of the best ten in the nearest lists that hold a share of the chunks, as the server reads them."""
    which, _ = nearest(vectors, centroids)
    sizes = np.bincount(which, minlength=len(centroids))
    say(f"{name}: {len(vectors)} chunks, {np.count_nonzero(sizes)} lists, largest {sizes.max()}")
    top = np.concatenate([np.argsort(-(q @ vectors.T), axis=1, kind="stable")[:, :best]
                          for q in np.array_split(queries, 20)])
    order = np.argsort(-(queries @ centroids.T), axis=1, kind="stable")
    ahead = np.empty_like(order)             # chunks in the lists nearer than this one
    np.put_along_axis(ahead, order, np.cumsum(sizes[order], axis=1) - sizes[order], axis=1)
    found = np.take_along_axis(ahead, which[top], axis=1)
    for percent in (5, 10, 15, 20, 30, 50):
        least = len(vectors) * percent / 100
        read = np.where(ahead < least, sizes, 0).sum(axis=1).mean() / len(vectors)
        print(f"  {percent:3d} percent: recall@{best} {(found < least).mean():.4f}, {read:6.1%} of the chunks read")


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser(description="Trains the frozen centroids of the dense search.")
    parser.add_argument("--data", required=True, help="has text.jsonl.gz, qa-train.jsonl.gz")
    parser.add_argument("--embedder", default=os.path.join(here, "..", "bundled", "embedder"))
    parser.add_argument("--out", help="default: the embedder's folder")
    parser.add_argument("--count", type=int, default=256, help="of centroids, at most 256")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--measure", action="store_true")
    args = parser.parse_args()
    if not 1 <= args.count <= 256:
        parser.error("a list's number is one byte: 1 to 256 centroids")
    random = np.random.default_rng(args.seed)
    tokenizer, table = Tokenizer(args.embedder), read_table(args.embedder)
    texts, owner, source, questions = corpus(args.data)
    say(f"{len(texts)} chunks of {owner[-1] + 1} documents")
    vectors = embed(tokenizer, table, texts)
    say("embedded")
    known = np.abs(vectors).max(axis=1) > 0
    train = known & (owner % 5 != 0) if args.measure else known
    eight, scales = quantise(kmeans(vectors[train], args.count, args.rounds, random))
    if not args.measure:
        write(args.out or args.embedder, eight, scales)
        return
    centroids = eight.astype(np.float32) * scales[:, None]
    queries = embed(tokenizer, table, [questions[i] for i in random.choice(len(questions), 2000, replace=False)])
    medical = known & (source == "medquad")
    long = [i for i in np.flatnonzero(medical) if len(texts[i].split()) > 40]
    spans = [" ".join(texts[i].split()[20:32]) for i in random.choice(long, 2000, replace=False)]
    measure("questions of held-out documents", vectors[known & ~train], queries, centroids)
    measure("questions of all documents", vectors[known], queries, centroids)
    measure("medical words of medical documents", vectors[medical], embed(tokenizer, table, spans), centroids)
    measure("questions of medical documents", vectors[medical], queries, centroids)


if __name__ == "__main__":
    main()
