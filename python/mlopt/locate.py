"""locate -- where libmlopt or libmlopt-rt is: as told, in this package, or installed."""
import ctypes.util
import os
import pathlib
import shutil
import subprocess

STEMS = ("mlopt", "mlopt-rt")  # the first one found is taken: the second only runs artefacts


def bundled(folder=pathlib.Path(__file__).parent):
    """The path of the library in a folder, or None."""
    for stem in STEMS:
        for name in (f"lib{stem}.so.0", f"lib{stem}.so"):
            if (pathlib.Path(folder) / name).exists():
                return str(pathlib.Path(folder) / name)
    return None


def installed():
    """The name or path of a library of the system, or None."""
    for stem in STEMS:
        found = ctypes.util.find_library(stem) or _of_pkg_config(stem)
        if found:
            return found
    return None


def _of_pkg_config(stem):
    """Of an installation with a prefix that the system's linker does not search."""
    if not shutil.which("pkg-config"):
        return None
    asked = subprocess.run(["pkg-config", "--variable=libdir", stem], capture_output=True,
                           text=True)
    path = pathlib.Path(asked.stdout.strip()) / f"lib{stem}.so.0"
    return str(path) if asked.returncode == 0 and path.exists() else None


def find():
    """The library to load; OSError, saying what to do, where there is none."""
    # What MLOPT_LIBRARY says and nothing else: a wrong path is not to go unnoticed.
    found = os.environ.get("MLOPT_LIBRARY") or bundled() or installed()
    if not found:
        raise OSError("libmlopt was not found: run `pip install ./python` in mlopt's source tree, "
                      "install mlopt, or set MLOPT_LIBRARY to the library's path")
    return found
