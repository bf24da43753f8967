"""The memory of a running process as root sees it: everything private and readable but what is mapped from files
and never written (programs, the embedder's and the model's weights); shared memory without a file as well."""
import os


def regions(pid):
    with open(f"/proc/{pid}/maps") as f:
        for line in f:
            parts = line.split(None, 5)
            low, high = (int(x, 16) for x in parts[0].split("-"))
            name = parts[5].strip() if len(parts) > 5 else ""
            mode = parts[1]
            nameless = name.startswith(("/memfd:", "/dev/zero", "/SYSV"))
            if "r" not in mode or (mode[3] != "p" and not nameless) or name in ("[vvar]", "[vsyscall]", "[vvar_vclock]", "[vdso]"):
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


def family(pid):
    """The process and its children: the server and its keeper."""
    out = [pid]
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as f:
                    if int(f.read().rsplit(")", 1)[1].split()[1]) == pid:
                        out.append(int(name))
            except OSError:
                continue
    return out


def whole(pid):
    """All bytes of the family, 8-aligned pieces one after the other."""
    return b"".join(piece for member in family(pid) for _, _, piece in read(member))
