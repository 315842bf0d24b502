#!/usr/bin/env python3
"""make_model.py -- writes model.onnx: y = Scale(x, by=3) + 1 with Scale of the domain com.acme."""
import onnx
from onnx import TensorProto, helper, numpy_helper
import numpy

graph = helper.make_graph(
    [helper.make_node("Scale", ["x"], ["scaled"], name="scale", domain="com.acme", by=3),
     helper.make_node("Add", ["scaled", "one"], ["y"], name="add")],
    "custom_op",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
    [numpy_helper.from_array(numpy.float32(1), "one")])
onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[
    helper.make_opsetid("", 17), helper.make_opsetid("com.acme", 1)]), "model.onnx")
