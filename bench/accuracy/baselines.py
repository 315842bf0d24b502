"""baselines.py -- students that are made without looking at what results lose: layers are left out as
they lie or by block influence, channels by the norms of their weights."""

import json
import pathlib
import subprocess
import tempfile

TREE = pathlib.Path(__file__).resolve().parent.parent.parent

# ---- layers ----

def evenly(layers, left):
    return [round(i * (layers - 1) / (left - 1)) for i in range(left)]


def streams(graph, blocks):
    """What each layer reads: of the first sum in it the operand that others read, too; and the
    result of the last sum."""
    readers = {}
    for node in graph.node:
        for name in node.input:
            readers[name] = readers.get(name, 0) + 1
    nodes, found, seen = {n.name: n for n in graph.node}, [], set()
    for branch in blocks["branches"]:
        node = nodes[branch["added_at"]]
        if branch["layer"] not in seen:
            seen.add(branch["layer"])
            found.append(max(node.input, key=lambda name: readers.get(name, 0)))
    return [*found, node.output[0]]


def influence(model, calib, layers, left):
    """Keeps the layers whose results differ most from what they read: 1 - cosine, token by token."""
    import numpy as np
    import onnx
    import onnxruntime

    shown = onnx.load(model)
    names = streams(shown.graph, told_blocks(model))
    for name in names:
        shown.graph.output.append(onnx.ValueInfoProto(name=name))
    with tempfile.NamedTemporaryFile(suffix=".onnx") as f:
        onnx.save(shown, f.name)  # external data was loaded with it
        session = onnxruntime.InferenceSession(f.name)
    sums = np.zeros(layers)
    for i in range(min(64, len(next(iter(calib.values()))))):
        one = {k: v[i:i + 1] for k, v in calib.items()}
        if "attention_mask" in one and "position_ids" not in one:
            length = int(one["attention_mask"].sum())
            one = {k: v[:, :length] for k, v in one.items()}
        h = [x.reshape(-1, x.shape[-1]) for x in session.run(names, one)]
        for k in range(layers):
            cosine = (h[k] * h[k + 1]).sum(-1) / (
                np.linalg.norm(h[k], axis=-1) * np.linalg.norm(h[k + 1], axis=-1))
            sums[k] += 1 - cosine.mean()
    return sorted(np.argsort(-sums, kind="stable")[:left].tolist())


def told_blocks(model):
    return json.loads(subprocess.run(
        [TREE / "build/bin/mlopt", "inspect", "--blocks", "--json", model],
        check=True, capture_output=True, text=True).stdout)


def layers_alone(model, kept, path):
    """The model without the other layers, nothing fitted: what reads a layer's result reads what the
    layer did."""
    import onnx

    shown, blocks = onnx.load(model), told_blocks(model)
    names = streams(shown.graph, blocks)
    if blocks["branches"][-1]["norm"] == "post":  # the last layer's result is the norm of its sum
        names[-1] = next(n.output[0] for n in shown.graph.node
                         if n.op_type == "LayerNormalization" and n.input[0] == names[-1])
    instead = {}
    for layer in range(blocks["layers"]):
        if layer not in kept:
            instead[names[layer + 1]] = instead.get(names[layer], names[layer])
    for node in shown.graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = instead.get(name, name)
    for node in list(shown.graph.node):  # a result of the model stays one by its name
        for k, name in enumerate(node.output):
            if name in instead and any(o.name == name for o in shown.graph.output):
                node.output[k] = name + " of a layer that is gone"
                shown.graph.node.append(
                    onnx.helper.make_node("Identity", [instead[name]], [name]))
    onnx.save(shown, path)


# ---- channels ----

PASSES = {"Relu", "Clip", "MaxPool"}  # what a channel goes through alone


def group(node):
    """The attribute of a convolution in groups; None: it is in one."""
    return next((a for a in node.attribute
                 if node.op_type == "Conv" and a.name == "group" and a.i > 1), None)


def readers_of(graph, name):
    """The nodes that read a result, through what leaves its channels as they are; None where they
    are tied to others, in a sum or an output."""
    found = []
    if any(o.name == name for o in graph.output):
        return None
    for node in (n for n in graph.node if name in n.input):
        if node.op_type in PASSES | {"Flatten"} or group(node):
            further = readers_of(graph, node.output[0])
            if further is None:
                return None
            found += ([node] if group(node) else []) + further
        elif node.op_type == "Conv" or any(a.name == "transB" and a.i for a in node.attribute):
            found.append(node)
        else:
            return None
    return found


def narrowed(model, share, path):
    """The model with this share of the channels of each convolution that can be narrowed alone: those
    whose weights have the largest norms (Li and others 2017, "Pruning Filters for Efficient
    ConvNets")."""
    import numpy as np
    import onnx
    from onnx import numpy_helper

    shown = onnx.load(model)
    weights = {w.name: w for w in shown.graph.initializer}

    def take(name, axis, kept, channels):
        old = numpy_helper.to_array(weights[name])
        each = old.shape[axis] // channels  # places of an image that was flattened
        at = (np.array(kept)[:, None] * each + np.arange(each)).ravel()
        weights[name].CopyFrom(numpy_helper.from_array(np.take(old, at, axis), name))

    for node in shown.graph.node:
        if node.op_type != "Conv" or group(node):
            continue
        further = readers_of(shown.graph, node.output[0])
        if not further:
            continue
        norms = np.abs(numpy_helper.to_array(weights[node.input[1]])).sum((1, 2, 3))
        channels = len(norms)
        kept = sorted(np.argsort(-norms, kind="stable")[:round(channels * share)].tolist())
        for name in node.input[1:]:
            take(name, 0, kept, channels)
        for reader in further:
            if group(reader):  # depthwise: its channels are these
                group(reader).i = len(kept)
                for name in reader.input[1:]:
                    take(name, 0, kept, channels)
            else:
                take(reader.input[1], 1, kept, channels)  # [results, inputs ...]
    del shown.graph.value_info[:]
    onnx.save(shown, path)
