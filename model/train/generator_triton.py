"""The mixer's middle on a GPU: one Triton kernel forward, one backward (Mamba, Algorithm 2; the maths of scan.c).

A program walks the time of one row of the batch for BLOCK channels and keeps their states (BLOCK,N) in registers.
Forward it writes the state in front of every CHUNK steps; backward it computes a chunk's states again into a scratch
of its own, and goes through them from behind. The slopes of B and C are written for each block of channels and summed
by PyTorch: no atomics, so the same bits each time. TRITON_INTERPRET=1 runs it on a CPU, for the check.
"""
import torch
import triton
import triton.language as tl

CHUNK, BLOCK = 32, 32


@triton.jit
def softplus(x):
    return tl.maximum(x, 0.0) + tl.log(1.0 + tl.exp(-tl.abs(x)))


@triton.jit
def scan_forward(u, raw, z, bc, dt_bias, skip, out, states, T, D, N: tl.constexpr, CHUNK: tl.constexpr,
                 BLOCK: tl.constexpr):
    b, block = tl.program_id(0), tl.program_id(1)
    d, n = block * BLOCK + tl.arange(0, BLOCK), tl.arange(0, N)
    bias, through = tl.load(dt_bias + d), tl.load(skip + d)
    rates = -(n + 1).to(tl.float32)
    h = tl.zeros((BLOCK, N), tl.float32)
    chunks = (T + CHUNK - 1) // CHUNK
    for t in range(T):
        if t % CHUNK == 0:
            kept = ((b * chunks + t // CHUNK) * D + d)[:, None] * N + n[None, :]
            tl.store(states + kept, h)
        at = (b * T + t) * D + d
        x, gate = tl.load(u + at).to(tl.float32), tl.load(z + at).to(tl.float32)
        dt = softplus(tl.load(raw + at).to(tl.float32) + bias)
        to_b = tl.load(bc + (b * T + t) * 2 * N + n).to(tl.float32)
        to_c = tl.load(bc + (b * T + t) * 2 * N + N + n).to(tl.float32)
        h = tl.exp(dt[:, None] * rates[None, :]) * h + (dt * x)[:, None] * to_b[None, :]
        y = tl.sum(h * to_c[None, :], 1) + through * x
        tl.store(out + at, y * gate * tl.sigmoid(gate))


@triton.jit
def scan_backward(u, raw, z, bc, dt_bias, skip, states, dout, du, draw, dz, dbc, dbias_rows, dskip_rows, scratch,
                  T, D, N: tl.constexpr, CHUNK: tl.constexpr, BLOCK: tl.constexpr):
    b, block = tl.program_id(0), tl.program_id(1)
    blocks = D // BLOCK
    d, n = block * BLOCK + tl.arange(0, BLOCK), tl.arange(0, N)
    bias, through = tl.load(dt_bias + d), tl.load(skip + d)
    rates = -(n + 1).to(tl.float32)
    own = scratch + (b * blocks + block) * CHUNK * BLOCK * N
    cell = tl.arange(0, BLOCK)[:, None] * N + n[None, :]
    g = tl.zeros((BLOCK, N), tl.float32)
    dbias = tl.zeros((BLOCK,), tl.float32)
    dskip = tl.zeros((BLOCK,), tl.float32)
    chunks = (T + CHUNK - 1) // CHUNK
    for back in range(chunks):
        c = chunks - 1 - back
        steps = tl.minimum(CHUNK, T - c * CHUNK)
        h = tl.load(states + ((b * chunks + c) * D + d)[:, None] * N + n[None, :])
        for i in range(steps):                       # own[i]: the state in front of step i
            t = c * CHUNK + i
            at = (b * T + t) * D + d
            tl.store(own + i * BLOCK * N + cell, h)
            x = tl.load(u + at).to(tl.float32)
            dt = softplus(tl.load(raw + at).to(tl.float32) + bias)
            to_b = tl.load(bc + (b * T + t) * 2 * N + n).to(tl.float32)
            h = tl.exp(dt[:, None] * rates[None, :]) * h + (dt * x)[:, None] * to_b[None, :]
        tl.debug_barrier()
        for j in range(steps):
            i = steps - 1 - j
            t = c * CHUNK + i
            at = (b * T + t) * D + d
            before = tl.load(own + i * BLOCK * N + cell)
            x, gate = tl.load(u + at).to(tl.float32), tl.load(z + at).to(tl.float32)
            slope = tl.load(dout + at).to(tl.float32)
            step = tl.load(raw + at).to(tl.float32) + bias
            dt = softplus(step)
            to_b = tl.load(bc + (b * T + t) * 2 * N + n).to(tl.float32)
            to_c = tl.load(bc + (b * T + t) * 2 * N + N + n).to(tl.float32)
            decay = tl.exp(dt[:, None] * rates[None, :])
            h = decay * before + (dt * x)[:, None] * to_b[None, :]
            y = tl.sum(h * to_c[None, :], 1) + through * x
            s = tl.sigmoid(gate)
            tl.store(dz + at, slope * y * s * (1.0 + gate * (1.0 - s)))
            dy = slope * gate * s
            g += dy[:, None] * to_c[None, :]
            part = ((b * blocks + block) * T + t) * 2 * N + n
            tl.store(dbc + part, tl.sum(g * (dt * x)[:, None], 0))
            tl.store(dbc + part + N, tl.sum(dy[:, None] * h, 0))
            dx = tl.sum(g * to_b[None, :], 1)
            g *= decay
            ddt = dx * x + tl.sum(g * before * rates[None, :], 1)
            tl.store(du + at, dy * through + dx * dt)
            dstep = ddt * tl.sigmoid(step)
            tl.store(draw + at, dstep)
            dbias += dstep
            dskip += dy * x
        tl.debug_barrier()
    tl.store(dbias_rows + b * D + d, dbias)
    tl.store(dskip_rows + b * D + d, dskip)


class Scan(torch.autograd.Function):
    """As scan_plain; D a multiple of BLOCK, N a power of two."""

    @staticmethod
    def forward(ctx, u, raw, z, bc, dt_bias, skip):
        u, raw, z, bc = (t.contiguous() for t in (u, raw, z, bc))
        (b, t, d), n = u.shape, bc.shape[2] // 2
        out = torch.empty_like(u)
        states = torch.empty(b, (t + CHUNK - 1) // CHUNK, d, n, device=u.device)
        scan_forward[(b, d // BLOCK)](u, raw, z, bc, dt_bias, skip, out, states, t, d, n, CHUNK, BLOCK, num_warps=1)
        ctx.save_for_backward(u, raw, z, bc, dt_bias, skip, states)
        return out

    @staticmethod
    def backward(ctx, dout):
        u, raw, z, bc, dt_bias, skip, states = ctx.saved_tensors
        (b, t, d), n = u.shape, bc.shape[2] // 2
        du, draw, dz = torch.empty_like(u), torch.empty_like(raw), torch.empty_like(z)
        parts = torch.empty(b, d // BLOCK, t, 2 * n, device=u.device)
        rows = [torch.empty(b, d, device=u.device) for _ in range(2)]
        scratch = torch.empty(b, d // BLOCK, CHUNK, BLOCK, n, device=u.device)
        scan_backward[(b, d // BLOCK)](u, raw, z, bc, dt_bias, skip, states, dout.contiguous(), du, draw, dz, parts,
                                       *rows, scratch, t, d, n, CHUNK, BLOCK, num_warps=1)
        return du, draw, dz, parts.sum(1).to(bc.dtype), rows[0].sum(0), rows[1].sum(0)
