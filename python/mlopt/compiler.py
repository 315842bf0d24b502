"""compiler -- models to code in memory or to artefacts, with the options of mloptc."""
import contextlib
import ctypes
import os
import tempfile

import numpy

from . import dtypes
from .errors import UnsupportedError, error
from .library import ARRAY, ON_CALIBRATION, Calibration, can_compile, library
from .model import Model


def compile(model, output=None, freeze=None, calib=None, progress=None, **options):
    """Compiles a model for this CPU and returns a Model, or into the file `output`.

    model: path of an .onnx (or .mlt) file, a model's bytes, or an onnx.ModelProto
    output: path of the artefact; its kind is the option `emit` ("so" by default).  Returns None then
    freeze: {input name: array} of inputs that become constants
    calib: {input name: array} of samples along axis 0, for int8="static"; or a file that the option
        save_calib has written, or a list of such files
    progress: called with {"walk", "set", "sample", "samples"} as each sample of an array in calib
        is read, again with each walk through them; False ends it with an Error of the tag "canceled"
    options: mloptc's, with _ for -: O=1, int8=True, dim={"batch": 1}, shape={"x": "1x3"}

    Raises Error, UnsupportedError with the compiler's messages.
    """
    if not can_compile:
        raise OSError("compiling needs libmlopt, but only libmlopt-rt was found")
    watch = Watch(progress)
    with watch, _context() as context, _options(context, freeze or {}, calib, options,
                                                watch) as settings:
        if output is not None:
            with _file(model) as path:
                _check(context, library.ml_compile_to(context, path, settings, os.fsencode(output)))
            return None
        handle = ctypes.c_void_p()
        if isinstance(model, (str, os.PathLike)):
            status = library.ml_compile_file(context, os.fsencode(model), settings, handle)
        else:
            data = _bytes(model)
            status = library.ml_compile_memory(context, data, len(data), settings, handle)
        _check(context, status)
        return Model(handle)


class Watch:
    """Calls what the caller gave with the fields of the library's structs.

    What it raises must not pass through C: it is raised where the block ends, and says more than
    that the work was canceled.
    """

    def __init__(self, progress=None):
        self.progress, self.raised = progress, None

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if self.raised is not None:
            raise self.raised
        return False

    def safely(self, call, failed):
        def safe(_, what):
            try:
                return call(_fields(what[0]))
            except BaseException as e:
                self.raised = e
                return failed
        return safe

    def goes_on(self):
        return self.safely(lambda p: self.progress(p) is not False, False)


def _fields(struct):
    values = {name: getattr(struct, name) for name, _ in struct._fields_}
    return {k: v.decode(errors="replace") if isinstance(v, bytes) else v for k, v in values.items()}


def _bytes(model):
    return model.SerializeToString() if hasattr(model, "SerializeToString") else bytes(model)


@contextlib.contextmanager
def _file(model):
    """The path of a file that holds the model."""
    if isinstance(model, (str, os.PathLike)):
        yield os.fsencode(model)
        return
    with tempfile.NamedTemporaryFile(suffix=".onnx") as f:
        f.write(_bytes(model))
        f.flush()
        yield os.fsencode(f.name)


@contextlib.contextmanager
def _context():
    handle = ctypes.c_void_p()
    status = library.ml_context_new(None, handle)
    if status:
        raise error(library, status, None)
    try:
        yield handle
    finally:
        library.ml_context_free(handle)


def _check(context, status):
    if not status:
        return
    texts = []
    while True:
        text = library.ml_context_message(context, len(texts))
        if text is None:
            break
        texts.append(text.decode(errors="replace"))
    raise error(library, status, "\n".join(texts))


@contextlib.contextmanager
def _options(context, freeze, calib, options, watch):
    handle = ctypes.c_void_p()
    _check(context, library.ml_options_new(context, handle))
    try:
        for name, value in options.items():
            for text in _texts(value):
                name_ = name.replace("_", "-").encode()
                _check(context, library.ml_options_set(handle, name_, text))
        for name, value in freeze.items():
            _freeze(context, handle, name, value)
        lent = _calibrate(context, handle, calib, watch) if hasattr(calib, "items") else None
        if calib is not None and lent is None:
            _add_statistics(context, handle, calib)
        yield handle
        del lent  # the library has read from it until here
    finally:
        library.ml_options_free(handle)


def _texts(value):
    """An option's value in the forms of the command line, one for each time it is given."""
    if value is True:
        return [None]
    if value is None or value is False:
        return []
    if isinstance(value, dict):
        return [f"{k}={v}".encode() for k, v in value.items()]
    if isinstance(value, (list, tuple)):
        return [str(v).encode() for v in value]
    return [os.fsencode(value) if isinstance(value, os.PathLike) else str(value).encode()]


def _calibrate(context, handle, calib, watch):
    """Gives the library one set of arrays; what is returned must live as long as the options."""
    arrays = {n: numpy.ascontiguousarray(a).reshape(numpy.shape(a)) for n, a in calib.items()}

    def array(_, number, _input, name, view, why):
        name = name.decode(errors="replace")
        value = arrays.get(name)
        if number > 0:
            return 0
        dtype = None if value is None else dtypes.FROM_NUMPY.get(value.dtype)
        if dtype is None or value.ndim > len(view[0].dim):
            has = ", ".join(arrays)
            why[0].text = f"no array for input '{name}' (there are: {has})".encode()[:999]
            return -2 if value is None else -1
        view[0].dtype, view[0].rank, view[0].bytes = dtype, value.ndim, value.nbytes
        view[0].dim[:value.ndim] = value.shape
        view[0].data = value.ctypes.data
        return 1

    progress = ON_CALIBRATION(watch.goes_on()) if watch.progress else ON_CALIBRATION()
    data = Calibration(None, ARRAY(array), progress)
    _check(context, library.ml_options_calibrate(handle, data))
    return data


def _add_statistics(context, handle, files):
    for file in [files] if isinstance(files, (str, os.PathLike)) else files:
        _check(context, library.ml_options_statistics(handle, os.fsencode(file)))


def _freeze(context, handle, name, value):
    value = numpy.asarray(value)
    dtype = dtypes.FROM_NUMPY.get(value.dtype)
    if dtype is None:
        raise UnsupportedError(f"input '{name}' has elements of type {value.dtype}", "unsupported")
    value = numpy.ascontiguousarray(value).reshape(value.shape)
    dims = (ctypes.c_int64 * max(value.ndim, 1))(*value.shape)
    _check(context, library.ml_options_freeze(handle, name.encode(), dtype, value.ndim, dims,
                                              value.ctypes.data))
