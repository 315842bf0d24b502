"""capped.py -- the peers as they would run on a CPU of a lower level.

ONNX Runtime chooses its kernels by CPUID and has no switch for it; of OpenVINO, ONEDNN_MAX_CPU_ISA
does not reach the MLAS kernels.  So copies of their libraries get a breakpoint in place of every
cpuid instruction, and cap_isa.c, preloaded, answers it.
"""

import os
import re
import shutil
import struct
import subprocess
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGES = {"onnxruntime": ("onnxruntime_pybind11_state",),
            "openvino": ("libopenvino.so", "libopenvino_intel_cpu_plugin")}
CPUID, BREAKPOINT = b"\x0f\xa2", b"\xcc\x90"  # int3, nop
LOAD = 1  # PT_LOAD


def segments(elf):
    """(virtual address, offset in the file, bytes) of what is loaded of a 64-bit ELF file."""
    start, = struct.unpack_from("<Q", elf, 32)
    size, count = struct.unpack_from("<HH", elf, 54)
    for header in range(start, start + size * count, size):
        kind, _, offset, address, _, length = struct.unpack_from("<IIQQQQ", elf, header)
        if kind == LOAD:
            yield address, offset, length


def break_cpuid(library):
    """The library's bytes with a breakpoint for each cpuid that its disassembly shows."""
    elf = bytearray(library.read_bytes())
    found = subprocess.run(["llvm-objdump-19", "-d", "--no-show-raw-insn", library], check=True,
                           capture_output=True, text=True).stdout
    for line in re.findall(r"^\s*([0-9a-f]+):\s+cpuid", found, re.MULTILINE):
        address = int(line, 16)
        at = next(address - start + offset for start, offset, length in segments(elf)
                  if start <= address < start + length)
        assert elf[at:at + 2] == CPUID, f"{library}: no cpuid at {line}"
        elf[at:at + 2] = BREAKPOINT
    return bytes(elf)


def copy_package(package, folder):
    """A copy of an installed package, its kernels' libraries asking for CPUID by breakpoints."""
    source = Path(find_spec(package).origin).parent
    new = folder / ("new-" + package)
    shutil.rmtree(new, ignore_errors=True)
    shutil.copytree(source, new, ignore=shutil.ignore_patterns("__pycache__", "*_gpu_*", "*_npu_*"))
    for stem in PACKAGES[package]:
        for library in new.rglob(stem + "*"):
            library.write_bytes(break_cpuid(library))
    new.replace(folder / package)


def environment(isa, cache):
    """The variables under which the peers' processes run at the level isa; files in cache."""
    versions = "-".join(f"{p}-{find_spec(p).origin}-{os.stat(find_spec(p).origin).st_mtime_ns}"
                        for p in PACKAGES)
    folder, stamp = cache / "capped", cache / "capped" / "stamp"
    if not stamp.exists() or stamp.read_text() != versions:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for package in PACKAGES:
            copy_package(package, folder)
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", HERE / "cap_isa.c", "-o",
                        folder / "cap_isa.so"], check=True)
        stamp.write_text(versions)
    return {"PYTHONPATH": str(folder), "LD_PRELOAD": str(folder / "cap_isa.so"), "CAP_ISA": isa}
