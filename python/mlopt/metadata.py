"""metadata -- what an ONNX file says of itself, read from its bytes without the onnx package."""
import mmap
import os

# Field numbers of ModelProto, GraphProto and StringStringEntryProto.
_MODEL = {2: "producer_name", 4: "domain", 6: "description"}
_VERSION, _GRAPH, _PROPERTY = 5, 7, 14
_GRAPH_TEXTS = {2: "graph_name", 10: "graph_description"}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class ModelMetadata:
    """The names and texts ONNX Runtime gives; empty where the model does not say."""

    def __init__(self, graph_name=""):
        self.producer_name = ""
        self.graph_name = graph_name
        self.domain = ""
        self.description = ""
        self.graph_description = ""
        self.version = 0
        self.custom_metadata_map = {}


def read(model, graph_name):
    """The metadata of a model that compiled: its path or its bytes."""
    metadata = ModelMetadata(graph_name)
    if not isinstance(model, (str, os.PathLike)):
        _model(metadata, memoryview(model))
    elif not str(model).endswith(".mlt"):
        with open(model, "rb") as file:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                with memoryview(mapped) as data:
                    _model(metadata, data)
    return metadata


def _model(metadata, data):
    for number, value in _fields(data, 0, len(data)):
        if number in _MODEL:
            setattr(metadata, _MODEL[number], _text(data, value))
        elif number == _VERSION:
            metadata.version = value - (1 << 64 if value >> 63 else 0)
        elif number == _GRAPH:
            for inner, text in _fields(data, *value):
                if inner in _GRAPH_TEXTS:
                    setattr(metadata, _GRAPH_TEXTS[inner], _text(data, text))
        elif number == _PROPERTY:
            entry = dict(_fields(data, *value))
            key, text = (_text(data, entry.get(i, (0, 0))) for i in (1, 2))
            metadata.custom_metadata_map[key] = text


def _text(data, span):
    return bytes(data[span[0]:span[1]]).decode(errors="replace")


def _varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not data[at - 1] & 0x80:
            return value, at


def _fields(data, at, end):
    """(number, value) of a message's fields; of bytes and messages the value is (first, end)."""
    while at < end:
        key, at = _varint(data, at)
        kind = key & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
        elif kind == _BYTES:
            size, at = _varint(data, at)
            value, at = (at, at + size), at + size
        else:
            value = None
            at += {_FIXED64: 8, _FIXED32: 4}[kind]
        yield key >> 3, value
