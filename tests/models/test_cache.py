# test_cache.py -- --kv-cache=int8: keys and values are bytes with a scale per token and head, made
# once; what attention gives stays near floats; the same bits on every level, in parts, in place.
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from harness import attempt, check, compile_so, distance, finish, levels, path, run, same_bits, tool

HEADS, GROUPS, SIZE, WIDTH = 4, 2, 32, 48
FLAG = "--kv-cache=int8"


def save_decoder(heads=HEADS, groups=HEADS):
	"""Attention over a past, whose heads may serve several queries each."""
	r = np.random.default_rng(6)
	weights = {"wq": (WIDTH, heads * SIZE), "wk": (WIDTH, groups * SIZE), "wv": (WIDTH, groups * SIZE),
		"wo": (heads * SIZE, WIDTH)}
	constants = {k: (r.standard_normal(s) / 5).astype(np.float32) for k, s in weights.items()}
	constants |= {"divisor": np.array(SIZE ** .5, np.float32), "merged": np.array([0, 0, heads * SIZE]),
		"q_shape": np.array([0, 0, heads, SIZE]), "k_shape": np.array([0, 0, groups, SIZE])}
	node, nodes = helper.make_node, []
	for x, shape in (("q", "q_shape"), ("k", "k_shape"), ("v", "k_shape")):
		nodes += [node("MatMul", ["x", "w" + x], ["m" + x]), node("Reshape", ["m" + x, shape], ["r" + x]),
			node("Transpose", ["r" + x], ["new." + x], perm=[0, 2, 1, 3])]
	shared = {"k": "present.k", "v": "present.v"}
	nodes += [node("Concat", ["past.k", "new.k"], ["present.k"], axis=2),
		node("Concat", ["past.v", "new.v"], ["present.v"], axis=2)]
	if groups != heads:
		constants |= {"five": np.array([2]), "times": np.array([1, 1, heads // groups, 1, 1]),
			"h_shape": np.array([0, heads, -1, SIZE])}
		for x in "kv":
			nodes += [node("Unsqueeze", [shared[x], "five"], ["u" + x]), node("Tile", ["u" + x, "times"], ["t" + x]),
				node("Reshape", ["t" + x, "h_shape"], ["h" + x])]
			shared[x] = "h" + x
	nodes += [node("Transpose", [shared["k"]], ["kt"], perm=[0, 1, 3, 2]), node("MatMul", ["new.q", "kt"], ["products"]),
		node("Div", ["products", "divisor"], ["scores"]), node("Softmax", ["scores"], ["p"], axis=-1),
		node("MatMul", ["p", shared["v"]], ["o"]), node("Transpose", ["o"], ["turned"], perm=[0, 2, 1, 3]),
		node("Reshape", ["turned", "merged"], ["wide"]), node("MatMul", ["wide", "wo"], ["y"])]
	value = lambda name, *shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
	graph = helper.make_graph(nodes, "decoder",
		[value("x", "b", "s", WIDTH), *(value(f"past.{x}", "b", groups, "t", SIZE) for x in "kv")],
		[value("y", "b", "s", WIDTH), *(value(f"present.{x}", "b", groups, "n", SIZE) for x in "kv")],
		[numpy_helper.from_array(v, k) for k, v in constants.items()])
	file = path(f"decoder{groups}.onnx")
	onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), file)
	return file


def tokens(count, batch=2):
	return np.random.default_rng(7).standard_normal((batch, count, WIDTH)).astype(np.float32)


def empty(dtype, groups=HEADS, batch=2):
	past = {f"past.{x}": np.zeros((batch, groups, 0, SIZE), dtype) for x in "kv"}
	return past | ({f"{k}.scale": np.zeros((batch, groups, 0, 1), np.float32) for k in past} if dtype == np.int8 else {})


def step(model, x, past, *flags, isa=None):
	"""y, and what the next step's past is; the order of results is y, keys and values, their scales."""
	out = run(model, {"x": x, **past}, *flags, isa=isa)
	names = ["past.k", "past.v", "past.k.scale", "past.v.scale"]
	return out, dict(zip(names, out[1:]))


def numbers(groups):
	file = save_decoder(groups=groups)
	so, plain = compile_so(file, f"cached{groups}", FLAG), compile_so(file, f"plain{groups}")
	x = tokens(70)
	whole, kept = step(so, x, empty(np.int8, groups))
	want, floats = step(plain, x, empty(np.float32, groups))
	name = f"{groups} heads"
	check(f"{name}: near floats", 0 < distance(whole[0], want[0]) < .02, distance(whole[0], want[0]))
	for k in ("past.k", "past.v"):
		scale = np.abs(floats[k]).max(-1, keepdims=True).astype(np.float32) * np.float32(1 / 127)
		check(f"{name}: scales of {k}", np.array_equal(kept[k + ".scale"], scale))
		check(f"{name}: bytes of {k}", np.array_equal(kept[k], np.rint(floats[k] / scale).astype(np.int8)))
		size = kept[k].nbytes + kept[k + ".scale"].nbytes
		check(f"{name}: a quarter and scales", size == floats[k].nbytes // 4 + floats[k].nbytes // SIZE, size)
	return so, x, whole, kept


def parts(so, x, whole, kept):
	"""Token by token; a row that is kept never changes again."""
	first, past = step(so, x[:, :66], empty(np.int8))
	for i in range(66, 70):
		last, grown = step(so, x[:, i:i + 1], past)
		check(f"token {i}: the past stays", all(np.array_equal(grown[k][:, :, :i], past[k]) for k in past))
		past = grown
	check("parts: the same cache", all(np.array_equal(past[k], kept[k]) for k in kept))
	check("parts: the same token", np.array_equal(last[0], whole[0][:, -1:]))
	one = x[:1, :9].transpose(1, 0, 2)
	alone = run(so, {"x": one}, "--state", "auto", "--batch", "1")
	past, want = empty(np.int8, batch=1), []
	for i in range(9):
		out, past = step(so, one[i:i + 1], past)
		want.append(out[0])
	check("in place: the same tokens", np.array_equal(alone[0], np.concatenate(want)))


def alike(so, x, whole):
	for isa in levels():
		for threads in ("1", "2"):
			out, past = step(so, x, empty(np.int8), "--threads", threads, isa=isa)
			check(f"{isa}, {threads} threads: the same bits", same_bits(out, whole))
			first = step(so, x[:, :1], past, "--threads", threads, isa=isa)[0]
			check(f"{isa}, {threads} threads: a token", same_bits(first, step(so, x[:, :1], past)[0]))
	out = step(save_decoder(), x, empty(np.int8), FLAG)[0]
	check("in memory: the same bits", same_bits(out, whole))


def odd_rows(so):
	"""Rows of zeros, infinities and scales that are none: results may be no numbers, others stay."""
	x, past = tokens(3), empty(np.int8)
	x[0] = 0
	out, kept = step(so, x, past)
	check("zeros: bytes and scales", not kept["past.k"][0].any() and (kept["past.k.scale"][0] == 1).all())
	bad = {k: v.copy() for k, v in kept.items()}
	bad["past.k.scale"][1, :, 0] = np.nan
	bad["past.v.scale"][1, :, 1] = np.inf
	bad["past.k"][1], x[1, 2] = -128, np.inf
	got = step(so, x, bad)[0]
	check("bad numbers: the other sample", np.array_equal(got[0][0], step(so, x, kept)[0][0][0]))


def refused():
	file = save_decoder()
	for value in ("int4", ""):
		result = tool("mloptc", file, f"--kv-cache={value}", "-o", path("no.so"))
		check(f"refused: {value!r}", result.refused and "it is int8" in result.text, result)
	np.savez(path("floats.npz"), x=tokens(5), **empty(np.float32))
	r = tool("mlopt", "compare", "--per-node", file, "--int8", FLAG, "--inputs", path("floats.npz"), "--batch", "0")
	check("compared: layers, the cache as it is", r.ok and "mk" in r.out, r)
	r = tool("mloptc", file, "--emit=onnx", FLAG, "-q", "-o", path("cached.onnx"))
	check("as ONNX", r.ok, r)
	onnx.checker.check_model(onnx.load(path("cached.onnx")))
	x = tokens(5)
	check("as ONNX: the same bits", same_bits(run(path("cached.onnx"), {"x": x, **empty(np.int8)}),
		run(file, {"x": x, **empty(np.int8)}, FLAG)))


def main():
	def all_heads():
		so, x, whole, kept = numbers(HEADS)
		parts(so, x, whole, kept)
		alike(so, x, whole)
		odd_rows(so)

	attempt("as many heads", all_heads)
	attempt("shared heads", lambda: numbers(GROUPS))
	attempt("refused", refused)
	finish()


if __name__ == "__main__":
	main()
