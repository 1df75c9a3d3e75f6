"""What a warm start takes from a bundle or a checkpoint. Nothing in them is unpickled or executed."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from recbole_disent.errors import UserError
from recbole_disent.hashing import file_digest
from recbole_disent.serving import id_tables
from recbole_disent.serving.bundle_files import CONFIG, verified
from recbole_disent.serving.tensors import read_tensors
from recbole_disent.training import checkpoint


@dataclass
class Origin:
    """An earlier model and the ids that its rows belong to.

    Attributes:
        path: as the user gave it.
        kind: ``bundle`` or ``checkpoint``.
        model, dataset, data_hash: what was trained, and on what.
        keys: configuration of its training.
        refit: whether it was trained on the validation part as well.
        digest: SHA-256 of ``config.json`` of a bundle, or of the checkpoint.
        weights: tensors by name.
        items, users: external ids in the order of the rows, without the padding; None: not known.
        clicks: int64 (n_items,), training events of each item, without the padding; None: not known.
        content: float (n_items, F), content vectors that it was trained with, padding included; None for a
            checkpoint, and for a model without content.
        content_hash: digest of the sources of the content, or None.
    """

    path: str
    kind: str
    model: str
    dataset: str
    data_hash: str | None
    keys: dict[str, Any]
    refit: bool
    digest: str
    weights: dict[str, Tensor]
    items: list[str]
    users: list[str] | None
    clicks: np.ndarray | None
    content: Tensor | None
    content_hash: str | None


def read_origin(path: str) -> Origin:
    """Read a bundle (a folder) or a checkpoint (a file).

    Raises:
        UserError: neither of both, or a damaged one, or one without item ids.
    """
    try:
        origin = _of_bundle(path) if os.path.isdir(path) else _of_checkpoint(path)
        _check_ids(origin)
    except UserError:
        raise
    except Exception as error:  # a file may hold any value in place of ids or weights
        raise UserError(
            f"warm_start: '{path}' is damaged ({type(error).__name__}: {error}); export it again, or train "
            "again"
        ) from error
    return origin


def _check_ids(origin: Origin) -> None:
    """Raise ValueError if ids and tables of an origin contradict each other."""
    for ids in (origin.items, origin.users):
        if ids is not None and (len(set(ids)) < len(ids) or not all(isinstance(i, str) for i in ids)):
            raise ValueError("ids are repeated or are no texts")
    if not all(isinstance(value, Tensor) for value in origin.weights.values()):
        raise ValueError("a weight is no tensor")
    if origin.content is not None and len(origin.content) != len(origin.items) + 1:
        raise ValueError("the vectors of content are those of other items")
    if origin.clicks is not None and origin.clicks.shape != (len(origin.items),):
        raise ValueError("the numbers of training events are those of other items")
    if not isinstance(origin.keys.get("eval_args"), dict):
        raise ValueError("its configuration has no eval_args")


def _of_bundle(path: str) -> Origin:
    folder = Path(path)
    described = verified(folder)
    tensors = read_tensors(folder / "model.safetensors")
    items = id_tables.read(folder, "items", described["files"])
    users = id_tables.read(folder, "users", described["files"])
    keys = described["config"]
    if items is None or "item" not in items or not isinstance(keys.get("model"), str):
        raise UserError(f"warm_start: the bundle '{path}' has no table of items; export it again")
    return Origin(
        path,
        "bundle",
        keys["model"],
        str(described.get("dataset")),
        described.get("data_hash"),
        keys,
        # The key is also in a bundle of the first training of its run; older bundles have nothing else.
        bool(described.get("refit", keys.get("refit"))),
        file_digest(folder / CONFIG),
        {name: value for name, value in tensors.items() if "\0" not in name},
        [str(item) for item in items["item"]],
        None if users is None else [str(user) for user in users["user"]],
        np.array(items["clicks"], np.int64) if "clicks" in items else None,
        read_tensors(folder / "data.safetensors").get("content"),
        described.get("content_hash"),
    )


def _of_checkpoint(path: str) -> Origin:
    state = checkpoint.load(path)
    ids = state.get("ids")
    if not isinstance(ids, dict) or not {"items", "users"} <= set(ids):
        raise UserError(
            f"warm_start: the checkpoint '{path}' holds no item ids, because an earlier version wrote it; "
            "export it while its data are there, and give the bundle"
        )
    config = state["config"]
    weights, code = {}, None
    for name, value in state["state_dict"].items():
        if name.endswith("_extra_state"):
            code = bytes(value[:8].tolist()).hex()  # see ContentEmbedding.get_extra_state
        else:
            weights[name] = value
    return Origin(
        path,
        "checkpoint",
        config["model"],
        config["dataset"],
        state["data_hash"],
        config,
        bool(state.get("refit")),
        file_digest(path),
        weights,
        json.loads(ids["items"]),
        json.loads(ids["users"]),
        np.array(json.loads(ids["clicks"]), np.int64) if "clicks" in ids else None,
        None,
        code,
    )
