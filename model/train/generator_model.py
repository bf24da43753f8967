"""The generator in PyTorch: Mamba-1 with the names of transformers' MambaForCausalLM, so that a state is exported
as it is, but for two parts that are put together again.

A mixer's middle, everything but matrix products, is one function with four implementations:

    plain      the recurrence, step by step, float32; slow; what the others are checked against
    chunked    pieces of 32 steps by doubling, then piece after piece; any device, no compiler needed
    native     scan.c, built with the system's compiler: CPU training
    triton     generator_triton.py: GPU training

Shapes: u, raw, z (B,T,D) behind convolution, step projection, gate projection; bc (B,T,2N); dt_bias, skip (D).
The decay of state n is exp(-(n+1) dt) (S4D-real). It is not trained: dt already scales it for each channel.
"""
import ctypes
import hashlib
import json
import math
import os
import struct
import subprocess
import tempfile

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

HERE = os.path.dirname(os.path.abspath(__file__))
CHUNK = 32                      # scan.c's


# ---- the scan, four times ----------------------------------------------------------------------

def conv_silu(x, weight, bias):
    """x (B,T,D) -> silu of the causal convolution; weight (K,D), the past first."""
    taps = weight.shape[0]
    padded = F.pad(x, (0, 0, taps - 1, 0))
    out = bias + sum(weight[k] * padded[:, k:k + x.shape[1]] for k in range(taps))
    return F.silu(out)


def scan_plain(u, raw, z, bc, dt_bias, skip, state=None):
    """-> out (B,T,D), the last state (B,D,N)"""
    n = bc.shape[2] // 2
    dt = F.softplus(raw + dt_bias)
    rates = -torch.arange(1, n + 1, dtype=dt.dtype, device=dt.device)
    h = u.new_zeros(u.shape[0], u.shape[2], n) if state is None else state
    out = []
    for t in range(u.shape[1]):
        h = torch.exp(dt[:, t, :, None] * rates) * h + (dt * u)[:, t, :, None] * bc[:, t, None, :n]
        out.append((h * bc[:, t, None, n:]).sum(-1))
    return (torch.stack(out, 1) + skip * u) * F.silu(z), h


def scan_chunked(u, raw, z, bc, dt_bias, skip, chunk=CHUNK):
    """Within a chunk, pairs (decay, state) are combined over 1, 2, 4 ... steps; no decay exceeds 1."""
    n = bc.shape[2] // 2
    dt = F.softplus(raw + dt_bias)
    rates = -torch.arange(1, n + 1, dtype=dt.dtype, device=dt.device)
    h, out = u.new_zeros(u.shape[0], 1, u.shape[2], n), []
    for at in range(0, u.shape[1], chunk):
        part = slice(at, at + chunk)
        decay = torch.exp(dt[:, part, :, None] * rates)
        state = (dt * u)[:, part, :, None] * bc[:, part, None, :n]
        far = 1
        while far < decay.shape[1]:
            state = torch.cat([state[:, :far], state[:, far:] + decay[:, far:] * state[:, :-far]], 1)
            decay = torch.cat([decay[:, :far], decay[:, far:] * decay[:, :-far]], 1)
            far *= 2
        state = state + decay * h
        h = state[:, -1:]
        out.append((state * bc[:, part, None, n:]).sum(-1))
    return (torch.cat(out, 1) + skip * u) * F.silu(z)


FLAGS = "-O3 -march=native -fno-math-errno -fopenmp -shared -fPIC".split()


def native_library():
    """scan.c, built for this machine once for each version of it; None without a compiler."""
    source = os.path.join(HERE, "scan.c")
    with open(source, "rb") as f:
        version = hashlib.sha256(f.read() + repr(FLAGS).encode()).hexdigest()[:16]
    path = os.path.join(tempfile.gettempdir(), f"lethe-scan-{os.getuid()}-{version}.so")
    if not os.path.exists(path):
        part = f"{path}.{os.getpid()}"
        try:
            subprocess.run(["cc", *FLAGS, source, "-o", part], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        os.replace(part, path)
    return ctypes.CDLL(path)


NATIVE = None


def pointers(*tensors):
    for t in tensors:
        assert t.is_contiguous()
    return [ctypes.c_void_p(t.data_ptr()) for t in tensors]


class NativeConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias):
        x = x.contiguous()
        u = torch.empty_like(x)
        NATIVE.conv_forward(*pointers(x, weight, bias, u), *x.shape, weight.shape[0])
        ctx.save_for_backward(x, weight, bias)
        return u

    @staticmethod
    def backward(ctx, du):
        x, weight, bias = ctx.saved_tensors
        du, dx, dw, db = du.contiguous(), torch.empty_like(x), torch.zeros_like(weight), torch.zeros_like(bias)
        NATIVE.conv_backward(*pointers(x, weight, bias, du, dx, dw, db), *x.shape, weight.shape[0])
        return dx, dw, db


class NativeScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u, raw, z, bc, dt_bias, skip):
        u, raw, z, bc = (t.contiguous() for t in (u, raw, z, bc))
        (b, t, d), n = u.shape, bc.shape[2] // 2
        out = torch.empty_like(u)
        states = torch.empty(b, (t + CHUNK - 1) // CHUNK, d, n)
        work = torch.empty(b, d, n)
        NATIVE.scan_forward(*pointers(u, raw, z, bc, dt_bias, skip, out, states, work), b, t, d, n)
        ctx.save_for_backward(u, raw, z, bc, dt_bias, skip, states)
        return out

    @staticmethod
    def backward(ctx, dout):
        u, raw, z, bc, dt_bias, skip, states = ctx.saved_tensors
        (b, t, d), n = u.shape, bc.shape[2] // 2
        slopes = [torch.empty_like(x) for x in (u, raw, z, bc)]
        rows = [torch.zeros(b, d), torch.zeros(b, d)]
        given = (u, raw, z, bc, dt_bias, skip, states, dout.contiguous(), *slopes, *rows, torch.empty(b, d, n))
        NATIVE.scan_backward(*pointers(*given), b, t, d, n)
        return *slopes, rows[0].sum(0), rows[1].sum(0)


def middle(kind, x, z, weights):
    """x, z (B,T,D) -> what the output projection reads. weights: the mixer's."""
    w = weights
    if kind == "native":
        half = torch.bfloat16
        u = NativeConv.apply(x.to(half), w.taps, w.conv_bias)
        bc, raw = w.project(u)
        return NativeScan.apply(u, raw.to(half), z.to(half), bc.to(half), w.dt_bias, w.skip)
    if kind == "triton":
        import generator_triton
        u = conv_silu(x, w.taps.to(x.dtype), w.conv_bias.to(x.dtype))
        bc, raw = w.project(u)
        return generator_triton.Scan.apply(u, raw, z, bc, w.dt_bias, w.skip)
    u = conv_silu(x, w.taps, w.conv_bias)
    bc, raw = w.project(u)
    if kind == "chunked":
        return scan_chunked(*(t.float() for t in (u, raw, z, bc)), w.dt_bias, w.skip)
    return scan_plain(*(t.float() for t in (u, raw, z, bc)), w.dt_bias, w.skip)[0]


def choose_scan(device):
    """The fastest that there is."""
    global NATIVE
    if device == "cuda":
        return "triton"
    NATIVE = NATIVE or native_library()
    return "native" if NATIVE else "chunked"


# ---- the model ---------------------------------------------------------------------------------

class Mixer(nn.Module):
    def __init__(self, width, state, taps):
        super().__init__()
        inner, rank = 2 * width, (width + 15) // 16
        self.rank, self.state = rank, state
        self.in_x = nn.Parameter(torch.randn(inner, width) / math.sqrt(width))
        self.in_z = nn.Parameter(torch.randn(inner, width) / math.sqrt(width))
        # The present token passes at first; B and C start equal, so that a token finds its like in the state.
        weight = 0.1 * torch.randn(taps, inner)
        weight[-1] += 1
        self.taps, self.conv_bias = nn.Parameter(weight), nn.Parameter(torch.zeros(inner))
        key = torch.randn(state, inner) / math.sqrt(inner) * 3
        self.x_dt = nn.Parameter(torch.randn(rank, inner) / math.sqrt(inner))
        self.x_bc = nn.Parameter(torch.cat([key, key]))
        self.dt = nn.Parameter(torch.randn(inner, rank) / math.sqrt(rank) * 0.1)
        steps = torch.exp(torch.empty(inner).uniform_(math.log(0.001), math.log(0.1)))
        self.dt_bias = nn.Parameter(steps + torch.log(-torch.expm1(-steps)))
        self.skip = nn.Parameter(torch.ones(inner))
        self.out = nn.Parameter(torch.randn(width, inner) / math.sqrt(inner))

    def project(self, u):
        return F.linear(u, self.x_bc), F.linear(F.linear(u, self.x_dt), self.dt)

    def forward(self, x, kind):
        return F.linear(middle(kind, F.linear(x, self.in_x), F.linear(x, self.in_z), self), self.out)


class Layer(nn.Module):
    def __init__(self, width, state, taps, depth):
        super().__init__()
        self.norm = nn.Parameter(torch.ones(width))
        self.mixer = Mixer(width, state, taps)
        self.mixer.out.data /= math.sqrt(depth)

    def forward(self, x, kind):
        return x + self.mixer(F.rms_norm(x, (x.shape[-1],), self.norm, 1e-5), kind)


class Generator(nn.Module):
    """shape: {"vocabulary", "width", "layers", "state", "taps"}"""

    def __init__(self, shape):
        super().__init__()
        self.shape = dict(shape)
        # Rows of length 1: logits start within a few units, and the first layers do not drown the token.
        rows = torch.randn(shape["vocabulary"], shape["width"])
        self.embeddings = nn.Parameter(F.normalize(rows))
        self.layers = nn.ModuleList(Layer(shape["width"], shape["state"], shape["taps"], shape["layers"])
                                    for _ in range(shape["layers"]))
        self.norm = nn.Parameter(torch.ones(shape["width"]))

    def forward(self, ids, kind):
        """ids (B,T) -> hidden (B,T,width), whose products with the rows of embeddings are the logits"""
        x = F.embedding(ids, self.embeddings)
        for layer in self.layers:
            x = layer(x, kind)
        return F.rms_norm(x, (x.shape[-1],), self.norm, 1e-5)

    def logits(self, hidden):
        return F.linear(hidden, self.embeddings)


# ---- export ------------------------------------------------------------------------------------

def exported(model):
    """{name in transformers' layout: float32 array}"""
    out = {"backbone.embeddings.weight": model.embeddings, "backbone.norm_f.weight": model.norm}
    for number, layer in enumerate(model.layers):
        m, p = layer.mixer, f"backbone.layers.{number}."
        inner, n = m.skip.shape[0], m.state
        out[p + "norm.weight"] = layer.norm
        p += "mixer."
        out[p + "in_proj.weight"] = torch.cat([m.in_x, m.in_z])
        out[p + "conv1d.weight"] = m.taps.T[:, None, :]
        out[p + "conv1d.bias"] = m.conv_bias
        out[p + "x_proj.weight"] = torch.cat([m.x_dt, m.x_bc])
        out[p + "dt_proj.weight"], out[p + "dt_proj.bias"] = m.dt, m.dt_bias
        out[p + "A_log"] = torch.log(torch.arange(1, n + 1.0)).expand(inner, n)
        out[p + "D"] = m.skip
        out[p + "out_proj.weight"] = m.out
    return {name: t.detach().float().cpu().contiguous().numpy() for name, t in out.items()}


def halved(array):
    """float32 -> the bits of bfloat16, to the nearest, ties to even"""
    bits = array.astype("<f4").view("<u4")
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")


def write_safetensors(path, tensors, half):
    """float32, or bfloat16 of the matrices; the decays stay whole"""
    header, at = {}, 0
    tensors = {n: halved(t) if half and t.ndim == 2 and not n.endswith("A_log") else np.ascontiguousarray(t, "<f4")
               for n, t in tensors.items()}
    for name, t in sorted(tensors.items()):
        header[name] = {"dtype": "BF16" if t.itemsize == 2 else "F32", "shape": list(t.shape),
                        "data_offsets": [at, at + t.nbytes]}
        at += t.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for _, t in sorted(tensors.items()):
            f.write(t.tobytes())


def export(model, pack, folder, seen, served, half=False):
    """Writes what model_open reads: config.json, model.safetensors, tokenizer.json. pack: generator_data.py's folder.
    config.json's "lethe" says how the prompt is laid out (README.md); served: the plan's part of it."""
    s = model.shape
    os.makedirs(folder, exist_ok=True)
    write_safetensors(os.path.join(folder, "model.safetensors"), exported(model), half)
    with open(os.path.join(pack, "tokenizer.json"), "rb") as source:
        with open(os.path.join(folder, "tokenizer.json"), "wb") as f:
            f.write(source.read())
    with open(os.path.join(pack, "frequent.json"), encoding="utf-8") as f:
        frequent = json.load(f)
    layout = {"none": 2, "start": 3, "stop": 4, "span_tokens_max": 24, **served}
    if seen:
        layout.update(seen=5, stem_letters=5, frequent=frequent)
    config = {"architectures": ["MambaForCausalLM"], "model_type": "mamba", "vocab_size": s["vocabulary"],
              "hidden_size": s["width"], "intermediate_size": 2 * s["width"], "state_size": s["state"],
              "num_hidden_layers": s["layers"], "conv_kernel": s["taps"], "expand": 2,
              "time_step_rank": (s["width"] + 15) // 16, "hidden_act": "silu", "layer_norm_epsilon": 1e-5,
              "rms_norm": True, "residual_in_fp32": True, "use_bias": False, "use_conv_bias": True,
              "tie_word_embeddings": True, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1,
              "torch_dtype": "bfloat16" if half else "float32", "lethe": layout}
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as f:
        json.dump(config, f, indent=1)
        f.write("\n")


def load(checkpoint, device):
    """The model of a run's checkpoint, on the device."""
    state = torch.load(checkpoint, map_location=device, weights_only=True)
    model = Generator(state["shape"])
    model.load_state_dict(state["model"])
    return model.to(device).eval()
