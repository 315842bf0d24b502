"""engines.py -- who runs a task: mlopt in its modes, ONNX Runtime and NNCF as they quantize.

An engine is a function (task, model, folder) -> function from a batch to the first output.
A new column is a new row of ENGINES.
"""

import pathlib
import sys

TREE = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(TREE / "python"))

THREADS = 2


def samples(task):
    data = task.calib()
    n = len(next(iter(data.values())))
    mask = "attention_mask" if getattr(task, "masks", None) or task.name == "sst2" else None
    for i in range(n):
        one = {k: v[i:i + 1] for k, v in data.items()}
        if mask:
            length = int(one[mask].sum())
            one = {k: v[:, :length] for k, v in one.items()}
        yield one


def session(maker):
    first = maker.get_outputs()[0].name
    return lambda batch: maker.run([first], batch)[0]


def mlopt(**options):
    def engine(task, model, folder):
        import mlopt as package

        chosen = dict(options)
        if chosen.pop("calibrated", False):
            chosen["calib"] = task.calib()
        if chosen.get("int8") == "task":
            chosen["int8"] = task.mode
        chosen["report"] = str(folder / f"{task.name}.json")
        return session(package.InferenceSession(str(model), **chosen))
    return engine


def cached(**options):
    """Keys and values as bytes: a past that is empty, of these types, takes the place of floats."""
    def engine(task, model, folder):
        import mlopt as package
        import numpy as np

        maker = package.InferenceSession(str(model), kv_cache="int8", **options)
        first = maker.get_outputs()[0].name

        def ask(batch):
            feed = dict(batch)
            for name, past in batch.items():
                if past.ndim == 4:
                    feed[name] = past.astype(np.int8)
                    feed[name + ".scale"] = past[..., :1]
            return maker.run([first], feed)[0]
        return ask
    return engine


def ort(quantize):
    def engine(task, model, folder):
        import onnxruntime

        file = folder / f"{task.name}-{quantize.__name__ if quantize else 'fp32'}.onnx"
        if quantize:
            quantize(task, model, file)
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = THREADS
        return session(onnxruntime.InferenceSession(str(file if quantize else model), settings))
    return engine


def dynamic_tensor(task, model, file, per_channel=False):
    import onnx
    from onnxruntime import quantization as q

    q.quantize_dynamic(model, file, per_channel=per_channel, weight_type=q.QuantType.QInt8,
                       extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT})


def dynamic_channel(task, model, file):
    dynamic_tensor(task, model, file, True)


def static_qdq(task, model, file):
    from onnxruntime import quantization as q

    class Reader(q.CalibrationDataReader):
        data = iter(list(samples(task))[:128])

        def get_next(self):
            return next(self.data, None)

    ready = file.with_name("pre-" + file.name)
    # Its symbolic shape inference fails on transformers, and static quantization needs neither.
    q.shape_inference.quant_pre_process(model, ready, skip_symbolic_shape=True,
                                        skip_optimization=task.mode == "dynamic",
                                        skip_onnx_shape=task.mode == "dynamic")
    q.quantize_static(ready, file, Reader(), quant_format=q.QuantFormat.QDQ, per_channel=True,
                      weight_type=q.QuantType.QInt8, activation_type=q.QuantType.QUInt8)


def int4_matmul(task, model, file):
    """Round to nearest in groups of 32, asymmetric: ONNX Runtime's MatMulNBits."""
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    quantizer = MatMulNBitsQuantizer(onnx.load(model), block_size=32, is_symmetric=False,
                                     accuracy_level=4)
    quantizer.process()
    quantizer.model.save_model_to_file(str(file), use_external_data_format=False)


def nncf_int4(task, model, folder):
    import nncf
    import openvino

    # Its scale estimation destroys this model's logits (loss 2.7), so that it is left out.
    network = nncf.compress_weights(openvino.Core().read_model(model), group_size=32, ratio=1.0,
                                    mode=nncf.CompressWeightsMode.INT4_ASYM)
    return openvino_session(network)


def openvino_session(network):
    import openvino

    compiled = openvino.compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32",
                                                       "INFERENCE_NUM_THREADS": THREADS})
    return lambda batch: compiled(batch)[compiled.output(0)]


def nncf_static(task, model, folder):
    import nncf
    import openvino

    kind = nncf.ModelType.TRANSFORMER if task.mode == "dynamic" else None
    network = openvino.Core().read_model(model)
    network = nncf.quantize(network, nncf.Dataset(list(samples(task))[:128]), subset_size=128,
                            model_type=kind)
    return openvino_session(network)


ENGINES = {
    "fp32": mlopt(),
    "mlopt": mlopt(int8="task", calibrated=True),
    "mlopt plain": mlopt(int8="dynamic"),
    "ORT dynamic": ort(dynamic_tensor),
    "ORT per channel": ort(dynamic_channel),
    "ORT static": ort(static_qdq),
    "NNCF": nncf_static,
}

# Of decoders.
CACHED = {
    "mlopt cache": cached(),
    "mlopt + cache": cached(int8="dynamic"),
}

# Engines of tasks whose weights become four bits.
INT4 = {
    "fp32": mlopt(),
    "mlopt int4": mlopt(int4=True, calibrated=True),
    "mlopt nearest": mlopt(int4=True),
    "mlopt int4, 64": mlopt(int4="64", calibrated=True),
    "mlopt inner": mlopt(int4="32,inner", calibrated=True),
    "nearest, inner": mlopt(int4="32,inner"),
    "ORT int4": ort(int4_matmul),
    "NNCF int4": nncf_int4,
}
