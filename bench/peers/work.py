"""work.py -- how much work one run of a model is, counted on its graph with fixed shapes."""

import math


def count_work(model, feed):
    """Multiply-adds of matrix products and convolutions, their weights, and bytes of inputs."""
    import openvino

    network = openvino.Core().read_model(model)
    network.reshape({name: array.shape for name, array in feed.items()})
    macs = weights = 0
    for op in network.get_ops():
        if op.get_type_name() == "MatMul":
            rows = op.input(0).get_shape()
            depth = rows[-2 if op.get_attributes()["transpose_a"] else -1]
        elif op.get_type_name() in ("Convolution", "GroupConvolution"):
            grouped = op.get_type_name() == "GroupConvolution"
            depth = math.prod(list(op.input(1).get_shape())[2 if grouped else 1:])
        else:
            continue
        macs += math.prod(op.output(0).get_shape()) * depth
        if op.input_value(1).get_node().get_type_name() == "Constant":
            weights += math.prod(op.input(1).get_shape())
    return {"macs": macs, "weights": weights,
            "input_bytes": sum(array.nbytes for array in feed.values())}
