#!/usr/bin/env python3
"""Trains the bundled static embedder on a CPU.

    embedder.py --data DIR --out DIR [--seed N] [--words N] ...

The data folder holds text.jsonl.gz and qa-train.jsonl.gz; nothing else in it is opened. The
result is model.safetensors ("embeddings", I8, (V, D)), tokenizer.json (WordPiece) and config.json.
The vector of a text is the L2-normalised mean of its tokens' vectors, unknown tokens skipped; a
token's weight is the length of its vector.

Steps, each a function below:
 1. corpus      paragraphs of encyclopaedia, medicine, novels; question and passage pairs
 2. vocabulary  whole words by weighted document frequency, WordPiece pieces for all the rest
 3. cooccur     counts within a window, function words left out; pieces borrow from words
 4. factorise   PPMI, randomised truncated SVD (Halko, Martinsson, Tropp 2011), U S^p
 5. weigh       mean and first component removed, rows scaled by a smooth inverse frequency (SIF)
 6. contrast    InfoNCE on pairs (question, passage), (sentence, its neighbourhood)
 7. write       one global scale to 8 bits; the scale is irrelevant after normalisation
Needs numpy, scipy, tokenizers. Same seed, data, library versions and machine type: the same bytes.
"""
import argparse
import collections
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
import scipy.sparse as sp
from tokenizers import Tokenizer
from tokenizers import models, normalizers, pre_tokenizers, trainers

# What a paragraph counts: the novels are half of the text, and the least like what people will ask.
SOURCE_WEIGHT = {"squad1.1-train-wikipedia": 1.0, "medquad": 0.5, "english-novels": 0.25}
WORD = re.compile(r"[^\W_]+")
SENTENCE = re.compile(r"(?<=[.!?])\s+")
START = time.time()


def say(text):
    print(f"[{time.time() - START:6.1f} s] {text}", flush=True)


# ---- 1. corpus ---------------------------------------------------------------------------------

def rows(path):
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def paragraphs_of(text, words_min=40, words_max=160):
    """Blank-line paragraphs, short ones joined, long ones cut: about a retrieval chunk each."""
    held, out = [], []
    for block in re.split(r"\n\s*\n|\n- ", text):
        held += block.split()
        while len(held) > words_max:
            out.append(" ".join(held[:words_max]))
            held = held[words_max:]
        if len(held) >= words_min:
            out.append(" ".join(held))
            held = []
    if held:
        out.append(" ".join(held))
    return out


def corpus(data):
    """-> paragraphs [(source, document, title, text)], pairs [(question, passage, number)]"""
    paragraphs = []
    for number, row in enumerate(rows(os.path.join(data, "text.jsonl.gz"))):
        title = "" if row["source"] == "english-novels" else row["title"]
        for text in paragraphs_of(row["text"]):
            paragraphs.append((row["source"], number, title, text))
    pairs, passages = [], {}
    for row in rows(os.path.join(data, "qa-train.jsonl.gz")):
        if row["source"] == "qamr":          # elliptical questions: they do not say what about
            continue
        passage = passages.setdefault(row["context_id"], len(passages))
        pairs.append((row["question"], f'{row["title"]}. {row["context"]}', passage))
    return paragraphs, pairs


# ---- 2. vocabulary -----------------------------------------------------------------------------

def plain(text):
    """Lower case without accents, as BertNormalizer does."""
    text = unicodedata.normalize("NFD", text)
    return "".join(c for c in text if unicodedata.category(c) != "Mn").lower()


def word_weights(paragraphs, novels):
    """Weighted document frequency, one paragraph a document."""
    weight = collections.Counter()
    for source, _, _, text in paragraphs:
        one = novels if source == "english-novels" else SOURCE_WEIGHT[source]
        for word in set(WORD.findall(plain(text))):
            weight[word] += one
    return {w: c for w, c in weight.items() if w.isascii()}


def new_tokenizer(vocabulary):
    tokenizer = Tokenizer(models.WordPiece({t: i for i, t in enumerate(vocabulary)},
                                           unk_token="[UNK]", max_input_chars_per_word=64))
    tokenizer.normalizer = normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=True,
                                                      strip_accents=True, lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def morphemes(words, rest, suffix_count=1600, prefix_count=500):
    """What rare words are put together from: endings that are words themselves (aero|elastic), and
    beginnings in front of such endings. Learnt pieces alone cut at places that mean nothing."""
    known = {w for w in words if len(w) >= 4 and w.isalpha()}
    ends, starts = collections.Counter(), collections.Counter()
    for word in rest:
        for cut in range(3, len(word) - 3):
            if word[cut:] in known:
                ends[word[cut:]] += 1
                starts[word[:cut]] += 1

    def top(counter, count, least):
        ranked = sorted((w for w in counter if counter[w] >= least), key=lambda w: (-counter[w], w))
        return ranked[:count]
    return ["##" + w for w in top(ends, suffix_count, 4)] + top(starts, prefix_count, 6)


def learnt_pieces(types, count):
    """Byte-pair merges over word types. A word's first letter is written as a capital, which tells
    beginnings from continuations: the library's own "##" trainer breaks ties by hash order."""
    learner = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(vocab_size=count, min_frequency=2, show_progress=False)
    learner.train_from_iterator((w[0].upper() + w[1:] for w in types), trainer)
    found = learner.get_vocab()
    # A learnt beginning of a word longer than this would hide the shorter one that means something.
    return sorted(p.lower() if p[0].isupper() else "##" + p
                  for p in found if p[0].islower() or len(p) <= 4)


def vocabulary_of(weight, word_count, piece_count):
    """Whole words by weight; pieces learnt on the types that did not get in before those that did,
    since only the former will ever be split. Punctuation stays unknown: it has no vector."""
    ranked = sorted(weight, key=lambda w: (-weight[w], w))
    words, rest = ranked[:word_count], [w for w in ranked[word_count:] if w.isalpha()]
    pieces = learnt_pieces(rest + [w for w in words if w.isalpha()], piece_count)
    letters = [chr(c) for c in range(128) if chr(c).isalnum() and not chr(c).isupper()]
    pieces += letters + ["##" + c for c in letters]
    tokens = dict.fromkeys(["[PAD]", "[UNK]"] + words + morphemes(words, rest) + pieces)
    return list(tokens)


def fallback(vocabulary):
    """Sparse (V, V): row w holds the pieces w would be split into, were it not known."""
    index = {t: i for i, t in enumerate(vocabulary)}
    row, column = [], []
    for number, token in enumerate(vocabulary):
        if token.startswith(("##", "[")) or len(token) < 4:
            continue
        at, pieces = 0, []
        while at < len(token):
            end = len(token) if at else len(token) - 1
            mark = "##" if at else ""
            while end > at and mark + token[at:end] not in index:
                end -= 1
            if end == at:
                break
            pieces.append(index[mark + token[at:end]])
            at = end
        if at == len(token):
            row += [number] * len(pieces)
            column += pieces
    return sp.csr_matrix((np.ones(len(row), np.float32), (row, column)), shape=(len(index),) * 2)


def encode(tokenizer, texts, block=8192):
    """-> ids (total,) int32, starts (n + 1,); unknown tokens dropped."""
    ids, lengths = [], []
    for begin in range(0, len(texts), block):
        for e in tokenizer.encode_batch(texts[begin:begin + block], add_special_tokens=False):
            one = [i for i in e.ids if i > 1]
            ids.append(np.array(one, np.int32))
            lengths.append(len(one))
    return np.concatenate(ids), np.concatenate([[0], np.cumsum(lengths)])


# ---- 3. co-occurrences -------------------------------------------------------------------------

def lend(counts, parts, vocabulary, part=0.3):
    """Rows and frequencies of pieces, which hardly occur in text: a share of the words they are
    part of, and of the word that reads the same."""
    index = {t: i for i, t in enumerate(vocabulary)}
    twins = [(index[t[2:]], i) for t, i in index.items() if t.startswith("##") and t[2:] in index]
    twin = sp.csr_matrix((np.ones(len(twins), np.float32), tuple(zip(*twins))), shape=parts.shape)
    share = (sp.identity(len(index), np.float32, format="csr") + part * (parts + twin)).T.tocsr()
    return (share @ counts).tocsr(), share


def cooccur(ids, owner, weights, size, window, skip):
    """Symmetric counts (V, V): weight of the paragraph / distance, the `skip` tokens left out."""
    keep = ~skip[ids]
    ids, owner = ids[keep], owner[keep]
    total = None
    for distance in range(1, window + 1):
        same = owner[:-distance] == owner[distance:]
        a, b, w = ids[:-distance][same], ids[distance:][same], weights[owner[:-distance][same]]
        part = sp.coo_matrix(((w * (window + 1 - distance) / window).astype(np.float32), (a, b)),
                             shape=(size, size)).tocsr()
        total = part if total is None else total + part
        say(f"  distance {distance}: {total.nnz} cells")
    return (total + total.T).tocsr()


# ---- 4. factorisation --------------------------------------------------------------------------

def ppmi(counts, context_power=0.75, count_min=0.5, shift=0.0):
    """max(0, log(p(a,b) / (p(a) p(b)^power))) with context distribution smoothing."""
    counts = counts.tocoo()
    rows_sum = np.bincount(counts.row, counts.data, counts.shape[0])
    smooth = rows_sum ** context_power
    smooth /= smooth.sum()
    value = np.log(counts.data / (rows_sum[counts.row] * smooth[counts.col])) - shift
    keep = (value > 0) & (counts.data >= count_min)
    return sp.csr_matrix((value[keep].astype(np.float32), (counts.row[keep], counts.col[keep])),
                         shape=counts.shape)


def factorise(matrix, rank, power, random, oversample=24, passes=3):
    basis = matrix @ random.standard_normal((matrix.shape[1], rank + oversample), np.float32)
    for _ in range(passes):
        basis, _ = np.linalg.qr(basis)
        basis, _ = np.linalg.qr(matrix.T @ basis)
        basis = matrix @ basis
    basis, _ = np.linalg.qr(basis)
    left, values, _ = np.linalg.svd((matrix.T @ basis).T, full_matrices=False)
    return (basis @ left[:, :rank]) * values[:rank] ** power


# ---- 5. weights --------------------------------------------------------------------------------

def weigh(vectors, frequency, components, a):
    """Rows to unit length, common components out, times a / (a + p)."""
    def unit(x):
        return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-6)
    share = frequency / frequency.sum()
    vectors = unit(vectors)
    sif = (a / (a + share))[:, None].astype(np.float32)
    live = np.linalg.norm(vectors, axis=1) > 0
    mean = np.average(vectors, axis=0, weights=share * sif[:, 0] * live)
    vectors = np.where(live[:, None], vectors - mean, 0)
    if components:
        cut = np.linalg.svd((vectors * np.sqrt(share)[:, None] * sif).astype(np.float32),
                            full_matrices=False)[2][:components]
        vectors = vectors - vectors @ cut.T @ cut
    return (unit(vectors) * sif).astype(np.float32)


# ---- 6. contrast -------------------------------------------------------------------------------

def bags(ids, starts, size):
    out = sp.csr_matrix((np.ones(len(ids), np.float32), ids, starts), shape=(len(starts) - 1, size))
    out.sum_duplicates()
    return out


def members(group, group_count):
    """Sparse (groups, items): which items belong to which group."""
    n = len(group)
    return sp.csr_matrix((np.ones(n, np.float32), (group, np.arange(n))), shape=(group_count, n))


class Material:
    """Batches of (query bags, target bags, equal[i, j]: target j answers query i as well).

    A batch is made of runs of neighbouring passages, so that most of a query's negatives are about
    the same subject: random negatives teach the subject alone, which BM25 knows already."""

    def __init__(self, questions, passages, passage_of, sentences, texts, titles, source, document,
                 text_of):
        self.questions, self.passages, self.passage_of = questions, passages, passage_of
        self.sentences, self.texts, self.titles, self.text_of = sentences, texts, titles, text_of
        self.document = document
        self.question_in = members(passage_of, passages.shape[0])
        self.sentence_in = members(text_of, texts.shape[0])
        length = np.asarray(sentences.sum(axis=1)).ravel()
        self.usable = (length >= 6) & (length < 60)
        self.by_source = {name: np.flatnonzero(source == name) for name in SOURCE_WEIGHT}

    @staticmethod
    def runs(count, batch, run, random):
        first = random.integers(0, count - run, batch // run)
        return np.unique(first[:, None] + np.arange(run))

    @staticmethod
    def one_of(inside, groups, random):
        low, high = inside.indptr[groups], inside.indptr[groups + 1]
        low, high = low[high > low], high[high > low]
        return inside.indices[low + (random.random(len(low)) * (high - low)).astype(np.int64)]

    def asked(self, batch, run, random):
        passages = self.runs(self.passages.shape[0], batch, run, random)
        picked = self.one_of(self.question_in, passages, random)
        passage = self.passage_of[picked]
        return self.questions[picked], self.passages[passage], passage

    def cloze(self, source, batch, run, random, kept=0.1, titled=0.5):
        """A sentence, and its paragraph without it (now and then with it)."""
        texts = self.by_source[source]
        texts = texts[self.runs(len(texts), batch, run, random)]
        picked = self.one_of(self.sentence_in, texts, random)
        picked = picked[self.usable[picked]]
        text = self.text_of[picked]
        query = self.sentences[picked]
        gone = sp.diags((random.random(len(text)) >= kept).astype(np.float32))
        target = self.texts[text] - gone @ query
        if random.random() < titled:
            target = target + self.titles[text]
        target = target.tocsr()
        target.eliminate_zeros()
        # Medical documents repeat each other's sentences about one condition.
        return query, target, self.document[text] if source == "medquad" else text


def gradient(vectors, query, target, equal, temperature):
    """Symmetric InfoNCE over cosines. query, target (n, V) sparse.
    -> loss, touched rows, d loss / d rows"""
    n = query.shape[0]
    both = sp.vstack([query, target]).tocsr()
    touched, local = np.unique(both.indices, return_inverse=True)
    both = sp.csr_matrix((both.data, local, both.indptr), shape=(2 * n, len(touched)))
    sums = both @ vectors[touched]
    norms = np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-6)
    units = sums / norms
    logits = units[:n] @ units[n:].T / np.float32(temperature)
    logits[equal] = -1e9

    def softmax(x):
        e = np.exp(x - x.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)
    forth, back = softmax(logits), softmax(logits.T).T
    diagonal = np.arange(n)
    loss = -0.5 * (np.log(forth[diagonal, diagonal] + 1e-12)
                   + np.log(back[diagonal, diagonal] + 1e-12)).mean()
    slope = (forth + back) * 0.5
    slope[diagonal, diagonal] -= 1
    slope /= n * np.float32(temperature)
    step = np.vstack([slope @ units[n:], slope.T @ units[:n]])
    step = (step - units * (step * units).sum(axis=1, keepdims=True)) / norms
    return float(loss), touched, both.T @ step


class Adam:
    """Moments of the touched rows alone (as for sparse gradients)."""

    def __init__(self, like, beta1=0.9, beta2=0.99):
        self.first, self.second = np.zeros_like(like), np.zeros_like(like)
        self.beta1, self.beta2, self.count = beta1, beta2, 0

    def step(self, vectors, touched, slope, rate):
        self.count += 1
        first = self.beta1 * self.first[touched] + (1 - self.beta1) * slope
        second = self.beta2 * self.second[touched] + (1 - self.beta2) * slope * slope
        self.first[touched], self.second[touched] = first, second
        first = first / (1 - self.beta1 ** self.count)
        second = np.sqrt(second / (1 - self.beta2 ** self.count))
        vectors[touched] -= np.float32(rate) * first / (second + np.float32(1e-8))


# How often a batch comes from where; "asked" are the questions.
MIXTURE = {"asked": 0.5, "squad1.1-train-wikipedia": 0.3, "medquad": 0.15, "english-novels": 0.05}


def contrast(vectors, material, parts, steps, rate, temperature, random, batch=512, run=16,
             split=0.1):
    """split: the share of words that a batch sees as their pieces, which so learn to stand in."""
    vectors = vectors / np.median(np.linalg.norm(vectors, axis=1)).astype(np.float32)
    adam, size = Adam(vectors), len(vectors)
    splittable = parts.getnnz(axis=1) > 0
    names, seen = list(MIXTURE), {}
    for number in range(steps):
        name = names[random.choice(len(names), p=list(MIXTURE.values()))]
        query, target, group = (material.asked(batch, run, random) if name == "asked"
                                else material.cloze(name, batch, run, random))
        equal = group[:, None] == group[None]
        np.fill_diagonal(equal, False)
        cut = ((random.random(size) < split) & splittable).astype(np.float32)
        change = (sp.diags(1 - cut) + sp.diags(cut) @ parts).tocsr()
        loss, touched, slope = gradient(vectors, (query @ change).tocsr(),
                                        (target @ change).tocsr(), equal, temperature)
        decay = min(1, (number + 1) / 50) * max(0.02, 1 - number / steps)
        adam.step(vectors, touched, slope, rate * decay)
        seen.setdefault(name, []).append(loss)
        if (number + 1) % 250 == 0:
            losses = (f"{n} {np.mean(v):.3f}" for n, v in sorted(seen.items()))
            say(f"  step {number + 1}: {', '.join(losses)}")
            seen = {}
    return vectors


# ---- 7. output ---------------------------------------------------------------------------------

def quantise(vectors, clip=99.99):
    top = np.percentile(np.abs(vectors), clip)
    return np.clip(np.rint(vectors * (127 / top)), -127, 127).astype(np.int8)


def write(out, tokenizer, eight):
    os.makedirs(out, exist_ok=True)
    header = json.dumps({"embeddings": {"dtype": "I8", "shape": list(eight.shape),
                                        "data_offsets": [0, eight.size]}},
                        separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    with open(os.path.join(out, "model.safetensors"), "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header + eight.tobytes())
    with open(os.path.join(out, "tokenizer.json"), "w", encoding="utf-8") as file:
        json.dump(json.loads(tokenizer.to_str()), file, ensure_ascii=False, separators=(",", ":"))
    with open(os.path.join(out, "config.json"), "w", encoding="utf-8") as file:
        json.dump({"model_type": "model2vec", "architectures": ["StaticModel"],
                   "tokenizer_name": "lethe-static", "normalize": True, "max_length": None,
                   "hidden_dim": eight.shape[1], "embedding_dtype": "int8"}, file, indent=1)
        file.write("\n")
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        with open(os.path.join(out, name), "rb") as file:
            data = file.read()
        say(f"{hashlib.sha256(data).hexdigest()}  {name}  {len(data)} bytes")


# ---- all of it ---------------------------------------------------------------------------------

def prepare(args):
    paragraphs, pairs = corpus(args.data)
    say(f"{len(paragraphs)} paragraphs, {len(pairs)} questions")
    vocabulary = vocabulary_of(word_weights(paragraphs, args.novels), args.words, args.pieces)
    tokenizer = new_tokenizer(vocabulary)
    say(f"vocabulary of {len(vocabulary)}")
    sentences, text_of = [], []
    for number, (_, _, _, text) in enumerate(paragraphs):
        parts = SENTENCE.split(text)
        sentences += parts
        text_of += [number] * len(parts)
    passages = {}
    for _, passage, number in pairs:
        passages.setdefault(number, passage)
    size, text_of = len(vocabulary), np.array(text_of)
    ids, starts = encode(tokenizer, sentences)
    sentence_bags = bags(ids, starts, size)
    material = Material(
        bags(*encode(tokenizer, [question for question, _, _ in pairs]), size),
        bags(*encode(tokenizer, [passages[n] for n in range(len(passages))]), size),
        np.array([number for _, _, number in pairs]), sentence_bags,
        (members(text_of, len(paragraphs)) @ sentence_bags).tocsr(),
        bags(*encode(tokenizer, [title for _, _, title, _ in paragraphs]), size),
        np.array([source for source, _, _, _ in paragraphs]),
        np.array([document for _, document, _, _ in paragraphs]), text_of)
    owner = np.repeat(text_of, np.diff(starts))
    weights = np.array([SOURCE_WEIGHT[source] for source, _, _, _ in paragraphs], np.float32)
    say(f"{len(ids)} tokens")
    return vocabulary, tokenizer, ids, owner, weights, material


def initial(args, vocabulary, parts, ids, owner, weights, random):
    frequency = np.bincount(ids, weights[owner], len(vocabulary))
    skip = np.zeros(len(vocabulary), bool)
    skip[np.argsort(-frequency, kind="stable")[:args.function_words]] = True
    counts = cooccur(ids, owner, weights, len(vocabulary), args.window, skip)
    counts, share = lend(counts, parts, vocabulary)
    matrix = ppmi(counts)
    say(f"PPMI: {matrix.nnz} cells")
    vectors = factorise(matrix, args.dimensions, args.power, random)
    say("factorised")
    return weigh(vectors, share @ frequency + 1, 1, args.sif)


def main():
    parser = argparse.ArgumentParser(description="Trains the bundled static embedder.")
    parser.add_argument("--data", required=True, help="has text.jsonl.gz, qa-train.jsonl.gz")
    parser.add_argument("--out", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--words", type=int, default=22000)
    parser.add_argument("--pieces", type=int, default=4500)
    parser.add_argument("--novels", type=float, default=0.0625, help="weight for the vocabulary")
    parser.add_argument("--dimensions", type=int, default=256)
    parser.add_argument("--window", type=int, default=8)
    parser.add_argument("--function-words", type=int, default=150)
    parser.add_argument("--power", type=float, default=0.0, help="of the singular values")
    parser.add_argument("--sif", type=float, default=5e-4)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=3, help="contrastive runs that are averaged")
    parser.add_argument("--rate", type=float, default=2e-3, help="of Adam")
    parser.add_argument("--temperature", type=float, default=0.025)
    args = parser.parse_args()
    random = np.random.default_rng(args.seed)
    vocabulary, tokenizer, ids, owner, weights, material = prepare(args)
    parts = fallback(vocabulary)
    vectors = initial(args, vocabulary, parts, ids, owner, weights, random)
    # Runs from one start lie close together: their mean is better than each, and varies less.
    tuned = [contrast(vectors, material, parts, args.steps, args.rate, args.temperature, one)
             for one in random.spawn(args.runs)]
    vectors = np.mean(tuned, axis=0)
    write(args.out, tokenizer, quantise(vectors))
    say("done")


if __name__ == "__main__":
    main()
