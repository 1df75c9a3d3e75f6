"""One copy of the data for all processes of a machine.

The first process prepares the data and writes the arrays one after another into a file of a private
folder. All processes map this file. Mapped pages are shared until a process writes to them.

The rest of the objects is pickled, only between the processes of one run. No other user can write to
the folder, which is deleted when all processes have read it. No file that a user gives is unpickled.
"""

from __future__ import annotations

import mmap
import os
import pickle
import shutil
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from recbole_disent.parallel import process_group

_ALIGNMENT = 64
# Arrays of fewer bytes stay inside the pickle.
_LEAST = 4096


class _Pickler(pickle.Pickler):
    """Puts the memory of arrays and tensors into a file; leaves out the configuration."""

    def __init__(self, text: Any, arrays: Any, config: Any) -> None:
        self._arrays, self._config = arrays, config
        self.ranges: list[tuple[int, int]] = []
        super().__init__(text, protocol=5, buffer_callback=self._put)

    def _put(self, buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < _LEAST:
            return True  # inside the pickle
        self._arrays.seek(-self._arrays.tell() % _ALIGNMENT, os.SEEK_CUR)
        self.ranges.append((self._arrays.tell(), raw.nbytes))
        self._arrays.write(raw)
        return False

    def persistent_id(self, value: Any) -> str | None:
        return "config" if value is self._config else None

    def reducer_override(self, value: Any) -> Any:
        if type(value) is torch.Tensor and value.device.type == "cpu" and not value.requires_grad:
            return torch.from_numpy, (value.contiguous().numpy(),)
        return NotImplemented


class _Unpickler(pickle.Unpickler):
    def __init__(self, text: Any, buffers: Any, config: Any) -> None:
        self._config = config
        super().__init__(text, buffers=buffers)

    def persistent_load(self, name: Any) -> Any:
        return self._config


def write(folder: str, value: Any, config: Any) -> None:
    """Write *value* into *folder* and leave out every reference to *config*."""
    with (
        open(os.path.join(folder, "arrays"), "wb") as arrays,
        open(os.path.join(folder, "rest"), "wb") as rest,
    ):
        pickler = _Pickler(rest, arrays, config)
        pickler.dump(value)
        arrays.write(b"\0")  # an empty file cannot be mapped
    with open(os.path.join(folder, "ranges"), "wb") as file:
        np.save(file, np.array(pickler.ranges, dtype=np.int64).reshape(-1, 2), allow_pickle=False)


def read(folder: str, config: Any) -> Any:
    """Return the value of :func:`write`. Its arrays are mapped; changes to them stay in this process."""
    with open(os.path.join(folder, "arrays"), "rb") as file:
        memory = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    ranges = np.load(os.path.join(folder, "ranges"), allow_pickle=False).tolist()
    with open(os.path.join(folder, "rest"), "rb") as rest:
        return _Unpickler(rest, [memory[begin : begin + size] for begin, size in ranges], config).load()


def build_once_per_node(
    make: Callable[[], tuple[Any, str | None]], config: Any, read_stored: Callable[[str, Any], Any]
) -> Any:
    """Call *make* in the first process of this machine and return its value in all processes.

    Args:
        make: a function without arguments. It returns the value and the folder of a stored copy of the
            value, or None if there is no such copy.
        config: the configuration; each process keeps its own.
        read_stored: a function from the folder and the configuration to the value.
    """
    if not process_group.active():
        return make()[0]
    own, stored, private = "", None, ""
    try:
        if process_group.local_rank() == 0:
            value, stored = make()
            if stored is None:
                private = tempfile.mkdtemp(prefix="recbole_disent-data-")
                write(private, value, config)
            own = stored or private
            del value  # this process maps the memory as well
        # The folder of this machine is the last folder of the processes up to this one.
        folders = process_group.all_objects((own, stored is not None))
        folder, is_stored = next(f for f in reversed(folders[: process_group.rank() + 1]) if f[0])
        value = read_stored(folder, config) if is_stored else read(folder, config)
        process_group.barrier()  # all have mapped the file; a mapping stays valid after deletion
        return value
    finally:
        if private:
            shutil.rmtree(private, ignore_errors=True)
