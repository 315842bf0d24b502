# test_quantize.py -- mlopt quantize: ONNX Runtime loads what it wrote and agrees with it; compiled
# again it gives the bits that --int8 gives; weights are bytes in the file.  mlopt compare --per-node:
# where the error comes from.
import json
import os
import re
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

try:
	import onnxruntime
except ImportError:
	print("SKIPPED: Python has no onnxruntime")
	sys.exit(77)

from harness import attempt, check, distance, finish, path, run, same_bits, tool

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
DIGITS = os.path.join(ROOT, "examples", "digits")
WORDS, WIDTH, WIDE = 300, 48, 96
onnxruntime.set_default_logger_severity(4)


def save_words():
	"""Words looked up, two layers with a gelu and a residual between, a norm."""
	r = np.random.default_rng(3)
	table = lambda *shape: (r.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)
	constants = {"words": table(WORDS, WIDTH) * 9, "w1": table(WIDTH, WIDE), "b1": table(WIDE),
		"w2": table(WIDE, WIDTH), "g": np.ones(WIDTH, np.float32), "b": np.zeros(WIDTH, np.float32)}
	node = helper.make_node
	nodes = [node("Gather", ["words", "ids"], ["x"]), node("MatMul", ["x", "w1"], ["m"]),
		node("Add", ["m", "b1"], ["a"]), node("Gelu", ["a"], ["h"]), node("MatMul", ["h", "w2"], ["o"]),
		node("Add", ["o", "x"], ["s"]), node("LayerNormalization", ["s", "g", "b"], ["y"])]
	graph = helper.make_graph(nodes, "words",
		[helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "n"])],
		[helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "n", WIDTH])],
		[numpy_helper.from_array(v, k) for k, v in constants.items()])
	file = path("words.onnx")
	onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), file)
	return file, {"ids": r.integers(0, WORDS, (2, 9))}


def tensors(model):
	"""Constants of the graph with their types."""
	found = [(t.data_type, int(np.prod(t.dims))) for t in model.graph.initializer]
	for n in model.graph.node:
		found += [(a.t.data_type, int(np.prod(a.t.dims))) for a in n.attribute if a.name == "value"]
	return found


def test(name, file, inputs, most, flags):
	out = path(name + ".int8.onnx")
	result = tool("mlopt", "quantize", file, "-o", out, *flags)
	check(f"{name}: written", result.ok, result)
	if not result.ok:
		return None
	model = onnx.load(out)
	onnx.checker.check_model(model)
	check(f"{name}: standard operators", all(n.domain == "" for n in model.graph.node))
	found = tensors(model)
	floats = [n for t, n in found if t == TensorProto.FLOAT and n > 512]
	check(f"{name}: weights are bytes", not floats and any(t == TensorProto.INT8 for t, _ in found), floats)
	want = run(file, inputs, *[f for f in flags if f != "-q"])
	check(f"{name}: not what floats give", not same_bits(want, run(file, inputs)))
	again = run(out, inputs)
	check(f"{name}: compiled again", same_bits(again, want), distance(again[0], want[0]))
	session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
	plain = onnxruntime.SessionOptions()
	plain.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
	as_written = onnxruntime.InferenceSession(out, plain, providers=["CPUExecutionProvider"])
	# its optimizer quantizes activations of its own accord
	for label, s, limit in (("", session, max(most, 0.01)), (" as written", as_written, most)):
		far = max(distance(g, w) for g, w in zip(s.run(None, inputs), want))
		check(f"{name}: ONNX Runtime{label}", far <= limit, f"{far:.2g}")
	original = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
	check(f"{name}: names", [(i.name, i.shape) for i in session.get_inputs()] ==
		[(i.name, i.shape) for i in original.get_inputs()])
	return model


def operators(model):
	return {n.op_type for n in model.graph.node}


def words():
	file, inputs = save_words()
	ops = operators(test("dynamic", file, inputs, 1e-3, ["--int8=dynamic"]))
	check("dynamic: products of integers", "MatMulInteger" in ops and "MatMul" not in ops, ops)
	ops = operators(test("weights", file, inputs, 1e-5, ["--int8=weights"]))
	check("weights: DequantizeLinear", "DequantizeLinear" in ops and "QuantizeLinear" not in ops, ops)
	np.savez(path("ids.npz"), ids=np.random.default_rng(5).integers(0, WORDS, (16, 9)))
	ops = operators(test("static", file, inputs, 0.02, ["--int8=static", "--calib", path("ids.npz")]))
	check("static: QDQ", {"QuantizeLinear", "DequantizeLinear", "MatMul"} <= ops, ops)


def digits():
	file, calib = (os.path.join(DIGITS, f) for f in ("model.onnx", "calib.npz"))
	images = np.load(os.path.join(DIGITS, "eval.npz"))["image"][:16]
	model = test("digits", file, {"image": images}, 0.03, ["--int8=static", "--calib", calib])
	axes = {a.i for n in model.graph.node if n.op_type == "DequantizeLinear" for a in n.attribute}
	check("digits: a scale per output channel", 0 in axes, axes)


def save_wide():
	"""Two layers whose inner sizes groups of 128 divide, and a norm."""
	r = np.random.default_rng(4)
	constants = {"w1": r.standard_normal((256, 128)) / 16, "w2": r.standard_normal((128, 64)) / 11,
		"g": np.ones(64), "b": np.zeros(64)}
	node = helper.make_node
	nodes = [node("MatMul", ["x", "w1"], ["m"]), node("Gelu", ["m"], ["h"]), node("MatMul", ["h", "w2"], ["o"]),
		node("LayerNormalization", ["o", "g", "b"], ["y"])]
	graph = helper.make_graph(nodes, "wide", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 256])],
		[helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 64])],
		[numpy_helper.from_array(v.astype(np.float32), k) for k, v in constants.items()])
	file = path("wide.onnx")
	onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), file)
	return file, {"x": r.standard_normal((5, 256)).astype(np.float32)}


def four_bits():
	"""Blocks of int4 as DequantizeLinear, which is a standard operator since 21."""
	file, inputs = save_wide()
	for form, kind in (("32", TensorProto.UINT4), ("128,symmetric", TensorProto.INT4)):
		out = path("words.int4.onnx")
		result = tool("mlopt", "quantize", file, "-o", out, f"--int4={form}")
		check(f"int4 {form}: written", result.ok, result)
		model = onnx.load(out)
		onnx.checker.check_model(model)
		found = tensors(model)
		check(f"int4 {form}: weights are packed", any(t == kind and n > 4096 for t, n in found), found)
		blocks = [a.i for n in model.graph.node for a in n.attribute if a.name == "block_size"]
		check(f"int4 {form}: blocks", set(blocks) == {int(form.split(",")[0])}, blocks)
		want = run(file, inputs, f"--int4={form}")
		again = run(out, inputs)
		check(f"int4 {form}: compiled again", distance(again[0], want[0]) < 0.02, distance(again[0], want[0]))
		session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
		far = distance(session.run(None, inputs)[0], want[0])
		check(f"int4 {form}: ONNX Runtime", far < 0.02, f"{far:.2g}")


def results():
	"""Layers that compute a result have four bits, too, or keep eight where asked for."""
	file, inputs = save_wide()
	model = onnx.load(file)
	model.graph.output.append(helper.make_tensor_value_info("o", TensorProto.FLOAT, ["n", 64]))
	onnx.save(model, file)
	for form, kept in (("32", []), ("32,inner", ["s8[128, 64]"])):
		out = path("wide.mlt")
		result = tool("mloptc", file, "--emit=ir", f"--int4={form}", "-q", "-o", out)
		check(f"results {form}: written", result.ok, result)
		with open(out) as f:
			text = f.read()
		check(f"results {form}: eight bits", set(re.findall(r"s8\[\d+, 64\]", text)) == set(kept), text)
		check(f"results {form}: four bits", text.count("= linear_u4 ") == 2 - len(kept), text)


def codes():
	"""Elements that no data file knows go in and out as bytes."""
	for kind, dtype, low, high in ((TensorProto.INT4, np.int8, -8, 8), (TensorProto.FLOAT4E2M1, np.uint8, 0, 16)):
		value = helper.make_tensor_value_info
		graph = helper.make_graph([helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
			helper.make_node("Neg", ["f"], ["y"]), helper.make_node("Cast", ["f"], ["z"], to=kind)], "codes",
			[value("x", kind, [16])], [value("y", TensorProto.FLOAT, [16]), value("z", kind, [16])])
		file = path("codes.onnx")
		onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11), file)
		x = np.arange(low, high).astype(dtype)
		y, z = run(file, {"x": x})
		values = np.array([0, .5, 1, 1.5, 2, 3, 4, 6])
		want = -x.astype(np.float32) if dtype == np.int8 else np.concatenate([-values, values])
		check(f"codes {kind}: read", np.array_equal(y, want), str(y))
		check(f"codes {kind}: written", np.array_equal(z, x), str(z))
		check(f"codes {kind}: bench", tool("mlopt", "bench", file).ok)


def layers(file, *flags):
	result = tool("mlopt", "compare", "--per-node", file, "--json", *flags)
	check(f"layers {flags}: measured", result.ok, result)
	found = json.loads(result.out)
	return found["samples"], {l["name"]: (l["local_sqnr_db"], l["cumulative_sqnr_db"]) for l in found["layers"]}


def compared():
	"""Where the error comes from: layers that are quantized have one of their own, others only what
	came before them."""
	file, _ = save_words()
	ids = path("compared.npz")
	np.savez(ids, ids=np.random.default_rng(6).integers(0, WORDS, (5, 9)))
	samples, found = layers(file, "--int8=dynamic", "--inputs", ids)
	check("layers: samples", samples == 5, samples)
	check("layers: those of the model", list(found) == ["x", "a", "o"], found)
	check("layers: the first has its own error only", found["x"][0] == found["x"][1], found)
	check("layers: errors come together", all(20 < c < l < 60 for l, c in list(found.values())[1:]), found)
	plain = layers(file, "--inputs", ids)[1]
	check("layers: nothing is lost without compression", all(v == (300, 300) for v in plain.values()), plain)
	want = {k: signal_to_noise(file, k, ids) for k in found}
	apart = max(abs(found[k][1] - want[k]) for k in found)
	check("layers: cumulative SQNR is that of the values", apart < 0.1, (found, want))
	result = tool("mlopt", "compare", "--per-node", file, "--int8=dynamic", "--inputs", ids, "--worst-first")
	order = [line.split()[0] for line in result.out.splitlines()[1:]]
	check("layers: sorted", order == sorted(found, key=lambda k: found[k][0]), result.out)
	calib = os.path.join(DIGITS, "calib.npz")
	found = layers(os.path.join(DIGITS, "model.onnx"), "--int8=static", "--calib", calib, "--inputs", calib)[1]
	check("layers: convolutions", len(found) >= 5 and all(10 < c < 60 for _, c in found.values()), found)
	intents, phrases = (os.path.join(DIGITS, "..", "intents", f) for f in ("model.onnx", "calib.npz"))
	for flag in ("--int8", "--int4", "--bf16"):
		result = tool("mlopt", "compare", intents, intents, flag, "--inputs", phrases, "--json")
		lost = json.loads(result.out)["outputs"][0]["max_abs"] if result.ok else 0
		check(f"compare: {flag} is for the second one", lost > 0, result)
	result = tool("mlopt", "compare", "--per-node", file, ids)
	check("layers: one model", result.code == 2 and "one model" in result.text, result)


def signal_to_noise(file, name, ids):
	"""Of the value `name`, made an output of the model: without and with compression."""
	model = onnx.load(file)
	del model.graph.output[:]
	model.graph.output.append(onnx.ValueInfoProto(name=name))
	onnx.save(model, path("one.onnx"))
	plain, small = (run(path("one.onnx"), ids, *f)[0].astype(float) for f in ((), ("--int8=dynamic",)))
	return 10 * np.log10((plain ** 2).sum() / ((plain - small) ** 2).sum())


def refused():
	file, _ = save_words()
	for words, args in (("-o FILE is needed", [file]), ("--emit is onnx here", [file, "-o", "x", "--emit=so"]),
		("calib", [file, "-o", path("no.onnx"), "--int8=static"])):
		result = tool("mlopt", "quantize", *args)
		check(f"refused: {words}", not result.ok and words in result.text, result)
	check("refused: nothing is written", not os.path.exists(path("no.onnx")))


def main():
	attempt("words", words)
	attempt("digits", digits)
	attempt("four bits", four_bits)
	attempt("four bits of results", results)
	attempt("codes", codes)
	attempt("compared", compared)
	attempt("refused", refused)
	finish()


if __name__ == "__main__":
	main()
