"""models.py -- writes the bench's models as ONNX: real shapes, exporters' spelling, random weights.

    python bench/models.py bert|resnet50|mobilenetv2|gpt2 FILE.onnx

For timing only.  The graphs are what the usual exporters write today: LayerNormalization as one
node, gelu and attention in pieces, shapes by Shape, Gather and Concat, batch normalisation folded
into the convolutions.  Weights have the scales of trained ones, so that nothing overflows.
"""

import argparse
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LOWEST = np.finfo(np.float32).min
SHAPE_OF_A_TOKEN = ("batch", "sequence")


class Graph:
    """A graph in the making; `node` returns the name of the node's output (or outputs)."""

    def __init__(self):
        self.random = np.random.default_rng(0)
        self.nodes, self.weights, self.inputs, self.outputs = [], [], [], []

    def input(self, name, *shape, dtype=TensorProto.INT64):
        self.inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def output(self, x, name, *shape):
        """Makes x a result: the node that computes it gets the result's name."""
        node = next(n for n in reversed(self.nodes) if x in n.output)
        for other in self.nodes:
            other.input[:] = [name if i == x else i for i in other.input]
        node.output[:] = [name if o == x else o for o in node.output]
        self.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        return name

    def node(self, op, *inputs, results=1, **attributes):
        name = f"/{op}_{len(self.nodes)}"
        outputs = [f"{name}_output_{i}" for i in range(results)]
        self.nodes.append(helper.make_node(op, inputs, outputs, name=name, **attributes))
        return outputs[0] if results == 1 else outputs

    def const(self, value, dtype=np.int64):
        return self.node("Constant", value=numpy_helper.from_array(np.array(value, dtype)))

    def scalar(self, value):
        return self.const(value, np.float32)

    def weight(self, *shape, scale=0.02, mean=0.0):
        values = self.random.standard_normal(shape, np.float32) * np.float32(scale)
        name = f"weight.{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(values + np.float32(mean), name))
        return name

    def size(self, x, axis):
        """Dimension `axis` of x: int64[1]."""
        one = self.node("Gather", self.node("Shape", x), self.const(axis), axis=0)
        return self.node("Unsqueeze", one, self.const([0]))

    def reshape(self, x, *sizes):
        sizes = [s if isinstance(s, str) else self.const([s]) for s in sizes]
        return self.node("Reshape", x, self.node("Concat", *sizes, axis=0))

    def norm(self, x, width, epsilon):
        return self.node("LayerNormalization", x, self.weight(width, mean=1), self.weight(width),
                         axis=-1, epsilon=epsilon)

    def linear(self, x, inputs, outputs):
        product = self.node("MatMul", x, self.weight(inputs, outputs))
        return self.node("Add", self.weight(outputs), product)

    def save(self, name, path):
        graph = helper.make_graph(self.nodes, name, self.inputs, self.outputs, self.weights)
        onnx.save(helper.make_model(graph, producer_name="mlopt-bench", ir_version=8,
                                    opset_imports=[helper.make_opsetid("", 17)]), path)


# --- transformers --------------------------------------------------------------------------------


def padding_bias(g, mask):
    """0 where the mask is 1, the lowest float elsewhere: f32[batch, 1, 1, sequence]."""
    for axis in 1, 2:
        mask = g.node("Unsqueeze", mask, g.const([axis]))
    padding = g.node("Sub", g.scalar(1), g.node("Cast", mask, to=TensorProto.FLOAT))
    return g.node("Mul", padding, g.scalar(LOWEST))


def split_heads(g, x, heads, perm=(0, 2, 1, 3)):
    x = g.reshape(x, g.size(x, 0), g.size(x, 1), heads, 64)
    return g.node("Transpose", x, perm=perm)


def join_heads(g, x, width):
    x = g.node("Transpose", x, perm=[0, 2, 1, 3])
    return g.reshape(x, g.size(x, 0), g.size(x, 1), width)


def gelu_erf(g, x):
    y = g.node("Erf", g.node("Div", x, g.scalar(np.sqrt(2))))
    y = g.node("Mul", x, g.node("Add", y, g.scalar(1)))
    return g.node("Mul", y, g.scalar(0.5))


def gelu_tanh(g, x):
    half = g.node("Mul", x, g.scalar(0.5))
    cube = g.node("Mul", g.node("Pow", x, g.scalar(3)), g.scalar(0.044715))
    y = g.node("Mul", g.node("Add", x, cube), g.scalar(np.sqrt(2 / np.pi)))
    return g.node("Mul", half, g.node("Add", g.node("Tanh", y), g.scalar(1)))


def bert(layers=12, width=768, heads=12, words=30522, positions=512):
    """BERT-base without its pooler: token ids to last_hidden_state."""
    g = Graph()
    ids = g.input("input_ids", *SHAPE_OF_A_TOKEN)
    mask = g.input("attention_mask", *SHAPE_OF_A_TOKEN)
    types = g.input("token_type_ids", *SHAPE_OF_A_TOKEN)
    everywhere = g.const(np.arange(positions)[None])
    place = g.node("Slice", everywhere, g.const([0]), g.size(ids, 1), g.const([1]), g.const([1]))
    x = g.node("Add", g.node("Gather", g.weight(words, width), ids),
               g.node("Gather", g.weight(2, width), types))
    x = g.node("Add", x, g.node("Gather", g.weight(positions, width), place))
    x = g.norm(x, width, 1e-12)
    bias = padding_bias(g, mask)
    for _ in range(layers):
        q = split_heads(g, g.linear(x, width, width), heads)
        k = split_heads(g, g.linear(x, width, width), heads, (0, 2, 3, 1))
        v = split_heads(g, g.linear(x, width, width), heads)
        scores = g.node("Div", g.node("MatMul", q, k), g.scalar(8))
        scores = g.node("Softmax", g.node("Add", scores, bias), axis=-1)
        y = join_heads(g, g.node("MatMul", scores, v), width)
        x = g.norm(g.node("Add", g.linear(y, width, width), x), width, 1e-12)
        y = g.linear(gelu_erf(g, g.linear(x, width, 4 * width)), 4 * width, width)
        x = g.norm(g.node("Add", y, x), width, 1e-12)
    g.output(x, "last_hidden_state", *SHAPE_OF_A_TOKEN, width)
    return g


def conv1d(g, x, inputs, outputs):
    """GPT-2's own linear layer, as its export spells it."""
    rows = g.reshape(x, -1, inputs)
    y = g.node("Gemm", rows, g.weight(inputs, outputs), g.weight(outputs))
    return g.reshape(y, g.size(x, 0), g.size(x, 1), outputs)


def causal_bias(g, ids, past, mask):
    """f32[batch, 1, sequence, total]: the lowest float on later and on padded positions."""
    zero, one = g.const(0), g.const(1)
    before = g.node("Gather", g.node("Shape", past), g.const(2), axis=0)
    length = g.node("Gather", g.node("Shape", ids), g.const(1), axis=0)
    total = g.node("Add", before, length)
    row = g.node("Unsqueeze", g.node("Range", before, total, one), g.const([1]))
    column = g.node("Unsqueeze", g.node("Range", zero, total, one), g.const([0]))
    seen = g.node("LessOrEqual", column, row)
    for axis in 0, 1:
        seen = g.node("Unsqueeze", seen, g.const([axis]))
    for axis in 1, 2:
        mask = g.node("Unsqueeze", mask, g.const([axis]))
    seen = g.node("And", seen, g.node("Cast", mask, to=TensorProto.BOOL))
    return g.node("Where", seen, g.scalar(0), g.scalar(LOWEST))


def gpt2(layers=12, width=768, heads=12, words=50257, positions=1024):
    """GPT-2 of 124 million parameters with its cache as inputs and outputs; an untied last layer."""
    g = Graph()
    ids = g.input("input_ids", *SHAPE_OF_A_TOKEN)
    mask = g.input("attention_mask", "batch", "past_sequence + sequence")
    place = g.input("position_ids", *SHAPE_OF_A_TOKEN)
    cache = ("batch", heads, "past_sequence", width // heads)
    grown = ("batch", heads, "past_sequence + sequence", width // heads)
    past = [[g.input(f"past_key_values.{i}.{part}", *cache, dtype=TensorProto.FLOAT)
             for part in ("key", "value")] for i in range(layers)]
    x = g.node("Add", g.node("Gather", g.weight(words, width), ids),
               g.node("Gather", g.weight(positions, width), place))
    bias = causal_bias(g, ids, past[0][0], mask)
    present = []
    for i in range(layers):
        y = conv1d(g, g.norm(x, width, 1e-5), width, 3 * width)
        parts = g.node("Split", y, g.const([width] * 3), results=3, axis=2)
        q, k, v = (split_heads(g, part, heads) for part in parts)
        k = g.node("Concat", past[i][0], k, axis=-2)
        v = g.node("Concat", past[i][1], v, axis=-2)
        present += [(f"present.{i}.key", k), (f"present.{i}.value", v)]
        scores = g.node("MatMul", q, g.node("Transpose", k, perm=[0, 1, 3, 2]))
        scores = g.node("Add", g.node("Div", scores, g.scalar(8)), bias)
        y = g.node("MatMul", g.node("Softmax", scores, axis=-1), v)
        x = g.node("Add", conv1d(g, join_heads(g, y, width), width, width), x)
        y = gelu_tanh(g, conv1d(g, g.norm(x, width, 1e-5), width, 4 * width))
        x = g.node("Add", x, conv1d(g, y, 4 * width, width))
    logits = g.node("MatMul", g.norm(x, width, 1e-5), g.weight(width, words))
    g.output(logits, "logits", *SHAPE_OF_A_TOKEN, words)
    for name, value in present:
        g.output(value, name, *grown)
    return g


# --- convolutions --------------------------------------------------------------------------------


def conv(g, x, inputs, outputs, kernel=1, stride=1, group=1, gain=2.0):
    fan = inputs // group * kernel * kernel
    weight = g.weight(outputs, inputs // group, kernel, kernel, scale=np.sqrt(gain / fan))
    pad = kernel // 2
    return g.node("Conv", x, weight, g.weight(outputs), kernel_shape=[kernel, kernel], group=group,
                  strides=[stride, stride], pads=[pad] * 4, dilations=[1, 1])


def classify(g, x, width):
    x = g.node("Flatten", g.node("GlobalAveragePool", x), axis=1)
    x = g.node("Gemm", x, g.weight(1000, width), g.weight(1000), transB=1)
    g.output(x, "output", 1, 1000)
    return g


def resnet50():
    g = Graph()
    x = g.input("input", 1, 3, 224, 224, dtype=TensorProto.FLOAT)
    x = g.node("Relu", conv(g, x, 3, 64, 7, 2))
    x = g.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    channels = 64
    for blocks, width, first in (3, 64, 1), (4, 128, 2), (6, 256, 2), (3, 512, 2):
        for block in range(blocks):
            stride = 1 if block else first
            y = g.node("Relu", conv(g, x, channels, width))
            y = g.node("Relu", conv(g, y, width, width, 3, stride))
            y = conv(g, y, width, 4 * width, gain=0.2)
            if not block:
                x = conv(g, x, channels, 4 * width, 1, stride, gain=1)
                channels = 4 * width
            x = g.node("Relu", g.node("Add", y, x))
    return classify(g, x, channels)


def mobilenetv2():
    g = Graph()

    def relu6(x):
        return g.node("Clip", x, g.scalar(0), g.scalar(6))

    x = g.input("input", 1, 3, 224, 224, dtype=TensorProto.FLOAT)
    x = relu6(conv(g, x, 3, 32, 3, 2))
    channels = 32
    for expand, width, blocks, first in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2),
                                         (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
                                         (6, 320, 1, 1)):
        for block in range(blocks):
            stride, inner = (1 if block else first), expand * channels
            y = relu6(conv(g, x, channels, inner)) if expand > 1 else x
            y = relu6(conv(g, y, inner, inner, 3, stride, inner))
            y = conv(g, y, inner, width, gain=0.5)
            x = g.node("Add", x, y) if block else y
            channels = width
    return classify(g, relu6(conv(g, x, channels, 1280)), 1280)


MODELS = {"bert": bert, "gpt2": gpt2, "resnet50": resnet50, "mobilenetv2": mobilenetv2}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("file", type=Path)
    args = parser.parse_args()
    MODELS[args.model]().save(args.model, args.file)


if __name__ == "__main__":
    main()
