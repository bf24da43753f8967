#!/usr/bin/env python3
"""Golden outputs for the Mamba engine: logits and a greedy continuation of transformers'
MambaForCausalLM and Mamba2ForCausalLM, float32 on the CPU, with weights from the counter-based generator that
weights_gen.h describes. Needs numpy, torch and transformers.

usage: make_mamba_golden.py [CASE...]     writes mamba_CASE.json, or CASE.json of a mamba2 case, beside this script

Mamba-2 needs transformers 5.24 or later: earlier ones normalise all groups as one.
"""
import datetime
import json
import os
import platform
import sys

import numpy as np
import torch
import transformers
from transformers import Mamba2Config, Mamba2ForCausalLM, MambaConfig, MambaForCausalLM

PROMPT, STEPS = 48, 64
FEW = [3, 47]                       # the positions of a case with "few"
POSITIONS = [0, 7, 31, 47]          # of the prompt; the last one is stored most fully

CASES = {
    "tiny": dict(seed=11, dtype="F32", d_model=64, expand=2, d_state=16, d_conv=4, dt_rank=4,
                 layers=2, vocab=300, use_bias=False, use_conv_bias=True, tied=True),
    "small": dict(seed=12, dtype="F16", d_model=256, expand=2, d_state=16, d_conv=4, dt_rank=16,
                  layers=4, vocab=1000, use_bias=False, use_conv_bias=True, tied=False),
    "odd": dict(seed=13, dtype="F32", d_model=90, expand=3, d_state=8, d_conv=3, dt_rank=5,
                layers=3, vocab=333, use_bias=True, use_conv_bias=False, tied=False),
    "130m": dict(seed=14, dtype="BF16", d_model=768, expand=2, d_state=16, d_conv=4, dt_rank=48,
                 layers=24, vocab=50280, use_bias=False, use_conv_bias=True, tied=True),
    "mamba2_tiny": dict(seed=21, dtype="F32", d_model=64, expand=2, d_state=16, d_conv=4, heads=4,
                        groups=1, layers=2, vocab=300, use_bias=False, use_conv_bias=True, tied=True),
    "mamba2_odd": dict(seed=22, dtype="F32", d_model=72, expand=2, d_state=20, d_conv=3, heads=12,
                       groups=2, layers=3, vocab=303, use_bias=False, use_conv_bias=False, tied=False,
                       dt_limit=[0.03125, 0.25]),
    "mamba2_biases": dict(seed=23, dtype="F16", d_model=90, expand=3, d_state=24, d_conv=4, heads=6,
                          groups=3, layers=3, vocab=310, use_bias=True, use_conv_bias=True, tied=False,
                          few=True),
    "mamba2_130m": dict(seed=24, dtype="BF16", d_model=768, expand=2, d_state=128, d_conv=4, heads=24,
                        groups=1, layers=24, vocab=50288, use_bias=False, use_conv_bias=True, tied=True,
                        few=True),
}

U64 = np.uint64
GOLDEN = U64(0x9E3779B97F4A7C15)


def mix(x):
    x = (x ^ (x >> U64(30))) * U64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> U64(27))) * U64(0x94D049BB133111EB)
    return x ^ (x >> U64(31))


def key(seed, name):
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = (h ^ byte) * 0x100000001B3 % 2**64
    return mix(np.array([seed], dtype=U64)) ^ U64(h)


def bits(seed, name, count):
    return mix(key(seed, name) + np.arange(1, count + 1, dtype=U64) * GOLDEN)


def values(seed, name, shape, center, scale, dtype):
    count = int(np.prod(shape))
    u = (bits(seed, name, count) >> U64(40)).astype(np.float32) * np.float32(2.0**-23)
    u = u - np.float32(1)
    v = np.float32(center) + np.float32(scale) * u
    if dtype == "BF16":
        v = (v.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    if dtype == "F16":
        cut = (v.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)
        v = np.where(np.abs(v) < np.float32(2.0**-14), np.float32(0), cut)
    return torch.from_numpy(v.reshape(shape))


def fan(fan_in):
    return np.sqrt(np.float32(3) / np.float32(fan_in))


def mamba_mixer(c, p):
    m, n, k, r = c["d_model"], c["d_state"], c["d_conv"], c["dt_rank"]
    d = c["expand"] * m
    yield p + "A_log", (d, n), 1.375, 1.375
    yield p + "D", (d,), 1, 0.5
    yield p + "conv1d.weight", (d, 1, k), 0, fan(k)
    yield p + "in_proj.weight", (2 * d, m), 0, fan(m)
    yield p + "x_proj.weight", (r + 2 * n, d), 0, fan(d)
    yield p + "dt_proj.weight", (d, r), 0, np.float32(0.5) * fan(r)
    yield p + "dt_proj.bias", (d,), -2.5, 2
    yield p + "conv1d.bias", (d,), 0, 0.25
    yield p + "in_proj.bias", (2 * d,), 0, 0.25


def mamba2_mixer(c, p):
    m, k, h = c["d_model"], c["d_conv"], c["heads"]
    d = c["expand"] * m
    channels = d + 2 * c["groups"] * c["d_state"]
    for name, center, scale in (("A_log", 1.375, 1.375), ("D", 1, 0.5), ("dt_bias", -2.5, 2)):
        yield p + name, (h,), center, scale
    yield p + "norm.weight", (d,), 1, 0.25
    yield p + "conv1d.weight", (channels, 1, k), 0, fan(k)
    yield p + "in_proj.weight", (d + channels + h, m), 0, fan(m)
    yield p + "conv1d.bias", (channels,), 0, 0.25
    yield p + "in_proj.bias", (d + channels + h,), 0, 0.25


def tensors(c):
    m, d = c["d_model"], c["expand"] * c["d_model"]
    yield "backbone.embeddings.weight", (c["vocab"], m), 0, 0.125 if c["tied"] else 0.5
    for l in range(c["layers"]):
        p = f"backbone.layers.{l}.mixer."
        yield f"backbone.layers.{l}.norm.weight", (m,), 1, 0.25
        yield from (mamba2_mixer if "heads" in c else mamba_mixer)(c, p)
        yield p + "out_proj.weight", (m, d), 0, fan(d)
        yield p + "out_proj.bias", (m,), 0, 0.25
    yield "backbone.norm_f.weight", (m,), 1, 0.25
    if not c["tied"]:
        yield "lm_head.weight", (c["vocab"], m), 0, np.float32(4) * fan(m)


def wanted(c, name):
    """Whether the case has this tensor: biases are options."""
    if name.endswith("conv1d.bias"):
        return c["use_conv_bias"]
    return c["use_bias"] or not name.endswith(("in_proj.bias", "out_proj.bias"))


def build(c):
    common = dict(
        vocab_size=c["vocab"], hidden_size=c["d_model"], state_size=c["d_state"],
        num_hidden_layers=c["layers"], expand=c["expand"], conv_kernel=c["d_conv"],
        use_bias=c["use_bias"], use_conv_bias=c["use_conv_bias"],
        tie_word_embeddings=c["tied"], layer_norm_epsilon=1e-5)
    if "heads" in c:
        limit = dict(time_step_limit=tuple(c["dt_limit"])) if "dt_limit" in c else {}
        model = Mamba2ForCausalLM(Mamba2Config(
            num_heads=c["heads"], head_dim=c["expand"] * c["d_model"] // c["heads"],
            n_groups=c["groups"], chunk_size=16, **limit, **common))
    else:
        model = MambaForCausalLM(MambaConfig(time_step_rank=c["dt_rank"], **common))
    model = model.to(torch.float32).eval()
    state = {name: values(c["seed"], name, shape, center, scale, c["dtype"])
             for name, shape, center, scale in tensors(c) if wanted(c, name)}
    if c["tied"]:
        state["lm_head.weight"] = state["backbone.embeddings.weight"]
    missing, unexpected = model.load_state_dict(state, strict=True)
    assert not missing and not unexpected
    return model


def number(x):
    return float(f"{float(x):.9g}")


def select(logits, full):
    """Some of the logits with their indices: all of a small vocabulary; else the first ones, the
    largest ones and a stride."""
    n = len(logits)
    if n <= 1000:
        index = np.arange(n)
    else:
        first, strided = (512, 2048) if full else (64, 192)
        index = np.concatenate([np.arange(first), np.argsort(-logits)[:10],
                                np.arange(strided) * (n // strided)])
        index = np.unique(index)
    return index.tolist(), [number(logits[i]) for i in index]


def make(name):
    c = CASES[name]
    torch.manual_seed(0)
    model = build(c)
    prompt = (bits(c["seed"], "prompt", PROMPT) % U64(c["vocab"])).astype(np.int64)
    with torch.no_grad():
        logits = model(torch.from_numpy(prompt)[None], use_cache=False).logits[0].numpy()
        positions = []
        for p in FEW if "few" in c else POSITIONS:
            index, chosen = select(logits[p], p == POSITIONS[-1] and "few" not in c)
            positions.append(dict(position=p, max_abs=number(np.abs(logits[p]).max()),
                                  index=index, logits=chosen))
        # Each step reads everything again: the plain form, without a cache that could err.
        ids, greedy, margins, largest = prompt.tolist(), [], [], []
        row = logits[-1]
        for _ in range(STEPS):
            best = np.sort(row)[-2:]
            greedy.append(int(np.argmax(row)))
            margins.append(number(best[1] - best[0]))
            largest.append(number(np.abs(row).max()))
            ids.append(greedy[-1])
            row = model(torch.tensor([ids]), use_cache=False).logits[0, -1].numpy()
    golden = dict(
        provenance=dict(
            script="tests/golden/make_mamba_golden.py", command=f"make_mamba_golden.py {name}",
            reference=f"transformers.{type(model).__name__}, float32, CPU, no cache",
            transformers=transformers.__version__, torch=torch.__version__,
            numpy=np.__version__, python=platform.python_version(),
            threads=torch.get_num_threads(), date=datetime.date.today().isoformat()),
        case=dict(c, d_inner=c["expand"] * c["d_model"]),
        prompt=prompt.tolist(), positions=positions,
        greedy=dict(tokens=greedy, margin=margins, max_abs=largest))
    stem = name if "heads" in c else f"mamba_{name}"
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), f"{stem}.json")
    with open(path, "w") as f:
        json.dump(golden, f, separators=(",", ":"))
        f.write("\n")
    print(name, "distinct greedy tokens", len(set(greedy)), "least margin", min(margins),
          "largest logit", max(largest), "std", float(logits[-1].std()), "bytes",
          os.path.getsize(path))


def main():
    for name in sys.argv[1:] or CASES:
        make(name)


if __name__ == "__main__":
    main()
