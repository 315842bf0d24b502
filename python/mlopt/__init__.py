"""mlopt -- compiles ONNX models to native code and runs them.

compile() makes a model in memory or an artefact in a file; prune() and distill() make a smaller
model; InferenceSession runs either with the
method names of ONNX Runtime; mlopt.backend is an onnx.backend.
"""
from .binding import IOBinding, OrtValue
from .compiler import compile
from .errors import Error, UnsupportedError
from .metadata import ModelMetadata
from .model import Model
from .session import InferenceSession, NodeArg, SessionOptions
from .student import distill, prune

__all__ = ["compile", "Error", "IOBinding", "InferenceSession", "Model", "ModelMetadata", "NodeArg",
           "OrtValue", "SessionOptions", "UnsupportedError", "distill", "prune"]
