"""backend -- an onnx.backend: prepare(), run_model(), run_node(), supports_device().

Types need fixed ranks, so inputs whose values decide a rank or shape (axes, shape, starts ...) must
be constants.  Which they are the importer says, so a model is compiled in its first run; when it
refuses an input for that reason, the input is frozen to its value, and the model is compiled
again.  It is compiled anew, too, when a later run brings another value for such an input.
"""
import numpy
import onnx
from onnx.backend import base

from .compiler import compile
from .errors import Error, UnsupportedError
from .session import InferenceSession, SessionOptions


class BackendRep(base.BackendRep):
    """A model to be run; compiled in the first run."""

    def __init__(self, model, options):
        initialized = {t.name for t in model.graph.initializer}
        self._bytes = model.SerializeToString()
        self._inputs = [v.name for v in model.graph.input]
        self._required = [n for n in self._inputs if n not in initialized]
        self._outputs = [v.name for v in model.graph.output]
        self._options = dict(options)
        self._freeze = set(self._options.pop("freeze", ()))
        self._frozen = {}
        self._session = None

    def run(self, inputs, **kwargs):
        """Outputs in the model's order, for a list of arrays (inputs without an initializer, in
        order), a dict, or a single array."""
        feed = self._feed(inputs)
        if self._session is None or any(not _same(feed[n], v) for n, v in self._frozen.items()):
            self._compile(feed)
        used = {n: v for n, v in feed.items() if n not in self._frozen}
        outputs = self._session.run(None, used)
        return base.namedtupledict("Outputs", self._outputs)(*outputs)

    def _feed(self, inputs):
        if isinstance(inputs, dict):
            feed = dict(inputs)
        else:
            values = [inputs] if isinstance(inputs, numpy.ndarray) else list(inputs)
            names = self._inputs if len(values) == len(self._inputs) else self._required
            if len(values) != len(names):
                raise ValueError(f"the model has {len(names)} inputs, not {len(values)}")
            feed = dict(zip(names, values))
        for name, value in feed.items():
            if not isinstance(value, (numpy.ndarray, numpy.generic)):
                raise UnsupportedError(f"input '{name}' is no tensor", "unsupported")
        return feed

    def _compile(self, feed):
        """Freezes what the importer asks for, one refusal after the other."""
        frozen = {n: numpy.array(feed[n]) for n in feed if n in self._freeze}
        while True:
            try:
                model = compile(self._bytes, freeze=frozen, **self._options)
                break
            except Error as refusal:
                wanted = [n for n in feed if n not in frozen and f"--freeze {n}=" in str(refusal)]
                if not wanted:
                    raise
                frozen.update((n, numpy.array(feed[n])) for n in wanted)
                self._freeze.update(wanted)
        settings = SessionOptions()
        settings.intra_op_num_threads = self._options.get("threads", 0)
        self._session = InferenceSession(model, settings)
        self._frozen = frozen


def _same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


class Backend(base.Backend):
    """The options of mlopt.compile() may be given to every method.  `threads` is for runs too;
    `freeze` lists inputs to freeze to their values in any case."""

    @classmethod
    def prepare(cls, model, device="CPU", **options):
        return BackendRep(model, options)

    @classmethod
    def run_model(cls, model, inputs, device="CPU", **options):
        return cls.prepare(model, device, **options).run(inputs)

    @classmethod
    def run_node(cls, node, inputs, device="CPU", outputs_info=None, opset_version=None, **options):
        """A model of the one node, whose inputs have the arrays' types and shapes."""
        feed = dict(zip((n for n in node.input if n), inputs))
        values = [onnx.helper.make_tensor_value_info(
            n, onnx.helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for n, v in feed.items()]
        results = [onnx.ValueInfoProto(name=n) for n in node.output if n]
        graph = onnx.helper.make_graph([node], "node", values, results)
        opset = opset_version or onnx.defs.onnx_opset_version()
        model = onnx.helper.make_model(
            graph, opset_imports=[onnx.helper.make_opsetid(node.domain, opset)])
        return cls.run_model(model, feed, device, **options)

    @classmethod
    def supports_device(cls, device):
        return device.split(":")[0] == "CPU"


prepare = Backend.prepare
run_model = Backend.run_model
run_node = Backend.run_node
supports_device = Backend.supports_device
is_compatible = Backend.is_compatible
