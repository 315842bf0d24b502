# test_splats.py -- constants of one repeated value, larger than a text may hold, wherever models have them.
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from harness import attempt, check, compile_so, distance, finish, path, run, same_bits

ROWS, WIDTH = 1000, 1024 # 4 MB of float


def save(name, node, inputs, constant):
	"""A model of one node, y = node(inputs, "c"), with the constant and x's declared shapes."""
	graph = helper.make_graph([node], name,
		[helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), s) for n, a, s in inputs],
		[helper.make_tensor_value_info("y", helper.np_dtype_to_tensor_dtype(constant.dtype), None)],
		[numpy_helper.from_array(constant, "c")])
	model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
	file = path(name + ".onnx")
	onnx.save(model, file)
	return file


def test(name, node, inputs, constant, want, tolerance=1e-5):
	model = save(name, node, inputs, constant)
	feed = {n: a for n, a, _ in inputs}
	for flags in (["-O0"], ["-O3"], ["-O3", "--int8"]):
		label = f"{name} {' '.join(flags)}"
		got = run(model, feed, *flags)
		far = distance(got[0], want)
		check(label, far <= (0.02 if "--int8" in flags else tolerance), f"{far:.2g}")
		check(label + " ahead of time", same_bits(got, run(compile_so(model, name, *flags), feed)))


def gather(value):
	table = np.full((ROWS, WIDTH), value, np.float32)
	ids = np.array([0, 7, ROWS - 1], np.int64)
	test(f"gather_{value}", helper.make_node("Gather", ["c", "ids"], ["y"]), [("ids", ids, ["n"])], table, table[ids])


def add(value, dtype=np.float32):
	table = np.full((ROWS, WIDTH), value, dtype)
	x = np.arange(ROWS * WIDTH).reshape(ROWS, WIDTH).astype(dtype)
	test(f"add_{value}_{np.dtype(dtype).name}", helper.make_node("Add", ["x", "c"], ["y"]),
		[("x", x, [ROWS, WIDTH])], table, x + table)


def matmul(value, side):
	w = np.full((ROWS, WIDTH) if side else (WIDTH, ROWS), value, np.float32)
	x = np.random.default_rng(1).standard_normal((5, ROWS) if side else (ROWS, 5)).astype(np.float32)
	shape = ["n", ROWS] if side else [ROWS, "n"]
	operands, want = (["x", "c"], x @ w) if side else (["c", "x"], w @ x)
	test(f"matmul_{side}_{value}", helper.make_node("MatMul", operands, ["y"]), [("x", x, shape)], w,
		want.astype(np.float32), 1e-4)


def conv(value):
	w = np.full((256, 128, 3, 3), value, np.float32)
	x = np.random.default_rng(2).standard_normal((1, 128, 6, 6)).astype(np.float32)
	padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))).sum(axis=1, keepdims=True)
	windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3)).sum(axis=(4, 5))
	want = np.repeat(windows * np.float32(value), 256, axis=1).astype(np.float32)
	test(f"conv_{value}", helper.make_node("Conv", ["x", "c"], ["y"], pads=[1, 1, 1, 1]),
		[("x", x, ["n", 128, "h", "w"])], w, want, 1e-4)


def where():
	mask = np.ones((ROWS, 2 * WIDTH), np.bool_)
	x = np.random.default_rng(3).standard_normal((ROWS, 2 * WIDTH)).astype(np.float32)
	node = helper.make_node("Where", ["c", "x", "x"], ["y"])
	graph = [("x", x, [ROWS, 2 * WIDTH])]
	model = onnx.load(save("where", node, graph, mask))
	model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
	onnx.save(model, path("where.onnx"))
	for level in ("-O0", "-O3"):
		check(f"where {level}", same_bits(run(path("where.onnx"), {"x": x}, level), [x]))


for value in (0.0, 1.0):
	attempt("gather", lambda: gather(value))
	attempt("add", lambda: add(value))
	attempt("conv", lambda: conv(value))
	for side in (0, 1):
		attempt("matmul", lambda: matmul(value, side))
attempt("add", lambda: add(2**53 + 1, np.int64))
attempt("where", where)
finish()
