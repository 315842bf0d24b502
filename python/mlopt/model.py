"""model -- compiled models, in memory or loaded from artefacts."""
import ctypes
import os

from . import dtypes
from .errors import error
from .library import Message, library


class Tensor:
    """An input or output: name, dtype (number in types.def), shape of numbers and texts."""

    def __init__(self, info):
        self.name = info.name.decode()
        self.dtype = info.dtype
        sizes = [info.dim[i].decode() for i in range(info.rank)]
        self.shape = [int(s) if s.lstrip("-").isdigit() else s for s in sizes]

    @property
    def numpy_dtype(self):
        return dtypes.to_numpy(self.dtype)


class Model:
    """A compiled model, which never changes: any number of sessions may run it."""

    def __init__(self, handle):
        self._handle = handle
        info = library.ml_model_describe(handle).contents
        self.name = info.name.decode()
        self.signature = info.signature.decode()
        self.inputs = [Tensor(info.input[i]) for i in range(info.ninputs)]
        self.outputs = [Tensor(info.output[i]) for i in range(info.noutputs)]

    @classmethod
    def load(cls, path):
        """Loads an artefact made with `emit="so"`."""
        handle, why = ctypes.c_void_p(), Message()
        status = library.ml_model_load(os.fsencode(path), None, handle, why)
        if status:
            raise error(library, status, why.text.decode(errors="replace"))
        return cls(handle)

    def __del__(self):
        if library and getattr(self, "_handle", None):
            library.ml_model_free(self._handle)
