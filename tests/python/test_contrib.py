"""test_contrib -- operators of com.microsoft and quantized ones: what ONNX Runtime computes.

Each case is one node; its inputs are operands at run time, `weights` are constants.  Compiled
without and with fusions, with fixed and with symbolic sizes.
"""
import sys
import unittest

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

try:
    import onnxruntime
except ImportError:
    print("SKIPPED: Python has no onnxruntime")
    sys.exit(77)

import mlopt

MS = "com.microsoft"
onnxruntime.set_default_logger_severity(4)


def numbers(*shape, seed=0, scale=1.0):
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def bytes_of(dtype, *shape, seed=0, low=None, high=None):
    info = np.iinfo(dtype)
    low, high = info.min if low is None else low, info.max if high is None else high
    return np.random.default_rng(seed).integers(low, high + 1, shape).astype(dtype)


f32 = lambda *v: np.array(v[0] if len(v) == 1 else v, np.float32)
u8 = lambda *v: np.array(v[0] if len(v) == 1 else v, np.uint8)
s8 = lambda *v: np.array(v[0] if len(v) == 1 else v, np.int8)
s32 = lambda *v: np.array(v[0] if len(v) == 1 else v, np.int32)


class Case:
    """operands: arrays in the node's order, None: omitted; those at `weights` are constants."""

    def __init__(self, op, operands, weights=(), outputs=1, domain=MS, opset=17, ms=1, **attrs):
        self.op, self.operands, self.weights = op, operands, weights
        self.outputs = outputs if isinstance(outputs, int) else len(outputs)
        self.chosen = range(outputs) if isinstance(outputs, int) else outputs
        self.domain, self.opset, self.ms, self.attrs = domain, opset, ms, attrs

    def model(self, symbolic):
        names = ["" if v is None else f"x{i}" for i, v in enumerate(self.operands)]
        count = max(self.chosen) + 1
        outputs = [f"y{i}" if i in self.chosen else "" for i in range(count)]
        node = helper.make_node(self.op, names, outputs, domain=self.domain, **self.attrs)
        inputs = [helper.make_tensor_value_info(
            names[i], helper.np_dtype_to_tensor_dtype(v.dtype),
            [f"{names[i]}_{k}" if symbolic and d > 1 else d for k, d in enumerate(v.shape)])
            for i, v in enumerate(self.operands) if v is not None and i not in self.weights]
        constants = [numpy_helper.from_array(v, names[i]) for i, v in enumerate(self.operands)
                     if v is not None and i in self.weights]
        graph = helper.make_graph([node], "case", inputs,
                                  [onnx.ValueInfoProto(name=o) for o in outputs if o], constants)
        return helper.make_model(graph, ir_version=8, opset_imports=[
            helper.make_opsetid("", self.opset), helper.make_opsetid(MS, self.ms)])

    def feeds(self):
        return {f"x{i}": v for i, v in enumerate(self.operands)
                if v is not None and i not in self.weights}


class Contrib(unittest.TestCase):
    def agree(self, case, steps=0, tolerance=1e-5, symbolic=True):
        """steps: how far quantized results may be apart."""
        want = onnxruntime.InferenceSession(
            case.model(False).SerializeToString(),
            providers=["CPUExecutionProvider"]).run(None, case.feeds())
        for level, sizes in ((0, False), (3, symbolic)):
            with self.subTest(op=case.op, O=level, symbolic=sizes):
                session = mlopt.InferenceSession(case.model(sizes), O=level)
                for got, w in zip(session.run(None, case.feeds()), want):
                    self.same(got, w, steps, tolerance)

    def same(self, got, want, steps, tolerance):
        self.assertEqual((got.shape, got.dtype), (want.shape, want.dtype))
        if np.issubdtype(want.dtype, np.integer):
            apart = np.abs(got.astype(np.int64) - want.astype(np.int64)).max(initial=0)
            self.assertLessEqual(apart, steps)
        else:
            top = max(1.0, np.abs(want).max(initial=0))
            np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * top)

    def refused(self, case, text):
        with self.assertRaisesRegex(mlopt.Error, text):
            mlopt.InferenceSession(case.model(False))


class TestProducts(Contrib):
    def test_qlinear_matmul(self):
        for a, b in ((np.uint8, np.uint8), (np.uint8, np.int8), (np.int8, np.int8)):
            az, bz = np.array(3, a), np.array(-5 if b == np.int8 else 100, b)
            for weights in ((3, 4, 5), ()):
                self.agree(Case("QLinearMatMul", [
                    bytes_of(a, 2, 7, 40), f32(0.02), az, bytes_of(b, 40, 33, seed=1), f32(0.03),
                    bz, f32(0.5), np.array(7, a)], (1, 2, 6, 7) + weights, domain=""))

    def test_qlinear_matmul_per_column(self):
        self.agree(Case("QLinearMatMul", [
            bytes_of(np.uint8, 5, 40), f32(0.02), u8(3), bytes_of(np.int8, 40, 3, seed=1),
            f32(0.03, 0.01, 0.02), s8(0, 0, 0), f32(0.5), u8(7)], range(1, 8), domain=""))

    def test_qlinear_conv(self):
        bias = bytes_of(np.int32, 6, low=-9000, high=9000)
        for w, wz in ((np.uint8, 128), (np.uint8, 77), (np.int8, 0)):
            for groups in (1, 2):
                self.agree(Case("QLinearConv", [
                    bytes_of(np.uint8, 2, 4, 9, 8), f32(0.02), u8(120),
                    bytes_of(w, 6, 4 // groups, 3, 3, seed=1), f32(0.004), np.array(wz, w),
                    f32(0.05), u8(100), bias], range(1, 9), domain="", group=groups,
                    pads=[1, 0, 1, 2], strides=[2, 1]), steps=0)

    def test_qlinear_conv_signed(self):
        self.agree(Case("QLinearConv", [
            bytes_of(np.int8, 1, 3, 9), f32(0.02), s8(-7), bytes_of(np.int8, 4, 3, 3, seed=1),
            f32(0.004, 0.003, 0.002, 0.001), s8(0, 0, 0, 0), f32(0.05), s8(-3)], range(1, 8),
            domain="", pads=[1, 1]))

    def test_integer_products(self):
        for b in (np.uint8, np.int8):
            self.agree(Case("MatMulInteger", [
                bytes_of(np.uint8, 3, 20), bytes_of(b, 20, 9), u8(9), np.array(4, b)],
                domain=""))
        # neither operand is a constant, zero points are scalars: sums of s8 times one number
        self.agree(Case("MatMulInteger", [
            bytes_of(np.uint8, 2, 3, 20), bytes_of(np.int8, 2, 20, 9), u8(9), s8(2)], domain=""))
        self.agree(Case("ConvInteger", [
            bytes_of(np.uint8, 1, 3, 7, 7), bytes_of(np.uint8, 5, 3, 3, 3, seed=2), u8(9), u8(4)],
            domain="", pads=[1, 1, 1, 1]), symbolic=False)

    def test_matmul_integer_to_float(self):
        for bias in (None, numbers(9)):
            self.agree(Case("MatMulIntegerToFloat", [
                bytes_of(np.uint8, 3, 20), bytes_of(np.int8, 20, 9), f32(0.02), numbers(9) ** 2 + 1,
                u8(7), s8([0] * 9), bias], (1, 3, 5)))
        self.agree(Case("MatMulIntegerToFloat", [
            bytes_of(np.uint8, 3, 20), bytes_of(np.uint8, 20, 9), f32(0.02), f32(0.1)]))

    def test_dynamic_quantize_matmul(self):
        for zero, bias in ((None, None), (s8(0), numbers(9)), (None, numbers(9))):
            self.agree(Case("DynamicQuantizeMatMul", [
                numbers(3, 20), bytes_of(np.int8, 20, 9), f32(0.02), zero, bias], (1, 2, 3)))
        self.agree(Case("DynamicQuantizeMatMul", [
            numbers(2, 3, 20), bytes_of(np.uint8, 20, 9), f32(0.02), u8(99)], (1, 2, 3)))

    def test_qgemm(self):
        a, b = bytes_of(np.uint8, 20, 5), bytes_of(np.int8, 9, 20)
        zero = s8([0] * 9)
        c = bytes_of(np.int32, 9, low=-5000, high=5000)
        self.agree(Case("QGemm", [a, f32(0.02), u8(3), b, numbers(9) ** 2 / 100 + 0.001, zero, c,
                                  f32(0.2), u8(120)], range(1, 9), transA=1, transB=1, alpha=1.5))
        self.agree(Case("QGemm", [a, f32(0.02), u8(3), b, f32(0.01), s8(0), None], range(1, 7),
                        transA=1, transB=1))

    def test_fused_matmul(self):
        for shape, t in (((2, 3, 4, 5), 0), ((2, 3, 5, 4), 1)):
            self.agree(Case("FusedMatMul", [numbers(*shape), numbers(2, 3, 5, 6)], transA=t,
                            alpha=0.25))
        self.agree(Case("FusedMatMul", [numbers(4, 5), numbers(6, 5)], (1,), transB=1))

    def test_fused_gemm(self):
        operands = [numbers(5, 4), numbers(6, 5, seed=1), numbers(6, seed=2)]
        names = ("Relu", "Sigmoid", "Tanh", "Softplus", "Softsign", "LeakyRelu", "Elu", "Celu",
                 "ThresholdedRelu", "Selu", "HardSigmoid", "ScaledTanh", "ParametricSoftplus")
        for name in names:
            self.agree(Case("FusedGemm", operands, (1,), activation=name, transA=1, transB=1,
                            alpha=0.5, beta=0.8, activation_alpha=0.3, activation_beta=0.7,
                            activation_gamma=1.2))
        self.agree(Case("FusedGemm", [operands[0].T.copy(), operands[1].T.copy()],
                        activation="Relu"))

    def test_fused_conv(self):
        x, w, bias = numbers(2, 4, 9, 8), numbers(6, 4, 3, 3, seed=1), numbers(6, seed=2)
        rest = numbers(2, 6, 9, 4, seed=3)
        window = dict(pads=[1, 1, 1, 1], strides=[1, 2])
        for b, z in ((None, None), (bias, None), (bias, rest), (None, rest)):
            for name, *given in (("Relu",), ("Sigmoid",), ("Tanh",), ("LeakyRelu", 0.2),
                                 ("Clip", -0.5, 1.5), ("HardSigmoid", 0.3, 0.6)):
                params = {"activation_params": given} if given else {}
                self.agree(Case("FusedConv", [x, w, b, z], (1, 2), activation=name, **window,
                                **params), symbolic=False)
        self.agree(Case("FusedConv", [x, w, bias], (1, 2), **window), symbolic=False)


class TestTensors(Contrib):
    def quantized(self, op, *shape, steps=1, **attrs):
        for dtype, z in ((np.uint8, 120), (np.int8, -9)):
            zero = np.array(z, dtype)
            self.agree(Case(op, [bytes_of(dtype, *shape), f32(0.02), zero, f32(0.01), zero],
                            (1, 2, 3, 4), **attrs), steps=steps)

    def test_binary(self):
        for op in ("QLinearAdd", "QLinearMul"):
            for dtype, z in ((np.uint8, 120), (np.int8, -9)):
                zero = np.array(z, dtype)
                self.agree(Case(op, [
                    bytes_of(dtype, 3, 40), f32(0.02), zero, bytes_of(dtype, 40, seed=1),
                    f32(0.03), zero, f32(0.04), zero], (1, 2, 4, 5, 6, 7)), steps=1)

    def test_unary(self):
        self.quantized("QLinearSigmoid", 3, 40)
        self.quantized("QLinearLeakyRelu", 3, 40, alpha=0.2)

    def test_softmax(self):
        for opset, axis in ((13, -1), (12, 1)):
            case = Case("QLinearSoftmax", [bytes_of(np.uint8, 3, 5, 7), f32(0.05), u8(120),
                                           f32(1 / 256), u8(0)], (1, 2, 3, 4), axis=axis)
            case.attrs["opset"] = opset
            self.agree(case, steps=1)

    def test_pools(self):
        for last in (0, 1):
            shape = (2, 6, 8, 5) if last else (2, 5, 6, 8)
            self.quantized("QLinearGlobalAveragePool", *shape, channels_last=last)
            self.quantized("QLinearAveragePool", *shape, channels_last=last, kernel_shape=[3, 2],
                           pads=[1, 0, 1, 1], strides=[2, 1])

    def test_concat_and_where(self):
        self.agree(Case("QLinearConcat", [
            f32(0.05), u8(7), bytes_of(np.uint8, 2, 3), f32(0.02), u8(120),
            bytes_of(np.uint8, 2, 4), f32(0.05), u8(7)], (0, 1, 3, 4, 6, 7), axis=1), steps=1)
        self.agree(Case("QLinearWhere", [
            numbers(4, 5) > 0, bytes_of(np.uint8, 4, 5), f32(0.02), u8(120),
            bytes_of(np.uint8, 5), f32(0.05), u8(7), f32(0.04), u8(3)], (2, 3, 5, 6, 7, 8)), steps=1)


class TestDialects(Contrib):
    """QuantizeLinear and DequantizeLinear of every width, and layers between them."""

    def chain(self, nodes, inputs, constants, steps=0, tolerance=1e-5):
        """The graph's last value, as ONNX Runtime computes what is written."""
        graph = helper.make_graph(
            nodes, "chain",
            [helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
             for k, v in inputs.items()],
            [onnx.ValueInfoProto(name=nodes[-1].output[0])],
            [v if isinstance(v, onnx.TensorProto) else numpy_helper.from_array(v, k)
             for k, v in constants.items()])
        model = helper.make_model(graph, ir_version=10,
                                  opset_imports=[helper.make_opsetid("", 21)])
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        want = onnxruntime.InferenceSession(model.SerializeToString(), options,
                                            providers=["CPUExecutionProvider"]).run(None, inputs)
        for level in (0, 3):
            with self.subTest(O=level):
                got = mlopt.InferenceSession(model, O=level).run(None, inputs)
                self.same(got[0], want[0], steps, tolerance)

    def test_widths(self):
        node, x = helper.make_node, numbers(4, 6, scale=3)
        for dtype in (np.uint8, np.int8, np.uint16, np.int16):
            z = np.array(3, dtype)
            for scale, zero, attrs in (
                    (f32(0.05), z, {}),
                    (f32(0.05, 0.02, 0.1, 0.5), np.full(4, z), {"axis": 0}),
                    (numbers(4, 2, seed=1) ** 2 + 0.01, np.full((4, 2), z),
                     {"axis": 1, "block_size": 3})):
                constants = {"s": scale, "z": zero}
                self.chain([node("QuantizeLinear", ["x", "s", "z"], ["y"], **attrs)], {"x": x},
                           constants)
                self.chain([node("QuantizeLinear", ["x", "s", "z"], ["q"], **attrs),
                            node("DequantizeLinear", ["q", "s", "z"], ["y"], **attrs)], {"x": x},
                           constants)

    def test_four_bits(self):
        """Weights of 4 bits in blocks, with and without zero points."""
        node, x = helper.make_node, numbers(3, 32)
        for kind, low, high in ((TensorProto.INT4, -8, 7), (TensorProto.UINT4, 0, 15)):
            four = lambda name, *shape: helper.make_tensor(
                name, kind, shape, np.random.default_rng(len(shape)).integers(
                    low, high + 1, shape).ravel())
            for zero in (False, True):
                constants = {"w": four("w", 32, 12), "s": numbers(4, 12, seed=1) ** 2 / 9 + 0.01}
                if zero:
                    constants["z"] = four("z", 4, 12)
                self.chain([node("DequantizeLinear", ["w", "s", "z"][:2 + zero], ["d"], axis=0,
                                 block_size=8), node("MatMul", ["x", "d"], ["y"])], {"x": x},
                           constants)

    def test_layers(self):
        """Layers between QuantizeLinear and DequantizeLinear, signed and unsigned."""
        node = helper.make_node
        x, w = numbers(2, 4, 7, 7), bytes_of(np.int8, 6, 4, 3, 3, seed=1)
        for dtype, z in ((np.uint8, 128), (np.int8, -5)):
            for wtype, wz in ((np.int8, 0), (np.uint8, 130), (np.uint8, 90)):
                constants = {
                    "s": f32(0.03), "z": np.array(z, dtype), "t": f32(0.2), "v": f32(0.01),
                    "w": (w.astype(np.int16) + (128 if wtype == np.uint8 else 0)).astype(wtype),
                    "wz": np.array(wz, wtype)}
                self.chain([node("QuantizeLinear", ["x", "s", "z"], ["q"]),
                            node("DequantizeLinear", ["q", "s", "z"], ["d"]),
                            node("DequantizeLinear", ["w", "v", "wz"], ["k"]),
                            node("Conv", ["d", "k"], ["c"], pads=[1, 1, 1, 1]),
                            node("Relu", ["c"], ["r"]),
                            node("QuantizeLinear", ["r", "t", "z"], ["p"]),
                            node("MaxPool", ["p"], ["m"], kernel_shape=[2, 2]),
                            node("DequantizeLinear", ["m", "t", "z"], ["y"])], {"x": x}, constants,
                           tolerance=0.021)


class TestActivations(Contrib):
    def test_gelus(self):
        x, bias = numbers(3, 8), numbers(8)
        for case in (Case("Gelu", [x]), Case("FastGelu", [x]), Case("FastGelu", [x, bias], (1,)),
                     Case("BiasGelu", [x, bias]), Case("QuickGelu", [x], alpha=1.702),
                     Case("QuickGelu", [x], alpha=0.5)):
            self.agree(case, tolerance=1e-5)

    def test_normalizations(self):
        x, skip, g, b = numbers(2, 3, 8), numbers(2, 3, 8, seed=1), numbers(8, seed=2), numbers(8)
        for chosen in ([0], [0, 3]):
            self.agree(Case("SkipLayerNormalization", [x, skip, g, b, numbers(8, seed=3)], (2, 3, 4),
                            chosen, epsilon=1e-3), symbolic=False)
            self.agree(Case("SkipSimplifiedLayerNormalization", [x, skip, g], (2,), chosen),
                       symbolic=False)
        self.agree(Case("SkipLayerNormalization", [x, skip, g], (2,)), symbolic=False)
        self.agree(Case("SimplifiedLayerNormalization", [x, g], (1,), domain="", axis=-1,
                        epsilon=1e-4))

    def test_embed(self):
        ids = bytes_of(np.int32, 2, 5, low=0, high=9)
        segments, mask = ids % 2, s32([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
        words, at, kinds = numbers(10, 8), numbers(6, 8, seed=1), numbers(2, 8, seed=2)
        g, b = numbers(8, seed=3), numbers(8, seed=4)
        tables = (2, 3, 4, 5, 6)
        self.agree(Case("EmbedLayerNormalization", [ids, segments, words, at, kinds, g, b, mask],
                        tables, 2, epsilon=1e-5))
        self.agree(Case("EmbedLayerNormalization", [ids, None, words, at, None, g, b], tables, 2))
        self.agree(Case("EmbedLayerNormalization", [
            ids, segments, words, at, kinds, g, b, None, ids % 6], tables, 2))

    def test_quantized_embed(self):
        ids = bytes_of(np.int32, 2, 5, low=0, high=9)
        tables = [bytes_of(np.uint8, n, 8, seed=n) for n in (10, 6, 2)]
        tables += [bytes_of(np.uint8, 8, seed=n) for n in (3, 4)]
        scales, zeros = [f32(0.02)] * 5, [u8(99)] * 5
        mask = s32([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
        self.agree(Case("QEmbedLayerNormalization", [ids, ids % 2, *tables, mask, *scales, *zeros],
                        [*range(2, 7), *range(8, 18)], 2))

    def test_rotary(self):
        cos, sin = np.cos(numbers(16, 4)), np.sin(numbers(16, 4))
        at = np.array([[1, 2, 3], [4, 0, 9]], np.int64)
        for x in (numbers(2, 3, 24), numbers(2, 3, 3, 8)):
            for interleaved in (0, 1):
                self.agree(Case("RotaryEmbedding", [x, at, cos, sin], (2, 3),
                                interleaved=interleaved), symbolic=False)
        self.agree(Case("RotaryEmbedding", [numbers(2, 3, 24), np.array([5], np.int64), cos, sin],
                        (2, 3)), symbolic=False)
        self.agree(Case("RotaryEmbedding", [numbers(2, 3, 36), at, cos, sin], (2, 3), num_heads=3,
                        rotary_embedding_dim=8), symbolic=False)


    def test_recurrent(self):
        x, w, r = numbers(4, 2, 3), numbers(1, 5, 3, seed=1), numbers(1, 5, 5, seed=2)
        for name, *given in (("Relu",), ("Softplus",), ("Softsign",), ("Elu", 0.5),
                             ("ThresholdedRelu", 0.3), ("LeakyRelu", 0.2), ("Affine", 0.3, 0.1),
                             ("ScaledTanh", 0.5, 0.7), ("HardSigmoid", 0.3, 0.6)):
            params = dict(zip(("activation_alpha", "activation_beta"), ([p] for p in given)))
            self.agree(Case("RNN", [x, w, r], (1, 2), domain="", hidden_size=5,
                            activations=[name], **params), symbolic=False)


class TestAttention(Contrib):
    B, S, D, H = 2, 5, 12, 3

    def masks(self):
        raw = np.ones((self.B, self.S), np.int32)
        raw[1, 3:] = 0
        square = np.stack([np.tril(np.ones((self.S, self.S), np.int32))] * self.B)
        return [None, s32(5, 3), s32(5, 4, 0, 1), raw, square]

    def test_attention(self):
        x, w, b = numbers(self.B, self.S, self.D), numbers(12, 36, seed=1), numbers(36, seed=2)
        for mask in self.masks():
            for causal in (0, 1):
                self.agree(Case("Attention", [x, w, b, mask], (1, 2), num_heads=self.H,
                                unidirectional=causal), symbolic=False)
        self.agree(Case("Attention", [x, w], (1,), num_heads=self.H, scale=0.7), symbolic=False)

    def test_sizes_that_differ(self):
        x, w, b = numbers(self.B, self.S, self.D), numbers(12, 30, seed=1), numbers(30, seed=2)
        self.agree(Case("Attention", [x, w, b], (1, 2), num_heads=self.H,
                        qkv_hidden_sizes=[12, 12, 6]), symbolic=False)

    def test_past_and_bias(self):
        x, w, b = numbers(self.B, self.S, self.D), numbers(12, 36, seed=1), numbers(36, seed=2)
        past = numbers(2, self.B, self.H, 4, 4, seed=5)
        raw = np.ones((self.B, 9), np.int32)
        raw[0, :3] = 0
        for mask in (None, raw):
            self.agree(Case("Attention", [x, w, b, mask, past], (1, 2), 2, num_heads=self.H,
                            unidirectional=1), symbolic=False)
        bias = numbers(1, self.H, self.S, self.S, seed=6)
        self.agree(Case("Attention", [x, w, b, None, None, bias], (1, 2), num_heads=self.H),
                   symbolic=False)

    def test_quantized(self):
        x, w = bytes_of(np.uint8, 2, 5, 12), bytes_of(np.int8, 12, 36, seed=1)
        b, raw = numbers(36, seed=2), self.masks()[3]
        for mask in (None, raw):
            self.agree(Case("QAttention", [x, w, b, f32(0.02), f32(0.01), mask, u8(120), s8(0)],
                            (1, 2, 3, 4, 6, 7), num_heads=self.H), tolerance=1e-4, symbolic=False)
        scale, past = numbers(36) ** 2 / 1000 + 0.001, numbers(2, 2, 3, 4, 4)
        self.agree(Case("QAttention", [x, w, b, f32(0.02), scale, None, u8(120), s8([0] * 36), past],
                        (1, 2, 3, 4, 6, 7), 2, num_heads=self.H, unidirectional=1),
                   tolerance=1e-4, symbolic=False)

    def test_multi_head(self):
        q, b = numbers(self.B, self.S, self.D), numbers(36, seed=2)
        k, v = numbers(self.B, 7, self.D, seed=3), numbers(self.B, 7, self.D, seed=4)
        long = np.ones((self.B, 7), np.int32)
        long[1, 4:] = 0
        for bias in (None, b):
            for mask in (None, long, s32(7, 3), s32(7, 3, 0, 5, 10, 0, 7, 14)):
                self.agree(Case("MultiHeadAttention", [q, k, v, bias, mask], (3,),
                                num_heads=self.H), symbolic=False)
        more = numbers(self.B, self.H, self.S, 7, seed=9)
        self.agree(Case("MultiHeadAttention", [q, k, v, b, None, more], (3,), num_heads=self.H,
                        scale=0.3), symbolic=False)
        heads = [t.reshape(self.B, 7, self.H, 4).transpose(0, 2, 1, 3).copy() for t in (k, v)]
        self.agree(Case("MultiHeadAttention", [q, *heads], num_heads=self.H), symbolic=False)

    def test_multi_head_past(self):
        q, k, v = (numbers(self.B, self.S, self.D, seed=n) for n in range(3))
        past = [numbers(self.B, self.H, 4, 4, seed=n) for n in (5, 6)]
        for causal in (0, 1):
            self.agree(Case("MultiHeadAttention", [q, k, v, None, None, None, *past], (), 3,
                            num_heads=self.H, unidirectional=causal), symbolic=False)


class TestRefusals(Contrib):
    def test_scales(self):
        a, b = bytes_of(np.uint8, 5, 8), bytes_of(np.int8, 8, 3)
        for factor, divisor in ((np.inf, 1), (np.nan, 1), (1, 0), (1, -1), (1, np.inf), (1, np.nan)):
            operands = [a, f32(0.1), u8(0), b, f32(factor), s8(0), f32(divisor), u8(0)]
            self.refused(Case("QLinearMatMul", operands, range(1, 8), domain=""), "scale 0 is")
            operands = [a, f32(factor), u8(0), a, f32(1), u8(0), f32(divisor), u8(0)]
            self.refused(Case("QLinearAdd", operands, (1, 4, 6)), "scale 0 is")

    def test_types_and_sizes(self):
        a, b = bytes_of(np.uint8, 5, 8), bytes_of(np.int8, 8, 3)
        for zero, text in ((u8(0), "zero point is u8"), (s8(0, 0), "2 zero points")):
            self.refused(Case("QLinearMatMul", [a, f32(0.1), u8(0), b, f32(1), zero, f32(1), u8(0)],
                              range(1, 8), domain=""), text)
        self.refused(Case("QLinearAdd", [a, f32(0.1), u8(0), None, f32(1), u8(0), f32(1), u8(0)],
                          range(1, 8)), "operand 3 is missing")
        self.refused(Case("QLinearMatMul", [a, f32(0.1), u8(0), b, f32(1, 1), s8(0), f32(1), u8(0)],
                          range(1, 8), domain=""), "number of scales")

    def test_activations(self):
        gemm, conv = [numbers(3, 4), numbers(4, 5)], [numbers(1, 2, 5), numbers(3, 2, 3)]
        self.refused(Case("FusedGemm", gemm, activation="Odd"), "activation 'Odd'")
        self.refused(Case("FusedGemm", gemm, activation="Clip"), "activation 'Clip'")
        self.refused(Case("FusedGemm", gemm, activation="Selu", activation_alpha=1.0),
                     "activation_gamma' is missing")
        for given in ({}, {"activation_params": [1.0, 2.0, 3.0]}):
            self.refused(Case("FusedConv", conv, activation="HardSigmoid", **given),
                         "HardSigmoid needs 2")

    def test_heads(self):
        x, w = numbers(2, 5, 12), numbers(12, 36)
        self.refused(Case("Attention", [x, w], (1,), num_heads=5), "5 heads do not divide")
        self.refused(Case("Attention", [x, w], (1,), num_heads=0), "num_heads is 0")
        self.refused(Case("Attention", [x, w], (1,), num_heads=3, do_rotary=1), "do_rotary")
        self.refused(Case("MultiHeadAttention", [x], num_heads=3), "packed")
        for mask in (s32(5, 3, 0), s32([0] * 7), s32([0] * 9)):
            self.refused(Case("MultiHeadAttention", [x, x, x, None, mask], num_heads=3),
                         "a mask of rank 1 has")


if __name__ == "__main__":
    unittest.main()
