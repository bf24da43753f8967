"""The memory of a running process as root sees it: everything private and readable but what is mapped from files
and never written (programs, the embedder's and the model's weights)."""


def regions(pid):
    with open(f"/proc/{pid}/maps") as f:
        for line in f:
            parts = line.split(None, 5)
            low, high = (int(x, 16) for x in parts[0].split("-"))
            name = parts[5].strip() if len(parts) > 5 else ""
            mode = parts[1]
            if "r" not in mode or mode[3] != "p" or name in ("[vvar]", "[vsyscall]", "[vvar_vclock]", "[vdso]"):
                continue
            if name.startswith("/") and "w" not in mode:
                continue
            yield low, high, name


def read(pid):
    """[(address, name, bytes)], in pieces; what is not there is left out."""
    out = []
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as mem:
        for low, high, name in regions(pid):
            for at in range(low, high, 1 << 24):
                try:
                    mem.seek(at)
                    piece = mem.read(min(high - at, 1 << 24))
                except (OSError, ValueError):
                    continue
                if piece.count(0) != len(piece):
                    out.append((at, name, piece))
    return out
