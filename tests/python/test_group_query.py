"""test_group_query -- GroupQueryAttention, and packed operands of MultiHeadAttention: what ONNX
Runtime computes, at sizes that are known and at sizes that are not.
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
B, H, G, D, MOST = 2, 4, 2, 16, 32
onnxruntime.set_default_logger_severity(4)
DIMS = {"q": ["b", "s", None], "k": ["b", "s", None], "v": ["b", "s", None], "pk": ["b", G, "p", D],
        "pv": ["b", G, "p", D], "n": ["b"], "ids": ["b", "s"], "bias": [1, 1, "s", "t"]}


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


class Case:
    def __init__(self, words, past=None, packed=False, rotary=False, lengths=None, ids=None,
                 bias=False, **attributes):
        total = words + (past or 0)
        self.attributes = dict(num_heads=H, kv_num_heads=G, do_rotary=int(rotary), **attributes)
        lengths = [total] * B if lengths is None else lengths
        self.feeds = {"q": numbers(B, words, (H + 2 * G if packed else H) * D)}
        if not packed:
            self.feeds.update(k=numbers(B, words, G * D, seed=1), v=numbers(B, words, G * D, seed=2))
        if past is not None:
            self.feeds.update(pk=numbers(B, G, past, D, seed=3), pv=numbers(B, G, past, D, seed=4))
        self.feeds["n"] = np.array(lengths, np.int32) - 1
        if ids is not None:
            self.feeds["ids"] = np.array(ids, np.int64)
        if bias:
            self.feeds["bias"] = numbers(1, 1, words, total, seed=5)
        angle = np.arange(MOST)[:, None] / 10 ** np.linspace(0, 2, D // 2)
        self.constants = {"t": np.array(total, np.int32), "cos": np.cos(angle).astype(np.float32),
                          "sin": np.sin(angle).astype(np.float32)}

    def model(self, symbolic):
        given = {**self.feeds, **self.constants}
        names = [n if n in given else "" for n in ("q", "k", "v", "pk", "pv", "n", "t")]
        names += ["cos", "sin"] if self.attributes["do_rotary"] else ["", ""]
        names += [n if n in given else "" for n in ("ids", "bias")]
        node = helper.make_node("GroupQueryAttention", names, ["y", "key", "value"], domain=MS,
                                **self.attributes)
        inputs = [helper.make_tensor_value_info(
            n, helper.np_dtype_to_tensor_dtype(v.dtype),
            [s if symbolic and s else d for s, d in zip(DIMS[n], v.shape)]) for n, v in self.feeds.items()]
        constants = [numpy_helper.from_array(v, n) for n, v in self.constants.items()
                     if n in names and not (n == "t" and symbolic)]
        if symbolic: # a model does not know how long its past is
            inputs.append(helper.make_tensor_value_info("t", TensorProto.INT32, []))
        graph = helper.make_graph([node], "case", inputs,
                                  [onnx.ValueInfoProto(name=n) for n in node.output], constants)
        return helper.make_model(graph, ir_version=8, opset_imports=[
            helper.make_opsetid("", 17), helper.make_opsetid(MS, 1)])

    def run(self, session, symbolic):
        return session.run(None, dict(self.feeds, t=self.constants["t"]) if symbolic else self.feeds)


class GroupQuery(unittest.TestCase):
    def agree(self, *args, rows=None, **attributes):
        """rows: of the results of each batch that count."""
        case = Case(*args, **attributes)
        want = case.run(onnxruntime.InferenceSession(
            case.model(False).SerializeToString(), providers=["CPUExecutionProvider"]), False)
        for level, symbolic in ((0, False), (3, False), (3, True)):
            with self.subTest(args=args, O=level, symbolic=symbolic, **attributes):
                session = mlopt.InferenceSession(case.model(symbolic), O=level)
                got = case.run(session, symbolic)
                for i, (g, w) in enumerate(zip(got, want)):
                    self.assertEqual(g.shape, w.shape)
                    for b in range(B):
                        n = rows[b] if rows else None
                        g_b, w_b = (g[b, :n], w[b, :n]) if i == 0 else (g[b, :, :n], w[b, :, :n])
                        np.testing.assert_allclose(g_b, w_b, rtol=0, atol=1e-5)

    def test_prompts(self):
        for packed in (False, True):
            for rotary in (False, True):
                self.agree(6, packed=packed, rotary=rotary)
        self.agree(6, 0, rotary=True, rotary_interleaved=1)
        self.agree(6, scale=0.1)

    def test_padding_on_the_right(self):
        for rotary in (False, True):
            self.agree(6, rotary=rotary, lengths=[6, 4], rows=[6, 4])

    def test_past(self):
        for packed in (False, True):
            for rotary in (False, True):
                self.agree(1, 5, packed=packed, rotary=rotary)
        self.agree(1, 5, rotary=True, ids=[[5], [5]])

    def test_window(self):
        for window in (1, 3, 8):
            self.agree(6, local_window_size=window)
            self.agree(1, 9, local_window_size=window)

    def test_added_to_scores(self):
        self.agree(5, bias=True)
        self.agree(1, 4, bias=True)

    def test_unequal_lengths_behind_a_past(self):
        case = Case(1, 5, lengths=[6, 4])
        for rotary in (False, True):
            case.attributes["do_rotary"] = int(rotary)
            session = mlopt.InferenceSession(case.model(False), O=3)
            with self.assertRaises(mlopt.Error) as raised:
                case.run(session, False)
            self.assertEqual(raised.exception.tag, "index")

    def test_refusals(self):
        for text, attributes in (("softcap", {"softcap": 5.0}), ("smooth_softmax", {"smooth_softmax": 1}),
                                 ("sliding_window_cache", {"sliding_window_cache": 1}),
                                 ("qk_output", {"qk_output": 1})):
            with self.subTest(text), self.assertRaisesRegex(mlopt.UnsupportedError, text):
                mlopt.compile(Case(4, **attributes).model(False).SerializeToString())
        case = Case(1, 5) # what past and present share is as long as all of it
        case.constants["t"] = np.array(5, np.int32)
        with self.assertRaisesRegex(mlopt.UnsupportedError, "share"):
            mlopt.compile(case.model(False).SerializeToString())
        with self.assertRaisesRegex(mlopt.Error, "position_ids have rank 1"):
            mlopt.compile(Case(4, rotary=True, ids=[0, 1, 2, 3]).model(False).SerializeToString())
        with self.assertRaisesRegex(mlopt.Error, "kv_num_heads 3"):
            case = Case(4)
            case.attributes["kv_num_heads"] = 3
            mlopt.compile(case.model(False).SerializeToString())


class PackedHeads(unittest.TestCase):
    """Not on ONNX Runtime's CPU: the same as with operands of their own."""

    def run_node(self, *operands):
        names = [f"x{i}" if v is not None else "" for i, v in enumerate(operands)]
        node = helper.make_node("MultiHeadAttention", names, ["y"], domain=MS, num_heads=H)
        inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, v.shape)
                  for n, v in zip(names, operands) if v is not None]
        graph = helper.make_graph([node], "heads", inputs, [onnx.ValueInfoProto(name="y")])
        model = helper.make_model(graph, ir_version=8, opset_imports=[
            helper.make_opsetid("", 17), helper.make_opsetid(MS, 1)])
        return mlopt.InferenceSession(model).run(
            None, {n: v for n, v in zip(names, operands) if v is not None})[0]

    def test_packed(self):
        q, k, v = (numbers(B, 6, H, D, seed=n) for n in range(3))
        flat = [a.reshape(B, 6, H * D) for a in (q, k, v)]
        want = self.run_node(*flat)
        np.testing.assert_array_equal(self.run_node(np.stack([q, k, v], 3)), want)
        np.testing.assert_array_equal(self.run_node(flat[0], np.stack([k, v], 3)), want)


if __name__ == "__main__":
    unittest.main()
