"""test_backend -- mlopt.backend: what is compiled when, and frozen to what."""
import unittest

import numpy as np
import onnx
from onnx import TensorProto, helper
from onnx.backend.test.runner import Runner

import mlopt
import mlopt.backend


def reshape_model():
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])], "reshape",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"]),
         helper.make_tensor_value_info("shape", TensorProto.INT64, [2])],
        [onnx.ValueInfoProto(name="y")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


class TestBackend(unittest.TestCase):
    def test_devices(self):
        self.assertTrue(mlopt.backend.supports_device("CPU"))
        self.assertFalse(mlopt.backend.supports_device("CUDA:1"))

    def test_inputs_that_decide_shapes_are_frozen_and_followed(self):
        prepared = mlopt.backend.prepare(reshape_model())
        x = np.arange(6, dtype=np.float32)
        for shape in ([2, 3], [2, 3], [3, 2], [-1, 1]):
            y, = prepared.run([x, np.array(shape)])
            np.testing.assert_array_equal(y, x.reshape(shape))

    def test_one_compilation_serves_equal_values(self):
        prepared = mlopt.backend.prepare(reshape_model())
        prepared.run([np.zeros(6, np.float32), np.array([2, -1])])
        session = prepared._session
        y, = prepared.run([np.ones(8, np.float32), np.array([2, -1])])
        self.assertEqual(y.shape, (2, 4))
        self.assertIs(prepared._session, session)

    def test_feeds(self):
        x, shape = np.arange(6, dtype=np.float32), np.array([3, 2])
        outputs = mlopt.backend.run_model(reshape_model(), {"x": x, "shape": shape}, O=0)
        np.testing.assert_array_equal(outputs.y, x.reshape(3, 2))
        with self.assertRaisesRegex(ValueError, "2 inputs, not 1"):
            mlopt.backend.run_model(reshape_model(), [x])

    def test_nodes(self):
        a = np.random.default_rng(0).standard_normal((4, 4), np.float32)
        y, = mlopt.backend.run_node(helper.make_node("Relu", ["a"], ["y"]), [a])
        np.testing.assert_array_equal(y, np.maximum(a, 0))

    def test_refusals(self):
        with self.assertRaisesRegex(mlopt.UnsupportedError, "x.* no tensor"):
            mlopt.backend.run_model(reshape_model(), {"x": [1.0], "shape": np.array([1])})
        node = helper.make_node("Foo", ["a"], ["y"])
        with self.assertRaisesRegex(mlopt.UnsupportedError, "Foo"):
            mlopt.backend.prepare(helper.make_model(helper.make_graph(
                [node], "foo", [helper.make_tensor_value_info("a", TensorProto.FLOAT, [1])],
                [onnx.ValueInfoProto(name="y")]))).run([np.zeros(1, np.float32)])

    def test_it_fits_onnx_own_runner(self):
        """BackendTest runs prepare() and run() of the class, device by device."""
        tests = Runner(mlopt.backend.Backend, __name__).include("^test_(relu|reshape_zero_dim)_cpu$")
        result = unittest.TestResult()
        tests.test_suite.run(result)
        self.assertEqual(result.failures + result.errors, [])
        ran = result.testsRun - len(result.skipped)
        self.assertEqual(ran, 2)


if __name__ == "__main__":
    unittest.main()
