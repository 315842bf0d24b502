"""test_scales -- scales that no quantizer should write: zero, infinite, NaN, negative, subnormal.

Constants are refused where nothing is defined, and mean what the formula says else. Those that are
computed at run time mean what the formula says, with floats that become integers saturated and NaN
as 0, whatever the level of optimization, the ISA level, and in the evaluator.
"""
import os
import sys
import tempfile
import unittest
from unittest import mock

import numpy as np
import onnx
from onnx import helper, numpy_helper

try:
    import onnxruntime
except ImportError:
    print("SKIPPED: Python has no onnxruntime")
    sys.exit(77)

import mlopt

MS = "com.microsoft"
LEVELS = ("avx2", "avx512", "avx512vnni")
SCALES = (0.0, np.inf, np.nan, -0.02, 1e-40, 3e38)
NODE = helper.make_node
onnxruntime.set_default_logger_severity(4)

R = np.random.default_rng(0)
X = R.standard_normal((5, 32)).astype(np.float32)
STRANGE = X.copy()
STRANGE[0, :6] = 0, -0.0, np.inf, -np.inf, np.nan, 1e30
BYTES = R.integers(0, 256, (5, 32)).astype(np.uint8)
WEIGHTS = R.integers(-127, 128, (32, 16)).astype(np.int8)
ZERO = np.uint8(3)


def model(nodes, inputs, constants):
    graph = helper.make_graph(
        nodes, "scales",
        [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
         for n, v in inputs.items()], [onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()])
    return helper.make_model(graph, ir_version=10, opset_imports=[
        helper.make_opsetid("", 21), helper.make_opsetid(MS, 1)])


def ort(m, feeds):
    session = onnxruntime.InferenceSession(m.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


def layer():
    """QuantizeLinear and DequantizeLinear around a product, quantized again."""
    return [NODE("QuantizeLinear", ["x", "s", "z"], ["q"]),
            NODE("DequantizeLinear", ["q", "s", "z"], ["d"]),
            NODE("DequantizeLinear", ["w", "t"], ["v"], axis=1), NODE("MatMul", ["d", "v"], ["m"]),
            NODE("QuantizeLinear", ["m", "u", "z"], ["y"])]


class Everywhere:
    """A model at -O0, and at -O3 on every ISA level this CPU has."""

    def __init__(self, test, m):
        self.test, self.plain, self.sessions = test, mlopt.InferenceSession(m, O=0), {}
        with tempfile.TemporaryDirectory() as folder:
            so = os.path.join(folder, "model.so")
            mlopt.compile(m, output=so, O=3)
            for level in LEVELS:
                with mock.patch.dict(os.environ, MLOPT_ISA=level):
                    try:
                        self.sessions[level] = mlopt.InferenceSession(so)
                    except mlopt.Error as e:
                        test.assertIn("which this CPU", str(e))

    def run(self, feeds):
        """What -O3 gives: the same bits on all levels, and what -O0 gives, floats up to rounding."""
        want, = self.plain.run(None, feeds)
        results = []
        for level, session in self.sessions.items():
            with mock.patch.dict(os.environ, MLOPT_ISA=level):
                results += session.run(None, feeds)
            np.testing.assert_array_equal(results[-1], results[0], level)
        self.test.assertTrue(results)
        if np.issubdtype(want.dtype, np.integer):
            np.testing.assert_array_equal(results[0], want)
        else:
            np.testing.assert_allclose(results[0], want, rtol=1e-6)
        return results[0]


class Scales(unittest.TestCase):
    def test_quantize_at_run_time(self):
        forms = (("one", np.uint8, (), 3, {}), ("s16", np.int16, (), 3, {}),
                 ("axis", np.int8, (5,), -4, {"axis": 0}),
                 ("blocks", np.uint8, (5, 2), 7, {"axis": 1, "block_size": 16}))
        for name, dtype, shape, z, attributes in forms:
            m = model([NODE("QuantizeLinear", ["x", "s", "z"], ["y"], **attributes)],
                      {"x": X, "s": np.zeros(shape, np.float32)}, {"z": np.full(shape, z, dtype)})
            everywhere = Everywhere(self, m)
            for scale in SCALES:
                with self.subTest(form=name, scale=scale):
                    feeds = {"x": STRANGE, "s": np.full(shape, scale, np.float32)}
                    got = everywhere.run(feeds)
                    info = np.iinfo(dtype)
                    with np.errstate(all="ignore"):
                        real = np.rint(STRANGE / np.float32(scale)) + np.float32(z)
                    want = np.clip(np.nan_to_num(real, nan=0, posinf=1e9, neginf=-1e9),
                                   info.min, info.max)
                    np.testing.assert_array_equal(got, want.astype(dtype))

    def test_dequantize_at_run_time(self):
        for shape, attributes in (((), {}), ((5,), {"axis": 0}),
                                  ((5, 2), {"axis": 1, "block_size": 16})):
            m = model([NODE("DequantizeLinear", ["x", "s", "z"], ["y"], **attributes)],
                      {"x": BYTES, "s": np.zeros(shape, np.float32)},
                      {"z": np.full(shape, ZERO)})
            everywhere = Everywhere(self, m)
            for scale in SCALES:
                with self.subTest(shape=shape, scale=scale):
                    feeds = {"x": BYTES, "s": np.full(shape, scale, np.float32)}
                    got = everywhere.run(feeds)
                    with np.errstate(all="ignore"):
                        want = (BYTES.astype(np.float32) - 3) * np.float32(scale)
                    np.testing.assert_array_equal(got, want)

    def test_layers_at_run_time(self):
        one = np.zeros((), np.float32)
        around = model(layer(), {"x": X, "s": one, "t": one, "u": one}, {"w": WEIGHTS, "z": ZERO})
        plain = model([NODE("QLinearMatMul", ["x", "s", "z", "w", "t", "o", "u", "z"], ["y"])],
                      {"x": BYTES, "s": one, "t": one, "u": one},
                      {"w": WEIGHTS, "z": ZERO, "o": np.int8(0)})
        both = model([NODE("QLinearAdd", ["x", "s", "z", "x", "t", "z", "u", "z"], ["y"], domain=MS)],
                     {"x": BYTES, "s": one, "t": one, "u": one}, {"z": ZERO})
        for m, x in ((around, X), (plain, BYTES), (both, BYTES)):
            everywhere = Everywhere(self, m)
            for scale in SCALES:
                for bad in "stu":
                    with self.subTest(op=m.graph.node[0].op_type, scale=scale, which=bad):
                        feeds = {"x": x, "s": np.float32(.02), "t": np.float32(.01),
                                 "u": np.float32(.1), bad: np.float32(scale)}
                        feeds = {k: np.asarray(v) for k, v in feeds.items()}
                        self.assertEqual(everywhere.run(feeds).dtype, np.uint8)

    def test_dynamic_quantization_of_strange_numbers(self):
        dynamic = NODE("DynamicQuantizeLinear", ["x"], ["q", "s", "z"])
        for end in (NODE("MatMulInteger", ["q", "w", "z"], ["y"]),
                    NODE("DequantizeLinear", ["q", "s", "z"], ["y"])):
            m = model([dynamic, end], {"x": X}, {"w": WEIGHTS})
            everywhere = Everywhere(self, m)
            for value in (np.inf, -np.inf, np.nan, 1e-42, 3e38):
                with self.subTest(op=end.op_type, value=value):
                    x = X.copy()
                    x[1, 3] = value
                    got = everywhere.run({"x": x})
                    if np.isfinite(value):
                        want = ort(m, {"x": x}).astype(np.float64)
                        self.assertLessEqual(np.abs(got - want).max(), 1e-2 * np.abs(want).max())

    def test_constants_are_refused_or_mean_something(self):
        def around(**scales):
            constants = {"s": .02, "t": .01, "u": .1, **scales}
            return model(layer(), {"x": X}, {"w": WEIGHTS, "z": ZERO,
                **{k: np.asarray(v, np.float32) for k, v in constants.items()}})

        for bad in (0, np.inf, np.nan, -0.02):
            for name in "su":
                with self.assertRaisesRegex(mlopt.Error, "scale 0 is"):
                    mlopt.InferenceSession(around(**{name: bad}))
        for bad in (np.inf, np.nan):
            with self.assertRaisesRegex(mlopt.Error, "scale 3 is"):
                mlopt.InferenceSession(around(t=[.01, 0, .02, bad] * 4))
        channels = np.asarray([.01, 0, -.02, 1e-40] * 4, np.float32)
        for m in (around(t=channels), around(t=0.0), around(t=-0.01), around(s=1e-40)):
            want = ort(m, {"x": X})
            for level in (0, 3):
                got, = mlopt.InferenceSession(m, O=level).run(None, {"x": X})
                apart = np.abs(got.astype(int) - want.astype(int))
                self.assertLessEqual(apart.max(), 1)
                self.assertLess(apart.mean(), 0.01)

    def test_blocks(self):
        """Weights in blocks have scales of zero, and signed ones, where ONNX Runtime wrote them."""
        scale = np.where(np.arange(32).reshape(16, 2) % 3 == 0, 0, 0.01).astype(np.float32)
        scale[::2] *= -1
        for bits in (4, 8):
            levels = R.integers(0, 2**bits, (16, 2, 16)).astype(np.uint8)
            stored = levels if bits == 8 else levels[..., ::2] | levels[..., 1::2] << 4
            real = ((levels.astype(np.float32) - 2 ** (bits - 1)) * scale[..., None]).reshape(16, 32)

            def blocks(scale):
                node = NODE("MatMulNBits", ["x", "b", "s"], ["y"], domain=MS, K=32, N=16, bits=bits,
                            block_size=16)
                return model([node], {"x": X}, {"b": stored, "s": scale})

            for level in (0, 3):
                got, = mlopt.InferenceSession(blocks(scale), O=level).run(None, {"x": X})
                want = X @ real.T
                self.assertLess(np.abs(got - want).max(), 0.02 * np.abs(want).max())
            for bad in (np.inf, np.nan):
                wrong = scale.copy()
                wrong[1, 1] = bad
                with self.assertRaisesRegex(mlopt.Error, "scale 3 is"):
                    mlopt.InferenceSession(blocks(wrong))
        for dtype in (np.int8, np.uint8):
            info = np.iinfo(dtype)
            w = R.integers(info.min, info.max + 1, (32, 16)).astype(dtype)
            m = model([NODE("DequantizeLinear", ["w", "s"], ["v"], axis=0, block_size=16),
                       NODE("MatMul", ["x", "v"], ["y"])], {"x": X},
                      {"w": w, "s": np.ascontiguousarray(scale.T)})
            want = ort(m, {"x": X})
            for level in (0, 3):
                got, = mlopt.InferenceSession(m, O=level).run(None, {"x": X})
                self.assertLess(np.abs(got - want).max(), 0.02 * np.abs(want).max())


if __name__ == "__main__":
    unittest.main()
