"""Tensors in safetensors files, and nested values as tensors and JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recbole_disent.errors import UserError
from recbole_disent.files import write_for_user

_MISSING = "bundles need the package 'safetensors': pip install safetensors"
# Behind it stands the name of a tensor that is no weight: no module has such a name.
_MARK = "\0"


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write a safetensors file: complete or not at all.

    Raises:
        UserError: the library is not installed.
    """
    try:
        from safetensors.torch import save
    except ImportError as error:
        raise UserError(_MISSING) from error
    # Copies, because the file format has no place for tensors that share their memory.
    plain = {name: t.detach().cpu().to_dense().contiguous().clone() for name, t in tensors.items()}
    with write_for_user(path) as file:
        file.write(save(plain))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        UserError: the library is not installed, or the file is damaged.
    """
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise UserError(_MISSING) from error
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"'{path.name}' is no safetensors file ({error}); copy the bundle again") from error


def split(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Move the tensors of a nested value into *tensors*; return the rest as JSON values.

    Args:
        value: dicts, lists and tuples of tensors and plain values.
        name: of the value, the beginning of the names of its tensors.
        tensors: gets them.
    """
    if isinstance(value, torch.Tensor):
        tensors[_MARK + name] = value
        return {"tensor": _MARK + name}
    if isinstance(value, dict):
        return {"dict": {str(k): split(v, f"{name}.{k}", tensors) for k, v in value.items()}}
    if isinstance(value, (list, tuple)):
        return {"list": [split(v, f"{name}.{i}", tensors) for i, v in enumerate(value)]}
    return {"value": value}


def join(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Undo :func:`split`."""
    if "tensor" in value:
        return tensors[value["tensor"]]
    if "dict" in value:
        return {k: join(v, tensors) for k, v in value["dict"].items()}
    if "list" in value:
        return [join(v, tensors) for v in value["list"]]
    return value["value"]
