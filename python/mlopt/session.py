"""session -- InferenceSession: running a model, with the method names of ONNX Runtime."""
import ctypes
import os
import threading

import numpy

from . import dtypes, metadata
from .binding import IOBinding
from .compiler import compile
from .errors import error
from .library import Message, SessionOptionsStruct, View, library
from .model import Model

CPU = "CPUExecutionProvider"


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

    def __setattr__(self, name, value):
        if name != "intra_op_num_threads":
            raise AttributeError(f"no session option '{name}': there is intra_op_num_threads; what "
                                 "concerns the compiler is an argument of InferenceSession (O=3)")
        super().__setattr__(name, value)


class InferenceSession:
    """Runs a model: path of an .onnx file or of an artefact (.so), a model's bytes, or a Model.

    `options` go to compile().  `providers` is accepted because callers of ONNX Runtime give it;
    there is one, without options: the CPU, which must be among them.  Threads may call run() at the
    same time; runs follow one another.
    """

    def __init__(self, model, sess_options=None, providers=None, provider_options=None, **options):
        self.set_providers(providers, provider_options)
        self._settings = sess_options or SessionOptions()
        if hasattr(model, "SerializeToString"):
            model = model.SerializeToString()
        self._model = _model(model, options)
        self._metadata = _metadata(model, self._model)
        self._lock = threading.Lock()
        self._handle = ctypes.c_void_p()
        self._states = {}  # input name: output name
        threads = self._settings.intra_op_num_threads
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

    def get_overridable_initializers(self):
        """None: initializers are constants of the compiled code."""
        return []

    def get_modelmeta(self):
        """What the ONNX file says of itself; of an artefact or a Model, the graph's name only."""
        return self._metadata

    def get_session_options(self):
        return self._settings

    def get_providers(self):
        return [CPU]

    def get_provider_options(self):
        return {CPU: {}}

    def set_providers(self, providers=None, provider_options=None):
        """Accepts lists that hold the CPU, as a name or with empty options."""
        names = [p if isinstance(p, str) else p[0] for p in providers or [CPU]]
        given = [{} if isinstance(p, str) else p[1] for p in providers or [CPU]]
        if CPU not in names:
            raise ValueError(f"no provider of {names}: there is {CPU} only")
        for name, values in zip(names + names, given + list(provider_options or [])):
            if name == CPU and values:
                raise ValueError(f"{CPU} has no option '{next(iter(values))}': it has none")

    def end_profiling(self):
        raise ValueError("sessions do not profile: `mlopt bench MODEL --profile` does")

    def io_binding(self):
        return IOBinding(self)

    def run_with_iobinding(self, iobinding, run_options=None):
        """run() with the inputs and outputs of a binding of this session."""
        _no_run_options(run_options)
        if iobinding._session is not self:
            raise ValueError("the binding is of another session")
        iobinding._run()

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
        _no_run_options(run_options)
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


def _is_artefact(model):
    return isinstance(model, (str, os.PathLike)) and str(model).endswith(".so")


def _model(model, options):
    if options and (_is_artefact(model) or isinstance(model, Model)):
        raise ValueError("the model is compiled already: "
                         f"option '{next(iter(options))}' has no use")
    if isinstance(model, Model):
        return model
    return Model.load(model) if _is_artefact(model) else compile(model, **options)


def _metadata(source, model):
    if _is_artefact(source) or isinstance(source, Model):
        return metadata.ModelMetadata(model.name)
    return metadata.read(source, model.name)


def _no_run_options(run_options):
    if run_options is not None:
        raise ValueError("run_options must be None: a run has no options")
