#!/usr/bin/env python3
"""What lethe's GPU engine is compared with, on the same device: PyTorch's BF16 matrix product (the peak), its causal attention
(scaled_dot_product_attention), transformers' Mamba, and a Transformer of the same size. Random weights and values. CSV.

usage: tests/bench/cuda_torch.py [--csv FILE] [--part peak,attention,mamba,transformer] [--shape 2.8b] [--seconds 120]

Each part stops adding rows when its share of the seconds is over. Of transformers' Mamba, the path that is installable is used
(without causal_conv1d and mamba_ssm: the slow one, and the row says so).
"""
import argparse
import sys
import time

import torch
import torch.nn.functional as F

SHAPES = {"130m": (768, 24), "370m": (1024, 48), "790m": (1536, 48), "1.4b": (2048, 48), "2.8b": (2560, 64)}
HEAD = 128          # a head's width in the attention that is compared
BATCH = 16


def seconds_of(work, rounds=5):
    """Median time of one call."""
    work()
    torch.cuda.synchronize()
    times = []
    for _ in range(rounds):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        work()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    return sorted(times)[len(times) // 2]


class Report:
    def __init__(self, path, seconds):
        self.file = open(path, "w", encoding="utf-8") if path else None
        self.end = time.monotonic() + seconds
        self.line("what,shape,tokens,batch,seconds,rate,unit")

    def line(self, text):
        print(text, flush=True)
        if self.file:
            self.file.write(text + "\n")
            self.file.flush()

    def row(self, what, shape, tokens, batch, seconds, rate, unit):
        self.line(f"{what},{shape},{tokens},{batch},{seconds:.6f},{rate:.6g},{unit}")

    def over(self):
        return time.monotonic() > self.end


def peak(report, _):
    n = 8192
    a, b = (torch.randn(n, n, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    s = seconds_of(lambda: a @ b, 10)
    report.row("matrix product", f"{n}^3", n, 1, s, 2 * n**3 / s / 1e12, "TFLOP/s")
    x = torch.empty(1 << 31, device="cuda", dtype=torch.uint8)
    y = torch.empty_like(x)
    s = seconds_of(lambda: y.copy_(x), 10)
    report.row("copy", "2 GiB", 0, 1, s, 2 * x.numel() / s / 1e9, "GB/s")


def attention(report, shape):
    """Causal, 16 sequences, as wide as the model; one layer's, without its projections."""
    width, _ = SHAPES[shape]
    for tokens in (2048, 4096, 8192, 16384, 32768):
        q, k, v = (torch.randn(BATCH, width // HEAD, tokens, HEAD, device="cuda", dtype=torch.bfloat16) for _ in range(3))
        s = seconds_of(lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True), 3)
        report.row("attention", shape, tokens, BATCH, s, 2 * tokens * tokens * width * BATCH / s / 1e12, "TFLOP/s")
        del q, k, v
        if report.over():
            return


def mamba(report, shape):
    from transformers import MambaConfig, MambaForCausalLM
    width, layers = SHAPES[shape]
    config = MambaConfig(vocab_size=50280, hidden_size=width, num_hidden_layers=layers, state_size=16, use_cache=True)
    with torch.device("cuda"):
        model = MambaForCausalLM(config).to(torch.bfloat16).eval()
    try:
        import mamba_ssm  # noqa: F401
        path = "transformers Mamba, fast path"
    except ImportError:
        path = "transformers Mamba, slow path"
    with torch.no_grad():
        for batch in (1, 128):
            tokens = torch.randint(0, 50280, (batch, 16), device="cuda")
            steps = 8
            s = seconds_of(lambda: model.generate(tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=steps + 1,
                                                  min_new_tokens=steps + 1, do_sample=False), 3)
            first = seconds_of(lambda: model.generate(tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=1,
                                                      min_new_tokens=1, do_sample=False), 3)
            report.row(path + " decode", shape, 1, batch, (s - first) / steps, batch * steps / (s - first), "tokens/s")
            if report.over():
                return
        tokens = torch.randint(0, 50280, (1, 512), device="cuda")          # the slow path walks token by token
        s = seconds_of(lambda: model(tokens), 1)
        report.row(path + " prefill", shape, 512, 1, s, 512 / s, "tokens/s")


class Block(torch.nn.Module):
    """GPT-NeoX's size and order of work: 12 width^2 parameters, attention as scaled_dot_product_attention has it."""

    def __init__(self, width):
        super().__init__()
        self.heads = width // HEAD
        self.norm_1, self.norm_2 = torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)
        self.qkv, self.out = torch.nn.Linear(width, 3 * width), torch.nn.Linear(width, width)
        self.up, self.down = torch.nn.Linear(width, 4 * width), torch.nn.Linear(4 * width, width)

    def forward(self, x):
        batch, tokens, width = x.shape
        q, k, v = self.qkv(self.norm_1(x)).view(batch, tokens, 3, self.heads, HEAD).permute(2, 0, 3, 1, 4)
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(batch, tokens, width)
        x = x + self.out(a)
        return x + self.down(F.gelu(self.up(self.norm_2(x))))


def transformer(report, shape):
    """Reading a prompt once and twice, one sequence of the batch at a time. One layer is measured, and counts as many times
    as there are layers: 32 blocks of 12 width^2 parameters are a Mamba of 64 layers."""
    width, layers = SHAPES[shape]
    with torch.device("cuda"):
        block = Block(width).to(torch.bfloat16).eval()
    count = layers // 2
    with torch.no_grad():
        for context in (2048, 4096, 8192, 16384, 32768):
            for readings in (1, 2):
                x = torch.randn(1, context * readings, width, device="cuda", dtype=torch.bfloat16)
                s = seconds_of(lambda: block(x), 3) * count * BATCH
                report.row(f"Transformer read {readings}x", shape, context, BATCH, s, BATCH * context / s, "context tokens/s")
                del x
                if report.over():
                    return


PARTS = {"peak": peak, "attention": attention, "mamba": mamba, "transformer": transformer}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--csv")
    p.add_argument("--part", default=",".join(PARTS))
    p.add_argument("--shape", default="2.8b", choices=list(SHAPES))
    p.add_argument("--seconds", type=float, default=120)
    o = p.parse_args()
    if not torch.cuda.is_available():
        sys.exit("cuda_torch.py: PyTorch sees no GPU")
    report = Report(o.csv, o.seconds)
    print(f"# {torch.cuda.get_device_name()}, PyTorch {torch.__version__}", flush=True)
    failed = False
    for part in o.part.split(","):
        try:
            PARTS[part](report, o.shape)
        except (ImportError, RuntimeError, TypeError, ValueError) as e:        # out of memory is a RuntimeError
            print(f"# {part}: {type(e).__name__}: {str(e)[:200]}", flush=True)
            failed = True
        torch.cuda.empty_cache()
    sys.exit(failed)


if __name__ == "__main__":
    main()
