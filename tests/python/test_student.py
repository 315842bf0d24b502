"""test_student -- prune() and distill(), with callbacks."""
import pathlib
import tempfile
import unittest

import mlopt
import numpy as np


def layer(name, stream, down):
    return f"""  %{name}u = linear {stream}, %u : f32[b, 3, 2, 3]
  %{name}a = gelu %{name}u : f32[b, 3, 2, 3]
  %{name}d = linear %{name}a, {down} : f32[b, 3, 2, 2]
  %{name} = add {stream}, %{name}d : f32[b, 3, 2, 2]
"""


MODEL = """module "m" {
  sym b
  in %x "x" : f32[b, 3, 2, 2]
  %u = const {1, -1, 0.5, 2, 0.25, 1} : f32[2, 3]
  %d = const {1, 0.5, -1, 1, 2, -0.5} : f32[3, 2]
  %v = const {0.1, 0.05, -0.1, 0.1, 0.2, -0.05} : f32[3, 2]
  %c = const {0.25, -2, 1.5, 1} : f32[2, 2]
""" + layer("l", "%x", "%d") + layer("m", "%l", "%v") + layer("n", "%m", "%d") + """  %y = linear %n, %c : f32[b, 3, 2, 2]
  out "y" = %y
}
"""


def numbers(rng, rows, columns):
    values = rng.standard_normal(rows * columns) / np.sqrt(columns)
    return "{" + ", ".join(f"{v:.4f}" for v in values) + f"}} : f32[{rows}, {columns}]"


def embedder(rng):
    """Vectors of tokens, of which there are enough for near ones to be looked for."""
    def block(name, stream):
        return f"""  %{name}u = linear {stream}, %u : f32[b, s, 128]
  %{name}a = gelu %{name}u : f32[b, s, 128]
  %{name}d = linear %{name}a, %d : f32[b, s, 64]
  %{name} = add {stream}, %{name}d : f32[b, s, 64]
"""
    return f"""module "m" {{
  sym b
  sym s
  in %i "i" : s64[b, s]
  %t = const {numbers(rng, 1200, 64)}
  %u = const {numbers(rng, 64, 128)}
  %d = const {numbers(rng, 128, 64)}
  %x = gather %t, %i : f32[b, s, 64]
""" + block("l", "%x") + block("m", "%l") + block("n", "%m") + """  out "y" = %n
}
"""


class Student(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.model = pathlib.Path(folder.name) / "model.mlt"
        self.output = pathlib.Path(folder.name) / "student.mlt"
        self.model.write_text(MODEL)
        self.calib = {"x": np.random.default_rng(1).standard_normal((40, 3, 2, 2), np.float32)}

    def layers(self):
        return self.output.read_text().count(" = gelu ")

    def test_prune_tells_and_asks(self):
        told, asked = [], []

        def score(part):
            asked.append(part)
            return part["loss"]

        mlopt.prune(self.model, 1, self.output, self.calib, progress=told.append, score=score)
        self.assertEqual(self.layers(), 2)
        self.assertEqual([p["layer"] for p in asked], [0, 1, 2])
        self.assertEqual(asked[1]["kind"], "layer")
        self.assertEqual(told[0]["step"], 0)
        self.assertGreater(len(told), 3)

    def test_what_is_canceled_is_not_written(self):
        with self.assertRaisesRegex(mlopt.Error, "canceled"):
            mlopt.prune(self.model, 1, self.output, self.calib, progress=lambda p: False)

        def broken(part):
            raise KeyError(part["kind"])

        with self.assertRaisesRegex(KeyError, "layer"):
            mlopt.prune(self.model, 1, self.output, self.calib, score=broken)
        self.assertFalse(self.output.exists())

    def test_impossible_target(self):
        with self.assertRaisesRegex(mlopt.Error, "at most 2 can go"):
            mlopt.prune(self.model, 3, self.output, self.calib)

    def test_distill(self):
        told = []
        mlopt.distill(self.model, self.output, self.calib, student="0,2", distill_steps=40,
                      progress=told.append)
        self.assertEqual(self.layers(), 2)
        self.assertEqual(told[-1]["step"], 40)
        self.assertLessEqual(told[-1]["best"], told[0]["error"])

    def test_any_number_of_threads_gives_the_same_student(self):
        rng, students = np.random.default_rng(2), []
        self.model.write_text(embedder(rng))
        for threads in 1, 2, 3:
            mlopt.distill(self.model, self.output, {"i": np.arange(640).reshape(40, 16) * 7 % 1200},
                          student="0,2", distill_steps=8, threads=threads)
            students.append(self.output.read_text())
        self.assertEqual(self.layers(), 2)
        self.assertEqual(students[0], students[1])
        self.assertEqual(students[0], students[2])


if __name__ == "__main__":
    unittest.main()
