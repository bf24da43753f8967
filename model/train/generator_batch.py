"""Batches for the generator, from generator_data.py's pack. Numpy alone; the same seed, the same batches.

A question's example is the prompt that the server builds, the answer and END behind it:

    question first:   "Question: " Q gap, then (each passage, gap), read twice backward as well and a gap,
                      then where an answer is written "Question: " Q "\\nAnswer:" A END
    passages first:   repeats times (each passage, gap), then for each of up to `packed` questions of one
                      passage "Question: " Q "\\nAnswer:" A END; the passages are read once for all of them

A is NONE where the passages do not say. With the question first, the reading is also marked: the logit of START
behind a token says that the answer starts with it, that of STOP that it ends with it, that of NONE behind the last
gap that it is not there; read twice, a token's logits of both readings are added. A softmax over the places, no token is
spent. Backward (the words from last to first) since a token's state knows what stands before it alone: what comes behind
it, the second reading has read.
With "seen", SEEN stands in front of each token of such a reading whose stem the question has: a small model does not
learn to look words up in the time there is. Passages that are read before the question have none.
"""
import concurrent.futures
import multiprocessing

import numpy as np

END, PADDING, NONE, START, STOP, SEEN = range(6)

# How examples vary. context: tokens of one reading, drawn in between; passages: at most so many are read (or chosen
# from); several: how often more than one; narrow: how often the best sentences instead of passages;
# spoken: the answer is written as well; swapped: how often a word of the question is replaced, so that it has no answer.
MIXTURE = {"context": (32, 128), "passages": 1, "several": 0.3, "none": 0.2, "repeats": 0.5, "first": 1.0,
           "packed": 4, "invented": 0.5, "seen": True, "narrow": 0.0, "spoken": True, "swapped": 0.0}

ALIKE = 12


class Pack:
    """pack.npz, with lists of one passage or question by number."""

    def __init__(self, path):
        with np.load(path) as f:
            self.all = {name: f[name] for name in f.files}
        a = self.all
        self.cue_question, self.cue_gap, self.cue_answer = a["cue_question"], a["cue_gap"], a["cue_answer"]
        self.of, self.answer, self.article, self.text = a["of"], a["answer"], a["article"], a["text"]
        self.first_of = np.searchsorted(self.of, np.arange(len(self.article) + 1))
        self.weight, self.cut = self.informations(), {}
        self.vectors, self.near = a["vectors"].astype(np.float32), {}
        self.ordinary = np.flatnonzero(~a["invented"][self.of])
        self.made_up = np.flatnonzero(a["invented"][self.of])

    def part(self, name, index, number):
        starts = self.all[index]
        return self.all[name][starts[number]:starts[number + 1]]

    def passage(self, number):
        return self.part("words", "passage", number)

    def informations(self):
        """(65536,) f32: each stem's inverse document frequency over the passages; 0 for those never looked up"""
        stems, starts = self.all["stem"], self.all["passage"]
        count = np.zeros(65536)
        for begin, end in zip(starts[:-1], starts[1:]):
            count[np.unique(stems[begin:end])] += 1
        out = np.log((len(starts) + 1) / (count + 1))
        out[0] = 0
        return out.astype(np.float32)

    def alike(self, token):
        """The tokens of its kind that stand among the same neighbours"""
        if token not in self.near:
            others = np.flatnonzero(self.all["kind"] == self.all["kind"][token])
            order = np.argsort(-(self.vectors[others] @ self.vectors[token]), kind="stable")
            self.near[token] = [int(t) for t in others[order[:ALIKE + 1]] if t != token]
        return self.near[token]

    def sentence_stems(self, number):
        """[(begin, end, set of stems)] of a passage's sentences"""
        if number not in self.cut:
            ends, stems = self.sentences(number).tolist(), self.part("stem", "passage", number)
            self.cut[number] = [(a, b, set(stems[a:b].tolist())) for a, b in zip(ends[:-1], ends[1:])]
        return self.cut[number]

    def sentences(self, number):
        return np.append(self.part("sentences", "sentence", number), len(self.passage(number))).astype(np.int64)


def window(pack, number, keep, budget, random):
    """Whole sentences of a passage around the tokens keep, at most about budget tokens. -> begin, end"""
    ends = pack.sentences(number)
    if ends[-1] <= budget:
        return 0, int(ends[-1])
    low = int(np.searchsorted(ends, keep[0], "right")) - 1
    high = max(low + 1, int(np.searchsorted(ends, keep[1], "left")))
    while True:
        sides = [s for s in (0, 1) if (low > 0 if s == 0 else high + 1 < len(ends))]
        sides = [s for s in sides if (ends[high] - ends[low - 1] if s == 0 else ends[high + 1] - ends[low]) <= budget]
        if not sides:
            return int(ends[low]), int(ends[high])
        if sides[random.integers(len(sides))] == 0:
            low -= 1
        else:
            high += 1


def distractor(pack, question, budget, random):
    """Sentences that do not answer: of the same passage, else of a neighbour in the article. -> passage, begin, end, or
    None"""
    number, (begin, end) = pack.of[question], pack.answer[question]
    ends = pack.sentences(number)
    told = pack.passage(number)[begin:end]
    if len(ends) > 3 and random.random() < 0.5:
        at = random.integers(ends[-1])
        piece = window(pack, number, (at, at + 1), budget, random)
        if (piece[1] <= begin or piece[0] >= end) and not holds(pack.passage(number)[slice(*piece)], told):
            return (number, *piece)
    near = int(number) + int(random.integers(1, 4)) * (1 if random.random() < 0.5 else -1)
    if not 0 <= near < len(pack.article) or pack.article[near] != pack.article[number] or random.random() < 0.1:
        near = int(random.integers(len(pack.article)))
    at = random.integers(len(pack.passage(near)))
    piece = window(pack, near, (at, at + 1), budget, random)
    return None if near == number or holds(pack.passage(near)[slice(*piece)], told) else (near, *piece)


def holds(text, told):
    """Whether the tokens occur in the text."""
    hits = np.flatnonzero(text[:len(text) - len(told) + 1] == told[0]) if len(told) <= len(text) else []
    return any(np.array_equal(text[h:h + len(told)], told) for h in hits)


def ranked(pack, question, passages, skip):
    """[(passage, begin, end)] of the passages' sentences, those that carry most of the question's information first.
    skip(passage, begin, end): leave it out"""
    asked = set(pack.part("asked_stem", "question", question).tolist())
    found = []
    for number in passages:
        for begin, end, stems in pack.sentence_stems(number):
            if not skip(number, begin, end):
                told = sum(float(pack.weight[s]) for s in sorted(asked & stems))
                found.append((-told, len(found), (number, begin, end)))
    return [piece for _, _, piece in sorted(found)]


def best_sentences(pack, question, mixture, budget, random):
    """What the server's reader would hand on: whole sentences, best first, at most about budget tokens. -> pieces,
    the answer's place among them or -1"""
    number, (begin, end) = pack.of[question], pack.answer[question]
    passages = [int(number)]
    if mixture["passages"] > 1 and random.random() < mixture["several"]:
        near = number + 1 + np.arange(int(random.integers(1, mixture["passages"])))
        passages += [int(n) for n in near if n < len(pack.article) and pack.article[n] == pack.article[number]]
    told, left_out = pack.passage(number)[begin:end], random.random() < mixture["none"]

    def skip(passage, a, b):
        if passage == number and a <= begin < b:
            return left_out
        return holds(pack.passage(passage)[a:b], told)      # which of two is meant could not be said
    chosen, total = [], 0
    for piece in ranked(pack, question, passages, skip):
        size = piece[2] - piece[1]
        if not chosen or total + size <= budget:
            chosen.append(piece)
            total += size
    place = [i for i, (p, a, b) in enumerate(chosen) if p == number and a <= begin and end <= b]
    return chosen, place[0] if place else -1


def context(pack, question, mixture, random):
    """-> tokens of one reading, their stems, (begin, end) of the answer in it or None"""
    low, high = mixture["context"]
    budget = int(random.integers(low, high + 1))
    count = int(random.integers(2, mixture["passages"] + 1)) \
        if mixture["passages"] > 1 and random.random() < mixture["several"] else 1
    number, (begin, end) = pack.of[question], pack.answer[question]
    if random.random() < mixture["narrow"]:
        parts, place = best_sentences(pack, question, mixture, budget, random)
        if parts:
            return joined(pack, question, parts, place)
    answered = random.random() >= mixture["none"]
    parts = [distractor(pack, question, budget // count, random) for _ in range(count - answered)]
    parts, place = [p for p in parts if p], -1
    if answered or not parts:
        place = int(random.integers(len(parts) + 1))
        parts.insert(place, (number, *window(pack, number, (begin, end), budget // count, random)))
    return joined(pack, question, parts, place)


def joined(pack, question, parts, place):
    """The pieces (passage, begin, end) as one reading; the answer's is parts[place]."""
    begin, end = pack.answer[question]
    tokens, stems, found, gap = [], [], None, pack.cue_gap
    for i, (passage, a, b) in enumerate(parts):
        if i == place:
            at = sum(map(len, tokens))
            found = (at + begin - a, at + end - a)
        tokens += [pack.passage(passage)[a:b], gap]
        stems += [pack.part("stem", "passage", passage)[a:b], np.zeros(len(gap), np.uint16)]
    return np.concatenate(tokens), np.concatenate(stems), found


def example(pack, question, mixture, random):
    """-> ids, weights of the target behind each token (0: none), marks: None or (begin, end, start, stop, other): the
    first reading's tokens [begin, end), the places of the answer's first and last token in it or end - 1 twice, and (end -
    begin,) the same tokens' places in the second reading, -1 where it is read once."""
    read, stems, span = context(pack, question, mixture, random)
    asked = pack.part("asked", "question", question)
    repeats = 2 if random.random() < mixture["repeats"] else 1
    looked_up = pack.part("asked_stem", "question", question) if mixture["seen"] else np.zeros(len(asked), np.uint16)
    if span and mixture["swapped"] and random.random() < mixture["swapped"]:
        changed = swapped(pack, asked, looked_up, read, stems, random)
        if changed:
            asked, looked_up, span = *changed, None
    if random.random() >= mixture["first"]:
        return passages_first(pack, question, read, span, repeats, mixture, random)
    hits = (stems > 0) & np.isin(stems, looked_up)
    told_of = (looked_up > 0) & np.isin(looked_up, stems)
    ids = [pack.cue_question, flagged(asked, told_of, np.arange(len(asked)))[0], pack.cue_gap]
    at = sum(map(len, ids))
    once, places = flagged(read, hits, np.arange(len(read)))
    ids.append(once)
    other = np.full(len(once), -1)
    if repeats == 2:
        order = turned(pack, read)
        again, later = flagged(read, hits, order)
        ids += [again, pack.cue_gap]
        other[places] = at + len(once) + later
        other[-1] = at + len(once) + len(again) + len(pack.cue_gap) - 1
    ends = (places[span[0]], places[span[1] - 1]) if span else (len(once) - 1,) * 2
    marks = (at, at + len(once), at + ends[0], at + ends[1], other)
    if not mixture["spoken"]:
        ids = np.concatenate(ids).astype(np.int64)
        return ids, np.zeros(len(ids), np.float32), marks
    told = pack.part("told", "tell", question) if span else [NONE]
    ids += [pack.cue_question, asked, pack.cue_answer]
    at = sum(map(len, ids))
    ids = np.concatenate(ids + [told, [END]]).astype(np.int64)
    weights = np.zeros(len(ids), np.float32)
    weights[at - 1:-1] = 1
    return ids, weights, marks


def swapped(pack, asked, looked_up, read, stems, random):
    """A word of the question that the passages have is replaced by one of its kind that they have not (another name, another
    number), or by its opposite: what a reader who only looks for likeness does not notice. -> tokens, stems; None where no
    word is fit"""
    ends = np.append(pack.all["begins"][asked[1:]], True)
    ends[-2:] = True                                      # the last may be a question mark
    fit = [i for i in np.flatnonzero(ends) if pack.all["opposite"][asked[i]] or
           (pack.all["kind"][asked[i]] and looked_up[i] and looked_up[i] in stems)]
    if not fit:
        return None
    at = fit[int(random.integers(len(fit)))]
    new = int(pack.all["opposite"][asked[at]])
    if not new:
        others = [t for t in pack.alike(int(asked[at])) if t not in read and t not in asked]
        if not others:
            return None
        new = others[int(random.integers(len(others)))]
    asked, looked_up = asked.copy(), looked_up.copy()
    asked[at], looked_up[at] = new, 0
    return asked, looked_up


def turned(pack, read):
    """The order of the tokens of the second reading: the words from last to first, a word's tokens as they are. A
    token that begins with white space begins a word."""
    word = np.cumsum(pack.all["begins"][read])
    return np.argsort(-word, kind="stable")


def flagged(read, hits, order):
    """The tokens in that order, SEEN in front of those with hits. -> tokens, (len(read),) each token's place"""
    places = np.empty(len(read), np.int64)
    places[order] = np.arange(len(read)) + np.cumsum(hits[order])
    out = np.full(len(read) + int(hits.sum()), SEEN, read.dtype)
    out[places] = read
    return out, places


def passages_first(pack, question, read, span, repeats, mixture, random):
    """Several questions behind one reading: others of the passage whose answers are in what was read."""
    ids, weights = [read] * repeats, [np.zeros(len(read) * repeats, np.float32)]
    number = pack.of[question]
    others = np.arange(pack.first_of[number], pack.first_of[number + 1]) if span else []
    others = [q for q in others if q != question and holds(read, pack.passage(number)[slice(*pack.answer[q])])]
    chosen = [question] + [others[i] for i in random.permutation(len(others))[:mixture["packed"] - 1]]
    for q in chosen:
        told = pack.part("told", "tell", q) if span else [NONE]
        cue = np.concatenate([pack.cue_question, pack.part("asked", "question", q), pack.cue_answer])
        ids += [cue, told, [END]]
        weight = np.zeros(len(cue) + len(told) + 1, np.float32)
        weight[len(cue) - 1:-1] = 1
        weights.append(weight)
    return np.concatenate(ids).astype(np.int64), np.concatenate(weights), None


def padded(examples):
    """-> ids (B,T) i64, weights (B,T) f32, marks (M,5) i64: row, begin, end, start, stop; other (M,T) i64"""
    longest = -(-max(len(e[0]) for e in examples) // 16) * 16
    ids = np.full((len(examples), longest), PADDING, np.int64)
    weights = np.zeros(ids.shape, np.float32)
    marks = [(row, *e[2][:4]) for row, e in enumerate(examples) if e[2]]
    other = np.full((len(marks), longest), -1, np.int64)
    for row, (tokens, weight, _) in enumerate(examples):
        ids[row, :len(tokens)], weights[row, :len(tokens)] = tokens, weight
    for number, (row, begin, end, _, _) in enumerate(marks):
        other[number, begin:end] = examples[row][2][4]
    return ids, weights, np.array(marks, np.int64).reshape(-1, 5), other


def question_batches(pack, mixture, tokens, seed, block, count=2048):
    """The block-th run of about count examples, in batches of at most tokens tokens, padding counted: examples of like
    length together, the batches in random order. Block after block the questions are gone through in random order."""
    pools = [pack.ordinary, pack.made_up]
    random = np.random.default_rng([seed, block])
    share = mixture["invented"] * len(pack.made_up) / len(pack.of) * 2
    chosen = []
    for pool, part in zip(pools, (1 - share, share)):
        size = int(count * part)
        if size == 0 or len(pool) == 0:
            continue
        start, order = block * size, []
        while len(order) < size:                      # a pass over the pool has its own order
            turn, at = divmod(start + len(order), len(pool))
            one = np.random.default_rng([seed, 7, turn]).permutation(len(pool))
            order += list(one[at:at + size - len(order)])
        chosen.append(pool[order])
    examples = [example(pack, int(q), mixture, random) for q in np.concatenate(chosen)]
    examples.sort(key=lambda e: len(e[0]))
    batches, held = [], []
    for e in examples:
        if held and (len(held) + 1) * (-(-len(e[0]) // 16) * 16) > tokens:
            batches.append(held)
            held = []
        held.append(e)
    batches.append(held)
    return [padded(batches[i]) for i in random.permutation(len(batches))]


def text_batches(pack, length, tokens, seed, block, count=64):
    """count batches of text, (tokens // length, length), each token a target."""
    random = np.random.default_rng([seed, 11, block])
    rows = max(1, tokens // length)
    out = []
    for _ in range(count):
        starts = random.integers(0, len(pack.text) - length, rows)
        ids = pack.text[starts[:, None] + np.arange(length)].astype(np.int64)
        weights = np.ones(ids.shape, np.float32)
        weights[:, -1] = 0
        out.append((ids, weights, np.zeros((0, 5), np.int64), np.zeros((0, length), np.int64)))
    return out


# ---- blocks made ahead --------------------------------------------------------------------------

def block_of(pack, stage, tokens, seed, block, count):
    """The block-th list of batches of a plan's stage."""
    if "length" in stage:
        return text_batches(pack, stage["length"], tokens, seed, block)
    mixture = dict(MIXTURE, **{k: v for k, v in stage.items() if k in MIXTURE})
    return question_batches(pack, mixture, tokens, seed, block, count)


OWN = None              # a worker's pack


def worker_open(path):
    global OWN
    OWN = Pack(path)


def worker_block(*arguments):
    return block_of(OWN, *arguments)


class Blocks:
    """Blocks in order, made ahead by processes of their own (0: when they are asked for): a GPU is faster than one."""

    def __init__(self, path, pack, workers):
        self.pack, self.workers, self.ahead = pack, workers, {}
        if workers:
            self.pool = concurrent.futures.ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"),
                                                               worker_open, (path,))

    def get(self, stage, tokens, seed, block, count):
        if not self.workers:
            return block_of(self.pack, stage, tokens, seed, block, count)
        for b in range(block, block + self.workers + 1):
            if (seed, b) not in self.ahead:
                self.ahead[seed, b] = self.pool.submit(worker_block, stage, tokens, seed, b, count)
        return self.ahead.pop((seed, block)).result()

    def close(self):
        if self.workers:
            self.pool.shutdown(cancel_futures=True)
