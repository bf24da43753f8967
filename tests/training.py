#!/usr/bin/env python3
"""The generator's training tools in a tiny configuration on a CPU: data, two slices, export, 8 bits. Prints TAP.

usage: tests/training.py BUILD

Needs torch, numpy and tokenizers for the python3 that runs it; without them it skips, as ./check does on a machine
that has none. Takes under a minute. The texts are the test's own.
"""
import gzip
import json
import os
import random
import struct
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TRAIN = os.path.join(ROOT, "model", "train")
NAMES = "Harbour Quarry Foundry Orchard Granary Tannery Bakery Brewery Smithy Dairy".split()
TEXTS = ["The {n} of {p} was built in {y} by {a}. It burnt down later, in the year {z}. Nobody was hurt that night.",
         "In {y}, {a} opened the {n} near {p}. For {z} weeks there was no roof on it. The children liked the noise."]
number = failed = 0


def report(good, name, detail=""):
    global number, failed
    number += 1
    failed += not good
    print(f"{'ok' if good else 'not ok'} {number} - {name}" + (f"\n# {detail}" if detail else ""), flush=True)


def write(folder):
    """The two files that generator_data.py reads."""
    chance, rows = random.Random(3), []
    for i in range(240):
        f = {"n": chance.choice(NAMES), "p": chance.choice("Alder Birch Cedar Maple Rowan".split()) + "ford",
             "y": chance.randint(1500, 1999), "z": chance.randint(20, 99), "a": chance.choice(["Ines", "Oskar", "Wilma"])}
        text = chance.choice(TEXTS).format(**f)
        for q, a in ((f"When was the {f['n']} of {f['p']} opened?", str(f["y"])),
                     (f"Who built the {f['n']} at {f['p']}?", f["a"])):
            rows.append({"id": str(len(rows)), "title": f"t{i // 8}", "context_id": str(i), "context": text, "question": q,
                         "answers": [a], "answer_start": text.find(a), "source": "test"})
    texts = [{"id": str(i), "title": f"t{i}", "source": "medquad", "text": rows[2 * i]["context"] * 6} for i in range(40)]
    for name, lines in (("qa-train", rows), ("text", texts)):
        with gzip.open(os.path.join(folder, name + ".jsonl.gz"), "wt", encoding="utf-8") as out:
            out.writelines(json.dumps(line) + "\n" for line in lines)


def tool(name, *arguments):
    env = dict(os.environ, OMP_NUM_THREADS="1")
    done = subprocess.run([sys.executable, os.path.join(TRAIN, name), *arguments], env=env, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr[-2000:]}")
    return done.stdout


def scans_agree(model, torch):
    """The largest relative difference to the plain recurrence, of outputs and slopes."""
    torch.manual_seed(1)
    shapes = [(2, 70, 32)] * 3 + [(2, 70, 16), (32,), (32,)]
    inputs = [torch.randn(s).bfloat16().float().requires_grad_() for s in shapes]
    slope = torch.randn(2, 70, 32).bfloat16().float()

    def run(scan, given, dtype):
        out = scan(*given)
        return [out, *torch.autograd.grad(out, given, slope.to(dtype))]
    want = run(lambda *x: model.scan_plain(*x)[0], inputs, torch.float32)
    got = {"chunked": run(model.scan_chunked, inputs, torch.float32)}
    if model.choose_scan("cpu") == "native":
        halves = [x.detach().bfloat16().requires_grad_() if x.ndim == 3 else x for x in inputs]
        got["native"] = run(model.NativeScan.apply, halves, torch.bfloat16)
    return {name: max(((a.detach().float() - b.detach()).norm() / b.detach().norm()).item() for a, b in zip(out, want)) for name, out in got.items()}


def engine_logits(build, folder, sequences, vocabulary, np):
    data = b"".join(struct.pack(f"<I{len(s)}I", len(s), *s) for s in sequences)
    done = subprocess.run([os.path.join(build, "tests", "model_logits"), folder], input=data, capture_output=True)
    if done.returncode:
        raise RuntimeError(done.stderr.decode())
    return np.frombuffer(done.stdout, "<f4").reshape(-1, vocabulary)


def compare(build, folder, model, torch, np):
    """Largest difference of the engine's logits to PyTorch's, over their spread."""
    chance = np.random.default_rng(5)
    sequences = [chance.integers(6, model.shape["vocabulary"], n).tolist() for n in (1, 7, 90)]
    with torch.no_grad():
        want = torch.cat([model.logits(model(torch.tensor([s]), "plain"))[0] for s in sequences]).numpy()
    got = engine_logits(build, folder, sequences, model.shape["vocabulary"], np)
    return float(np.abs(got - want).max() / want.std())


def asked_of(pack, batch, evaluation):
    """60 questions with three passages: their tokens as the evaluation has them, and the texts' bytes."""
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(os.path.join(pack, "tokenizer.json"))
    with open(os.path.join(pack, "frequent.json"), encoding="utf-8") as f:
        frequent = set(json.load(f))
    chance = random.Random(11)
    texts = [t.format(n=chance.choice(NAMES), p="Larchford", y=chance.randint(1500, 1999), z=chance.randint(20, 99),
                      a=chance.choice(["Ines", "Oskar"])) for t in TEXTS * 40]
    asked = [(f"Who built the {chance.choice(NAMES)} at Larchford?", chance.sample(texts, 3)) for _ in range(60)]
    given = batch.Pack(os.path.join(pack, "pack.npz"))
    made = [evaluation.Asked(tokenizer, frequent, given, *x) for x in asked]
    return made, [[p.encode() for p in (q, *passages)] for q, passages in asked]


def answers_of_server(build, folder, repeats, parts):
    """[(the span's score less none's, its text)] by server/marks.c"""
    data = b"".join(struct.pack("<I", len(x)) + b"".join(struct.pack("<I", len(p)) + p for p in x) for x in parts)
    command = [os.path.join(build, "tests", "model_marks"), folder, str(repeats)]
    done = subprocess.run(command, input=data, capture_output=True)
    if done.returncode:
        raise RuntimeError(done.stderr.decode())
    lines = [line.split() for line in done.stdout.decode().splitlines()]
    if len(lines) != len(parts):
        raise RuntimeError(f"{len(lines)} answers to {len(parts)} questions")
    return [(float(score) - float(none), x[1 + int(passage)][int(start):int(end)].decode())
            for (score, none, passage, start, end), x in zip(lines, parts)]


def answers_exact(model, evaluation, batch, made, repeats, torch):
    """generator_eval.answers without the rounding of its products to bfloat16"""
    out = []
    for asked in made:
        tokens, places = asked.read(repeats)
        with torch.no_grad():
            hidden = model(torch.tensor([[int(t) for t in tokens]]), "plain")[0]
            marks = (hidden @ model.embeddings[[batch.START, batch.STOP, batch.NONE]].T).numpy()
        s = sum(marks[p] for p in places)
        score, text = evaluation.best_span(asked, s[:, 0], s[:, 1])
        out.append((score, 2 * float(s[-1, 2]), text))
    return out


def answers_agree(build, folder, pack, model, torch, np):
    """For float32 and for the evaluation as it stands: the share of questions at which it marks the span that server/marks.c
    marks, read once and twice, and the largest difference of their margins to no answer there."""
    import generator_batch
    import generator_eval
    import generator_model
    made, parts = asked_of(pack, generator_batch, generator_eval)
    same, apart = ([], []), ([], [])
    for repeats in (1, 2):
        got = answers_of_server(build, folder, repeats, parts)
        for n, want in enumerate((answers_exact(model, generator_eval, generator_batch, made, repeats, torch),
                                  generator_eval.answers(model, generator_model.choose_scan("cpu"), made, repeats))):
            same[n].extend(a[1] == b[2] for a, b in zip(got, want))
            apart[n].extend(abs(a[0] - (b[0] - b[1])) for a, b in zip(got, want) if a[1] == b[2])
    return [(float(np.mean(s)), max(a)) for s, a in zip(same, apart)]


def main():
    try:
        import numpy as np
        import tokenizers  # noqa: F401
        import torch
    except ImportError as e:
        print(f"1..0 # SKIP no module {e.name}")
        return 0
    sys.path.insert(0, TRAIN)
    import generator_model
    build = os.path.abspath(sys.argv[1])
    for name, error in scans_agree(generator_model, torch).items():
        report(error < (5e-3 if name == "native" else 1e-5), f"the {name} scan equals the plain one", f"relative {error:.2g}")
    with tempfile.TemporaryDirectory() as folder:
        data, pack, out = (os.path.join(folder, n) for n in ("data", "pack", "model"))
        os.mkdir(data)
        write(data)
        tool("generator_data.py", "--data", data, "--out", pack, "--vocabulary", "512")
        report(os.path.getsize(os.path.join(pack, "pack.npz")) > 0, "the data are packed")
        common = ["--pack", pack, "--plan", "tiny", "--cpu", "--block", "64", "--say", "1000"]
        whole, parts = os.path.join(folder, "whole"), os.path.join(folder, "parts")
        tool("generator.py", *common, "--run", whole, "--export", out)
        for _ in range(2):
            tool("generator.py", *common, "--run", parts, "--steps", "30")
        tool("generator.py", *common, "--run", parts, "--workers", "1")
        a, b = (generator_model.load(os.path.join(p, "checkpoint.pt"), "cpu") for p in (whole, parts))
        same = all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values()))
        report(same, "three slices give the bits of one")
        error = compare(build, out, a, torch, np)
        report(error < 1e-3, "the engine's logits are PyTorch's", f"largest difference {error:.2g} of their spread")
        exact, rounded = answers_agree(build, out, pack, a, torch, np)
        for (share, apart), least, most, name in ((exact, 0.99, 1e-3, "in float32"), (rounded, 0.95, 0.5, "as it rounds")):
            report(share > least and apart < most, f"the server marks the spans that the evaluation marks {name}",
                   f"{100 * share:.1f} in 100 the same, margins at most {apart:.2g} apart")
        mixer = a.layers[0].mixer
        with torch.no_grad():
            mixer.x_bc.copy_(torch.roll(mixer.x_bc, mixer.state, 0))
        report(compare(build, out, a, torch, np) > 1e-2, "a model with B and C exchanged is told apart")
        eight = os.path.join(folder, "q8")
        subprocess.run([os.path.join(build, "bin", "lethe-quantize"), out, eight, "q8"], check=True, capture_output=True)
        with torch.no_grad():
            mixer.x_bc.copy_(torch.roll(mixer.x_bc, mixer.state, 0))
        error = compare(build, eight, a, torch, np)
        report(error < 0.5, "and so are those of 8 bits, roughly", f"largest difference {error:.2g} of their spread")
    print(f"1..{number}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
