# test_statistics.py -- statistics of calibration that are kept: used without the samples, merged,
# and refused when they are of another model or damaged.
import json
import os

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from harness import check, finish, path, run, same_bits, tool

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
DIGITS = os.path.join(ROOT, "examples", "digits", "model.onnx")
IMAGES = np.load(os.path.join(ROOT, "examples", "digits", "calib.npz"))["image"]
ALL = "--max-loss=100%"  # nothing is left to a clock
# Every fifth sample of a part judges: parts of fives learn from what the whole learns from.
FIRST, SECOND = 130, 120


def make(model, name, *flags, ok=True):
	"""An artefact and its report."""
	out, report = path(name + ".so"), path(name + ".json")
	result = tool("mloptc", model, "-O2", *flags, ALL, "--name=m", f"--report={report}", "-o", out)
	check(f"{name} compiles", result.ok == ok, result)
	with open(out, "rb") as f, open(report) as r:
		return f.read(), json.load(r)


def save_parts(model, name, array, x, *flags):
	"""Samples and statistics of the whole and of both parts: the files' names."""
	files = {}
	for part, a in ("whole", x[:FIRST + SECOND]), ("a", x[:FIRST]), ("b", x[FIRST:FIRST + SECOND]):
		npz, kept = path(f"{name}-{part}.npz"), path(f"{name}-{part}.calib")
		np.savez(npz, **{array: a})
		make(model, f"{name}-{part}", *flags, f"--calib={npz}", f"--save-calib={kept}")
		files[part], files[part + " samples"] = kept, npz
	return files


def given(*files):
	return [f"--calib={f}" for f in files]


def ranges(report):
	layers = next(t for t in report["tables"] if t["name"] == "layers")
	at = [1 + [c["name"] for c in layers["columns"]].index(n) for n in ("input low", "input high")]
	return np.array([[row[i] for i in at] for row in layers["rows"]])


def static():
	flags = "--int8=static",
	f = save_parts(DIGITS, "digits", "image", IMAGES, *flags)
	want, _ = make(DIGITS, "samples", *flags, *given(f["whole samples"]))
	for name, files in {
		"the whole's statistics": ["whole"],
		"those of both parts": ["a", "b"],
		"one part's, and samples": ["a samples", "b"],
	}.items():
		got, report = make(DIGITS, "kept", *flags, *given(*(f[k] for k in files)))
		check(f"static: {name} give the same bytes", got == want)
		check(f"static: {name} judge nothing", ("not measured" in str(report["notes"])) ==
			("samples" not in files[0]), report["notes"])
	merged = path("merged.calib")
	make(DIGITS, "merged", *flags, *given(f["a"], f["b"]), f"--save-calib={merged}")
	got, _ = make(DIGITS, "again", *flags, *given(merged))
	check("static: what is merged can be kept", got == want)
	# 2048 parts of the extremes; the last two choose between clippings that are nearly as good
	for observer, most in ("average", 1e-6), ("percentile", .002), ("mse", .03), ("entropy", .07):
		use = *flags, "--observer=" + observer
		_, exact = make(DIGITS, "exact", *use, *given(f["whole samples"]))
		_, near = make(DIGITS, "near", *use, *given(f["a"], f["b"]))
		a, b = ranges(exact), ranges(near)
		far = (np.abs(a - b) / (a[:, 1:] - a[:, :1])).max()
		check(f"static: {observer} within {most} of the range", far <= most, far)
	return f


def write_layers(file):
	rng = np.random.default_rng(3)
	sizes, nodes, weights = [64, 96, 64, 32], [], []
	for i, (k, n) in enumerate(zip(sizes, sizes[1:])):
		w = rng.normal(size=(k, n)).astype(np.float32) / np.sqrt(k)
		weights += [numpy_helper.from_array(w.astype(np.float32), f"w{i}"),
			numpy_helper.from_array(rng.normal(size=n).astype(np.float32), f"b{i}")]
		nodes += [helper.make_node("MatMul", [f"x{i}", f"w{i}"], [f"p{i}"]),
			helper.make_node("Add", [f"p{i}", f"b{i}"], [f"s{i}"])]
		nodes.append(helper.make_node("Tanh", [f"s{i}"], [f"x{i + 1}"]))
	graph = helper.make_graph(nodes, "layers",
		[helper.make_tensor_value_info("x0", TensorProto.FLOAT, ["n", 64])],
		[helper.make_tensor_value_info("x3", TensorProto.FLOAT, ["n", 32])], weights)
	onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8),
		file)


def layers(mode):
	model, rng = path("layers.onnx"), np.random.default_rng(5)
	write_layers(model)
	x = (rng.normal(size=(FIRST + SECOND, 64)) * (1 + np.arange(64) % 9)).astype(np.float32)
	f = save_parts(model, mode, "x0", x, "--" + mode)
	plain = run(model, f["whole samples"])[0]
	exact = {}
	for name, files in {"samples": ["whole samples"], "whole": ["whole"], "parts": ["a", "b"],
			"both": ["a samples", "b"]}.items():
		so, report = make(model, f"{mode}-{name}", "--" + mode, *given(*(f[k] for k in files)))
		exact[name] = run(path(f"{mode}-{name}.so"), f["whole samples"])[0]
		if name in ("whole", "parts"):
			check(f"{mode}: {name}: says that GPTQ is left out", "GPTQ" in str(report["notes"]))
		jit = run(model, f["whole samples"], "--" + mode, "-O2", ALL, *given(*(f[k] for k in files)))
		check(f"{mode}: {name}: JIT = AOT", same_bits(jit, [exact[name]]))
	noise = {k: ((v - plain) ** 2).sum() for k, v in exact.items()}
	without = run(model, f["whole samples"], "--" + mode, "-O2")[0]
	check(f"{mode}: statistics change something", not same_bits([without], [exact["whole"]]))
	close = ((exact["parts"] - exact["whole"]) ** 2).sum() / noise["whole"]
	check(f"{mode}: parts are the whole, within a tenth of what is lost", close < .1, close)
	if mode == "int8":
		bare = ((without - plain) ** 2).sum()
		check("int8: better than nothing", noise["whole"] < .9 * bare, (noise, bare))
		check("int8: samples are at least as good as statistics",
			noise["samples"] <= 1.02 * noise["whole"], noise)
	return model, f


def refused(name, text, *flags, model=DIGITS):
	out, kept = path("refused.so"), path("refused.calib")
	result = tool("mloptc", model, "-O2", *flags, "-o", out)
	check(f"{name}: refused", result.refused and text in result.text, result)
	check(f"{name}: one error", result.text.count("error: ") == 1, result)
	check(f"{name}: nothing written", not os.path.exists(out) and not os.path.exists(kept))


def damaged(name, text, content):
	with open(path("damaged.calib"), "wb") as f:
		f.write(content)
	refused(name, text, "--int8=static", *given(path("damaged.calib")))


def bad_files(digits, other, kept):
	save = "--save-calib=" + path("refused.calib")
	with open(digits["a"], "rb") as f:
		good = f.read()
	damaged("empty", "is no calibration data", b"")
	damaged("text", "is no calibration data", b"some text\n" * 100)
	damaged("another version", "is no calibration data", good[:14] + b"9" + good[15:])
	damaged("cut short", "is damaged", good[:-9])
	for at in 30, len(good) // 2, len(good) - 20:
		damaged(f"byte {at} changed", "is damaged", good[:at] + bytes([good[at] ^ 1]) + good[at + 1:])
	refused("no such file", "cannot be read", "--int8=static", *given(path("none.calib")))
	refused("of another model", "is of another model", "--int8", *given(digits["a"]), model=other)
	refused("of other options", "is of another model, or of other options", "--int8=static", "-O3",
		*given(digits["a"]))
	refused("of another mode", "have no range", "--int8=static", *given(kept["a"]), model=other)
	refused("for floats", "nothing asks for these statistics", *given(digits["a"]))
	refused("nothing to learn from", "save-calib needs calibration data", "--int8", save)
	refused("nothing learnt", "nothing was learnt", *given(digits["a samples"]), save)
	refused("with pruning", "statistics are of a model as it is", "--prune=1", save,
		*given(digits["a samples"]))


def main():
	digits = static()
	layers("int4")
	other, kept = layers("int8")
	bad_files(digits, other, kept)
	finish()


main()
