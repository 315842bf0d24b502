"""session -- InferenceSession: running a model, with the method names of ONNX Runtime."""
import ctypes
import os
import threading

import numpy

from . import dtypes
from .compiler import compile
from .errors import error
from .library import Message, SessionOptionsStruct, View, library
from .model import Model


class NodeArg:
    """What an input or output is: name, type ("tensor(float)"), shape of numbers and texts."""

    def __init__(self, tensor):
        self.name = tensor.name
        self.type = dtypes.ORT_NAME[tensor.dtype]
        self.shape = list(tensor.shape)

    def __repr__(self):
        return f"NodeArg(name={self.name!r}, type={self.type!r}, shape={self.shape})"


class SessionOptions:
    """intra_op_num_threads: 0 = as many as CPUs this process may use."""

    def __init__(self):
        self.intra_op_num_threads = 0


class InferenceSession:
    """Runs a model: path of an .onnx file or of an artefact (.so), a model's bytes, or a Model.

    `options` go to compile().  `providers` is accepted because callers of ONNX Runtime give it;
    there is one: the CPU.  Threads may call run() at the same time; runs follow one another.
    """

    def __init__(self, model, sess_options=None, providers=None, **options):
        self._model = _model(model, options)
        self._lock = threading.Lock()
        self._handle = ctypes.c_void_p()
        self._states = {}  # input name: output name
        threads = sess_options.intra_op_num_threads if sess_options else 0
        settings, why = SessionOptionsStruct(threads=threads), Message()
        status = library.ml_session_new(self._model._handle, settings, self._handle, why)
        if status:
            raise error(library, status, why.text.decode(errors="replace"))

    def __del__(self):
        if library and getattr(self, "_handle", None):
            library.ml_session_free(self._handle)

    def get_inputs(self):
        return [NodeArg(t) for t in self._model.inputs]

    def get_outputs(self):
        return [NodeArg(t) for t in self._model.outputs]

    def get_providers(self):
        return ["CPUExecutionProvider"]

    def bind_state(self, input_name, output_name):
        """Keeps the output in the session as the input of the next run, as a decoder's keys and
        values are; run() then takes a first value at most, and returns None for the output."""
        self._check(library.ml_session_bind_state(self._handle, input_name.encode(),
                                                  output_name.encode()))
        self._states[input_name] = output_name

    def reset_states(self):
        """All states are as before the first run."""
        library.ml_session_reset_states(self._handle)

    def state(self, input_name):
        """A copy of what the next run finds in this input."""
        i = [t.name for t in self._model.inputs].index(input_name)
        view = View()
        if library.ml_session_state(self._handle, i, view):
            raise ValueError(f"input '{input_name}' has no state yet")
        array = numpy.empty(view.dim[:view.rank], dtypes.to_numpy(view.dtype))
        self._check(library.ml_session_copy_state(self._handle, i, array.ctypes.data,
                                                  array.nbytes))
        return array

    def run(self, output_names, input_feed, run_options=None):
        """Outputs as new NumPy arrays, in the order of output_names (None: all).

        input_feed: {input name: array of the input's type}.  Raises ValueError for names the model
        does not have, TypeError for arrays of another type, Error with the library's message.
        """
        wanted = self._wanted(output_names)
        arrays = self._arrays(input_feed)
        with self._lock:
            for i, array in enumerate(arrays):
                if array is None:
                    continue
                dims = (ctypes.c_int64 * max(array.ndim, 1))(*array.shape)
                self._check(library.ml_session_set_input(self._handle, i, array.ctypes.data, dims,
                                                         array.ndim))
            self._check(library.ml_session_run(self._handle))
            return [self._output(i) for i in wanted]

    def _check(self, status):
        if status:
            text = library.ml_session_message(self._handle)
            raise error(library, status, text.decode(errors="replace"))

    def _wanted(self, names):
        known = [t.name for t in self._model.outputs]
        if names is None:
            return range(len(known))
        for name in names:
            if name not in known:
                raise ValueError(f"the model has no output '{name}'; it has {known}")
        return [known.index(name) for name in names]

    def _arrays(self, feed):
        known = {t.name for t in self._model.inputs}
        for name in feed:
            if name not in known:
                raise ValueError(f"the model has no input '{name}'; it has {sorted(known)}")
        arrays = []
        for tensor in self._model.inputs:
            if tensor.name not in feed and tensor.name in self._states:
                arrays.append(None)
                continue
            if tensor.name not in feed:
                raise ValueError(f"input '{tensor.name}' is missing")
            array = numpy.asarray(feed[tensor.name])
            if array.dtype != tensor.numpy_dtype:
                raise TypeError(f"input '{tensor.name}' is of type {tensor.numpy_dtype}, "
                                f"not {array.dtype}")
            arrays.append(numpy.ascontiguousarray(array).reshape(array.shape))
        return arrays

    def _output(self, i):
        if self._model.outputs[i].name in self._states.values():
            return None
        view = View()
        self._check(library.ml_session_output(self._handle, i, view))
        array = numpy.empty(view.dim[:view.rank], dtypes.to_numpy(view.dtype))
        if array.nbytes:
            ctypes.memmove(array.ctypes.data, view.data, array.nbytes)
        return array


def _model(model, options):
    if isinstance(model, Model):
        return model
    if isinstance(model, (str, os.PathLike)) and str(model).endswith(".so"):
        return Model.load(model)
    return compile(model, **options)
