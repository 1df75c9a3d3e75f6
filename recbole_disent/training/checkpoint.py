"""Checkpoints are data: tensors and plain values, read with ``weights_only=True``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any

import numpy as np
import torch
from scipy import sparse

from recbole_disent.errors import UserError
from recbole_disent.files import write_atomically

_SPARSE = "sparse matrix (csr)"


def plain(value: Any, name: str = "state") -> Any:
    """Turn a value into tensors and plain Python values.

    Args:
        value: nested dicts, lists and tuples of numbers, strings, None, tensors, numpy
            arrays, enums, devices and scipy sparse matrices.
        name: name of the value in an error.

    Raises:
        TypeError: a value cannot be stored as data.
    """
    if isinstance(value, np.generic):  # first, because np.float64 is also a float
        return value.item()
    if value is None or isinstance(value, (bool, int, float, str, torch.Tensor)):
        return value
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, (torch.device, torch.dtype)):
        return str(value)
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(value))
    if sparse.issparse(value):
        matrix = value.tocsr()
        parts = [plain(a) for a in (matrix.data, matrix.indices, matrix.indptr)]
        return {_SPARSE: parts, "shape": list(matrix.shape)}
    if isinstance(value, dict):
        return {k: plain(v, f"{name}[{k!r}]") for k, v in value.items()}
    if isinstance(value, (list, tuple, set)):
        return type(value)(plain(v, f"{name}[{i}]") for i, v in enumerate(value))
    raise TypeError(f"{name}: a {type(value).__name__} cannot be stored in a checkpoint as data")


def restored(value: Any, device: Any) -> Any:
    """Undo what :func:`plain` did to sparse matrices; put tensors on *device*.

    Raises:
        ValueError: a sparse matrix has an index outside of it.
    """
    if isinstance(value, dict):
        if _SPARSE in value:
            data, indices, indptr = (part.cpu().numpy() for part in value[_SPARSE])
            matrix = sparse.csr_matrix((data, indices, indptr), shape=tuple(value["shape"]))
            matrix.check_format(full_check=True)  # scipy reads at any index, even outside of the arrays
            return matrix
        return {k: restored(v, device) for k, v in value.items()}
    return value.to(device) if isinstance(value, torch.Tensor) else value


def load_into(model: Any, state: dict[str, Any], device: Any) -> None:
    """Put the weights and other parameters of a checkpoint into a model.

    Raises:
        UserError: the model has other parameters than the checkpoint, or parameters of other shapes.
    """
    try:
        model.load_state_dict(state["state_dict"])
        model.load_other_parameter(restored(state.get("other_parameter"), device))
    except UserError:
        raise
    except Exception as error:  # a checkpoint may hold any value in place of a parameter
        raise UserError(
            "the checkpoint does not fit the model: its parameters have other names or shapes; load it with "
            "the keys and the version of recbole_disent that wrote it"
        ) from error


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Turn any exception of a block that takes values from a checkpoint into a UserError."""
    try:
        yield
    except Exception as error:  # a damaged file may hold any value
        raise UserError(
            f"resume_file: '{path}' is damaged: the progress, the optimiser or the random states in it "
            f"cannot be used ({type(error).__name__}), or another version of recbole_disent wrote it; give "
            "another checkpoint, or train again"
        ) from error


def check_shapes(optimizer: torch.optim.Optimizer) -> None:
    """Raise ValueError if a tensor in the optimiser's state has another shape than its parameter."""
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, torch.Tensor) and value.dim() and value.shape != parameter.shape:
                raise ValueError(f"{name}: {tuple(value.shape)}, expected {tuple(parameter.shape)}")


def save(path: str, state: dict[str, Any]) -> None:
    """Write a checkpoint; after a failure no incomplete file is left.

    Raises:
        TypeError: the state holds a value that cannot be stored as data.
    """
    with write_atomically(path) as file:
        torch.save(plain(state), file)


def load(path: str, device: Any = "cpu") -> dict[str, Any]:
    """Read a checkpoint. Nothing in it is executed.

    Raises:
        UserError: the file does not exist, is not a checkpoint, or holds code.
    """
    if str(path).endswith(".json"):
        raise UserError(f"checkpoint '{path}' is a JSON file; give the .pth file that a result file names")
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise UserError(f"checkpoint '{path}': {error.strerror}") from error
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # damaged bytes can make the reader raise any exception
        raise UserError(
            f"checkpoint '{path}' is not a checkpoint of this package (it is damaged, or it is a pickle of "
            "other software, which is not read for safety); train again or give another file"
        ) from error
    if not isinstance(state, dict) or "state_dict" not in state:
        raise UserError(f"checkpoint '{path}' holds no model; give a .pth file that a run saved")
    config = state.get("config")
    named = isinstance(config, dict) and all(isinstance(config.get(k), str) for k in ("model", "dataset"))
    digest = state.get("data_hash", 0)
    if not (named and isinstance(state.get("given"), dict) and (digest is None or isinstance(digest, str))):
        raise UserError(
            f"checkpoint '{path}' is damaged: its configuration is missing; give another checkpoint, or "
            "train again"
        )
    return state


def config_to_dict(config: Any) -> dict[str, Any]:
    """Return all keys of a configuration as plain values."""
    return {key: plain(value, key) for key, value in config.final_config_dict.items()}


def require_same_data(
    state: dict[str, Any], path: str, model: str, data_hash: str | None, feature_hash: str | None
) -> None:
    """Check that a checkpoint belongs to this model and to this data.

    Raises:
        UserError: the checkpoint belongs to another model or to other data.
    """
    theirs = state["config"]["model"]
    if theirs != model:
        raise UserError(
            f"checkpoint '{path}' belongs to the model {theirs}, expected {model}; name that model or give "
            "another checkpoint"
        )
    if None not in (data_hash, state["data_hash"]) and state["data_hash"] != data_hash:
        raise UserError(
            f"checkpoint '{path}' was trained on other data or another split (data hash "
            f"{state['data_hash']}, here {data_hash}); use the same files, filters and eval_args"
        )
    features = state.get("feature_hash")  # older checkpoints have none
    if None not in (feature_hash, features) and features != feature_hash:
        raise UserError(
            f"checkpoint '{path}' was trained with other selected_features (hash {features}, here "
            f"{feature_hash}), such as rows of the .item file in another order; use the same file"
        )
