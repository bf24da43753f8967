"""Batches for the generator, from generator_data.py's pack. Numpy alone; the same seed, the same batches.

A question's example is the prompt that the server builds (server/prompt.c), the answer and END behind it:

    question first:   "Question: " Q gap, then repeats times (each passage, gap), "Question: " Q "\\nAnswer:" A END
    passages first:   repeats times (each passage, gap), then for each of up to `packed` questions of one
                      passage "Question: " Q "\\nAnswer:" A END; the passages are read once for all of them

A is NONE where the passages do not say. With the question first, each reading of the passages is also
marked: the logit of START behind a token says that the answer starts with it, that of END_MARK that it ends
with it, that of NONE behind the last gap that it is not there. A softmax over the reading, no token is spent.
With "seen", SEEN stands in front of each token of such a reading whose stem the question has: a small model does not
learn to look words up in the time there is. Passages that are read before the question have none.
"""
import numpy as np

END, PADDING, NONE, START, STOP, SEEN = range(6)

# How examples vary. context: tokens of one reading, drawn in between; passages: at most so many in one.
MIXTURE = {"context": (32, 128), "passages": 1, "several": 0.3, "none": 0.2, "repeats": 0.5, "first": 1.0,
           "packed": 4, "invented": 0.5, "seen": True}


class Pack:
    """pack.npz, with lists of one passage or question by number."""

    def __init__(self, path):
        with np.load(path) as f:
            self.all = {name: f[name] for name in f.files}
        a = self.all
        self.cue_question, self.cue_gap, self.cue_answer = a["cue_question"], a["cue_gap"], a["cue_answer"]
        self.of, self.answer, self.article, self.text = a["of"], a["answer"], a["article"], a["text"]
        self.first_of = np.searchsorted(self.of, np.arange(len(self.article) + 1))
        self.ordinary = np.flatnonzero(~a["invented"][self.of])
        self.made_up = np.flatnonzero(a["invented"][self.of])

    def part(self, name, index, number):
        starts = self.all[index]
        return self.all[name][starts[number]:starts[number + 1]]

    def passage(self, number):
        return self.part("words", "passage", number)

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


def context(pack, question, mixture, random):
    """-> tokens of one reading, their stems, (begin, end) of the answer in it or None"""
    low, high = mixture["context"]
    budget = int(random.integers(low, high + 1))
    count = int(random.integers(2, mixture["passages"] + 1)) \
        if mixture["passages"] > 1 and random.random() < mixture["several"] else 1
    number, (begin, end) = pack.of[question], pack.answer[question]
    answered = random.random() >= mixture["none"]
    parts = [distractor(pack, question, budget // count, random) for _ in range(count - answered)]
    parts, place = [p for p in parts if p], -1
    if answered or not parts:
        place = int(random.integers(len(parts) + 1))
        parts.insert(place, (number, *window(pack, number, (begin, end), budget // count, random)))
    tokens, stems, found, gap = [], [], None, pack.cue_gap
    for i, (passage, a, b) in enumerate(parts):
        if i == place:
            at = sum(map(len, tokens))
            found = (at + begin - a, at + end - a)
        tokens += [pack.passage(passage)[a:b], gap]
        stems += [pack.part("stem", "passage", passage)[a:b], np.zeros(len(gap), np.uint16)]
    return np.concatenate(tokens), np.concatenate(stems), found


def example(pack, question, mixture, random):
    """-> ids, weights of the target behind each token (0: none), marks [(begin, end, start, stop)]: a reading's
    tokens [begin, end), the places of the answer's first and last token or end - 1 twice."""
    read, stems, span = context(pack, question, mixture, random)
    asked = pack.part("asked", "question", question)
    repeats = 2 if random.random() < mixture["repeats"] else 1
    if random.random() >= mixture["first"]:
        return passages_first(pack, question, read, span, repeats, mixture, random)
    if mixture["seen"]:
        read, span = flagged(read, stems, pack.part("asked_stem", "question", question), span)
    ids, marks = [pack.cue_question, asked, pack.cue_gap], []
    at = sum(map(len, ids))
    for _ in range(repeats):
        place = (at + span[0], at + span[1] - 1) if span else (at + len(read) - 1,) * 2
        marks.append((at, at + len(read), *place))
        ids.append(read)
        at += len(read)
    told = pack.part("told", "tell", question) if span else [NONE]
    ids += [pack.cue_question, asked, pack.cue_answer]
    at = sum(map(len, ids))
    ids = np.concatenate(ids + [told, [END]]).astype(np.int64)
    weights = np.zeros(len(ids), np.float32)
    weights[at - 1:-1] = 1
    return ids, weights, marks


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
    return np.concatenate(ids).astype(np.int64), np.concatenate(weights), []


def flagged(read, stems, asked_stems, span):
    """SEEN in front of the words whose stem the question has. -> tokens, span moved along"""
    hits = (stems > 0) & np.isin(stems, asked_stems)
    where = np.arange(len(read)) + np.cumsum(hits)          # a token's new place
    out = np.full(len(read) + int(hits.sum()), SEEN, read.dtype)
    out[where] = read
    return out, span and (int(where[span[0]]), int(where[span[1] - 1]) + 1)


def padded(examples):
    """-> ids (B,T) i64, weights (B,T) f32, marks (M,5) i64: row, begin, end, start, stop"""
    longest = -(-max(len(e[0]) for e in examples) // 16) * 16
    ids = np.full((len(examples), longest), PADDING, np.int64)
    weights = np.zeros(ids.shape, np.float32)
    marks = []
    for row, (tokens, weight, places) in enumerate(examples):
        ids[row, :len(tokens)], weights[row, :len(tokens)] = tokens, weight
        marks += [(row, *place) for place in places]
    return ids, weights, np.array(marks, np.int64).reshape(-1, 5)


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
        out.append((ids, weights, np.zeros((0, 5), np.int64)))
    return out
