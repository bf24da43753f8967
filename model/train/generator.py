#!/usr/bin/env python3
"""Trains the bundled generator, on a GPU or a CPU, in slices that resume.

    generator.py --pack DIR --run DIR --plan NAME [--minutes N] [--export DIR]

DIR of --pack is generator_data.py's. DIR of --run keeps checkpoint.pt and log.txt; the same command goes on
where the last slice stopped, until the plan's tokens are read. --export writes the model at the end of the
slice in the layout that model_open reads (float32; lethe-quantize makes q8 of it).

The loss of a batch: cross-entropy of the answers (of each token in a batch of text), and for each marked
reading that of the answer's first and last token over its places, both readings added (generator_batch.py).
"""
import argparse
import datetime
import json
import math
import os
import platform
import signal
import time

import numpy as np
import torch
import torch.nn.functional as F

import generator_batch as batch
import generator_model

# A plan: the shape, and stages that each read so many tokens. rate: of the matrices' optimiser; it rises over the
# first steps, and falls to nothing over the last `fall` of all tokens. batch_tokens: padding counted. spoken: what the
# answers' loss counts beside the marks'. served: what config.json tells the server. A stage's other
# entries are generator_batch.py's MIXTURE.
PLANS = {
    "tiny": {"shape": {"width": 32, "layers": 2, "state": 8, "taps": 4}, "batch_tokens": 1024, "rate": 0.005,
             "fall": 0.5, "served": {},
             "stages": [
                 {"name": "text", "tokens": 20_000, "length": 128},
                 {"name": "questions", "tokens": 60_000, "context": (24, 48), "first": 0.7}]},
    # Text alone: what precisions cost is measured on it.
    "text": {"shape": {"width": 256, "layers": 4, "state": 16, "taps": 4}, "batch_tokens": 4096, "rate": 0.006,
             "fall": 0.5, "served": {}, "stages": [{"name": "text", "tokens": 5_000_000, "length": 256}]},
    "cpu": {"shape": {"width": 256, "layers": 6, "state": 16, "taps": 4}, "batch_tokens": 6144, "rate": 0.0025,
            "fall": 0.6, "served": {"repeats": 2, "sentences_tokens": 80, "none_bias": -1.5, "writes": False}, "stages": [
                {"name": "narrow", "tokens": 11_000_000, "context": (24, 110), "repeats": 1.0, "narrow": 1.0,
                 "passages": 5, "several": 0.45, "none": 0.1, "spoken": False},
                {"name": "doubtful", "tokens": 49_000_000, "context": (24, 120), "repeats": 1.0, "narrow": 1.0,
                 "passages": 5, "several": 0.5, "none": 0.06, "swapped": 0.12, "spoken": False}]},
    "gpu": {"shape": {"width": 512, "layers": 12, "state": 16, "taps": 4}, "batch_tokens": 65536, "rate": 0.003,
            "fall": 0.5, "spoken": 0.3, "served": {"repeats": 2}, "stages": [
                {"name": "text", "tokens": 110_000_000, "length": 1024},
                {"name": "short", "tokens": 60_000_000, "context": (16, 96), "repeats": 0.2, "first": 0.8},
                {"name": "longer", "tokens": 230_000_000, "context": (48, 500), "repeats": 0.7, "first": 0.8,
                 "passages": 5, "several": 0.5, "none": 0.06, "swapped": 0.12, "narrow": 0.4}]},
}


# ---- optimisers --------------------------------------------------------------------------------

class Muon(torch.optim.Optimizer):
    """Momentum whose matrices are made orthogonal by five Newton-Schulz steps (Jordan and others 2024)."""

    def __init__(self, parameters, momentum=0.95, decay=0.01):
        super().__init__(parameters, {"lr": 0.0, "momentum": momentum, "decay": decay})

    @staticmethod
    def orthogonal(matrix):
        x = matrix.bfloat16()
        tall = x.shape[0] > x.shape[1]
        x = x.T if tall else x
        x = x / (x.norm() + 1e-7)
        for _ in range(5):
            gram = x @ x.T
            x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
        return (x.T if tall else x).to(matrix.dtype)

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                held = self.state[p].setdefault("momentum", torch.zeros_like(p))
                held.lerp_(p.grad, 1 - group["momentum"])
                change = self.orthogonal(p.grad.lerp(held, group["momentum"]))
                p.mul_(1 - group["lr"] * group["decay"])
                p.add_(change, alpha=-group["lr"] * 0.2 * math.sqrt(max(p.shape)))


def optimisers(model):
    """Muon for the layers' matrices; AdamW for the embeddings, vectors and convolutions."""
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and n != "embeddings" and "taps" not in n]
    known = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in known]
    return Muon(matrices), torch.optim.AdamW(rest, betas=(0.9, 0.98), weight_decay=0.0)


ADAM_SHARE = 0.3              # of the plan's rate
ALONE_SHARE = 0.3             # of the loss of the first reading by itself: it has to serve alone, too


def rate_at(plan, tokens, step):
    total = sum(s["tokens"] for s in plan["stages"])
    left = (total - tokens) / (plan["fall"] * total)
    return plan["rate"] * min(1, (step + 1) / 100) * min(1, max(0.01, left))


# ---- loss --------------------------------------------------------------------------------------

def marks_loss(model, hidden, marks, other):
    """marks (M,5): row, begin, end, start, stop; other (M,T). Cross-entropy over the reading's places, the mean of both ends;
    of both readings added, and a share of the first alone."""
    rows = model.embeddings[[batch.START, batch.STOP, batch.NONE]]
    scores = F.linear(hidden, rows.to(hidden.dtype)).float()[marks[:, 0]]
    second = scores.gather(1, other.clamp(min=0)[:, :, None].expand(-1, -1, 3)) * (other >= 0)[:, :, None]
    twice = (other >= 0).any(1)
    loss = ends_loss(scores + second, marks).mean()
    if twice.any():
        loss = loss + ALONE_SHARE * (ends_loss(scores, marks) * twice).mean()
    return loss


def ends_loss(scores, marks):
    """-> (M,)"""
    place = torch.arange(scores.shape[1], device=scores.device)
    inside = (place >= marks[:, 1:2]) & (place < marks[:, 2:3] - 1)
    last = place == marks[:, 2:3] - 1
    total = 0
    for end in (0, 1):
        s = torch.where(last, scores[:, :, 2], scores[:, :, end].masked_fill(~inside, -1e9))
        total = total + F.cross_entropy(s, marks[:, 3 + end], reduction="none")
    return total / 2


def losses(model, kind, ids, weights, marks, other, device):
    """-> means over the targets and over the marks (0 where there are none)"""
    with torch.autocast(device, torch.bfloat16):
        hidden = model(ids, kind)
        # An answer's tokens are few: only their hidden states meet the vocabulary.
        at = weights[:, :-1] > 0
        spoken = hidden.sum() * 0
        if at.any():
            spoken = F.cross_entropy(model.logits(hidden[:, :-1][at]).float(), ids[:, 1:][at])
    return spoken, marks_loss(model, hidden, marks, other) if len(marks) else 0 * spoken


# ---- run ---------------------------------------------------------------------------------------

def initial_vectors(model, vectors):
    """Embeddings that start from the pack's; the special tokens stay random."""
    width = min(model.shape["width"], vectors.shape[1])
    with torch.no_grad():
        rows = torch.from_numpy(vectors[:, :width].astype(np.float32))
        model.embeddings[batch.SEEN + 1:, :width] = rows[batch.SEEN + 1:]
        model.embeddings.copy_(F.normalize(model.embeddings))


def now_text():
    return datetime.datetime.now().isoformat(timespec="seconds")


class Run:
    def __init__(self, args):
        self.args, self.plan = args, dict(PLANS[args.plan])
        self.plan["rate"] = args.rate or self.plan["rate"]
        self.plan["stages"] = [dict(s, tokens=int(s["tokens"] * args.scale)) for s in self.plan["stages"]]
        self.device = "cuda" if torch.cuda.is_available() and not args.cpu else "cpu"
        self.kind = args.scan or generator_model.choose_scan(self.device)
        self.pack = batch.Pack(os.path.join(args.pack, "pack.npz"))
        self.blocks = batch.Blocks(os.path.join(args.pack, "pack.npz"), self.pack, args.workers)
        self.tokens = self.step = self.stage = self.block = self.batch = self.stage_tokens = 0
        torch.manual_seed(args.seed)
        vocabulary = int(self.pack.all["vocabulary"])
        self.model = generator_model.Generator(dict(self.plan["shape"], vocabulary=vocabulary))
        os.makedirs(args.run, exist_ok=True)
        self.checkpoint = os.path.join(args.run, "checkpoint.pt")
        self.log = open(os.path.join(args.run, "log.txt"), "a", encoding="utf-8")
        initial_vectors(self.model, self.pack.all["vectors"])
        self.model.to(self.device)
        self.optimisers = optimisers(self.model)
        if os.path.exists(self.checkpoint):
            self.resume()

    def say(self, text):
        print(text, file=self.log, flush=True)
        print(text, flush=True)

    def where(self):
        return ["tokens", "step", "stage", "block", "batch", "stage_tokens"]

    def save(self):
        state = {"model": self.model.state_dict(), "optimisers": [o.state_dict() for o in self.optimisers],
                 "plan": self.args.plan, "shape": self.model.shape,
                 "where": {k: getattr(self, k) for k in self.where()}}
        torch.save(state, self.checkpoint + ".part")
        os.replace(self.checkpoint + ".part", self.checkpoint)

    def resume(self):
        state = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        if state["plan"] != self.args.plan:
            raise SystemExit(f"the run's plan is {state['plan']}, not {self.args.plan}")
        self.model.load_state_dict(state["model"])
        for optimiser, held in zip(self.optimisers, state["optimisers"]):
            optimiser.load_state_dict(held)
        for name, value in state["where"].items():
            setattr(self, name, value)

    def batches(self):
        """From where the run stands: (ids, weights, marks) until the plan's stages are read."""
        while self.stage < len(self.plan["stages"]):
            stage = self.plan["stages"][self.stage]
            size, seed = self.plan["batch_tokens"], self.args.seed * 100 + self.stage
            made = self.blocks.get(stage, size, seed, self.block, self.args.block)
            while self.batch < len(made) and self.stage_tokens < stage["tokens"]:
                yield made[self.batch]
                self.batch += 1
            self.batch, self.block = 0, self.block + 1
            if self.stage_tokens >= stage["tokens"]:
                self.stage, self.block, self.stage_tokens = self.stage + 1, 0, 0

    def learn(self, made):
        given = [torch.from_numpy(a).to(self.device) for a in made]
        rate = rate_at(self.plan, self.tokens, self.step)
        for optimiser, share in zip(self.optimisers, (1, ADAM_SHARE)):
            for group in optimiser.param_groups:
                group["lr"] = rate * share
            optimiser.zero_grad(set_to_none=True)
        parts = losses(self.model, self.kind, *given, self.device)
        (parts[0] * self.plan.get("spoken", 1.0) + parts[1]).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
        self.step += 1
        self.tokens += given[0].numel()
        self.stage_tokens += given[0].numel()
        return [float(p.detach()) for p in parts]

    def go(self):
        name = torch.cuda.get_device_name() if self.device == "cuda" else platform.processor() or "cpu"
        count = sum(p.numel() for p in self.model.parameters())
        self.say(f"{now_text()} plan {self.args.plan}, {count} parameters, "
                 f"{self.device} ({name}), scan {self.kind}, torch {torch.__version__}, from token {self.tokens}")
        began = said = saved = time.time()
        since, held, first = self.tokens, [], self.step
        told = []
        signal.signal(signal.SIGTERM, lambda *_: told.append(True))        # as if the minutes were over
        for made in self.batches():
            held.append(self.learn(made))
            now = time.time()
            over = now - began > self.args.minutes * 60 or self.step - first >= self.args.steps or told
            if now - said > self.args.say or over:
                spoken, marked = np.mean(held, 0)
                self.say(f"{now_text()} {self.device} step {self.step} "
                         f"tokens {self.tokens} stage {self.plan['stages'][self.stage]['name']} spoken {spoken:.4f} "
                         f"marked {marked:.4f} tokens/s {(self.tokens - since) / (now - said):.0f}")
                said, since, held = now, self.tokens, []
            if now - saved > 120 or over:
                self.batch += 1           # this one is learnt
                self.save()
                self.batch -= 1
                saved = now
            if over:
                break
        else:
            self.save()
            self.say(f"{now_text()} the plan's {self.tokens} tokens are read")
        self.blocks.close()
        if self.args.export:
            seen = self.plan["stages"][-1].get("seen", batch.MIXTURE["seen"])
            generator_model.export(self.model, self.args.pack, self.args.export, seen, self.plan["served"],
                                   self.args.half)


def main():
    parser = argparse.ArgumentParser(description="Trains the bundled generator.")
    parser.add_argument("--pack", required=True, help="generator_data.py's folder")
    parser.add_argument("--run", required=True, help="checkpoint and log")
    parser.add_argument("--plan", choices=sorted(PLANS), default="gpu")
    parser.add_argument("--minutes", type=float, default=1e9, help="then stop; run again to go on")
    parser.add_argument("--steps", type=int, default=1 << 60, help="as --minutes, counted")
    parser.add_argument("--export", help="folder to write the model to")
    parser.add_argument("--half", action="store_true", help="export bfloat16 matrices")
    parser.add_argument("--scan", choices=("plain", "chunked", "native", "triton"))
    parser.add_argument("--cpu", action="store_true", help="although there is a GPU")
    parser.add_argument("--block", type=int, default=2048, help="questions that are put into batches together")
    parser.add_argument("--scale", type=float, default=1.0, help="of the plan's tokens; may change between slices")
    parser.add_argument("--workers", type=int, default=0, help="processes that make batches ahead")
    parser.add_argument("--say", type=float, default=20, help="seconds between lines of the log")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, help="instead of the plan's")
    Run(parser.parse_args()).go()


if __name__ == "__main__":
    main()
