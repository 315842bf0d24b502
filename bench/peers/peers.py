"""peers.py -- mlopt and its peers on the same model, one process each, in alternation.

    bench/peers/run MODEL.onnx [--dim NAME=V ...] [--threads N] [--rounds R] [--isa LEVEL] [--json]

Each round runs every contender once in a process of its own (compile or load, warm up, then timed
runs for --seconds); the figure is the median over rounds of the processes' medians, so that a
machine whose speed drifts disturbs all alike. Contenders: mlopt fp32 and int8; ONNX Runtime fp32
and quantize_dynamic per channel; OpenVINO fp32 (f32 precision hint). With --isa the level caps
mlopt and OpenVINO; ONNX Runtime cannot be capped and is left out.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
ONEDNN_LEVEL = {"avx2": "AVX2", "avx512": "AVX512_CORE", "avx512vnni": "AVX512_CORE_VNNI"}


def make_inputs(model, dims):
    """Random inputs for the model's declared shapes: ids below 1000, masks of ones."""
    import onnx

    rng = np.random.default_rng(0)
    graph = onnx.load(model, load_external_data=False).graph
    weights = {t.name for t in graph.initializer}
    feed = {}
    for value in graph.input:
        if value.name in weights:
            continue
        t = value.type.tensor_type
        shape = [d.dim_value or int(dims.get(d.dim_param, 1)) for d in t.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(t.elem_type)
        if np.issubdtype(dtype, np.integer):
            high = 2 if "type" in value.name else 1000
            feed[value.name] = rng.integers(0, high, shape).astype(dtype)
            if "mask" in value.name:
                feed[value.name][...] = 1
        else:
            feed[value.name] = rng.standard_normal(shape).astype(dtype)
    return feed


def timed(run, seconds):
    """Median of the timed runs in milliseconds, after a warm-up."""
    for _ in range(3):
        run()
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 5:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def onnxruntime_ms(model, feed, threads, seconds):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])
    return timed(lambda: session.run(None, feed), seconds)


def openvino_ms(model, feed, threads, seconds):
    import openvino

    core = openvino.Core()
    network = core.read_model(model)
    network.reshape({name: a.shape for name, a in feed.items()})
    compiled = core.compile_model(network, "CPU", {
        "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads})
    request = compiled.create_infer_request()
    return timed(lambda: request.infer(feed), seconds)


def child(kind, model, inputs, threads, seconds):
    feed = dict(np.load(inputs))
    run = onnxruntime_ms if kind.startswith("onnxruntime") else openvino_ms
    print(json.dumps({"median_ms": run(model, feed, threads, seconds)}))


def quantize_dynamic(model, to):
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization import quantize_dynamic as quantize

    quantize(model, to, per_channel=True, weight_type=QuantType.QInt8)


def contenders(args, work):
    """name -> command line printing JSON with median_ms."""
    mlopt = [str(args.build / "bin/mlopt"), "bench", args.model, "--inputs", str(work / "in.npz"),
             "--batch", "0", "--threads", str(args.threads), "--seconds", str(args.seconds), "--json"]
    if args.isa:
        mlopt += ["--isa", args.isa]
    me = [sys.executable, __file__, "--child"]
    tail = [str(work / "in.npz"), str(args.threads), str(args.seconds)]
    commands = {"mlopt fp32": mlopt + ["-O3"], "mlopt int8": mlopt + ["-O3", "--int8"]}
    if not args.isa:
        quantize_dynamic(args.model, work / "int8.onnx")
        commands["onnxruntime fp32"] = me + ["onnxruntime", args.model] + tail
        commands["onnxruntime int8"] = me + ["onnxruntime", str(work / "int8.onnx")] + tail
    try:
        import openvino  # noqa: F401
        commands["openvino fp32"] = me + ["openvino", args.model] + tail
    except ImportError:
        pass
    return commands


def measure(args):
    environment = dict(os.environ)
    if args.isa:
        environment["ONEDNN_MAX_CPU_ISA"] = ONEDNN_LEVEL[args.isa]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        np.savez(work / "in.npz", **make_inputs(args.model, dict(d.split("=") for d in args.dim)))
        commands = contenders(args, work)
        figures = {name: [] for name in commands}
        for _ in range(args.rounds):
            for name, command in commands.items():
                out = subprocess.run(command, env=environment, capture_output=True, text=True)
                if out.returncode:
                    sys.exit(f"{name} failed:\n{out.stderr}")
                figures[name].append(json.loads(out.stdout)["median_ms"])
    return {name: statistics.median(v) for name, v in figures.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--dim", action="append", default=[], metavar="NAME=V")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--isa", choices=ONEDNN_LEVEL)
    parser.add_argument("--build", type=Path, default=ROOT / "build")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    medians = measure(args)
    rows = []
    for name, ms in medians.items():
        precision = name.split()[1]
        peers = [v for n, v in medians.items() if n.endswith(precision) and not n.startswith("mlopt")]
        rows.append({"contender": name, "median_ms": round(ms, 3),
                     "best_peer_ratio": round(min(peers) / ms, 3) if peers else None})
    if args.json:
        print(json.dumps({"model": args.model, "threads": args.threads, "rows": rows}))
        return
    print(f"{'':20}{'median ms':>12}{'times the best peer of its precision':>40}")
    for row in rows:
        ratio = f"{row['best_peer_ratio']:.2f}x" if row["best_peer_ratio"] else ""
        print(f"{row['contender']:20}{row['median_ms']:12.2f}{ratio:>40}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        kind, model, inputs, threads, seconds = sys.argv[2:]
        child(kind, model, inputs, int(threads), float(seconds))
    else:
        main()
