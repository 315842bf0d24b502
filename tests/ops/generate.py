#!/usr/bin/env python3
"""generate.py -- writes the node vectors of this folder: one operator per module, inputs, and the
outputs NumPy (or ONNX's reference) gives.  Run it with NumPy and onnx installed; the .mlt files it
writes are committed, so tests need neither."""
import math
import os

import ml_dtypes
import numpy as np
import onnx
from onnx import helper
from onnx.reference import ReferenceEvaluator

HERE = os.path.dirname(os.path.abspath(__file__))
NAMES = {"float64": "f64", "float32": "f32", "float16": "f16", "bfloat16": "bf16", "int64": "s64",
         "int32": "s32", "int16": "s16", "int8": "s8", "uint64": "u64", "uint32": "u32",
         "uint16": "u16", "uint8": "u8", "bool": "bool", "int4": "s4", "uint4": "u4", "int2": "s2",
         "uint2": "u2", "float8_e4m3fn": "f8e4m3fn", "float8_e4m3fnuz": "f8e4m3fnuz",
         "float8_e5m2": "f8e5m2", "float8_e5m2fnuz": "f8e5m2fnuz", "float4_e2m1fn": "f4e2m1"}
FEW_BITS = [ml_dtypes.int4, ml_dtypes.uint4, ml_dtypes.int2, ml_dtypes.uint2]
NARROW = [ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e4m3fnuz, ml_dtypes.float8_e5m2,
          ml_dtypes.float8_e5m2fnuz, ml_dtypes.float4_e2m1fn]
RNG = np.random.default_rng(7)
BF16 = ml_dtypes.bfloat16


def type_text(a, dims=None):
    return f"{NAMES[str(a.dtype)]}[{', '.join(map(str, dims or a.shape))}]"


def number(x, dtype):
    if dtype == np.bool_:
        return "true" if x else "false"
    if np.issubdtype(dtype, np.integer) or dtype in FEW_BITS:
        return str(int(x))
    return "nan" if math.isnan(x) else str(x)


def tensor(a):
    return type_text(a) + " {" + ", ".join(number(x, a.dtype) for x in a.ravel()) + "}"


class File:
    """One .mlt file: modules, each followed by what goes in and what must come out."""

    def __init__(self, name):
        self.name, self.parts = name, []

    def add(self, op, inputs, outputs, attrs="", fails=None, types=None):
        lines = [f'module "{op}" {{']
        args = [f"%x{i}" for i in range(len(inputs))]
        for i, a in enumerate(inputs):
            lines.append(f'  in %x{i} "x{i}" : {type_text(a)}')
        results = ", ".join(f"%y{i}" for i in range(len(outputs)))
        types = types or [type_text(a) for a in outputs]
        text = f"  {results} = {op} {', '.join(args)}".rstrip()
        if attrs:
            text += f" {{{attrs}}}"
        lines.append(f"{text} : {', '.join(types)}")
        for i in range(len(outputs)):
            lines.append(f'  out "y{i}" = %y{i}')
        lines.append("}")
        for i, a in enumerate(inputs):
            lines.append(f"# GIVEN x{i} = {tensor(a)}")
        if fails:
            lines.append(f"# FAILS {fails}")
        else:
            for i, a in enumerate(outputs):
                lines.append(f"# THEN y{i} = {tensor(a)}")
        self.parts.append("\n".join(lines))

    def write(self):
        head = "# Written by generate.py.\n"
        with open(os.path.join(HERE, self.name + ".mlt"), "w") as f:
            f.write(head + "\n# ----\n".join(self.parts) + "\n")


SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, -1.5, 2.5, -2.5, 1e-3, 3.7, -3.7, 30.25, -30.25,
           math.inf, -math.inf, math.nan]
INT = {np.int8: [0, 1, -1, 2, 7, -7, 100, 127, -128], np.uint8: [0, 1, 2, 3, 7, 100, 200, 255],
       np.int32: [0, 1, -1, 13, -13, 2**31 - 1, -2**31],
       np.int64: [0, 1, -1, 13, -13, 2**63 - 1, -2**63],
       np.uint32: [0, 1, 13, 2**31, 2**32 - 1],
       np.uint64: [0, 1, 13, 2**63, 2**64 - 1], np.uint16: [0, 1, 5, 40000, 65535],
       np.int16: [0, 1, -1, 300, -32768, 32767]}


def f32(*values):
    return np.array(values, np.float32)


def pairs(values, dtype):
    a, b = np.meshgrid(np.array(values, dtype), np.array(values, dtype))
    return a.ravel(), b.ravel()


def unary():
    f = File("elementwise_unary")
    wide = f32(*SPECIAL).astype(np.float64)
    erf = np.vectorize(math.erf)
    functions = {"neg": np.negative, "abs": np.abs, "sign": np.sign, "floor": np.floor,
                 "ceil": np.ceil, "round": np.round, "sqrt": np.sqrt, "exp": np.exp, "log": np.log,
                 "sin": np.sin, "cos": np.cos, "tan": np.tan, "asin": np.arcsin,
                 "acos": np.arccos, "atan": np.arctan, "sinh": np.sinh, "cosh": np.cosh,
                 "tanh": np.tanh, "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh,
                 "erf": lambda x: erf(x),
                 "xcdf": lambda x: np.where(x < -40, -0.0, x / 2 * (1 + erf(x / math.sqrt(2))))}
    for name, fn in functions.items():
        f.add(name, [f32(*SPECIAL)], [fn(wide).astype(np.float32)])
        f.add(name, [wide], [fn(wide)])
    half = np.array([0.1, -2.5, 70.0, 3.14159], np.float16)
    f.add("exp", [half[:2]], [np.exp(half[:2].astype(np.float64)).astype(np.float16)])
    brain = np.array([0.1, -2.5, 3.14159], BF16)
    f.add("sqrt", [np.abs(brain)], [np.sqrt(np.abs(brain).astype(np.float64)).astype(BF16)])
    for dtype, values in INT.items():
        x = np.array(values, dtype)
        f.add("not", [x], [~x])
        if np.issubdtype(dtype, np.signedinteger):
            f.add("neg", [x], [-x])
        f.add("abs", [x], [np.abs(x)])
        f.add("sign", [x], [np.sign(x)])
    f.add("not", [np.array([True, False])], [np.array([False, True])])
    f.add("isnan", [f32(*SPECIAL)], [np.isnan(f32(*SPECIAL))])
    f.write()


def saturate(x, dtype):
    info = np.iinfo(dtype)
    out = []
    for v in x.astype(np.float64):
        if math.isnan(v):
            out.append(0)
        elif math.isinf(v):
            out.append(info.max if v > 0 else info.min)
        else:
            out.append(min(max(math.trunc(v), info.min), info.max))
    return np.array(out, dtype)


def casts():
    f = File("elementwise_cast")
    x = f32(*SPECIAL, 1e9, -1e9, 3e9, 1e10, -1e10, 1e19, -1e19, 2.0**63, 2.0**64, 127.5, 255.9)
    for dtype in INT:
        f.add("cast", [x], [saturate(x, dtype)], f"dtype = {NAMES[np.dtype(dtype).name]}")
        f.add("cast", [x.astype(np.float64)], [saturate(x, dtype)],
              f"dtype = {NAMES[np.dtype(dtype).name]}")
    for source, values in INT.items():
        a = np.array(values, source)
        for target in INT:
            if source != target:
                f.add("cast", [a], [a.astype(target)], f"dtype = {NAMES[np.dtype(target).name]}")
        f.add("cast", [a], [a.astype(np.float64)], "dtype = f64")
        if source not in (np.int64, np.uint64):
            f.add("cast", [a], [a.astype(np.float32)])
        f.add("cast", [a], [a != 0], "dtype = bool")
    f.add("cast", [np.array([2**24 + 1, 2**60 + 2**36 + 1], np.int64)],
          [np.array([2**24, 2**60 + 2**37], np.float32)])
    f.add("cast", [np.array([True, False])], [f32(1, 0)])
    y = np.array([0.1, 65504, 65520, 1e-8, 6e-8, -2.0, 1 + 2**-11, 1 + 3 * 2**-11], np.float64)
    f.add("cast", [y], [y.astype(np.float16)], "dtype = f16")
    z = np.array([0.1, 3.4e38, 1 + 2**-8, 1 + 3 * 2**-8, -1e-40], np.float32)
    f.add("cast", [z], [z.astype(BF16)], "dtype = bf16")
    f.add("cast", [y.astype(np.float16)], [y.astype(np.float16).astype(np.float32)])
    narrow_casts(f, x)
    f.write()


def narrow_casts(f, x):
    rng = np.random.default_rng(8)
    near = np.concatenate([x, f32(5, 5.5, -7, 0.25, 0.75, 240, 244, 248, 448, 464, 480, 57344, 61440),
                           (rng.standard_normal(80) * 2.0**rng.integers(-20, 18, 80)).astype(np.float32)])
    for dtype in NARROW:
        name = NAMES[np.dtype(dtype).name]
        codes = np.arange(16 if name == "f4e2m1" else 256).astype(np.uint8).view(dtype)
        with np.errstate(all="ignore"):
            f.add("cast", [near], [near.astype(dtype)], f"dtype = {name}")
            f.add("cast", [near.astype(np.float64)], [near.astype(np.float64).astype(dtype)],
                  f"dtype = {name}")
        f.add("cast", [codes], [codes.astype(np.float32)])
        f.add("cast", [np.arange(-20, 20, dtype=np.int32)],
              [np.arange(-20, 20).astype(np.float32).astype(dtype)], f"dtype = {name}")
    for dtype in FEW_BITS:
        name, limits = NAMES[np.dtype(dtype).name], ml_dtypes.iinfo(dtype)
        whole = np.arange(-20, 20, dtype=np.int32)
        all_of = np.arange(limits.min, limits.max + 1).astype(dtype)
        sat = np.clip(np.nan_to_num(np.trunc(x), nan=0), limits.min, limits.max).astype(dtype)
        f.add("cast", [x], [sat], f"dtype = {name}")
        f.add("cast", [whole], [(whole & (1 << limits.bits) - 1).astype(np.uint8).astype(dtype)],
              f"dtype = {name}")
        f.add("cast", [all_of], [all_of.astype(np.float32)])
        f.add("cast", [all_of], [all_of.astype(np.int64)], "dtype = s64")
        f.add("cast", [all_of], [all_of.astype(np.uint8)], "dtype = u8")


def c_div(a, b, dtype):
    bits, signed = np.iinfo(dtype).bits, np.issubdtype(dtype, np.signedinteger)
    out = []
    for x, y in zip(a.tolist(), b.tolist()):
        q = 0 if y == 0 else abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)
        q &= 2**bits - 1
        out.append(q - 2**bits if signed and q >= 2**(bits - 1) else q)
    return np.array(out, dtype)


def c_rem(a, b, dtype):
    return np.array([0 if y == 0 else int(math.copysign(1, x)) * (abs(x) % abs(y))
                     for x, y in zip(a.tolist(), b.tolist())], dtype)


def py_mod(a, b, dtype):
    return np.array([0 if y == 0 else x % y for x, y in zip(a.tolist(), b.tolist())], dtype)


def wrapped_pow(a, b, dtype):
    bits, signed = np.iinfo(dtype).bits, np.issubdtype(dtype, np.signedinteger)
    out = []
    for x, y in zip(a.tolist(), b.tolist()):
        p = pow(x, y, 2**bits)
        out.append(p - 2**bits if signed and p >= 2**(bits - 1) else p)
    return np.array(out, dtype)


def shifts(a, b, dtype, left):
    bits, signed = np.iinfo(dtype).bits, np.issubdtype(dtype, np.signedinteger)
    out = []
    for x, y in zip(a.tolist(), b.tolist()):
        far = y < 0 or y >= bits
        if left:
            p = 0 if far else (x << y) & (2**bits - 1)
            out.append(p - 2**bits if signed and p >= 2**(bits - 1) else p)
        else:
            out.append(x >> (bits - 1 if signed else bits) if far else x >> y)
    return np.array(out, dtype)


def binary():
    f = File("elementwise_binary")
    a, b = pairs(SPECIAL, np.float32)
    A, B = a.astype(np.float64), b.astype(np.float64)
    arithmetic = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide,
                  "rem": np.fmod, "mod": np.mod, "pow": np.power, "min": np.minimum,
                  "max": np.maximum}
    tests = {"eq": np.equal, "lt": np.less, "le": np.less_equal}
    for name, fn in arithmetic.items():
        f.add(name, [a, b], [fn(A, B).astype(np.float32)])
    for name, fn in tests.items():
        f.add(name, [a, b], [fn(a, b)])
    for dtype, values in INT.items():
        a, b = pairs(values, dtype)
        for name in ("add", "sub", "mul", "min", "max"):
            f.add(name, [a, b], [arithmetic[name](a, b)])
        f.add("div", [a, b], [c_div(a, b, dtype)])
        f.add("rem", [a, b], [c_rem(a, b, dtype)])
        f.add("mod", [a, b], [py_mod(a, b, dtype)])
        f.add("and", [a, b], [a & b])
        f.add("or", [a, b], [a | b])
        f.add("xor", [a, b], [a ^ b])
        for name, fn in tests.items():
            f.add(name, [a, b], [fn(a, b)])
        x, y = [v.ravel() for v in np.meshgrid(np.array(values, dtype),
                                               np.array([0, 1, 3, 7, 8, 31, 40, 64, 100], dtype))]
        f.add("shl", [x, y], [shifts(x, y, dtype, True)])
        f.add("shr", [x, y], [shifts(x, y, dtype, False)])
        f.add("pow", [x, y], [wrapped_pow(x, y, dtype)])
    s = np.array([1, -1, 2, -2, 0, 5], np.int32)
    f.add("pow", [s, np.full(6, -3, np.int32)], [np.array([1, -1, 0, 0, 0, 0], np.int32)])
    t, u = pairs([True, False], np.bool_)
    f.add("and", [t, u], [t & u])
    f.add("or", [t, u], [t | u])
    f.add("xor", [t, u], [t ^ u])
    f.add("eq", [t, u], [t == u])
    # broadcasting
    x, y = RNG.normal(size=(2, 1, 3)).astype(np.float32), RNG.normal(size=(4, 1)).astype(np.float32)
    f.add("add", [x, y], [x + y])
    f.add("mul", [x, f32(2).reshape(())], [x * 2])
    f.add("add", [np.zeros((0, 3), np.float32), f32(1, 2, 3)], [np.zeros((0, 3), np.float32)])
    c = np.array([[True], [False]])
    f.add("select", [c, f32(1, math.nan, 3), f32(-1)], [np.where(c, f32(1, math.nan, 3), f32(-1))])
    f.add("select", [c[:, 0], np.array([5, 6], np.int64), np.array([7, 8], np.int64)],
          [np.array([5, 8], np.int64)])
    i = np.array([0, 4, -1, -5], np.int64)
    f.add("wrap_index", [i], [np.array([0, 4, 4, 0], np.int64)], "size = [5]")
    f.add("wrap_index", [np.array([5], np.int64)], [i[:1]], "size = [5]", fails="index")
    f.add("wrap_index", [np.array([-6], np.int64)], [i[:1]], "size = [5]", fails="index")
    f.write()


def reduce():
    f = File("reduce")
    x = RNG.normal(size=(2, 3, 4)).astype(np.float32)
    X = x.astype(np.float64)
    nan = x.copy()
    nan[0, 1, 2] = math.nan
    functions = {"reduce_sum": np.sum, "reduce_prod": np.prod, "reduce_min": np.min,
                 "reduce_max": np.max}
    for name, fn in functions.items():
        for axes in ((0,), (1,), (2,), (0, 2), (0, 1, 2)):
            y = fn(X, axis=axes, keepdims=True).astype(np.float32)
            f.add(name, [x], [y], f"axes = [{', '.join(map(str, axes))}]")
        f.add(name, [nan], [fn(nan, axis=2, keepdims=True)], "axes = [2]")
        i = RNG.integers(-90, 90, (3, 4)).astype(np.int8)
        y = fn(i.astype(np.int64), axis=1, keepdims=True).astype(np.int8)
        f.add(name, [i], [y], "axes = [1]")
    empty = np.zeros((2, 0), np.float32)
    for name, value in (("sum", 0), ("prod", 1), ("min", math.inf), ("max", -math.inf)):
        f.add("reduce_" + name, [empty], [np.full((2, 1), value, np.float32)], "axes = [1]")
    f.add("reduce_max", [empty.astype(np.int32)], [np.full((2, 1), -2**31, np.int32)],
          "axes = [1]")
    f.add("reduce_min", [empty.astype(np.uint64)], [np.full((2, 1), 2**64 - 1, np.uint64)],
          "axes = [1]")
    u = np.array([[2**63, 1, 2**64 - 1]], np.uint64)
    f.add("reduce_max", [u], [u[:, 2:]], "axes = [1]")
    tie = np.array([[1, 3, 3, 0, 3], [2, 2, 2, 2, 2]], np.int32)
    for axis in (0, 1):
        for name, fn in (("arg_max", np.argmax), ("arg_min", np.argmin)):
            f.add(name, [tie], [fn(tie, axis=axis, keepdims=True)], f"axis = {axis}")
            last = tie.shape[axis] - 1 - fn(np.flip(tie, axis), axis=axis, keepdims=True)
            f.add(name, [tie], [last], f"axis = {axis}, last = 1")
            f.add(name, [x], [fn(x, axis=axis, keepdims=True)], f"axis = {axis}")
    i = RNG.integers(1, 9, (2, 3, 4)).astype(np.int16)
    for name, fn, first in (("scan_sum", np.cumsum, 0), ("scan_prod", np.cumprod, 1)):
        for axis in (0, 1, 2):
            for exclusive in (0, 1):
                for reverse in (0, 1):
                    v = np.flip(i, axis) if reverse else i
                    y = fn(v.astype(np.int64), axis=axis)
                    if exclusive:
                        y = np.roll(y, 1, axis)
                        np.moveaxis(y, axis, 0)[0] = first
                    y = (np.flip(y, axis) if reverse else y).astype(np.int16)
                    f.add(name, [i], [y],
                          f"axis = {axis}, exclusive = {exclusive}, reverse = {reverse}")
    f.write()


def listed(values):
    return "[" + ", ".join(map(str, values)) + "]"


def pad_reference(x, value, low, high, interior):
    shape = [l + h + (n + (n - 1) * i if n else 0)
             for n, l, h, i in zip(x.shape, low, high, interior)]
    out = np.full(shape, value, x.dtype)
    for at in np.ndindex(*x.shape):
        to = tuple(l + a * (i + 1) for a, l, i in zip(at, low, interior))
        if all(0 <= t < n for t, n in zip(to, shape)):
            out[to] = x[at]
    return out


def move():
    f = File("move")
    x = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
    f.add("reshape", [x], [x.reshape(4, 6)], "shape = [4, 6]")
    f.add("reshape", [x[:1, :1, :1]], [x[0, 0, 0].reshape(())], "")
    for perm in ((0, 1, 2), (2, 0, 1), (1, 2, 0), (2, 1, 0)):
        f.add("transpose", [x], [x.transpose(perm)], f"perm = {listed(perm)}")
    f.add("broadcast", [x[:, :1]], [np.broadcast_to(x[:, :1], (5, 2, 3, 4))],
          "shape = [5, 2, 3, 4]")
    f.add("broadcast", [x[0, 0, 1].reshape(())], [np.full((2, 2), 1, np.int32)], "shape = [2, 2]")
    f.add("slice", [x], [x[1:2, 0:3:2, 1:4]], "start = [1, 0, 1], size = [1, 2, 3], step = [1, 2, 1]")
    f.add("slice", [x], [x[:, 3:3]], "start = [0, 3, 0], size = [2, 0, 4], step = [1, 1, 1]")
    for low, high, interior in (((1, 0, 2), (0, 1, 0), (0, 0, 0)), ((0, 0, 0), (0, 0, 0), (1, 0, 2)),
                                ((1, 2, 0), (1, 0, 3), (2, 1, 1))):
        f.add("pad", [x, np.array(-5, np.int32)], [pad_reference(x, -5, low, high, interior)],
              f"low = {listed(low)}, high = {listed(high)}, interior = {listed(interior)}")
    for axis in (0, 1, 2):
        y = np.concatenate([x, x + 100, x], axis)
        f.add("concat", [x, x + 100, x], [y], f"axis = {axis}")
    f.add("concat", [x[:, :0], x[:, :2]], [x[:, :2]], "axis = 1")
    for axes in ((0,), (1, 2), (0, 1, 2)):
        f.add("reverse", [x], [np.flip(x, axes)], f"axes = {listed(axes)}")
    img = np.arange(2 * 5 * 7, dtype=np.int32).reshape(2, 5, 7)
    for size, stride, dilation in (((2, 3), (1, 1), (1, 1)), ((2, 2), (2, 3), (1, 1)),
                                   ((3, 2), (1, 2), (2, 3))):
        span = [(k - 1) * d + 1 for k, d in zip(size, dilation)]
        w = np.lib.stride_tricks.sliding_window_view(img, span, (1, 2))
        w = w[:, ::stride[0], ::stride[1], ::dilation[0], ::dilation[1]]
        f.add("window", [img], [np.ascontiguousarray(w)],
              f"size = {listed(size)}, stride = {listed(stride)}, dilation = {listed(dilation)}")
    f.add("iota", [], [np.broadcast_to(np.arange(3).reshape(1, 3, 1), (2, 3, 2))],
          "shape = [2, 3, 2], axis = 1")
    f.add("iota", [], [np.arange(4, dtype=np.float32)], "shape = [4], dtype = f32")
    f.write()


def index():
    f = File("index")
    x = RNG.normal(size=(3, 4, 2)).astype(np.float32)
    i = np.array([[2, 0], [-1, 1]], np.int64)
    for axis in (0, 1, 2):
        j = np.clip(i, -x.shape[axis], x.shape[axis] - 1)
        f.add("gather", [x, j], [np.take(x, j, axis)], f"axis = {axis}")
    f.add("gather", [x, np.array(-3, np.int64)], [x[0]])
    f.add("gather", [x, np.array([3], np.int64)], [x[:1]], fails="index")
    f.add("gather", [x, np.array([-4], np.int64)], [x[:1]], fails="index")
    data = np.arange(8, dtype=np.float32).reshape(4, 2)
    at, up = np.array([1, 3, 1], np.int64), f32(10, 20, 30, 40, -50, 60).reshape(3, 2)
    for mode, fn in (("set", None), ("add", np.add), ("mul", np.multiply), ("min", np.minimum),
                     ("max", np.maximum)):
        y = data.copy()
        for k, row in zip(at, up):
            y[k] = fn(y[k], row) if fn else row
        f.add("scatter", [data, at, up], [y], f'mode = "{mode}"')
    f.add("scatter", [data, np.array([4, 0, 0], np.int64), up], [data], fails="index")
    f.write()


def contract():
    f = File("contract")

    def dot(a, b, ab, bb, ac, bc, out):
        letters = iter("abcdefghij")
        la, lb = [None] * a.ndim, [None] * b.ndim
        for p, q in list(zip(ab, bb)) + list(zip(ac, bc)):
            la[p] = lb[q] = next(letters)
        la = [c or next(letters) for c in la]
        lb = [c or next(letters) for c in lb]
        res = [la[i] for i in ab] + [la[i] for i in range(a.ndim) if i not in ab and i not in ac] \
            + [lb[i] for i in range(b.ndim) if i not in bb and i not in bc]
        wide = np.float64 if np.issubdtype(a.dtype, np.floating) else np.int64
        y = np.einsum(f"{''.join(la)},{''.join(lb)}->{''.join(res)}", a.astype(wide),
                      b.astype(wide)).astype(out)
        attrs = [f"{n} = {listed(v)}" for n, v in (("lhs_batch", ab), ("rhs_batch", bb),
                                                   ("lhs_contract", ac), ("rhs_contract", bc)) if v]
        f.add("dot", [a, b], [y], ", ".join(attrs))

    def normal(*shape):
        return RNG.normal(size=shape).astype(np.float32)

    dot(normal(3, 4), normal(4, 2), [], [], [1], [0], np.float32)
    dot(normal(4, 3), normal(2, 4), [], [], [0], [1], np.float32)
    dot(normal(2, 3, 4), normal(2, 4, 5), [0], [0], [2], [1], np.float32)
    dot(normal(3, 2, 4), normal(5, 4, 2), [1], [2], [2], [1], np.float32)
    dot(normal(2, 3, 4), normal(3, 4, 5), [], [], [1, 2], [0, 1], np.float32)
    dot(normal(3), normal(4), [], [], [], [], np.float32)
    dot(normal(3, 0), normal(0, 2), [], [], [1], [0], np.float32)
    dot(normal(3, 4).astype(np.float64), normal(4, 2).astype(np.float64), [], [], [1], [0],
        np.float64)
    u = RNG.integers(0, 256, (3, 70)).astype(np.uint8)
    s = RNG.integers(-128, 128, (70, 2)).astype(np.int8)
    dot(u, s, [], [], [1], [0], np.int32)
    f.write()


def onnx_nms(boxes, scores, most, iou, score, center):
    names = ["boxes", "scores", "most", "iou", "score"]
    node = helper.make_node("NonMaxSuppression", names, ["y"], center_point_box=center)
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype),
                                                    v.shape)
                      for n, v in zip(names, (boxes, scores, most, iou, score))],
        [helper.make_tensor_value_info("y", onnx.TensorProto.INT64, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)])
    import onnxruntime
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, dict(zip(names, (boxes, scores, most, iou, score))))[0]


def irregular():
    f = File("irregular")
    x = np.array([[3, 1, 3, 2], [5, 5, -1, 0]], np.float32)
    for axis in (0, 1):
        for largest in (0, 1):
            k = 2
            order = np.argsort(-x if largest else x, axis=axis, kind="stable")
            order = np.take(order, range(k), axis)
            y = np.take_along_axis(x, order, axis)
            f.add("top_k", [x], [y, order], f"k = [{k}], axis = {axis}, largest = {largest}")
    f.add("top_k", [np.array([-5, 7, 7], np.int64)],
          [np.array([7, 7, -5], np.int64), np.array([1, 2, 0], np.int64)], "k = [3]")
    z = np.array([[0, 2, 0], [3, 0, 4]], np.int32)
    f.add("nonzero", [z], [np.array(np.nonzero(z))], types=["s64[2, ?0]"])
    f.add("nonzero", [z * 0], [np.array(np.nonzero(z * 0))], types=["s64[2, ?0]"])
    f.add("nonzero", [f32(0.0, -0.0, 2, math.nan)], [np.array([[2, 3]])], types=["s64[1, ?0]"])
    u = np.array([2, 1, 1, 3, 4, 3], np.int32)
    v, first, inverse, counts = np.unique(u, True, True, True)
    types = ["s32[?0]", "s64[?0]", "s64[6]", "s64[?0]"]
    f.add("unique", [u], [v, first, inverse, counts], types=types)
    f.add("unique", [u], [np.array([2, 1, 3, 4], np.int32), np.array([0, 1, 3, 4]),
                          np.array([0, 1, 1, 2, 3, 2]), np.array([1, 2, 2, 1])], "sorted = 0",
          types=types)
    for trial in range(3):
        center = trial % 2
        corner = RNG.uniform(0, 4, (2, 9, 2))
        other = RNG.uniform(0.5, 3, (2, 9, 2))
        boxes = np.concatenate([corner, other if center else corner + other], 2).astype(np.float32)
        if trial == 2:
            boxes = boxes[:, :, [2, 3, 0, 1]]
        scores = RNG.uniform(size=(2, 3, 9)).astype(np.float32)
        args = [boxes, scores, np.array(4, np.int64), np.array(0.4, np.float32),
                np.array(0.2, np.float32)]
        f.add("nms", args, [onnx_nms(*args, center)],
              f"center_point_box = {center}" if center else "", types=["s64[?0, 3]"])
    f.write()


def reference(op, attrs, inputs, opset=17):
    """What ONNX's reference evaluator gives, computed in f64."""
    names = [f"x{i}" for i in range(len(inputs))]
    node = helper.make_node(op, names, ["y"], **attrs)
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info(n, onnx.TensorProto.DOUBLE, v.shape)
                      for n, v in zip(names, inputs)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.DOUBLE, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    return ReferenceEvaluator(model).run(
        None, {n: v.astype(np.float64) for n, v in zip(names, inputs)})[0].astype(np.float32)


def composite():
    f = File("composite")

    def normal(*shape):
        return RNG.normal(size=shape).astype(np.float32)

    x = normal(2, 3, 4)
    for axis in (0, 1, -1):
        f.add("softmax", [x], [reference("Softmax", {"axis": axis}, [x])], f"axis = {axis}")
    big = f32(1000, 1001, -1000)
    f.add("softmax", [big], [reference("Softmax", {}, [big])])
    s, b = normal(4), normal(4)
    f.add("layer_norm", [x, s, b], [reference("LayerNormalization", {"epsilon": 1e-5}, [x, s, b])])
    f.add("layer_norm", [x, s], [reference("LayerNormalization", {"epsilon": 1e-3}, [x, s])],
          "eps = 0.001")
    X = x.astype(np.float64)
    rms = X / np.sqrt((X * X).mean(-1, keepdims=True) + 1e-5) * s
    f.add("rms_norm", [x, s], [rms.astype(np.float32)])
    erf = np.vectorize(math.erf)
    f.add("gelu", [x], [(X / 2 * (1 + erf(X / math.sqrt(2)))).astype(np.float32)])
    f.add("gelu", [x], [(X / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (X + 0.044715 * X**3))))
                        .astype(np.float32)], 'form = "tanh"')
    f.add("gelu", [x], [(X / (1 + np.exp(-1.702 * X))).astype(np.float32)], 'form = "sigmoid"')
    f.add("sigmoid", [x], [(1 / (1 + np.exp(-X))).astype(np.float32)])
    far = f32(-1000, 1000, 0)
    f.add("sigmoid", [far], [f32(0, 1, 0.5)])
    f.add("reduce_mean", [x], [X.mean((0, 2), keepdims=True).astype(np.float32)], "axes = [0, 2]")
    w, c = normal(4, 5), normal(5)
    f.add("linear", [x, w], [(X @ w).astype(np.float32)])
    f.add("linear", [x, w, c], [(X @ w + c).astype(np.float32)])
    p = [normal(3) for _ in range(3)] + [np.abs(normal(3))]
    f.add("batch_norm", [x] + p, [reference("BatchNormalization", {}, [x] + p, 15)])
    convs()(f)
    attention(f, normal)
    quantized(f, x)
    recurrent(f, normal)
    f.write()


def convs():
    cases = [((1, 2, 5, 6), (3, 2, 3, 3), {}), ((2, 4, 5, 6), (6, 2, 2, 3), {"group": 2}),
             ((1, 2, 7, 7), (2, 2, 3, 3), {"strides": [2, 3], "pads": [1, 0, 2, 1]}),
             ((1, 3, 9, 8), (3, 1, 3, 2), {"group": 3, "dilations": [2, 3]}),
             ((2, 2, 9), (4, 2, 3), {"strides": [2]}), ((1, 1, 4, 4, 4), (2, 1, 2, 2, 2), {})]

    def run(f):
        for xs, ws, attrs in cases:
            x, w = RNG.normal(size=xs).astype(np.float32), RNG.normal(size=ws).astype(np.float32)
            b = RNG.normal(size=ws[0]).astype(np.float32)
            n = len(xs) - 2
            pads = attrs.get("pads", [0] * 2 * n)
            text = f"stride = {listed(attrs.get('strides', [1] * n))}, " \
                   f"dilation = {listed(attrs.get('dilations', [1] * n))}, " \
                   f"low = {listed(pads[:n])}, high = {listed(pads[n:])}"
            if "group" in attrs:
                text += f", groups = {attrs['group']}"
            if n > 2 or "dilations" in attrs:  # the reference does not serve all of these
                y = conv(x, w, b, attrs)
            else:
                y = reference("Conv", attrs, [x, w, b])
            f.add("conv", [x, w, b], [y], text)
            f.add("conv", [x, w], [y - b.reshape((1, -1) + (1,) * n)], text)
    return run


def conv(x, w, b, attrs):
    n, groups = x.ndim - 2, attrs.get("group", 1)
    stride, dil = attrs.get("strides", [1] * n), attrs.get("dilations", [1] * n)
    size = [(x.shape[2 + i] - (w.shape[2 + i] - 1) * dil[i] - 1) // stride[i] + 1 for i in range(n)]
    y = np.zeros((x.shape[0], w.shape[0], *size))
    per = w.shape[0] // groups
    for at in np.ndindex(*y.shape):
        g = at[1] // per
        window = x[at[0], g * w.shape[1]:(g + 1) * w.shape[1]]
        for i in range(n):
            window = np.take(window, [at[2 + i] * stride[i] + k * dil[i]
                                      for k in range(w.shape[2 + i])], i + 1)
        y[at] = (window.astype(np.float64) * w[at[1]]).sum() + b[at[1]]
    return y.astype(np.float32)


def attention(f, normal):
    for heads, groups, mask, causal in ((2, 2, False, 0), (4, 2, True, 0), (2, 1, False, 1)):
        s, t = 3, 5
        q, k, v = normal(2, heads, s, 4), normal(2, groups, t, 4), normal(2, groups, t, 3)
        K, V = (np.repeat(z.astype(np.float64), heads // groups, 1) for z in (k, v))
        scores = q @ K.transpose(0, 1, 3, 2) * 0.5
        args = [q, k, v]
        if mask:
            m = np.where(RNG.uniform(size=(2, 1, s, t)) < 0.3, -1e9, 0).astype(np.float32)
            args.append(m)
            scores = scores + m
        if causal:
            i, j = np.arange(s)[:, None], np.arange(t)[None]
            scores = np.where(j <= i + t - s, scores, -np.inf)
        e = np.exp(scores - scores.max(-1, keepdims=True))
        y = (e / e.sum(-1, keepdims=True)) @ V
        f.add("attention", args, [y.astype(np.float32)],
              "scale = 0.5" + (", causal = 1" if causal else ""))


def quantized(f, x):
    q = np.array([0, 3, 128, 255], np.uint8)
    f.add("dequantize", [q, f32(0.5).reshape(()), np.array(128, np.uint8)], [(q - f32(128)) * 0.5])
    y = f32(-100, -0.75, -0.25, 0, 0.25, 0.75, 1.25, 100)
    f.add("quantize", [y, f32(0.5).reshape(()), np.array(10, np.uint8)],
          [np.clip(np.round(y / 0.5) + 10, 0, 255).astype(np.uint8)])
    rows = f32(-1, 0.25, 3, 0.1, 0, 0, 0, 0, 2, 3, 4, 5).reshape(3, 4)
    low, high = np.minimum(rows.min(1), f32(0)), np.maximum(rows.max(1), f32(0))
    scale = (high - low) / f32(255)
    scale[scale == 0] = 1
    zero = np.round(-low / scale).clip(0, 255)
    codes = (np.round(rows / scale[:, None]) + zero[:, None]).clip(0, 255).astype(np.uint8)
    f.add("quantize_row", [rows], [codes, scale[:, None], zero[:, None].astype(np.int32)])


def recurrent(f, normal):
    """Forward and backward cells against ONNX Runtime."""
    import onnxruntime
    steps, batch, wide, size = 3, 2, 4, 3
    kinds = (("LSTM", "lstm", 4, {}, ""), ("LSTM", "lstm", 4, {"direction": "reverse"}, "reverse = 1"),
             ("GRU", "gru", 3, {}, ""), ("GRU", "gru", 3, {"linear_before_reset": 1},
                                         "linear_before_reset = 1"),
             ("RNN", "rnn", 1, {}, ""), ("RNN", "rnn", 1, {"activations": ["Relu"]}, 'f = "Relu"'))
    for op, cell, gates, attrs, text in kinds:
        x, h = normal(steps, batch, wide), normal(batch, size)
        w, r, b = normal(gates * size, wide), normal(gates * size, size), normal(2 * gates * size)
        args, names = [x, w, r, b, h], ["x", "w", "r", "b", "", "h"]
        feeds = {"x": x, "w": w[None], "r": r[None], "b": b[None], "h": h[None]}
        outputs = ["y", "yh"]
        if cell == "lstm":
            c, p = normal(batch, size), normal(3 * size)
            args, names, outputs = args + [c, p], names + ["c", "p"], outputs + ["yc"]
            feeds |= {"c": c[None], "p": p[None]}
        node = helper.make_node(op, names, outputs, hidden_size=size, **attrs)
        graph = helper.make_graph(
            [node], "g", [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, v.shape)
                          for n, v in feeds.items()],
            [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in outputs])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)])
        y = onnxruntime.InferenceSession(model.SerializeToString()).run(None, feeds)
        results = [y[0][:, 0], y[1][0], y[-1][0]]
        activation = 'f = "Tanh"' if cell == "rnn" and "activations" not in attrs else ""
        f.add("rnn", args, results,
              ", ".join(t for t in (f'cell = "{cell}"', activation, text) if t))


for write in (unary, casts, binary, reduce, move, index, contract, irregular, composite):
    with np.errstate(all="ignore"):
        write()
