"""test_install -- `pip install ./python` gives a package that works, or says what to run."""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

import numpy

from mlopt import locate

TREE = pathlib.Path(__file__).resolve().parents[2]
BUILD = os.environ["MLOPT_BUILD"]
alone = unittest.skipIf(locate.installed(), "mlopt is installed on this machine")
DIGITS = """
import pathlib, sys
sys.path.append(sys.argv[1])  # where numpy is
import numpy, mlopt
assert sys.prefix in mlopt.__file__, mlopt.__file__
assert sys.prefix in mlopt.library.library._name, mlopt.library.library._name
folder = pathlib.Path(sys.argv[2])
data = dict(numpy.load(folder / "eval.npz"))
mlopt.compile(folder / "model.onnx", output=sys.argv[3], O=1)
for model in (folder / "model.onnx", sys.argv[3]):
    session = mlopt.InferenceSession(model)
    name = session.get_inputs()[0].name
    scores, = session.run(None, {name: data[name]})
    print((scores.argmax(-1) == numpy.load(folder / "eval_labels.npy")).mean())
"""


def run(*command, **variables):
    """What a command says, in an environment that knows of no library and no package index."""
    kept = {k: v for k, v in os.environ.items() if k not in ("MLOPT_LIBRARY", "PYTHONPATH")}
    kept.update(PIP_NO_INDEX="1", PIP_DISABLE_PIP_VERSION_CHECK="1", **variables)
    return subprocess.run([str(part) for part in command], env=kept, capture_output=True, text=True)


class TestInstall(unittest.TestCase):
    def setUp(self):
        self.temporary = tempfile.TemporaryDirectory()
        self.addCleanup(self.temporary.cleanup)
        self.folder = pathlib.Path(self.temporary.name)
        self.pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation"]

    def test_installs_and_runs_digits(self):
        made = run(sys.executable, "-m", "venv", "--without-pip", self.folder / "venv")
        self.assertEqual(made.returncode, 0, made.stderr)
        python = self.folder / "venv/bin/python"
        place = run(python, "-c", "import sysconfig; print(sysconfig.get_path('platlib'))")
        done = run(*self.pip, "--target", place.stdout.strip(), "--config-settings",
                   f"build-dir={BUILD}", TREE / "python")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        ran = run(python, "-c", DIGITS, pathlib.Path(numpy.__file__).parents[1],
                  TREE / "examples/digits", self.folder / "digits.so")
        self.assertEqual(ran.returncode, 0, ran.stderr)
        accuracies = [float(line) for line in ran.stdout.split()]
        self.assertEqual(len(accuracies), 2)
        self.assertGreater(min(accuracies), 0.95)

    @alone
    def test_says_what_to_run_where_there_is_no_library(self):
        shutil.copytree(TREE / "python", self.folder / "python",
                        ignore=shutil.ignore_patterns("__pycache__", "*.so*"))
        done = run(*self.pip, "--target", self.folder / "packages", self.folder / "python",
                   PATH=str(self.folder))  # no compiler, no cmake, no ldconfig
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("Run `", done.stdout + done.stderr)
        self.assertIn("tools/install-deps build`", done.stdout + done.stderr)
        self.assertFalse((self.folder / "packages/mlopt").exists())
        done = run(*self.pip, "--target", self.folder / "packages", "--config-settings",
                   f"build-dir={self.folder}", self.folder / "python")
        self.assertIn(f"there is no libmlopt.so.0 in {self.folder}", done.stdout + done.stderr)

    @alone
    def test_says_what_to_do_where_the_package_has_no_library(self):
        shutil.copytree(TREE / "python/mlopt", self.folder / "mlopt",
                        ignore=shutil.ignore_patterns("__pycache__", "*.so*"))
        done = run(sys.executable, "-c", "import mlopt", PYTHONPATH=str(self.folder),
                   PATH=str(self.folder))
        self.assertIn("libmlopt was not found: run `pip install ./python`", done.stderr)

    @alone
    def test_takes_an_installation_that_pkg_config_knows(self):
        shutil.copytree(TREE / "python/mlopt", self.folder / "mlopt",
                        ignore=shutil.ignore_patterns("__pycache__", "*.so*"))
        (self.folder / "mlopt.pc").write_text(f"libdir={BUILD}\nName: mlopt\nVersion: 0.1.0\n"
                                              "Description: mlopt\n")
        done = run(sys.executable, "-c", "import mlopt; print(mlopt.library.library._name)",
                   PYTHONPATH=str(self.folder), PKG_CONFIG_PATH=str(self.folder))
        self.assertEqual(done.stdout.strip(), f"{BUILD}/libmlopt.so.0", done.stderr)


if __name__ == "__main__":
    unittest.main()
