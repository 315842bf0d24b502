"""test_four_bits -- layers on weights of four and eight bits in blocks: MatMulNBits and blocked
DequantizeLinear, against ONNX Runtime and against the weights as floats.

Where activations may be quantized (accuracy_level 4 and unset, and DequantizeLinear), both sides do it
in blocks, each in its own way: results are judged by their distance from floats.
"""
import sys
import unittest

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

try:
    import ml_dtypes
    import onnxruntime
except ImportError:
    print("SKIPPED: Python has no onnxruntime or no ml_dtypes")
    sys.exit(77)

import mlopt

MS = "com.microsoft"
onnxruntime.set_default_logger_severity(4)
EXACT, CLOSE = 2e-6, 8e-3  # root mean square of the error over that of the result


def model(nodes, constants, k, n, opset=21, dtype=TensorProto.FLOAT):
    graph = helper.make_graph(
        nodes, "layer", [helper.make_tensor_value_info("x", dtype, ["rows", k])],
        [helper.make_tensor_value_info("y", dtype, ["rows", n])], constants)
    return helper.make_model(graph, ir_version=10, opset_imports=[
        helper.make_opsetid("", opset), helper.make_opsetid(MS, 1)])


def packed(q, bits):
    """u8 levels [.., m] as bytes, the low nibble first."""
    if bits == 8:
        return q
    if q.shape[-1] % 2:
        q = np.concatenate([q, np.zeros(q.shape[:-1] + (1,), np.uint8)], -1)
    return q[..., ::2] | q[..., 1::2] << 4


class Layer:
    """Random weights q[n, blocks, block] with scales and zero points, and what they mean."""

    def __init__(self, k, n, block, bits=4, zeros=True, seed=0):
        r = np.random.default_rng(seed)
        self.k, self.n, self.block, self.bits = k, n, block, bits
        blocks = -(-k // block)
        self.q = r.integers(0, 2**bits, (n, blocks, block)).astype(np.uint8)
        self.scale = (r.random((n, blocks)) * 0.1 + 0.01).astype(np.float32)
        self.zero = r.integers(0, 2**bits, (n, blocks)).astype(np.uint8) if zeros else None
        self.x = r.standard_normal((5, k)).astype(np.float32)
        zero = self.zero[..., None] if zeros else 2 ** (bits - 1)
        self.w = ((self.q.astype(np.float64) - zero) * self.scale[..., None]).reshape(n, -1)[:, :k]

    def nbits(self, g_idx=None, bias=None, **attributes):
        constants = [numpy_helper.from_array(packed(self.q, self.bits), "w"),
                     numpy_helper.from_array(self.scale.reshape(-1), "s")]
        names = ["x", "w", "s", "", "", ""]
        for i, name, value in ((3, "z", None if self.zero is None else packed(self.zero, self.bits).reshape(-1)),
                               (4, "g", g_idx), (5, "b", bias)):
            if value is not None:
                names[i] = name
                constants.append(numpy_helper.from_array(value, name))
        while not names[-1]:
            names.pop()
        node = helper.make_node("MatMulNBits", names, ["y"], domain=MS, K=self.k, N=self.n,
                                bits=self.bits, block_size=self.block, **attributes)
        return model([node], constants, self.k, self.n)


def error(got, want):
    return float(np.sqrt(((got - want) ** 2).mean() / (want**2).mean()))


def ort(m, x):
    return onnxruntime.InferenceSession(
        m.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


class FourBits(unittest.TestCase):
    def agree(self, m, x, want, limit):
        """Against the floats; and no farther from ONNX Runtime than both are from them."""
        theirs = ort(m, x)
        self.assertLess(error(theirs, want), CLOSE)
        for level, own in ((0, EXACT), (1, EXACT), (3, limit)):
            got = mlopt.InferenceSession(m, O=level).run(None, {"x": x})[0]
            self.assertLess(error(got, want), own, f"-O{level}")
            self.assertLess(error(got, theirs), 1.1 * (error(got, want) + error(theirs, want)) + EXACT)

    def test_matmul_nbits(self):
        for block in (16, 32, 64, 128, 256):
            for zeros in (False, True):
                with self.subTest(block=block, zeros=zeros):
                    layer = Layer(256, 40, block, zeros=zeros, seed=block)
                    want = layer.x @ layer.w.T
                    self.agree(layer.nbits(accuracy_level=4), layer.x, want, CLOSE)
                    self.agree(layer.nbits(), layer.x, want, CLOSE)
                    self.agree(layer.nbits(accuracy_level=1), layer.x, want, EXACT)

    def test_eight_bits(self):
        for block in (32, 256):
            for zeros in (False, True):
                with self.subTest(block=block, zeros=zeros):
                    layer = Layer(256, 40, block, bits=8, zeros=zeros, seed=block)
                    want = layer.x @ layer.w.T
                    self.agree(layer.nbits(accuracy_level=4), layer.x, want, CLOSE)
                    self.agree(layer.nbits(), layer.x, want, CLOSE)
                    self.agree(layer.nbits(accuracy_level=1), layer.x, want, EXACT)

    def test_integer_kernel_is_used(self):
        for bits in (4, 8):
            layer = Layer(256, 40, 32, bits=bits)
            exact, quick = (mlopt.InferenceSession(layer.nbits(accuracy_level=level), O=3).run(
                None, {"x": layer.x})[0] for level in (1, 4))
            self.assertGreater(error(quick, exact), 1e-4)

    def test_last_block_is_not_whole(self):
        layer = Layer(100, 17, 32)
        self.agree(layer.nbits(), layer.x, layer.x @ layer.w.T, CLOSE)

    def test_bias(self):
        bias = np.arange(24, dtype=np.float32)
        for bits in (4, 8):
            layer = Layer(96, 24, 32, bits=bits)
            self.agree(layer.nbits(bias=bias), layer.x, layer.x @ layer.w.T + bias, CLOSE)

    def test_index_of_groups(self):
        layer = Layer(64, 16, 32)
        order = (np.arange(64) // 32).astype(np.int32)
        want = layer.x @ layer.w.T
        got = mlopt.InferenceSession(layer.nbits(g_idx=order), O=0).run(None, {"x": layer.x})[0]
        self.assertLess(error(got, want), EXACT)
        with self.assertRaisesRegex(mlopt.UnsupportedError, "g_idx takes rows out of order"):
            mlopt.compile(layer.nbits(g_idx=order[::-1].copy()).SerializeToString())

    def test_bad_attributes(self):
        layer = Layer(64, 16, 32)
        for name, value, words in (("block_size", 24, "power of 2"), ("bits", 3, "3 bits"), ("K", 0, "K is 0"),
                                   ("K", 70, "K columns|elements")):
            m = layer.nbits()
            next(a for a in m.graph.node[0].attribute if a.name == name).i = value
            with self.subTest(name=name), self.assertRaisesRegex(mlopt.Error, words):
                mlopt.compile(m.SerializeToString())

    def test_dequantized_in_blocks(self):
        for dtype in (ml_dtypes.int4, ml_dtypes.uint4):
            for turned in (False, True):
                for zeros in (False, True):
                    with self.subTest(dtype=dtype.__name__, turned=turned, zeros=zeros):
                        self.dequantized(dtype, turned, zeros)

    def dequantized(self, dtype, turned, zeros):
        layer, low = Layer(128, 48, 32, zeros=zeros), -8 if dtype == ml_dtypes.int4 else 0
        w = (layer.q.reshape(48, -1).astype(np.int8) + low).astype(dtype)
        scale = layer.scale
        zero = None if not zeros else (layer.zero.astype(np.int8) + low).astype(dtype)
        values = (w.astype(np.float64).reshape(layer.q.shape) -
                  (zero.astype(np.float64)[..., None] if zeros else 0)) * scale[..., None]
        want = layer.x @ values.reshape(48, -1).T
        names = ["w", "s"] + ["z"] * zeros
        turn = lambda a: a if turned else np.ascontiguousarray(a.T)
        constants = [numpy_helper.from_array(turn(a), name)
                     for a, name in zip((w, scale, zero), names) if a is not None]
        nodes = [helper.make_node("DequantizeLinear", names, ["d"], axis=int(turned), block_size=32)]
        if turned:
            nodes.append(helper.make_node("Transpose", ["d"], ["t"], perm=[1, 0]))
        nodes.append(helper.make_node("MatMul", ["x", "t" if turned else "d"], ["y"]))
        self.agree(model(nodes, constants, 128, 48), layer.x, want, CLOSE)

    def test_same_bits_with_threads(self):
        layer = Layer(256, 200, 32)
        one, two = (mlopt.InferenceSession(layer.nbits(accuracy_level=4), O=3, threads=t).run(
            None, {"x": layer.x})[0] for t in (1, 2))
        self.assertEqual(one.tobytes(), two.tobytes())


if __name__ == "__main__":
    unittest.main()
