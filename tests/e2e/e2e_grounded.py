"""Grounded answers (G6) over a generator with random weights: what holds for these holds for any."""
import json
import math
import os
import random
import re

from house import check, expect, expect_equal, readers, refusal

NOT_FOUND = "not found in the documents you can read"
SEPARATOR = " ... "
NUMBER_INSIDE = re.compile(r"(?<=\d)(?=[.,:]\d)|(?<=\d[.,:])(?=\d)")
WORDS = ("ferry harbour Ærø café “Gull” tide's 3.5 1,200 7:45 lens keeper (red) sandbank $40 naïve 日本 e-mail "
         "Maren anchors 90 kg over the of and a").split()


def long_text(seed, words=700):
    """Many chunks of odd words, numbers and characters of two and three bytes."""
    r, out = random.Random(seed), []
    while sum(map(len, out)) < words * 6:
        out.append(" ".join(r.choices(WORDS, k=r.randint(4, 14))).capitalize() + r.choice([". ", "! ", "... ", ".\n\n"]))
    return "".join(out)


def is_cut(text, at):
    """Does the place (of characters) lie inside a word or number?"""
    if re.match(r"\w", text[at:at + 1]) and re.match(r"\w", text[at - 1:at] or " "):
        return True
    return any(m.start() == at for m in NUMBER_INSIDE.finditer(text, max(0, at - 3), at + 3))


def expect_spans(text, spans, words):
    """text is the spans of the documents, joined, each of whole words. spans: (document's bytes, start, end)."""
    expect(1 <= len(spans) <= 3, f"{words}: {len(spans)} spans")
    parts = [d[s:e] for d, s, e in spans]
    expect_equal(SEPARATOR.join(p.decode(errors="replace") for p in parts), text, f"{words}: the cited spans and the text")
    for document, start, end in spans:
        whole, a = document.decode(), len(document[:start].decode(errors="replace"))
        b = a + len(document[start:end].decode(errors="replace"))
        expect(not is_cut(whole, a) and not is_cut(whole, b), f"{words}: not whole words: {whole[a - 9:a]}[{whole[a:b]}]{whole[b:b + 9]}")
        expect(whole[a:b].strip() == whole[a:b] and re.search(r"\w", whole[a:b]), f"{words}: no words: '{whole[a:b]}'")


class Library:
    """Documents of ada and bob, as the server gives them back."""

    def __init__(self, town):
        self.town, self.text = town, {}
        for client, name in ((town.ada, "ada"), (town.bob, "bob")):
            for n in range(3):
                document = client.store(f"{name}-{n}.txt", long_text(f"{name}{n}"), share=["group:oncall"])
                self.text[document] = self.get(town.token[name], document)

    def get(self, token, document):
        return self.town.house.lethe(token, "get", document).json["text"].encode()

    def spans(self, citations):
        return [(self.text[c.document], c.start, c.end) for c in citations]


@check("grounded.spans", constraint_off="the answer: ", span_mid_word="not whole words",
       span_of_chunk="cited spans and the text")
def spans(scene):
    """Whatever is sampled, an answer is at most three spans of whole words, and so is what each passage says."""
    town = scene.town("--model", scene.model(d_model=48, layers=2), "--not-found-percent", "0", "--model-threads", "1",
                      "--quota-tokens-per-minute", "0")
    library, r = Library(town), random.Random(6)
    several = later = disagree = 0
    for n in range(40):
        client = r.choice((town.ada, town.bob))
        passages, tokens, final = client.ask(" ".join(r.choices(WORDS, k=3)), passages=r.choice((1, 3, 5, 9)),
                                             repeats=r.choice((1, 2)), order=r.randrange(3), seed=n,
                                             max_tokens=r.choice((1, 4, 40, 120)), temperature=r.choice((0, 1, 3)))
        expect_equal(final.mode, "generative", "mode")
        expect_spans(final.answer, library.spans(final.citations), "the answer")
        expect_equal(b"".join(t.token.text for t in tokens).decode(), final.answer, "the frames' text and the answer")
        expect("group:oncall" in final.label, f"the label: {final.label}")
        read = {(p.document, p.chunk) for p in passages}
        expect({(c.document, c.chunk) for c in final.citations} <= read, "a citation of what was not read")
        for reading in final.readings:
            expect_spans(reading.text, library.spans(reading.spans), "what a passage says")
            expect(len({(c.document, c.chunk) for c in reading.spans}) == 1, "a reading of several passages")
            expect(not (reading.agrees and reading.contradicts), "both agrees and contradicts")
        expect(0 < final.confidence <= 1 and final.log_likelihood < 0, "confidence and likelihood")
        expect(any(x.text == final.answer for x in final.readings) or len(final.readings) > 1, "nobody says the answer")
        several += len(final.citations) > 1
        later += any(c.start > 3000 for c in final.citations)
        disagree += any(x.contradicts for x in final.readings)
    expect(later > 3 and disagree > 3, f"cases: {several} of several spans, {later} of later chunks, {disagree} that disagree")


@check("grounded.cli")
def cli(scene):
    """lethe ask prints what contradicts; --json has it all; --free is free text."""
    town = scene.town("--model", scene.model(d_model=48, layers=2), "--not-found-percent", "0")
    library, token, lethe = Library(town), town.token["ada"], town.house.lethe
    found = lethe(token, "ask", "Who is the keeper of the red lens?").json
    expect_equal(found["mode"], "generative", "mode")
    for text, cites in [(found["answer"], found["citations"]), *((x["text"], x["spans"]) for x in found["readings"])]:
        expect_spans(text, [(library.get(token, c["document"]), c["start"], c["end"]) for c in cites], "lethe ask")
    printed = lethe(token, "ask", "Who is the keeper of the red lens?", json_out=False).out
    expect(printed.startswith(found["answer"]) and f"confidence {found['confidence']:.2f}" in printed, "the printed answer")
    against = [x for x in found["readings"] if x["contradicts"]]
    expect(bool(against) == ("other passages say otherwise:" in printed) and all(x["text"] in printed for x in against),
           "the contradictions printed")
    free = lethe(token, "ask", "Who is the keeper of the red lens?", "--free").json
    expect_equal((free["mode"], "readings" in free, free["usage"]["output_tokens"]), ("generative", False, 64), "free text")
    expect(all(free["answer"] != library.text[c["document"]][c["start"]:c["end"]].decode() for c in free["citations"]),
           "free text is a passage")


def nothing_to_read(town):
    """Whether a document is absent, denied or erased, cay gets the same bytes."""
    request = town.cay.pb.AskRequest(question="Who is the harbour master of Ærø?")
    secret = "The harbour master of Ærø is Maren."
    absent = town.cay.seen("Answers/Ask", request)
    town.bob.store("secret.txt", secret)
    denied = town.cay.seen("Answers/Ask", request)
    own = town.cay.store("own.txt", secret)
    expect(town.cay.seen("Answers/Ask", request) != absent, "cay's own document makes a difference")
    town.cay.erase(document=own)
    erased = town.cay.seen("Answers/Ask", request)
    expect_equal(denied, absent, "an answer where the document is denied, and where it is absent")
    expect_equal(erased, absent, "an answer where the document was erased, and where it is absent")
    _, tokens, final = town.cay.ask("Who is the harbour master of Ærø?")
    expect_equal((final.mode, final.answer, len(final.citations)), ("none", NOT_FOUND, 0), "what is said")
    expect_equal(b"".join(t.token.text for t in tokens).decode(), NOT_FOUND, "what is streamed")
    printed = town.house.lethe(town.token["cay"], "ask", "Who is the harbour master?", json_out=False)
    expect_equal((printed.code, printed.out), (0, NOT_FOUND + "\n"), "lethe ask")


@check("grounded.not_found", not_found_differs="read, and nothing found")
def not_found(scene):
    """Absent, denied, erased, or all read and nothing found: the same words; the first three the same bytes."""
    for options in ((), ("--model", scene.model(d_model=48, layers=2, name="m")),):
        town = scene.town(*options, name="data" + str(len(options)))
        nothing_to_read(town)
    # A long answer of random words is unlikelier than no answer.
    document = town.cay.store("long.txt", long_text(1))
    passages, _, final = town.cay.ask("Who is the harbour master of Ærø?", max_tokens=60)
    expect(len(passages) == 5 and passages[0].document == document, "passages are read")
    expect_equal((final.mode, final.answer, final.end_reason, len(final.citations), readers(final.label)),
                 ("none", NOT_FOUND, "none", 0, {"user:cay"}), "read, and nothing found")
    expect(final.log_likelihood_none > final.log_likelihood, "the likelihoods that decided")


def marking_model(scene, **marks):
    """Random weights that are declared to mark their answers."""
    folder = scene.model(d_model=48, layers=2, name="marks")
    path = os.path.join(folder, "config.json")
    with open(path) as f:
        config = json.load(f)
    config["lethe"] = {"start": 60, "stop": 61, "none": 62, "seen": 63, "writes": False, "frequent": ["the", "and"], **marks}
    with open(path, "w") as f:
        json.dump(config, f)
    return folder


ACCENTS = ("The keeper of Ærø's cafe\u0301 is Ame\u0301lie; the A\u030angstro\u0308m lens weighs 3.5 kg.\r\n"
           "Mu\u0308ller, (e\u0301cole) 7:45.")
ACCENTED = "Who keeps Ame\u0301lie's cafe\u0301? ", " Wer ist Mu\u0308ller?"


@check("grounded.marked", span_mid_word="not whole words", span_of_chunk="cited spans and the text",
       contradiction_hidden="contradicts")
def marked(scene):
    """A model that marks: one span of whole words, of the document's bytes, also of those that NFC would change."""
    town = scene.town("--model", marking_model(scene, sentences_tokens=120), "--not-found-percent", "0",
                      "--quota-tokens-per-minute", "0")
    library, r = Library(town), random.Random(8)
    for n in range(3):
        document = town.ada.store(f"accents-{n}.txt", ACCENTS + "\n\n" + long_text(f"more{n}", 40), share=["group:oncall"])
        library.text[document] = library.get(town.token["ada"], document)
    several = against = accents = 0
    for n in range(40):
        client = r.choice((town.ada, town.bob))
        question = " ".join(r.choices(WORDS, k=4)) if n % 2 else r.choice(ACCENTED)
        passages, tokens, final = client.ask(question, passages=r.choice((1, 3, 5)), repeats=r.choice((1, 2, 4)),
                                             order=r.randrange(3))
        expect_equal((final.mode, final.end_reason, len(final.citations)), ("generative", "stop", 1), "what is said")
        expect_spans(final.answer, library.spans(final.citations), "the answer")
        expect_equal(b"".join(t.token.text for t in tokens).decode(), final.answer, "the frames' text and the answer")
        expect("group:oncall" in final.label, f"the label: {final.label}")
        expect(0 < final.confidence <= 1 and final.log_likelihood < 0 and final.log_likelihood_none < 0, "the likelihoods")
        read = {(p.document, p.chunk) for p in passages}
        expect({(c.document, c.chunk) for c in final.citations} <= read, "a citation of what was not read")
        for reading in final.readings:
            expect_spans(reading.text, library.spans(reading.spans), "what a passage says")
            rival = not reading.agrees and reading.log_likelihood >= final.log_likelihood + math.log(0.25)
            expect_equal(reading.contradicts, rival, f"contradicts: '{reading.text}' and '{final.answer}'")
            against += rival
            accents += "\u0301" in reading.text or "\u0308" in reading.text
        expect(any(x.text == final.answer for x in final.readings), "no passage says the answer")
        several += len(final.readings) > 1
    expect(several > 5 and against > 3 and accents > 5,
           f"{several} of several passages, {against} rivals, {accents} with accents")
    expect_equal(refusal(lambda: town.ada.ask("Who?", free_text=True)), "FAILED_PRECONDITION", "free text")
    printed = town.house.lethe(town.token["ada"], "ask", "Who is the keeper?", "--free", json_out=False)
    expect(printed.code != 0 and "does not write free text" in printed.err, f"lethe ask --free: {printed.err}")


@check("grounded.marked_alone")
def marked_alone(scene):
    """What others store, ask and erase is nothing to an asker's marked answer: two runs, the same answers."""
    seen = []
    for busy in (False, True):
        town = scene.town("--model", marking_model(scene), "--not-found-percent", "0", name=f"data{busy}")
        request = town.cay.pb.AskRequest(question="Who is the keeper of the red lens?", passages=3)
        told = []
        for n in range(4):
            town.cay.store(f"mine-{n}.txt", f"The keeper of the red lens is Maren {n}. " + long_text(n, 60))
            if busy:
                other = town.bob.store(f"other-{n}.txt", "The keeper of the red lens is Ivo. " + long_text(n + 50, 100))
                town.bob.ask("Who is the keeper of the red lens?", repeats=2)
                if n % 2:
                    town.bob.erase(document=other)
            _, _, final = town.cay.ask("Who is the keeper of the red lens?", passages=3)
            told.append((final.answer, [(c.start, c.end) for c in final.citations], final.confidence, final.log_likelihood,
                         final.log_likelihood_none, final.usage.input_tokens,
                         [(x.text, x.log_likelihood, x.agrees, x.contradicts) for x in final.readings]))
        before = town.cay.seen("Answers/Ask", request)
        other = town.bob.store("late.txt", "The keeper of the red lens is Ivo.")
        expect_equal(town.cay.seen("Answers/Ask", request), before, "an answer, and the same beside another's document")
        town.bob.erase(document=other)
        expect_equal(town.cay.seen("Answers/Ask", request), before, "an answer, and the same after another's erasure")
        seen.append(told)
    expect(len({str(t) for t in seen[0]}) > 1, "all four answers are alike")
    expect_equal(seen[1], seen[0], "the answers beside others, and alone")


@check("grounded.marked_not_found", not_found_differs="read, and nothing found")
def marked_not_found(scene):
    """Absent, denied, erased, or read and not found, where the model marks: the same words."""
    town = scene.town("--model", marking_model(scene, none_bias=20))
    nothing_to_read(town)
    document = town.cay.store("long.txt", long_text(1))
    passages, _, final = town.cay.ask("Who is the harbour master of Ærø?")
    expect(len(passages) == 5 and passages[0].document == document, "passages are read")
    expect_equal((final.mode, final.answer, final.end_reason, len(final.citations), readers(final.label)),
                 ("none", NOT_FOUND, "none", 0, {"user:cay"}), "read, and nothing found")
    expect(final.log_likelihood_none > final.log_likelihood, "the likelihoods that decided")
    expect(final.usage.input_tokens > 500, "the tokens read")
