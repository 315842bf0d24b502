"""wheel_with_library -- what pip calls (PEP 517): a wheel of the package and the tree's library.

The library is that of ../build or ../build-quickstart, else it is built there, else an installed
one serves.  `pip install ./python --config-settings build-dir=DIR` takes another build folder.
"""
import base64
import hashlib
import pathlib
import runpy
import shutil
import subprocess
import sysconfig
import zipfile

try:
    import tomllib
except ImportError:  # Python < 3.11
    import tomli as tomllib

HERE = pathlib.Path(__file__).resolve().parent
TREE = HERE.parent
BUILD = TREE / "build-quickstart"
LIBRARIES = ("libmlopt.so.0", "libmlopt-rt.so.0")
PROJECT = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]
FULL_NAME = f"{PROJECT['name']}-{PROJECT['version']}"


def get_requires_for_build_wheel(config_settings=None):
    return []


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    folder = pathlib.Path(metadata_directory) / f"{FULL_NAME}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(_metadata())
    return folder.name


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    libraries = _libraries((config_settings or {}).get("build-dir"))
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_") if libraries else "any"
    tag = f"py3-none-{platform}"
    files = {f"mlopt/{p.name}": p.read_bytes() for p in sorted((HERE / "mlopt").glob("*.py"))}
    files.update({f"mlopt/{p.name}": p.read_bytes() for p in libraries})
    info = f"{FULL_NAME}.dist-info"
    files[f"{info}/METADATA"] = _metadata().encode()
    files[f"{info}/WHEEL"] = ("Wheel-Version: 1.0\nGenerator: mlopt\n"
                              f"Root-Is-Purelib: {'false' if libraries else 'true'}\n"
                              f"Tag: {tag}\n").encode()
    record = "".join(f"{name},sha256={_digest(data)},{len(data)}\n" for name, data in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    wheel = f"{FULL_NAME}-{tag}.whl"
    with zipfile.ZipFile(pathlib.Path(wheel_directory) / wheel, "w", zipfile.ZIP_DEFLATED) as z:
        for name, data in files.items():
            z.writestr(name, data)
    return wheel


def _digest(data):
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def _metadata():
    lines = ["Metadata-Version: 2.1", f"Name: {PROJECT['name']}", f"Version: {PROJECT['version']}",
             f"Summary: {PROJECT['description']}", f"License: {PROJECT['license']['text']}",
             f"Requires-Python: {PROJECT['requires-python']}"]
    lines += [f"Requires-Dist: {needed}" for needed in PROJECT["dependencies"]]
    for extra, wanted in PROJECT["optional-dependencies"].items():
        lines.append(f"Provides-Extra: {extra}")
        lines += [f"Requires-Dist: {needed}; extra == '{extra}'" for needed in wanted]
    lines.append("Description-Content-Type: text/markdown")
    return "\n".join(lines) + "\n\n" + (HERE / PROJECT["readme"]).read_text()


def _libraries(build_dir):
    """Paths of the libraries to bundle; none where an installed one serves."""
    for folder in [pathlib.Path(build_dir)] if build_dir else [TREE / "build", BUILD]:
        if _built(folder):
            return _built(folder)
    if build_dir:
        raise SystemExit(f"mlopt: there is no {LIBRARIES[0]} in {build_dir}")
    why = _build()
    if not why:
        return _built(BUILD)
    if runpy.run_path(HERE / "mlopt" / "locate.py")["installed"]():
        return []
    raise SystemExit(f"mlopt: no library to install: none in {TREE}/build or {BUILD}, none is "
                     f"installed, and building one failed ({why}).\n"
                     f"Run `{TREE}/tools/install-deps build`, then `pip install` again.")


def _built(folder):
    paths = [folder / name for name in LIBRARIES]
    return paths if all(p.exists() for p in paths) else []


def _build():
    """Builds the libraries as ./quickstart does; why that failed, or None."""
    if not shutil.which("cmake"):
        return "there is no cmake"
    for command in (["cmake", "--preset", "release", "-DML_TESTS=OFF", "-B", BUILD],
                    ["cmake", "--build", BUILD, "--target", "mlopt", "mlopt-rt"]):
        done = subprocess.run(command, cwd=TREE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, errors="replace")
        if done.returncode:
            errors = [line.strip() for line in done.stdout.splitlines() if line.strip()]
            return "\n".join(errors[-8:])
    return None
