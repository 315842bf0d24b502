"""dtypes -- element types of the library (types.def) and their NumPy and ONNX Runtime names."""
import numpy

try:
    from ml_dtypes import bfloat16
except ImportError:  # models with bf16 inputs or outputs are refused then
    bfloat16 = None

# number in types.def, NumPy type, name ONNX Runtime gives it
_ROWS = [
    (1, numpy.float64, "double"),
    (2, numpy.float32, "float"),
    (3, numpy.float16, "float16"),
    (4, bfloat16, "bfloat16"),
    (5, numpy.int64, "int64"),
    (6, numpy.int32, "int32"),
    (7, numpy.int16, "int16"),
    (8, numpy.int8, "int8"),
    (9, numpy.uint64, "uint64"),
    (10, numpy.uint32, "uint32"),
    (11, numpy.uint16, "uint16"),
    (12, numpy.uint8, "uint8"),
    (13, numpy.bool_, "bool"),
]
TO_NUMPY = {number: numpy.dtype(t) for number, t, _ in _ROWS if t is not None}
FROM_NUMPY = {t: number for number, t in TO_NUMPY.items()}
ORT_NAME = {number: f"tensor({name})" for number, _, name in _ROWS}


def to_numpy(number):
    """The NumPy type; TypeError for bf16 without the ml_dtypes package."""
    if number not in TO_NUMPY:
        raise TypeError(f"{ORT_NAME.get(number, number)} needs the package ml_dtypes")
    return TO_NUMPY[number]
