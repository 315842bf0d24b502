# test_bf16.py -- --bf16: layers against numpy, in float64 on numbers rounded to bf16; every level,
# thread and way of compiling; the shipped digits network keeps its accuracy.
import os

import numpy as np
import onnx
from onnx import TensorProto, helper

from harness import check, compile_so, distance, finish, levels, path, run, same_bits, tool

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
DIGITS = os.path.join(ROOT, "examples", "digits")
SUMMED = 2e-6 # f32 sums of up to some hundred products beside exact ones
random = np.random.default_rng(3)


def rounded(x):
	"""To bf16, half to even, as float64."""
	bits = np.ascontiguousarray(x, dtype=np.float32).view(np.uint32).astype(np.uint64)
	bits = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000
	return bits.astype(np.uint32).view(np.float32).astype(np.float64)


def save(name, nodes, inputs, weights, outputs):
	file = path(name + ".onnx")
	graph = helper.make_graph(nodes, name,
		[helper.make_tensor_value_info(k, TensorProto.FLOAT, v) for k, v in inputs.items()],
		[helper.make_tensor_value_info(k, TensorProto.FLOAT, None) for k in outputs],
		[onnx.numpy_helper.from_array(v, k) for k, v in weights.items()])
	onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)
	return file


def normal(*shape):
	return random.standard_normal(shape).astype(np.float32)


def everywhere(name, file, feed, want):
	"""Near numpy on every level; JIT = AOT; the same bits on one and on two threads."""
	flags = ("--bf16", "-O3")
	so = compile_so(file, name, *flags)
	for isa in levels(bf16=True):
		got = run(so, feed, "--threads", "1", isa=isa)
		far = max(distance(g, w.astype(np.float32)) for g, w in zip(got, want))
		check(f"{name}: {isa}", far <= SUMMED, far)
		check(f"{name}: {isa}, two threads", same_bits(got, run(so, feed, "--threads", "2", isa=isa)))
		check(f"{name}: {isa}, in memory", same_bits(got, run(file, feed, *flags, isa=isa)))
	plain = run(file, feed)
	check(f"{name}: not what floats give", distance(plain[0], want[0].astype(np.float32)) > 1e-4)
	for level in ("-O0", "-O1", "-O2"):
		got = run(file, feed, "--bf16", level)
		check(f"{name}: {level}", distance(got[0], want[0].astype(np.float32)) <= SUMMED)


def linear():
	"""k and columns that fill no vector; the result stays f32, and so does the bias."""
	x, w, b = normal(7, 45), normal(45, 37), normal(37)
	file = save("linear", [helper.make_node("Gemm", ["x", "w", "b"], ["y"])], {"x": [7, 45]},
		{"w": w, "b": b}, ["y"])
	everywhere("linear", file, {"x": x}, [rounded(x) @ rounded(w) + b])


def convolution(name, channels, filters, groups, stride, pad):
	x, w = normal(2, channels, 9, 8), normal(filters, channels // groups, 3, 3)
	b = normal(filters)
	file = save(name, [helper.make_node("Conv", ["x", "w", "b"], ["y"], strides=[stride] * 2,
		pads=[pad] * 4, group=groups)], {"x": list(x.shape)}, {"w": w, "b": b}, ["y"])
	wide = np.pad(rounded(x), ((0, 0), (0, 0), (pad, pad), (pad, pad)))
	windows = np.lib.stride_tricks.sliding_window_view(wide, (3, 3), axis=(2, 3))
	windows = windows[:, :, ::stride, ::stride]
	parts = [np.einsum("nchwij,mcij->nmhw", a, f) for a, f in zip(
		np.split(windows, groups, 1), np.split(rounded(w), groups, 0))]
	everywhere(name, file, {"x": x}, [np.concatenate(parts, 1) + b[:, None, None]])


def batch_position():
	"""A row has the same bits alone and among others."""
	x, w = normal(33, 64), normal(64, 48)
	file = save("rows", [helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": ["n", 64]},
		{"w": w}, ["y"])
	so = compile_so(file, "rows", "--bf16")
	for isa in levels(bf16=True):
		whole = run(so, {"x": x}, isa=isa)[0]
		alone = np.concatenate([run(so, {"x": x[i:i + 1]}, isa=isa)[0] for i in (0, 8, 32)])
		check(f"rows: {isa}, alone", same_bits([whole[[0, 8, 32]]], [alone]))


def digits():
	file, data = (os.path.join(DIGITS, f) for f in ("model.onnx", "eval.npz"))
	labels = np.load(os.path.join(DIGITS, "eval_labels.npy"))
	right = [(run(file, data, "--batch", "50", *f)[0].argmax(1) == labels).mean()
		for f in ((), ("--bf16",))]
	check("digits: as accurate", right[0] - right[1] <= .003, right)


def refusals():
	for other in ("--int8", "--int4"):
		result = tool("mloptc", os.path.join(DIGITS, "model.onnx"), "--bf16", other, "-o",
			path("none.so"))
		check(f"refused beside {other}", result.refused and "exclude each other" in result.text)


linear()
convolution("conv", 5, 18, 1, 1, 1)
convolution("strided", 16, 20, 1, 2, 0)
convolution("grouped", 32, 48, 2, 1, 1)
batch_position()
digits()
refusals()
finish()
