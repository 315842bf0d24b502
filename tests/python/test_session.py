"""test_session -- compile(), artefacts and InferenceSession, against NumPy."""
import pathlib
import re
import tempfile
import threading
import unittest

import numpy as np
import onnx
from onnx import TensorProto, helper

import mlopt
from mlopt import dtypes, library


def linear_model():
    """y = x @ w + 1, x: f32[batch, 3]."""
    w = np.arange(6, dtype=np.float32).reshape(3, 2)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["p"], name="product"),
         helper.make_node("Add", ["p", "one"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2]),
         helper.make_tensor_value_info("p", TensorProto.FLOAT, ["batch", 2])],
        [onnx.numpy_helper.from_array(w, "w"),
         onnx.numpy_helper.from_array(np.float32(1), "one")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), w


def unary_model(op, dtype, shape=("n",), **attributes):
    t = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph([helper.make_node(op, ["x"], ["y"], name="it", **attributes)], "unary",
                              [helper.make_tensor_value_info("x", t, shape)],
                              [onnx.ValueInfoProto(name="y")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


def appending_model():
    """present = concat(past, x), sum = its rows' sum."""
    f32 = TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Concat", ["past", "x"], ["present"], axis=1),
         helper.make_node("ReduceSum", ["present", "axes"], ["sum"], keepdims=0)],
        "rows",
        [helper.make_tensor_value_info("past", f32, [2, "p", 3]),
         helper.make_tensor_value_info("x", f32, [2, "s", 3])],
        [helper.make_tensor_value_info("present", f32, [2, "p + s", 3]),
         helper.make_tensor_value_info("sum", f32, [2, 3])],
        [onnx.numpy_helper.from_array(np.array([1]), "axes")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


class TestSession(unittest.TestCase):
    def setUp(self):
        self.model, self.w = linear_model()
        self.x = np.random.default_rng(0).standard_normal((5, 3), np.float32)

    def test_runs_bytes_paths_and_models(self):
        with tempfile.NamedTemporaryFile(suffix=".onnx") as f:
            onnx.save(self.model, f.name)
            for model in (self.model, self.model.SerializeToString(), f.name, pathlib.Path(f.name),
                          mlopt.compile(self.model)):
                y, p = mlopt.InferenceSession(model).run(None, {"x": self.x})
                np.testing.assert_allclose(p, self.x @ self.w, rtol=1e-5)
                np.testing.assert_allclose(y, p + 1)

    def test_one_session_takes_all_sizes(self):
        session = mlopt.InferenceSession(self.model, O=3)
        for n in (1, 4, 17, 0, 2):
            x = np.full((n, 3), n, np.float32)
            y, = session.run(["y"], {"x": x})
            np.testing.assert_allclose(y, x @ self.w + 1, rtol=1e-5)

    def test_states_grow(self):
        session = mlopt.InferenceSession(appending_model())
        session.bind_state("past", "present")
        rows = np.random.default_rng(0).standard_normal((2, 40, 3), np.float32)
        for first in (0, 0):
            session.reset_states()
            self.assertRaises(ValueError, session.state, "past")
            for i in range(first, 40):
                present, total = session.run(None, {"x": rows[:, i:i + 1]})
                self.assertIsNone(present)
                np.testing.assert_allclose(total, rows[:, :i + 1].sum(1), rtol=1e-4, atol=1e-5)
            np.testing.assert_array_equal(session.state("past"), rows)
        session.run(["sum"], {"past": rows[:, :7], "x": rows[:, :2]})
        self.assertEqual(session.state("past").shape, (2, 9, 3))
        self.assertRaises(mlopt.Error, session.bind_state, "x", "none")

    def test_describes_inputs_and_outputs(self):
        session = mlopt.InferenceSession(self.model)
        x, = session.get_inputs()
        self.assertEqual((x.name, x.type, x.shape), ("x", "tensor(float)", ["batch", 3]))
        self.assertEqual([o.name for o in session.get_outputs()], ["y", "p"])

    def test_options_reach_the_compiler(self):
        session = mlopt.InferenceSession(self.model, dim={"batch": 5})
        self.assertEqual(session.get_inputs()[0].shape, [5, 3])
        session = mlopt.InferenceSession(self.model, shape={"x": "7x3"})
        self.assertEqual(session.get_inputs()[0].shape, [7, 3])
        frozen = mlopt.InferenceSession(self.model, freeze={"x": self.x})
        self.assertEqual(frozen.get_inputs(), [])
        np.testing.assert_allclose(frozen.run(["p"], {})[0], self.x @ self.w, rtol=1e-5)
        with self.assertRaisesRegex(mlopt.Error, "no option 'speed'"):
            mlopt.compile(self.model, speed=3)

    def test_calibration_reaches_the_compiler(self):
        samples = np.random.default_rng(1).standard_normal((16, 3), np.float32)
        want = samples @ self.w
        session = mlopt.InferenceSession(self.model, int8="static", calib={"x": samples})
        got, = session.run(["p"], {"x": samples})
        self.assertFalse(np.array_equal(got, want))
        self.assertLess(np.abs(got - want).max(), 0.05 * np.abs(want).max())
        for wrong, text in ({"y": samples}, "no array for input 'x'"), ({"x": samples[:3]}, "few"):
            with self.assertRaisesRegex(mlopt.Error, text):
                mlopt.InferenceSession(self.model, int8="static", calib=wrong)

    def test_calibration_tells_and_ends(self):
        samples, told = np.ones((16, 3), np.float32), []
        mlopt.compile(self.model, int8="static", calib={"x": samples}, progress=told.append)
        self.assertEqual([p["sample"] for p in told[:17]], list(range(17)))
        self.assertEqual(told[3], {"walk": 1, "set": 0, "sample": 3, "samples": 16})
        with self.assertRaisesRegex(mlopt.Error, "canceled"):
            mlopt.compile(self.model, int8="static", calib={"x": samples}, progress=lambda p: False)

        def broken(told):
            raise KeyError(told["walk"])

        with self.assertRaises(KeyError):
            mlopt.compile(self.model, int8="static", calib={"x": samples}, progress=broken)

    def test_statistics_stand_for_samples(self):
        samples = np.random.default_rng(2).standard_normal((20, 3), np.float32)
        options = {"int8": "static", "max_loss": "100%"}
        with tempfile.TemporaryDirectory() as folder:
            kept = pathlib.Path(folder) / "kept.calib"
            session = mlopt.InferenceSession(self.model, calib={"x": samples}, save_calib=kept,
                                             **options)
            want, = session.run(["p"], {"x": samples})
            for calib in kept, [str(kept), kept]:
                session = mlopt.InferenceSession(self.model, calib=calib, **options)
                np.testing.assert_array_equal(session.run(["p"], {"x": samples})[0], want)

    def test_artefacts_run_like_models_in_memory(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "linear.so"
            self.assertIsNone(mlopt.compile(self.model, output=path))
            y = mlopt.InferenceSession(path).run(None, {"x": self.x})
        expected = mlopt.InferenceSession(self.model).run(None, {"x": self.x})
        for a, b in zip(y, expected):
            np.testing.assert_array_equal(a, b)

    def test_outputs_are_the_callers(self):
        session = mlopt.InferenceSession(self.model)
        first, = session.run(["p"], {"x": self.x})
        copy = first.copy()
        session.run(["p"], {"x": self.x + 1})
        np.testing.assert_array_equal(first, copy)

    def test_arrays_may_be_strided(self):
        x = np.asfortranarray(np.repeat(self.x, 2, axis=0))[::2]
        p, = mlopt.InferenceSession(self.model).run(["p"], {"x": x})
        np.testing.assert_allclose(p, self.x @ self.w, rtol=1e-5)

    def test_threads_share_a_session(self):
        session, wrong = mlopt.InferenceSession(self.model), []

        def work(n):
            for _ in range(50):
                x = np.full((n, 3), n, np.float32)
                if not np.allclose(session.run(["p"], {"x": x})[0], x @ self.w):
                    wrong.append(n)

        threads = [threading.Thread(target=work, args=(n,)) for n in (1, 2, 9)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(wrong, [])

    def test_options_of_sessions(self):
        options = mlopt.SessionOptions()
        options.intra_op_num_threads = 1
        session = mlopt.InferenceSession(self.model, options, providers=["CPUExecutionProvider"])
        self.assertEqual(session.get_providers(), ["CPUExecutionProvider"])


class TestErrors(unittest.TestCase):
    def setUp(self):
        self.session = mlopt.InferenceSession(linear_model()[0])

    def test_unknown_operators(self):
        with self.assertRaisesRegex(mlopt.UnsupportedError, r"node 'it' .*operator Foo .*unknown"):
            mlopt.compile(unary_model("Foo", np.float32))

    def test_what_is_no_model(self):
        with self.assertRaises(mlopt.Error) as raised:
            mlopt.compile(b"\xff\xff\xff not a model")
        self.assertEqual(raised.exception.tag, "format")
        with self.assertRaises(mlopt.Error) as raised:
            mlopt.InferenceSession("/nowhere/model.onnx")
        self.assertEqual(raised.exception.tag, "io")
        with self.assertRaises(mlopt.Error) as raised:
            mlopt.InferenceSession("/nowhere/model.so")
        self.assertEqual(raised.exception.tag, "io")

    def test_wrong_names(self):
        x = np.zeros((1, 3), np.float32)
        with self.assertRaisesRegex(ValueError, "no input 'z'"):
            self.session.run(None, {"x": x, "z": x})
        with self.assertRaisesRegex(ValueError, "'x' is missing"):
            self.session.run(None, {})
        with self.assertRaisesRegex(ValueError, "no output 'z'"):
            self.session.run(["z"], {"x": x})

    def test_wrong_types_and_shapes(self):
        with self.assertRaisesRegex(TypeError, "'x' is of type float32, not float64"):
            self.session.run(None, {"x": np.zeros((1, 3))})
        for shape in ((3,), (1, 4)):
            with self.assertRaises(mlopt.Error) as raised:
                self.session.run(None, {"x": np.zeros(shape, np.float32)})
            self.assertEqual(raised.exception.tag, "shape")


class TestDtypes(unittest.TestCase):
    def test_numbers_are_those_of_the_library(self):
        here = pathlib.Path(__file__).resolve().parents[2]
        rows = re.findall(r"ML_DTYPE\(\s*(\d+), (\w+),\s*(\d+),\s*(\w+),\s*(\d+)",
                          (here / "include/mlopt/types.def").read_text())
        rows = {int(number): (int(bits), int(code)) for number, _, bits, _, code in rows}
        self.assertEqual(set(dtypes.ORT_NAME), set(rows) - {0})
        for number, dtype in dtypes.TO_NUMPY.items():
            bits, code = rows[number]
            self.assertEqual(dtype.itemsize, (bits + 7) // 8)
            self.assertEqual(helper.np_dtype_to_tensor_dtype(dtype), code)

    def test_every_type_goes_in_and_out(self):
        for dtype in dtypes.FROM_NUMPY:
            session = mlopt.InferenceSession(unary_model("Identity", dtype), O=0)
            x = np.array([0, 1, 1, 0, 1]).astype(dtype)
            y, = session.run(None, {"x": x})
            self.assertEqual(y.dtype, dtype)
            np.testing.assert_array_equal(y, x)

    def test_scalars(self):
        session = mlopt.InferenceSession(unary_model("Neg", np.float32, ()))
        y, = session.run(None, {"x": np.float32(3)})
        self.assertEqual((y.shape, y[()]), ((), -3))

    def test_most_dimensions(self):
        header = (pathlib.Path(__file__).resolve().parents[2] / "include/mlopt/mlopt.h").read_text()
        self.assertIn(f"ML_MAX_RANK = {library.MAX_RANK} ", header)


if __name__ == "__main__":
    unittest.main()
