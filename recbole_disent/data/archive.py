"""Storage of prepared data as JSON and ``.npy`` files, which can be read without running any code of theirs.

A value is a graph of objects. ``graph.json`` lists the objects, and an object refers to another by its
number, so that objects and arrays which two parts of a data set share are stored once. Only the types that
prepared data consist of can be stored: plain values, containers, arrays, tensors, and the classes in
``_CLASSES``.
"""

from __future__ import annotations

import json
import os
import zlib
from collections import defaultdict
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.utils import FeatureSource, FeatureType

from recbole_disent.data.dataset import SequenceDataset
from recbole_disent.data.ids import TokenIds
from recbole_disent.data.interactions import InteractionDataset
from recbole_disent.data.lazy_interaction import LazyInteraction
from recbole_disent.data.reading import ReadingLog
from recbole_disent.data.store import SequenceStore
from recbole_disent.data.times import TimeTies

GRAPH = "graph.json"
_CLASSES: dict[str, type] = {
    kind.__name__: kind
    for kind in (SequenceDataset, InteractionDataset, SequenceStore, LazyInteraction, Interaction, ReadingLog,
                 TimeTies)
}  # fmt: skip
_ENUMS: dict[str, Any] = {kind.__name__: kind for kind in (FeatureType, FeatureSource)}
_PLAIN = (type(None), bool, int, float, str)
# Smaller arrays are read into memory, larger arrays are mapped.
_MAPPED = 2**16
_CHUNK = 2**20


class NotStorable(Exception):
    """A value has a type that cannot be stored."""


class Damaged(Exception):
    """A stored value is incomplete or was changed."""


def write(folder: str, value: Any, outside: dict[str, Any]) -> None:
    """Write a value to a folder.

    Args:
        folder: an existing, empty folder.
        value: the value.
        outside: objects that are not stored, such as the configuration; :func:`read` gets them again.

    Raises:
        NotStorable: the value contains an object of another type.
    """
    writer = _Writer(folder, outside)
    root = writer.encode(value)
    graph = {"root": root, "nodes": writer.nodes, "arrays": writer.arrays}
    text = json.dumps(graph)
    with open(os.path.join(folder, GRAPH), "w", encoding="utf-8") as file:
        file.write(f"{zlib.crc32(text.encode())}\n{text}")


def read(folder: str, outside: dict[str, Any]) -> Any:
    """Return the value in a folder; its arrays are mapped, and changes to them stay in this process.

    Args:
        folder: folder of :func:`write`.
        outside: see :func:`write`.

    Raises:
        Damaged: a file is missing, incomplete or changed.
    """
    try:
        with open(os.path.join(folder, GRAPH), encoding="utf-8") as file:
            check, _, text = file.read().partition("\n")
        if check != str(zlib.crc32(text.encode())):
            raise Damaged(f"{GRAPH} is incomplete or was changed")
        graph = json.loads(text)
        arrays = [_read_array(folder, number, sum_) for number, sum_ in enumerate(graph["arrays"])]
        return _Reader(graph["nodes"], arrays, outside).decode(graph["root"])
    except (OSError, EOFError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise Damaged(str(error)) from error


class _Writer:
    def __init__(self, folder: str, outside: dict[str, Any]) -> None:
        self.folder = folder
        self.outside = {id(value): name for name, value in outside.items()}
        self.nodes: list[Any] = []
        self.arrays: list[int] = []
        self._numbers: dict[int, int] = {}
        self._memory: dict[Any, int] = {}
        self._alive: list[Any] = []  # the id of an object is unique only while the object exists

    def encode(self, value: Any) -> Any:
        """Return a plain value as it is, and any other value as a list with the number of its node."""
        if type(value) in _PLAIN:
            return value
        number = self._numbers.get(id(value))
        if number is None:
            number = self._numbers[id(value)] = len(self.nodes)
            self._alive.append(value)
            self.nodes.append(None)
            self.nodes[number] = self._node(value)
        return [number]

    def _node(self, value: Any) -> list[Any]:
        kind = type(value)
        if id(value) in self.outside:
            return ["outside", self.outside[id(value)]]
        if kind in (list, tuple, set):
            return [kind.__name__, [self.encode(each) for each in value]]
        if kind is dict or (kind is defaultdict and value.default_factory is int):
            return [kind.__name__, [[self.encode(k), self.encode(v)] for k, v in value.items()]]
        if kind is TokenIds:
            return ["TokenIds", self.encode(value.tokens)]
        if kind.__name__ in _ENUMS and kind is _ENUMS[kind.__name__]:
            return [kind.__name__, value.name]
        if kind is torch.Tensor and value.device.type == "cpu" and not value.requires_grad:
            return ["tensor", self._array(value.numpy())]
        if kind is np.ndarray and value.dtype == object:
            return ["objects", [list(value.shape), [self.encode(each) for each in value.ravel()]]]
        if kind is np.ndarray:
            return ["array", self._array(value)]
        if kind is np.str_:
            return ["str_", str(value)]
        if isinstance(value, np.generic):
            return ["scalar", self._array(np.asarray(value))]
        if kind is _CLASSES.get(kind.__name__):
            return [kind.__name__, [[k, self.encode(v)] for k, v in vars(value).items()]]
        raise NotStorable(kind.__name__)

    def _array(self, array: np.ndarray) -> int:
        """Write an array, unless another name of its memory is written already; return its number."""
        if array.dtype.kind not in "biufU":
            raise NotStorable(f"array of {array.dtype}")
        place = array.__array_interface__["data"][0], array.shape, array.strides, array.dtype.str
        if array.size and place in self._memory:
            return self._memory[place]
        number = self._memory[place] = len(self.arrays)
        array = np.ascontiguousarray(array).reshape(array.shape)
        self._alive.append(array)
        with open(_path(self.folder, number), "wb") as file:
            np.save(file, array, allow_pickle=False)
        self.arrays.append(_checksum(array))
        return number


class _Reader:
    def __init__(self, nodes: list[Any], arrays: list[np.ndarray], outside: dict[str, Any]) -> None:
        self.nodes, self.arrays, self.outside = nodes, arrays, outside
        self._made: dict[int, Any] = {}

    def decode(self, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        number = value[0]
        if number not in self._made:
            kind, content = self.nodes[number]
            self._made[number] = self._start(kind)
            self._made[number] = self._finish(kind, content, self._made[number])
        return self._made[number]

    def _start(self, kind: str) -> Any:
        """Return a container or an object without its content, so that its content can refer to it."""
        if kind in _CLASSES:
            return object.__new__(_CLASSES[kind])
        if kind == "defaultdict":
            return defaultdict(int)
        return {"list": list, "set": set, "dict": dict}.get(kind, lambda: None)()

    def _finish(self, kind: str, content: Any, made: Any) -> Any:
        if kind == "outside":
            return self.outside[content]
        if kind == "array":
            return self.arrays[content]
        if kind == "tensor":
            return torch.from_numpy(self.arrays[content])
        if kind == "scalar":
            return self.arrays[content][()]
        if kind == "str_":
            return np.str_(content)
        if kind in _ENUMS:
            return _ENUMS[kind][content]
        if kind == "tuple":
            return tuple(self.decode(each) for each in content)
        if kind == "TokenIds":
            return TokenIds(self.decode(content))
        if kind == "objects":
            shape, values = content
            array = np.empty(len(values), dtype=object)
            array[:] = [self.decode(each) for each in values]
            return array.reshape(shape)
        if kind == "list":
            made.extend(self.decode(each) for each in content)
        elif kind == "set":
            made.update(self.decode(each) for each in content)
        elif kind in ("dict", "defaultdict"):
            made.update((self.decode(k), self.decode(v)) for k, v in content)
        elif kind in _CLASSES:
            vars(made).update((k, self.decode(v)) for k, v in content)
        else:
            raise Damaged(f"unknown kind {kind!r}")
        return made


def _read_array(folder: str, number: int, checksum: int) -> np.ndarray:
    path = _path(folder, number)
    mapped = os.path.getsize(path) >= _MAPPED
    array = np.load(path, mmap_mode="c" if mapped else None, allow_pickle=False)
    found = _checksum_of_file(path, array) if mapped else _checksum(array)
    if found != checksum:
        raise Damaged(f"{os.path.basename(path)} was changed")
    return np.asarray(array)


def _path(folder: str, number: int) -> str:
    return os.path.join(folder, f"{number}.npy")


def _checksum(array: np.ndarray) -> int:
    content: Any = array.reshape(-1).view(np.uint8) if array.size else b""
    return zlib.crc32(content, _checksum_of_shape(array))


def _checksum_of_file(path: str, array: np.memmap) -> int:
    """Return the checksum of a mapped array without bringing the pages of the array into this process."""
    found = _checksum_of_shape(array)
    with open(path, "rb") as file:
        file.seek(array.offset)
        while chunk := file.read(_CHUNK):
            found = zlib.crc32(chunk, found)
    return found


def _checksum_of_shape(array: np.ndarray) -> int:
    return zlib.crc32(f"{array.dtype.str} {array.shape}".encode())
