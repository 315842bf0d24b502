"""library -- opens libmlopt or libmlopt-rt and declares the functions of its C API."""
import ctypes
import os
import pathlib
from ctypes import (CFUNCTYPE, POINTER, Structure, c_bool, c_char, c_char_p, c_double, c_int,
                    c_int64, c_size_t, c_uint32, c_uint64, c_void_p)

from .locate import find

MAX_RANK = 12


class Message(Structure):
    _fields_ = [("text", c_char * 1000)]


class TensorInfo(Structure):
    _fields_ = [("name", c_char_p), ("dtype", c_int), ("rank", c_int), ("dim", POINTER(c_char_p))]


class DimInfo(Structure):
    _fields_ = [("name", c_char_p), ("lo", c_int64), ("hi", c_int64)]


class ModelInfo(Structure):
    _fields_ = [("name", c_char_p), ("entry", c_char_p), ("signature", c_char_p),
                ("ninputs", c_int), ("noutputs", c_int), ("ndims", c_int),
                ("input", POINTER(TensorInfo)), ("output", POINTER(TensorInfo)),
                ("dim", POINTER(DimInfo)), ("nsizes", c_int), ("weights_bytes", c_uint64),
                ("nlevels", c_int), ("level", POINTER(c_char_p))]


class SessionOptionsStruct(Structure):
    _fields_ = [("threads", c_int), ("pool", c_void_p), ("allocator", c_void_p)]


class View(Structure):
    _fields_ = [("dtype", c_int), ("rank", c_int), ("dim", c_int64 * MAX_RANK), ("data", c_void_p),
                ("bytes", c_size_t)]


ARRAY = CFUNCTYPE(c_int, c_void_p, c_int, c_int, c_char_p, POINTER(View), POINTER(Message))


class CalibrationProgress(Structure):
    _fields_ = [("walk", c_int64), ("set", c_int64), ("sample", c_int64), ("samples", c_int64)]


ON_CALIBRATION = CFUNCTYPE(c_bool, c_void_p, POINTER(CalibrationProgress))


class Calibration(Structure):
    _fields_ = [("user", c_void_p), ("array", ARRAY), ("progress", ON_CALIBRATION)]


class PruneProgress(Structure):
    _fields_ = [("what", c_char_p), ("step", c_int64), ("steps", c_int64), ("loss", c_double),
                ("seconds", c_double)]


class DistillProgress(Structure):
    _fields_ = [("step", c_int64), ("steps", c_int64), ("loss", c_double), ("error", c_double),
                ("agreement", c_double), ("best", c_double), ("seconds", c_double),
                ("left", c_double)]


class PrunePart(Structure):
    _fields_ = [("layer", c_int), ("kind", c_char_p), ("node", c_char_p), ("parameters", c_int64),
                ("seconds", c_double), ("loss", c_double)]


ON_PRUNE = CFUNCTYPE(c_bool, c_void_p, POINTER(PruneProgress))
ON_DISTILL = CFUNCTYPE(c_bool, c_void_p, POINTER(DistillProgress))
SCORE = CFUNCTYPE(c_double, c_void_p, POINTER(PrunePart))


class PruneHooks(Structure):
    _fields_ = [("user", c_void_p), ("progress", ON_PRUNE)]


class DistillHooks(Structure):
    _fields_ = [("user", c_void_p), ("progress", ON_DISTILL)]


class Score(Structure):
    _fields_ = [("name", c_char_p), ("help", c_char_p), ("score", SCORE), ("user", c_void_p)]


class Plugin(Structure):
    _fields_ = [("abi", c_uint32), ("name", c_char_p), ("passes", c_void_p), ("npasses", c_int),
                ("scores", POINTER(Score)), ("nscores", c_int), ("losses", c_void_p),
                ("nlosses", c_int)]


_HANDLE = POINTER(c_void_p)  # ml_x **
_DIMS = POINTER(c_int64)

# name: (result, arguments...); what libmlopt-rt has too
_RUNTIME = {
    "ml_status_text": (c_char_p, c_int),
    "ml_status_tag": (c_char_p, c_int),
    "ml_model_load": (c_int, c_char_p, c_void_p, _HANDLE, POINTER(Message)),
    "ml_model_free": (None, c_void_p),
    "ml_model_describe": (POINTER(ModelInfo), c_void_p),
    "ml_session_new": (c_int, c_void_p, POINTER(SessionOptionsStruct), _HANDLE, POINTER(Message)),
    "ml_session_free": (None, c_void_p),
    "ml_session_set_input": (c_int, c_void_p, c_int, c_void_p, _DIMS, c_int),
    "ml_session_run": (c_int, c_void_p),
    "ml_session_output": (c_int, c_void_p, c_int, POINTER(View)),
    "ml_session_bind_state": (c_int, c_void_p, c_char_p, c_char_p),
    "ml_session_reset_states": (None, c_void_p),
    "ml_session_copy_state": (c_int, c_void_p, c_int, c_void_p, c_size_t),
    "ml_session_state": (c_int, c_void_p, c_int, POINTER(View)),
    "ml_session_message": (c_char_p, c_void_p),
}
_COMPILER = {
    "ml_context_new": (c_int, c_void_p, _HANDLE),
    "ml_context_free": (None, c_void_p),
    "ml_context_message": (c_char_p, c_void_p, c_int),
    "ml_options_new": (c_int, c_void_p, _HANDLE),
    "ml_options_free": (None, c_void_p),
    "ml_options_set": (c_int, c_void_p, c_char_p, c_char_p),
    "ml_options_freeze": (c_int, c_void_p, c_char_p, c_int, c_int, _DIMS, c_void_p),
    "ml_options_calibrate": (c_int, c_void_p, POINTER(Calibration)),
    "ml_options_statistics": (c_int, c_void_p, c_char_p),
    "ml_options_prune": (None, c_void_p, POINTER(PruneHooks)),
    "ml_options_distill": (None, c_void_p, POINTER(DistillHooks)),
    "ml_options_plugin": (c_int, c_void_p, POINTER(Plugin)),
    "ml_prune": (c_int, c_void_p, c_char_p, c_void_p, c_char_p, c_char_p),
    "ml_distill": (c_int, c_void_p, c_char_p, c_void_p, c_char_p, c_char_p),
    "ml_compile_file": (c_int, c_void_p, c_char_p, c_void_p, _HANDLE),
    "ml_compile_memory": (c_int, c_void_p, c_char_p, c_size_t, c_void_p, _HANDLE),
    "ml_compile_to": (c_int, c_void_p, c_char_p, c_void_p, c_char_p),
}


def _open(path):
    # libmlopt needs libmlopt-rt: the one beside it, not that of where it was built.
    beside = pathlib.Path(path).with_name("libmlopt-rt.so.0")
    if os.sep in path and beside.exists():
        ctypes.CDLL(str(beside))
    return ctypes.CDLL(path)


def _declare(library, functions):
    for name, (result, *arguments) in functions.items():
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments


library = _open(find())
_declare(library, _RUNTIME)
can_compile = hasattr(library, "ml_compile_file")
if can_compile:
    _declare(library, _COMPILER)
