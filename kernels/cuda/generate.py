"""Compiles the kernels beside it with NVRTC, which needs no GPU, into generated/.

    pip install nvidia-cuda-nvrtc-cu12==12.4.127
    python kernels/cuda/generate.py            # writes
    python kernels/cuda/generate.py --check    # compares bytes, and says what differs

Refuses other versions of NVRTC, since they would give other bytes, and kernels that spill registers or use local memory.
"""

import ctypes
import hashlib
import json
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
GENERATED = HERE / "generated"
WHEEL = "nvidia-cuda-nvrtc-cu12"
VERSION = "12.4.127"
SOURCES = [
    "numbers.cu", "units.cu", "functions.cu", "tally.cu", "groups.cu", "product.cu", "few.cu", "matrix.cu", "attention.cu",
    "kept.cu", "rows.cu", "head.cu", "limits.cu",
]
OPTIONS = ["--std=c++17", "--fmad=false", "--prec-div=true", "--prec-sqrt=true", "--ftz=false"]


def nvrtc():
    from importlib import metadata

    found = metadata.version(WHEEL)
    if found != VERSION:
        sys.exit(f"{WHEEL} is {found}, and {VERSION} is needed")
    files = [f for f in metadata.files(WHEEL) if f.name.startswith("libnvrtc")]
    # The part that the other one asks for by name comes first.
    for file in sorted(files, key=lambda f: "builtins" not in f.name):
        library = ctypes.CDLL(str(file.locate()), mode=ctypes.RTLD_GLOBAL)
    return library


def compile_kernels(library, source, architecture, extra, kind):
    """Returns what NVRTC makes for an architecture, and what it says."""

    def call(name, *arguments):
        result = getattr(library, name)(*arguments)
        return result

    program = ctypes.c_void_p()
    call("nvrtcCreateProgram", ctypes.byref(program), source.encode(), b"waag.cu", 0, None, None)
    options = [*OPTIONS, f"--gpu-architecture={architecture}", *extra]
    array = (ctypes.c_char_p * len(options))(*[o.encode() for o in options])
    result = call("nvrtcCompileProgram", program, len(options), array)

    def read(what):
        size = ctypes.c_size_t()
        if call(f"nvrtcGet{what}Size", program, ctypes.byref(size)):
            return b""
        buffer = ctypes.create_string_buffer(size.value)
        call(f"nvrtcGet{what}", program, buffer)
        return buffer.raw

    log = read("ProgramLog").rstrip(b"\0").decode()
    if result:
        sys.exit(f"{architecture}: NVRTC refuses the kernels\n{log}")
    return read(kind), log


def resources(log):
    """Returns the registers, shared bytes and spills of each kernel, as the assembler reports them."""
    kernels, name = {}, None
    for line in log.splitlines():
        if found := re.search(r"Compiling entry function '(\w+)'", line):
            name = found[1]
            kernels[name] = {"registers": 0, "shared": 0, "spilled": 0}
        elif name and (found := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line)):
            # What is indexed at run time is in memory as well.
            kernels[name]["spilled"] = max(map(int, found.groups()))
        elif name and (found := re.search(r"Used (\d+) registers", line)):
            kernels[name]["registers"] = int(found[1])
            shared = re.search(r"(\d+) bytes smem", line)
            kernels[name]["shared"] = int(shared[1]) if shared else 0
    return kernels


def digest(data):
    return hashlib.sha256(data).hexdigest()


def main():
    check = sys.argv[1:] == ["--check"]
    source = "".join((HERE / name).read_text() for name in SOURCES)
    library = nvrtc()
    verbose = ["--ptxas-options=-v"]
    ptx, _ = compile_kernels(library, source, "compute_80", [], "PTX")
    ptx = ptx.rstrip(b"\0")
    # The portable text is assembled on the machine that runs it: what it needs there is found out here.
    _, log_80 = compile_kernels(library, source, "sm_80", verbose, "CUBIN")
    cubin, log_90 = compile_kernels(library, source, "sm_90a", verbose, "CUBIN")
    outputs = {"waag.compute_80.ptx": ptx, "waag.sm_90a.cubin": cubin}
    needs = {"sm_80": resources(log_80), "sm_90a": resources(log_90)}
    for architecture, kernels in needs.items():
        if not kernels:
            sys.exit(f"{architecture}: NVRTC reports no kernels")
        spilling = [name for name, kernel in kernels.items() if kernel["spilled"]]
        if spilling:
            sys.exit(f"{architecture}: these kernels spill registers: {', '.join(spilling)}\n{kernels}")
    manifest = {
        "compiler": f"{WHEEL} {VERSION}",
        "options": OPTIONS,
        "sources": SOURCES,
        "sources_sha256": digest(source.encode()),
        "outputs_sha256": {name: digest(data) for name, data in outputs.items()},
        "kernels": needs,
    }
    outputs["manifest.json"] = (json.dumps(manifest, indent=1) + "\n").encode()
    GENERATED.mkdir(exist_ok=True)
    differing = [n for n, data in outputs.items() if not (GENERATED / n).exists() or (GENERATED / n).read_bytes() != data]
    if check and differing:
        sys.exit(f"kernels/cuda/generated is not what its sources make: {', '.join(differing)}")
    for name in differing:
        (GENERATED / name).write_bytes(outputs[name])
    print(f"{len(needs['sm_90a'])} kernels, none spills; {'the same' if not differing else 'written: ' + ', '.join(differing)}")


main()
