#!/usr/bin/python3
"""Checks the shape of the house: who includes whom, who sees which library, who may compute on labelled
bytes. Prints TAP.

usage: tests/structure.py BUILD      (reads the sources, BUILD/compile_commands.json and the archives)

Each check is first run against a small planted violation, which it must find.
"""
import collections
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FOLDERS = ["base", "holder", "ifc", "acl", "retrieval", "model", "proto", "server"]
# The arrows of ARCHITECTURE.md: who may include (and need symbols of) whom.
ALLOWED = {
    "base": set(),
    "holder": {"base"},
    "ifc": {"base"},
    "acl": {"ifc", "base"},
    "retrieval": {"ifc", "holder", "base"},
    "model": {"base"},
    "proto": set(),
    "server": {"retrieval", "acl", "model", "proto", "holder", "ifc", "base"},
}
CONFINED = {  # library: (pattern of its includes, the files that may)
    "gRPC": (r'#\s*include\s*[<"](grpc|rpc_core)', {"server/rpc_core.h", "server/rpc_core.c", "server/rpc_server.c",
                                                   "server/rpc_client.c"}),
    "LMDB": (r'#\s*include\s*[<"]lmdb', {"base/kv.c"}),
    "FAISS (C)": (r'#\s*include\s*[<"]faiss/c_api', {"retrieval/dense.c", "retrieval/faiss_adapter.h",
                                                   "retrieval/faiss_adapter.cpp"}),
    "FAISS (C++)": (r'#\s*include\s*[<"]faiss/(?!c_api)', {"retrieval/faiss_adapter.cpp"}),
}
COMPUTE_ALLOWED = re.compile(r"^(retrieval/|server/session\.c$|ifc/)")


def sources():
    """{path relative to the root: text} of the product's C, C++ and CUDA files."""
    out = {}
    for folder in FOLDERS:
        for where, _, names in os.walk(os.path.join(ROOT, folder)):
            for name in names:
                if name.endswith((".c", ".h", ".cpp", ".cu")):
                    path = os.path.relpath(os.path.join(where, name), ROOT)
                    with open(os.path.join(ROOT, path), encoding="utf-8") as f:
                        out[path] = f.read()
    return out


def headers_of(files):
    """{header's name as included: folder}, of all headers in the product."""
    return {os.path.basename(p): p.split("/")[0] for p in files if p.endswith(".h")}


def include_violations(files):
    where, found = headers_of(files), []
    for path, text in files.items():
        folder = path.split("/")[0]
        for name in re.findall(r'#\s*include\s*"([^"]+)"', text):
            near = os.path.normpath(os.path.join(os.path.dirname(path), name))
            if near in files or os.path.join(folder, os.path.basename(name)) in files:
                continue
            target = "proto" if name.startswith("lethe/v1/") else where.get(os.path.basename(name))
            if target and target != folder and target not in ALLOWED[folder]:
                found.append(f"{path} includes {name} of {target}/")
    return found


def confinement_violations(files):
    return [f"{path} includes a header of {library}"
            for library, (pattern, allowed) in CONFINED.items()
            for path, text in files.items() if re.search(pattern, text) and path not in allowed]


def compute_violations(files):
    return [f"{path} computes on labelled bytes" for path, text in files.items()
            if "ifc_labeled_compute(" in text and not COMPUTE_ALLOWED.match(path)]


def allocation_violations(files):
    """malloc and its kin are called in base/ only (C++ and generated code aside)."""
    call = re.compile(r"(?<![\w.>])(?:malloc|calloc|realloc|strdup|free)\s*\(")
    return [f"{path}: {m.group(0)}" for path, text in files.items()
            if path.endswith((".c", ".h")) and not path.startswith("base/")
            for m in [call.search(re.sub(r"/\*.*?\*/", "", text, flags=re.S))] if m]


def size_violations(files):
    found = [f"{p}: a public header of {t.count(chr(10))} lines" for p, t in files.items()
             if "/include/" in p and t.count("\n") > 200]
    return found + [f"{p}: {t.count(chr(10))} lines" for p, t in files.items()
                    if t.count("\n") > 800]


def symbols(archive):
    """(defined, needed) global symbols of a static library."""
    out = subprocess.run(["nm", "-g", "-P", archive], capture_output=True, text=True, check=True).stdout
    defined, needed = set(), set()
    for line in out.splitlines():
        parts = line.split()
        if len(parts) >= 2 and len(parts[1]) == 1:
            (needed if parts[1] in "Uw" else defined).add(parts[0])
    return defined, needed


def link_violations(build):
    """Arrows between the libraries' symbols that the design does not have."""
    tables = {}
    for folder in FOLDERS:
        archive = os.path.join(build, folder, f"liblethe_{folder}.a")
        if os.path.exists(archive):
            tables[folder] = symbols(archive)
    owner = collections.defaultdict(set)
    for folder, (defined, _) in tables.items():
        for symbol in defined:
            owner[symbol].add(folder)
    found = []
    for folder, (defined, needed) in tables.items():
        for symbol in needed - defined:
            for target in owner[symbol] - {folder}:
                if target not in ALLOWED[folder]:
                    found.append(f"{folder} needs {symbol} of {target}")
    return found if len(tables) == len(FOLDERS) else found + ["not all libraries are built"]


def main():
    build = sys.argv[1]
    files = sources()
    planted = {
        include_violations: {"acl/x.c": '#include "retrieval.h"\n', "retrieval/include/retrieval.h": ""},
        confinement_violations: {"server/x.c": "#include <grpc/grpc.h>\n"},
        compute_violations: {"server/x.c": "ifc_labeled_compute(v)"},
        allocation_violations: {"acl/x.c": "p = malloc(3);"},
        size_violations: {"acl/include/x.h": "\n" * 201},
    }
    cases = [
        ("includes follow the arrows", include_violations),
        ("one file sees gRPC, one LMDB, one FAISS (and its adapter)", confinement_violations),
        ("labelled bytes are computed on in retrieval/ and server/session.c only", compute_violations),
        ("memory comes from base/", allocation_violations),
        ("public headers and files keep their sizes", size_violations),
    ]
    number = 0
    for name, check in cases:
        number += 1
        found = check(files)
        if not check(planted[check]):
            found.append("the check does not find a planted violation")
        print(f"{'not ok' if found else 'ok'} {number} - {name}")
        for line in found:
            print(f"# {line}")
    number += 1
    found = link_violations(build)
    print(f"{'not ok' if found else 'ok'} {number} - the libraries' symbols follow the arrows")
    for line in found[:20]:
        print(f"# {line}")
    print(f"1..{number}")


if __name__ == "__main__":
    main()
