"""quantized.py -- the forms in which each peer may run a model: fused, quantized, as it does best.

forms() names them; what is written is kept in the cache folder.  Peers' own tools do the work.
"""

import contextlib
import sys

from rows import KINDS, TOKENS, artefact, cache_name, make_samples

SAMPLES = 8


def fuse(row, model, new):
    """ONNX Runtime's optimizer for transformers."""
    from onnxruntime.transformers import fusion_options, optimizer

    kind = "gpt2" if row.kind == "decoder" else "bert"
    fused = optimizer.optimize_model(
        str(model), kind, num_heads=row.heads, hidden_size=row.width, opt_level=0,
        optimization_options=fusion_options.FusionOptions(kind))
    fused.save_model_to_file(str(new))


def quantize_dynamic(row, model, new):
    import onnx
    from onnxruntime import quantization as q

    q.quantize_dynamic(model, new, per_channel=True, weight_type=q.QuantType.QInt8,
                       extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT})


def quantize_blocks(row, model, new, bits=8, block=128, symmetric=True):
    """Weights in blocks with integer arithmetic; Gemm becomes MatMul + Add before."""
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
    from onnxruntime.quantization.onnx_model import ONNXModel

    onnx_model = ONNXModel(onnx.load(model))
    onnx_model.replace_gemm_with_matmul()
    quantizer = MatMulNBitsQuantizer(onnx_model.model, bits=bits, block_size=block,
                                     is_symmetric=symmetric, accuracy_level=4)
    quantizer.process()
    quantizer.model.save_model_to_file(str(new))


def quantize_u4_32(row, model, new):
    quantize_blocks(row, model, new, 4, 32, False)


def quantize_s4_128(row, model, new):
    quantize_blocks(row, model, new, 4, 128)


def quantize_qdq(row, model, new):
    from onnxruntime import quantization as q

    class Reader(q.CalibrationDataReader):
        samples = iter(make_samples(model, row.dims, SAMPLES))

        def get_next(self):
            return next(self.samples, None)

    ready = new.with_name("pre-" + new.name)
    q.shape_inference.quant_pre_process(model, ready)
    q.quantize_static(ready, new, Reader(), quant_format=q.QuantFormat.QDQ, per_channel=True,
                      weight_type=q.QuantType.QInt8, activation_type=q.QuantType.QUInt8)
    ready.unlink()


def quantize_nncf(row, model, new):
    import nncf
    import openvino

    dims = TOKENS if row.kind == "transformer" else row.dims
    samples = make_samples(model, {**row.dims, **dims}, SAMPLES)
    kind = nncf.ModelType.TRANSFORMER if row.heads else None
    network = nncf.quantize(openvino.Core().read_model(model), nncf.Dataset(samples),
                            subset_size=SAMPLES, model_type=kind)
    save_openvino(network, new)


def compress_nncf(row, model, new, mode="INT8_ASYM", **options):
    import nncf
    import openvino

    network = nncf.compress_weights(openvino.Core().read_model(model),
                                    mode=nncf.CompressWeightsMode[mode], **options)
    save_openvino(network, new)


def compress_u4_32(row, model, new):
    compress_nncf(row, model, new, "INT4_ASYM", group_size=32)


def compress_s4_128(row, model, new):
    compress_nncf(row, model, new, "INT4_SYM", group_size=128)


def compress_all_s4_128(row, model, new):
    """The last layer as well."""
    compress_nncf(row, model, new, "INT4_SYM", group_size=128, all_layers=True)


def save_openvino(network, new):
    """One file holds the weights beside the .xml: both get their final names here."""
    import openvino

    final = new.with_name(new.name.removeprefix("new-"))
    openvino.save_model(network, new, compress_to_fp16=False)
    new.with_suffix(".bin").replace(final.with_suffix(".bin"))


FORMS = {  # (peer, precision) -> kind of row -> name of the form: steps from the model to its file
    ("onnxruntime", "fp32"): {
        "transformer": {"plain": [], "fused": [fuse]},
        "decoder": {"plain": [], "fused": [fuse]},
        "cnn": {"plain": []},
        "model": {"plain": []}},
    ("onnxruntime", "int8"): {
        "transformer": {"dynamic": [quantize_dynamic], "fused dynamic": [fuse, quantize_dynamic]},
        "decoder": {"dynamic": [quantize_dynamic], "fused dynamic": [fuse, quantize_dynamic],
                    "blocks": [quantize_blocks], "fused blocks": [fuse, quantize_blocks]},
        "cnn": {"QDQ": [quantize_qdq]},
        "model": {"dynamic": [quantize_dynamic]}},
    ("openvino", "fp32"): dict.fromkeys(KINDS, {"plain": []}),
    ("openvino", "int8"): {
        **dict.fromkeys(KINDS, {"NNCF": [quantize_nncf]}),
        "decoder": {"int8 weights": [compress_nncf], "NNCF": [quantize_nncf]}},
    ("onnxruntime", "int4"): {
        "decoder": {"u4 of 32": [quantize_u4_32], "s4 of 128": [quantize_s4_128],
                    "fused u4, 32": [fuse, quantize_u4_32],
                    "fused s4, 128": [fuse, quantize_s4_128]}},
    ("openvino", "int4"): {
        "decoder": {"u4 of 32": [compress_u4_32], "s4 of 128": [compress_s4_128],
                    "all s4, 128": [compress_all_s4_128]}},
}


def forms(peer, precision, row, model, cache):
    """name -> file, for each form in which the peer may run the row's model."""
    files = {}
    for name, steps in FORMS[peer, precision][row.kind].items():
        file, stem = model, model.stem
        for step in steps:
            stem += "-" + step.__name__
            suffix = ".xml" if peer == "openvino" else ".onnx"
            source, path = file, cache / cache_name(row.model) / (stem + suffix)
            with contextlib.redirect_stdout(sys.stderr):
                file = artefact(path, lambda new, s=step, m=source: s(row, m, new), model)
        files[name] = file
    return files
