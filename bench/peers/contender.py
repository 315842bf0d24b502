"""contender.py -- one peer in a process of its own: loads a model, warms up, times runs.

    contender.py onnxruntime|openvino MODEL INPUTS.npz THREADS SECONDS

Prints median_ms and min_ms as JSON, and for OpenVINO `avx512`: the implementations of its products
and convolutions that need AVX-512, by their names.
"""

import json
import statistics
import sys
import time

import numpy as np

MULTIPLIERS = ("FullyConnected", "MatMul", "Convolution", "GroupConvolution")


def onnxruntime_runner(model, feed, threads):
    """Inputs and outputs are bound once: run() copies nothing."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])
    binding = session.io_binding()
    for name, array in feed.items():
        binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
    for output, array in zip(session.get_outputs(), session.run(None, feed)):
        value = onnxruntime.OrtValue.ortvalue_from_numpy(array)
        binding.bind_ortvalue_output(output.name, value)
    return lambda: session.run_with_iobinding(binding), []


def with_avx512(compiled):
    """What OpenVINO says its products and convolutions run, where that names AVX-512."""
    def text(info, key):
        return str(info[key].astype(str)) if key in info else ""

    names = set()
    for node in compiled.get_runtime_model().get_ops():
        info = node.get_rt_info()
        name = text(info, "primitiveType")
        if text(info, "layerType") in MULTIPLIERS and "avx512" in name:
            names.add(name)
    return sorted(names)


def openvino_runner(model, feed, threads):
    """Fixed shapes, f32 arithmetic where the model is f32, inputs and outputs in place."""
    import openvino

    core = openvino.Core()
    network = core.read_model(model)
    network.reshape({name: array.shape for name, array in feed.items()})
    compiled = core.compile_model(network, "CPU", {
        "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads})
    request = compiled.create_infer_request()
    for name, array in feed.items():
        request.set_tensor(name, openvino.Tensor(array, shared_memory=True))
    return lambda: request.infer(share_outputs=True), with_avx512(compiled)


def timed(run, seconds):
    run()
    end = time.perf_counter() + seconds / 10
    while time.perf_counter() < end:
        run()
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 5:
        start = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - start))
    return {"median_ms": statistics.median(times), "min_ms": min(times)}


def main():
    kind, model, inputs, threads, seconds = sys.argv[1:]
    make = {"onnxruntime": onnxruntime_runner, "openvino": openvino_runner}[kind]
    feed = dict(np.load(inputs))  # to live as long as run(): peers keep no reference
    run, beyond = make(model, feed, int(threads))
    print(json.dumps({**timed(run, float(seconds)), "avx512": beyond}))


if __name__ == "__main__":
    main()
