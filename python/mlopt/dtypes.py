"""dtypes -- element types of the library (types.def) and their NumPy and ONNX Runtime names."""
import numpy

try:
    import ml_dtypes
except ImportError:  # models with inputs or outputs of its types are refused then
    ml_dtypes = None


def _other(name):
    return getattr(ml_dtypes, name, None)


# number in types.def, NumPy type, name ONNX Runtime gives it
_ROWS = [
    (1, numpy.float64, "double"),
    (2, numpy.float32, "float"),
    (3, numpy.float16, "float16"),
    (4, _other("bfloat16"), "bfloat16"),
    (5, numpy.int64, "int64"),
    (6, numpy.int32, "int32"),
    (7, numpy.int16, "int16"),
    (8, numpy.int8, "int8"),
    (9, numpy.uint64, "uint64"),
    (10, numpy.uint32, "uint32"),
    (11, numpy.uint16, "uint16"),
    (12, numpy.uint8, "uint8"),
    (13, numpy.bool_, "bool"),
    (14, _other("int4"), "int4"),
    (15, _other("uint4"), "uint4"),
    (16, _other("int2"), "int2"),
    (17, _other("uint2"), "uint2"),
    (18, _other("float8_e4m3fn"), "float8e4m3fn"),
    (19, _other("float8_e4m3fnuz"), "float8e4m3fnuz"),
    (20, _other("float8_e5m2"), "float8e5m2"),
    (21, _other("float8_e5m2fnuz"), "float8e5m2fnuz"),
    (22, _other("float4_e2m1fn"), "float4e2m1"),
]
TO_NUMPY = {number: numpy.dtype(t) for number, t, _ in _ROWS if t is not None}
FROM_NUMPY = {t: number for number, t in TO_NUMPY.items()}
ORT_NAME = {number: f"tensor({name})" for number, _, name in _ROWS}


def to_numpy(number):
    """The NumPy type; TypeError for types of the ml_dtypes package without it."""
    if number not in TO_NUMPY:
        raise TypeError(f"{ORT_NAME.get(number, number)} needs the package ml_dtypes")
    return TO_NUMPY[number]
