#!/usr/bin/env python3
"""Prepares the generator's training material: a tokenizer and one packed file of tokens.

    generator_data.py --data DIR --out DIR [--vocabulary N] [--texts-mb N] [--seed N]

The data folder holds text.jsonl.gz and qa-train.jsonl.gz; nothing else in it is opened. Written are
tokenizer.json (byte-level BPE with GPT-NeoX's layout), frequent.json (stems that are never looked up) and pack.npz,
all that training reads: it needs numpy alone. The arrays of pack.npz:

    text (T,) u16                       documents, each behind END
    words (W,) u16, passage (P+1,)      the passages' tokens and where each starts
    sentences (S,) u32, sentence (P+1,) where the sentences of a passage start, counted from its start
    article (P,) u32                    passages of one article share it: their neighbours distract
    asked (Q,) u16, question (Q+1,)     the questions' tokens and where each starts
    of (Q,) u32                         the question's passage
    answer (Q, 2) i32                   its tokens in that passage, [begin, end)
    told (A,) u16, tell (Q+1,)          the answers as they are written behind the cue, with a blank in front
    cue_question, cue_gap, cue_answer   what the prompt puts between (server/prompt.c)
    invented (P,) bool                  names and numbers replaced by made-up ones
    stem (W,) u16, asked_stem           for each token of words and of asked: the number of the stem of the word that
                                        begins with it; 0 within a word, and for frequent words and marks
    begins (V,) bool                    the token begins with white space: reading backward, words are what is turned
    kind (V,) u8                        1 a name's beginning (blank, capital), 2 a number (blank, digits), 0 neither
    opposite (V,) u16                   the token that says the opposite, 0 if there is none
    vectors (V, 256) f16                what the tokens' embeddings start from: tokens with like neighbours are alike

Made-up subjects: a passage is copied, with its questions, and its names and numbers are replaced
consistently, so that what the weights know is of no use. Needs numpy, tokenizers.
"""
import argparse
import collections
import gzip
import json
import os
import random
import re
import time

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers import processors, trainers

# Their ids are their places. NONE: the passages do not say. START and STOP are only ever scored, never read. SEEN
# stands in front of a passage's token whose stem the question has.
SPECIALS = ["<|endoftext|>", "<|padding|>", "<|none|>", "<|start|>", "<|end|>", "<|seen|>"]
END = 0
ANSWER_TOKENS_MAX = 32
CUES = {"cue_question": "Question: ", "cue_gap": "\n\n", "cue_answer": "\nAnswer:"}      # server/prompt.c's
TEXT_SHARE = {"squad1.1-train-wikipedia": 1.0, "medquad": 1.0, "english-novels": 0.5}
SENTENCE = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]*[A-Z0-9])")
OPPOSITES = """first last  north south  northern southern  east west  eastern western  before after  more less  most least
larger smaller  largest smallest  higher lower  highest lowest  longest shortest  older younger  oldest newest  old new
early late  earlier later  earliest latest  start end  began ended  begin end  increase decrease  increased decreased
won lost  win lose  men women  male female  father mother  son daughter  brother sister  husband wife  king queen
above below  inside outside  left right  upper lower  minimum maximum  rich poor  strong weak  high low  big small
long short  hot cold  public private  primary secondary  positive negative  major minor  urban rural  modern ancient
good bad  best worst  better worse  same different  included excluded  accepted rejected  allowed prohibited
joined left  built destroyed  founded dissolved  opened closed  born died  arrived departed  bought sold  rose fell
formal informal  internal external  foreign domestic  winter summer  morning evening  day night  young old""".split()
WORD = re.compile(r"[^\W_]+")
NAME_OR_NUMBER = re.compile(r"\b(?:[A-Z][a-z]{2,}|\d{2,4})\b")
BEGAN = time.time()


def say(text):
    print(f"[{time.time() - BEGAN:6.1f} s] {text}", flush=True)


def rows(path):
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


# ---- tokenizer ---------------------------------------------------------------------------------

def new_tokenizer(texts, size):
    """Byte-level BPE, NFC, the implicit pattern of ByteLevel; the special tokens come first."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(vocab_size=size, min_frequency=2, show_progress=False,
                                  special_tokens=[AddedToken(s, special=True) for s in SPECIALS],
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


# ---- made-up subjects --------------------------------------------------------------------------

ONSETS = "b br c ch d dr f g gr h j k kl l m n p pr qu r s st t th tr v w y z".split()
VOWELS = "a e i o u ai au ea ia io".split()
CODAS = "b ck d l lm m n nd r rn s st t th x".split()


def invent(word, chance):
    """Another number of as many digits, another name that reads like one."""
    if word.isdigit():
        first = chance.choice("123456789") if len(word) != 4 else chance.choice("12")
        return first + "".join(chance.choice("0123456789") for _ in word[1:])
    parts = [chance.choice(ONSETS) + chance.choice(VOWELS) for _ in range(chance.choice((1, 2, 2)))]
    return ("".join(parts) + chance.choice(CODAS)).capitalize()


def invented(group, chance, common):
    """The rows of one passage, their names and numbers replaced alike everywhere, without those whose answer
    would be lost. common: lower-case words that a capital at a sentence's start does not make a name."""
    change = {}

    def replace(match):
        word = match.group()
        if word.lower() in common:
            return word
        if word not in change:
            change[word] = invent(word, chance)
        return change[word]

    def put(text):
        return NAME_OR_NUMBER.sub(replace, text)
    out = []
    for row in group:
        start, text, answer = row["answer_start"], row["context"], row["answers"][0]
        before = put(text[:start])
        if put(text) != before + put(answer) + put(text[start + len(answer):]):
            continue                      # the answer begins or ends within a word
        out.append(dict(row, context=put(text), question=put(row["question"]),
                        answers=[put(answer)], answer_start=len(before)))
    return out


def common_words(groups, least=20):
    """Words that also occur in lower case, by count."""
    count = collections.Counter(w for g in groups for w in re.findall(r"\b[a-z]{3,}\b", g[0]["context"]))
    return {w for w, n in count.items() if n >= least}


# ---- questions made unanswerable ------------------------------------------------------------------

def kinds_of(tokenizer, size):
    texts = [tokenizer.decode([i]) for i in range(size)]
    return np.array([2 if re.fullmatch(r" \d+", t) else 1 if re.fullmatch(r" [A-Z][a-z]{2,}", t) else 0 for t in texts], np.uint8)


def opposites_of(tokenizer, size):
    out = np.zeros(size, np.uint16)
    for pair in zip(OPPOSITES[::2], OPPOSITES[1::2]):
        ids = [tokenizer.encode(" " + word, add_special_tokens=False).ids for word in pair]
        if all(len(i) == 1 for i in ids):
            out[ids[0][0]] = ids[1][0]
            out[ids[1][0]] = out[ids[1][0]] or ids[0][0]
    return out


# ---- vectors -----------------------------------------------------------------------------------

REACH = ((1, 2), (-2, -1), (-8, -3), (3, 8))      # neighbours counted together: places behind a token, both ends


def counted(stream, size, low, high):
    """(size, size) f32: how often the second token stands low to high places behind the first"""
    out = np.zeros(size * size, np.float32)
    for far in range(low, high + 1):
        a, b = (stream[:-far], stream[far:]) if far > 0 else (stream[-far:], stream[:far])
        out += np.bincount(a.astype(np.int64) * size + b, minlength=size * size)
    return out.reshape(size, size)


def information_of(count):
    """Positive pointwise mutual information, the contexts' frequency to the power 0.75 (Levy and others 2015)"""
    context = count.sum(0) ** 0.75
    context /= max(context.sum(), 1e-9)
    expected = count.sum(1, keepdims=True) * context
    return np.log(np.maximum(count, 1e-9) / np.maximum(expected, 1e-9)).clip(0, 12)


def vectors_of(stream, size, width, seed):
    """(size, width) f32, rows of length 1: the main directions of what stands around each token, by random projection
    (Halko and others 2011)."""
    table = np.concatenate([information_of(counted(stream, size, *r)) for r in REACH], 1)
    random = np.random.default_rng(seed)
    basis = random.standard_normal((table.shape[1], width + 16), dtype=np.float32)
    for _ in range(4):
        basis = table.T @ np.linalg.qr(table @ basis)[0]
    left, strength, _ = np.linalg.svd(table @ np.linalg.qr(basis)[0], full_matrices=False)
    out = left[:, :width] * np.sqrt(strength[:width])
    return (out / np.linalg.norm(out, axis=1, keepdims=True).clip(1e-6)).astype(np.float32)


# ---- questions ---------------------------------------------------------------------------------

def words_of(text):
    return {w[:5] for w in re.findall(r"\w{4,}|\d+", text.lower())}


def sentence_starts(text):
    """Characters at which sentences start, the first at 0."""
    return [0] + [m.end() for m in SENTENCE.finditer(text)]


def meant(row, starts):
    """The occurrence of the answer whose sentence shares most with the question: answer_start is only
    the first one."""
    text, answer = row["context"], row["answers"][0]
    asked, best, most = words_of(row["question"]), row["answer_start"], -1
    at = text.find(answer)
    while at >= 0:
        number = np.searchsorted(starts, at, "right") - 1
        end = starts[number + 1] if number + 1 < len(starts) else len(text)
        shared = len(asked & words_of(text[starts[number]:end]))
        edge = (at == 0 or not text[at - 1].isalnum()) and not text[at + len(answer):][:1].isalnum()
        if shared + (100 if edge else 0) > most:
            best, most = at, shared + (100 if edge else 0)
        at = text.find(answer, at + 1)
    return best, best + len(answer)


def tokens_of(offsets, begin, end):
    """The tokens that cover the characters [begin, end); a token's blank in front counts as outside."""
    first = next(i for i, (_, e) in enumerate(offsets) if e > begin)
    last = first
    while last + 1 < len(offsets) and offsets[last + 1][0] < end:
        last += 1
    return first, last + 1


def stem(word):
    """What makes words alike: their first five letters, lower-case."""
    return word.lower()[:5]


def frequent_stems(groups, most=160):
    """Those of the words that occur most: they tell nothing about where an answer is."""
    count = collections.Counter()
    for group in groups:
        for text in [group[0]["context"]] + [row["question"] for row in group]:
            count.update(map(stem, WORD.findall(text)))
    return [w for w, _ in sorted(count.items(), key=lambda x: (-x[1], x[0]))[:most]]


class Pack:
    def __init__(self, tokenizer, frequent):
        self.tokenizer, self.frequent, self.known = tokenizer, set(frequent), {}
        self.lists = collections.defaultdict(list)
        self.counts = collections.Counter()
        self.articles = {}

    def add_passage(self, group, made_up):
        text = group[0]["context"]
        encoded = self.tokenizer.encode(text, add_special_tokens=False)
        starts = sentence_starts(text)
        firsts = sorted({next((i for i, (_, e) in enumerate(encoded.offsets) if e > s), 0) for s in starts})
        number = self.counts["passage"]
        self.counts["passage"] += 1
        self.put("words", "passage", encoded.ids)
        self.lists["stem"].append(self.stems(text, encoded))
        self.put("sentences", "sentence", firsts)
        self.lists["article"].append(self.articles.setdefault(group[0]["title"] or number, len(self.articles)))
        self.lists["invented"].append(made_up)
        for row in group:
            begin, end = tokens_of(encoded.offsets, *meant(row, starts))
            if end - begin > ANSWER_TOKENS_MAX:
                continue
            asked = self.tokenizer.encode(row["question"].strip(), add_special_tokens=False)
            self.put("asked", "question", asked.ids)
            self.lists["asked_stem"].append(self.stems(row["question"].strip(), asked))
            self.put("told", "tell", self.ids(" " + text[slice(*meant(row, starts))]))
            self.lists["of"].append(number)
            self.lists["answer"].append((begin, end))

    def stems(self, text, encoded):
        """(T,) u16, by numbers that stems get as they come (past 65,535 they share 0)."""
        out = np.zeros(len(encoded.ids), np.uint16)
        ends = [end for _, end in encoded.offsets]
        for match in WORD.finditer(text):
            name = stem(match.group())
            if name not in self.frequent:
                number = self.known.setdefault(name, len(self.known) + 1)
                out[np.searchsorted(ends, match.start(), "right")] = number if number < 65536 else 0
        return out

    def ids(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def put(self, name, index, ids):
        self.lists[name].append(np.array(ids, np.uint16 if name != "sentences" else np.uint32))
        self.lists[index].append(len(ids))

    def arrays(self):
        names = ("words", "sentences", "asked", "told", "stem", "asked_stem")
        out = {name: np.concatenate(self.lists[name]) for name in names}
        for index in ("passage", "sentence", "question", "tell"):
            out[index] = np.concatenate([[0], np.cumsum(self.lists[index])]).astype(np.uint32)
        out["article"] = np.array(self.lists["article"], np.uint32)
        out["of"] = np.array(self.lists["of"], np.uint32)
        out["answer"] = np.array(self.lists["answer"], np.int32)
        out.update((name, np.array(self.ids(text), np.uint16)) for name, text in CUES.items())
        out["invented"] = np.array(self.lists["invented"], bool)
        return out


def groups_of(path):
    """Rows of a passage, which stand together."""
    groups = collections.OrderedDict()
    for row in rows(path):
        if row["source"] != "qamr" and row["answer_start"] >= 0:   # elliptical, not about one passage
            groups.setdefault(row["context_id"], []).append(row)
    return list(groups.values())


def texts_of(path, mb, chance):
    """Texts, as many of each source as TEXT_SHARE says, shuffled, at most mb megabytes."""
    left, out = mb * 1e6, []
    for row in rows(path):
        if chance.random() >= TEXT_SHARE[row["source"]]:
            continue
        title = row["title"] + "\n\n" if row["source"] != "english-novels" else ""
        out.append(title + row["text"])
    chance.shuffle(out)
    for number, text in enumerate(out):
        left -= len(text)
        if left < 0:
            return out[:number]
    return out


def main():
    parser = argparse.ArgumentParser(description="Prepares the generator's training material.")
    parser.add_argument("--data", required=True, help="has text.jsonl.gz, qa-train.jsonl.gz")
    parser.add_argument("--out", required=True)
    parser.add_argument("--vocabulary", type=int, default=8192)
    parser.add_argument("--texts-mb", type=float, default=60, help="plain text to keep")
    parser.add_argument("--invented", type=float, default=0.3, help="copies of passages with made-up names")
    parser.add_argument("--passages", type=int, default=0, help="only the first so many (0: all)")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    chance = random.Random(args.seed)
    texts = texts_of(os.path.join(args.data, "text.jsonl.gz"), args.texts_mb, chance)
    groups = groups_of(os.path.join(args.data, "qa-train.jsonl.gz"))
    groups = groups[:args.passages or len(groups)]
    say(f"{len(texts)} texts, {len(groups)} passages")
    # Questions count as often as the text they are about: their words should be whole.
    learnt = [t for t in texts if chance.random() < 0.5] + [r["question"] for g in groups for r in g]
    tokenizer = new_tokenizer(learnt + [g[0]["context"] for g in groups], args.vocabulary)
    os.makedirs(args.out, exist_ok=True)
    tokenizer.save(os.path.join(args.out, "tokenizer.json"))
    say(f"tokenizer of {tokenizer.get_vocab_size()}")
    frequent = frequent_stems(groups)
    pack, common = Pack(tokenizer, frequent), common_words(groups)
    for group in groups:
        pack.add_passage(group, False)
        if chance.random() < args.invented:
            made = invented(group, chance, common)
            if made:
                pack.add_passage(made, True)
    arrays = pack.arrays()
    stream = []
    for at in range(0, len(texts), 256):
        for e in tokenizer.encode_batch(texts[at:at + 256], add_special_tokens=False):
            stream.append(np.array([END] + e.ids, np.uint16))
    arrays["text"] = np.concatenate(stream)
    size = tokenizer.get_vocab_size()
    arrays["vocabulary"] = np.array(size)
    arrays["begins"] = np.array([(tokenizer.id_to_token(i) or "")[:1] in tuple("ĠĊĉč") for i in range(size)])
    arrays["kind"], arrays["opposite"] = kinds_of(tokenizer, size), opposites_of(tokenizer, size)
    arrays["vectors"] = vectors_of(np.concatenate([arrays["text"], arrays["asked"]]), size, min(256, size), args.seed)
    arrays["vectors"] = arrays["vectors"].astype(np.float16)
    say("vectors")
    with open(os.path.join(args.out, "frequent.json"), "w", encoding="utf-8") as f:
        json.dump(frequent, f, ensure_ascii=False, indent=1)
    path = os.path.join(args.out, "pack.npz")
    np.savez(path, **arrays)
    say(f"{len(arrays['text'])} tokens of text, {len(arrays['of'])} questions on {len(arrays['article'])} "
        f"passages ({int(arrays['invented'].sum())} made up), {os.path.getsize(path)} bytes")


if __name__ == "__main__":
    main()
