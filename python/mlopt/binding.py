"""binding -- IOBinding and OrtValue: inputs and outputs given before a run, as in ONNX Runtime."""
import ctypes

import numpy


class OrtValue:
    """An array in memory of the CPU."""

    def __init__(self, array):
        self._array = array

    @staticmethod
    def ortvalue_from_numpy(array, device_type="cpu", device_id=0):
        _on_cpu(device_type, device_id)
        return OrtValue(numpy.asarray(array))

    def numpy(self):
        return self._array

    def shape(self):
        return list(self._array.shape)

    def element_type_numpy(self):
        return self._array.dtype

    def data_ptr(self):
        return self._array.ctypes.data

    def device_name(self):
        return "cpu"


class IOBinding:
    """Inputs and outputs of a session's runs; made by InferenceSession.io_binding().

    An input is read in each run, from where it was bound.  An output is a new array in each run, or
    is written where it was bound, which must have its type and shape.
    """

    def __init__(self, session):
        self._session = session
        self._types = {}
        for kind, tensors in (("input", session._model.inputs), ("output", session._model.outputs)):
            self._types[kind] = {t.name: t for t in tensors}
        self._inputs = {}
        self._outputs = {}  # name: the caller's array or None
        self._results = []

    def bind_cpu_input(self, name, arr_on_cpu):
        self._known("input", name)
        self._inputs[name] = numpy.asarray(arr_on_cpu)

    def bind_ortvalue_input(self, name, ortvalue):
        self.bind_cpu_input(name, ortvalue.numpy())

    def bind_input(self, name, device_type, device_id, element_type, shape, buffer_ptr):
        _on_cpu(device_type, device_id)
        self.bind_cpu_input(name, _at(buffer_ptr, element_type, shape))

    def bind_output(self, name, device_type="cpu", device_id=0, element_type=None, shape=None,
                    buffer_ptr=None):
        _on_cpu(device_type, device_id)
        self._known("output", name)
        if buffer_ptr is None:
            self._outputs[name] = None
        elif element_type is None or shape is None:
            raise ValueError(f"output '{name}' has a buffer but no element_type or no shape")
        else:
            self._outputs[name] = _at(buffer_ptr, element_type, shape)

    def bind_ortvalue_output(self, name, ortvalue):
        self._known("output", name)
        self._outputs[name] = ortvalue.numpy()

    def get_outputs(self):
        """An OrtValue for each bound output of the last run, in the order they were bound."""
        return [OrtValue(array) for array in self._results]

    def copy_outputs_to_cpu(self):
        return [array.copy() for array in self._results]

    def clear_binding_inputs(self):
        self._inputs.clear()

    def clear_binding_outputs(self):
        self._outputs.clear()
        self._results = []

    def synchronize_inputs(self):
        """Nothing to wait for on a CPU."""

    def synchronize_outputs(self):
        """Nothing to wait for on a CPU."""

    def _known(self, kind, name):
        if name not in self._types[kind]:
            raise ValueError(f"the model has no {kind} '{name}'; it has {list(self._types[kind])}")

    def _run(self):
        if not self._outputs:
            raise ValueError("no output is bound: call bind_output()")
        for name in self._outputs:
            if name in self._session._states.values():
                raise ValueError(f"output '{name}' is a state: it stays in the session")
        values = self._session.run(list(self._outputs), self._inputs)
        results = []
        for (name, place), value in zip(self._outputs.items(), values):
            if place is not None:
                if (place.dtype, place.shape) != (value.dtype, value.shape):
                    raise ValueError(f"output '{name}' is {value.dtype}{list(value.shape)}, but "
                                     f"was bound to {place.dtype}{list(place.shape)}")
                place[...] = value
            results.append(value if place is None else place)
        self._results = results


def _on_cpu(device_type, device_id):
    if device_type != "cpu" or device_id != 0:
        raise ValueError(f"no device '{device_type}' {device_id}: there is 'cpu' 0 only")


def _at(address, element_type, shape):
    """The caller's memory as an array."""
    dtype = numpy.dtype(element_type)
    size = dtype.itemsize
    for dim in shape:
        size *= dim
    memory = (ctypes.c_char * size).from_address(address)
    return numpy.frombuffer(memory, dtype).reshape(shape)
