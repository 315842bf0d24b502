"""test_ort_names -- what users of ONNX Runtime call besides run(): bindings, metadata, options."""
import pathlib
import tempfile
import unittest

import numpy as np
import onnx
from onnx import TensorProto, helper

import mlopt
from test_session import appending_model, linear_model


class TestBinding(unittest.TestCase):
    def setUp(self):
        model, self.w = linear_model()
        self.session = mlopt.InferenceSession(model)
        self.binding = self.session.io_binding()
        self.x = np.random.default_rng(0).standard_normal((5, 3), np.float32)

    def test_outputs_are_new_arrays_in_the_order_of_binding(self):
        self.binding.bind_cpu_input("x", self.x)
        self.binding.bind_output("p")
        self.binding.bind_output("y", "cpu")
        self.session.run_with_iobinding(self.binding)
        first = self.binding.get_outputs()
        y, p = self.session.run(None, {"x": self.x})
        for value, want in zip(first, (p, y)):
            np.testing.assert_array_equal(value.numpy(), want)
            self.assertEqual((value.shape(), value.device_name()), ([5, 2], "cpu"))
            self.assertEqual(value.element_type_numpy(), np.float32)
        self.binding.bind_ortvalue_input("x", mlopt.OrtValue.ortvalue_from_numpy(self.x[:2]))
        self.session.run_with_iobinding(self.binding)
        np.testing.assert_array_equal(self.binding.copy_outputs_to_cpu()[1], y[:2])
        np.testing.assert_array_equal(first[1].numpy(), y)

    def test_buffers_of_the_caller(self):
        p, y = np.zeros((5, 2), np.float32), np.zeros((5, 2), np.float32)
        self.binding.bind_input("x", "cpu", 0, np.float32, self.x.shape, self.x.ctypes.data)
        self.binding.bind_output("p", "cpu", 0, np.float32, p.shape, p.ctypes.data)
        self.binding.bind_ortvalue_output("y", mlopt.OrtValue.ortvalue_from_numpy(y))
        for step in (0, 1):
            self.x += step
            self.session.run_with_iobinding(self.binding)
            want_y, want_p = self.session.run(None, {"x": self.x})
            np.testing.assert_array_equal(p, want_p)
            np.testing.assert_array_equal(y, want_y)
        self.assertEqual(self.binding.get_outputs()[0].data_ptr(), p.ctypes.data)
        self.binding.bind_cpu_input("x", self.x[:4])
        with self.assertRaisesRegex(ValueError, r"'p' is float32\[4, 2\], but was bound to .*5, 2"):
            self.session.run_with_iobinding(self.binding)

    def test_clearing(self):
        self.binding.bind_cpu_input("x", self.x)
        self.binding.bind_output("p")
        self.session.run_with_iobinding(self.binding)
        self.binding.clear_binding_inputs()
        with self.assertRaisesRegex(ValueError, "'x' is missing"):
            self.session.run_with_iobinding(self.binding)
        self.binding.clear_binding_outputs()
        self.assertEqual(self.binding.get_outputs(), [])
        with self.assertRaisesRegex(ValueError, "no output is bound"):
            self.session.run_with_iobinding(self.binding)

    def test_wrong_bindings(self):
        with self.assertRaisesRegex(ValueError, "no input 'z'"):
            self.binding.bind_cpu_input("z", self.x)
        with self.assertRaisesRegex(ValueError, "no output 'z'"):
            self.binding.bind_output("z")
        with self.assertRaisesRegex(ValueError, "no device 'cuda' 0"):
            self.binding.bind_output("y", "cuda")
        with self.assertRaisesRegex(ValueError, "no element_type or no shape"):
            self.binding.bind_output("y", buffer_ptr=self.x.ctypes.data)
        with self.assertRaisesRegex(ValueError, "another session"):
            mlopt.InferenceSession(linear_model()[0]).run_with_iobinding(self.binding)
        session = mlopt.InferenceSession(appending_model())
        session.bind_state("past", "present")
        binding = session.io_binding()
        binding.bind_output("present")
        with self.assertRaisesRegex(ValueError, "'present' is a state"):
            session.run_with_iobinding(binding)


class TestMetadata(unittest.TestCase):
    def test_is_that_of_the_file(self):
        model, _ = linear_model()
        model.producer_name, model.domain, model.doc_string = "maker", "com.acme", "what it is"
        model.model_version, model.graph.doc_string = -3, "the graph"
        helper.set_model_props(model, {"names": "{0: 'cat'}", "empty": ""})
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "model.pb"
            onnx.save(model, path)
            for source in (model, model.SerializeToString(), path, str(path)):
                meta = mlopt.InferenceSession(source).get_modelmeta()
                self.assertEqual((meta.producer_name, meta.domain, meta.description, meta.version),
                                 ("maker", "com.acme", "what it is", -3))
                self.assertEqual((meta.graph_name, meta.graph_description), ("linear", "the graph"))
                self.assertEqual(meta.custom_metadata_map, {"names": "{0: 'cat'}", "empty": ""})

    def test_of_a_compiled_model_is_the_name(self):
        model, _ = linear_model()
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "linear.so"
            mlopt.compile(model, output=path)
            for source in (mlopt.compile(model), path):
                meta = mlopt.InferenceSession(source).get_modelmeta()
                self.assertEqual((meta.graph_name, meta.custom_metadata_map), ("linear", {}))


class TestOptions(unittest.TestCase):
    def setUp(self):
        self.model = mlopt.compile(linear_model()[0])

    def test_session_options(self):
        options = mlopt.SessionOptions()
        options.intra_op_num_threads = 1
        session = mlopt.InferenceSession(self.model, options)
        self.assertIs(session.get_session_options(), options)
        self.assertEqual(mlopt.InferenceSession(self.model).get_session_options()
                         .intra_op_num_threads, 0)
        with self.assertRaisesRegex(AttributeError, "no session option 'inter_op_num_threads'"):
            options.inter_op_num_threads = 1

    def test_providers(self):
        cpu = "CPUExecutionProvider"
        session = mlopt.InferenceSession(self.model, providers=["CUDAExecutionProvider", (cpu, {})])
        self.assertEqual(session.get_providers(), [cpu])
        self.assertEqual(session.get_provider_options(), {cpu: {}})
        session.set_providers([cpu], [{}])
        with self.assertRaisesRegex(ValueError, "CUDA.*there is CPUExecutionProvider only"):
            session.set_providers(["CUDAExecutionProvider"])
        for providers, options in (([(cpu, {"arena": 1})], None), ([cpu], [{"arena": 1}])):
            with self.assertRaisesRegex(ValueError, "no option 'arena'"):
                mlopt.InferenceSession(self.model, None, providers, options)

    def test_what_a_session_does_not_have(self):
        session = mlopt.InferenceSession(self.model)
        self.assertEqual(session.get_overridable_initializers(), [])
        with self.assertRaisesRegex(ValueError, "mlopt bench MODEL --profile"):
            session.end_profiling()
        with self.assertRaisesRegex(ValueError, "run_options must be None"):
            session.run(None, {"x": np.zeros((1, 3), np.float32)}, object())

    def test_compiled_models_take_no_options(self):
        for model in (self.model, "/nowhere/model.so"):
            with self.assertRaisesRegex(ValueError, "compiled already: option 'O'"):
                mlopt.InferenceSession(model, O=3)
        with self.assertRaisesRegex(mlopt.Error, "no option 'speed'"):
            mlopt.InferenceSession(linear_model()[0], speed=3)

    def test_initializers_that_are_inputs_are_constants(self):
        model, _ = linear_model()
        model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [3, 2]))
        session = mlopt.InferenceSession(model)
        self.assertEqual([i.name for i in session.get_inputs()], ["x"])


if __name__ == "__main__":
    unittest.main()
