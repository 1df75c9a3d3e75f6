"""The key ``warm_start``: training begins with the weights of an earlier model of other data.

Rows of items and users are matched by id, and all other weights are copied. A row that the earlier model
does not have begins with

* the mean of the rows of the known items with the most similar content, where the model uses content and
  the item has some;
* else the mean of all known rows plus the row that the new model has drawn, so that new rows differ.
"""

from __future__ import annotations

from logging import getLogger
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from recbole_disent.build import RunData
from recbole_disent.errors import UserError
from recbole_disent.id_axes import IdAxis, id_axes
from recbole_disent.models.content_embedding import ContentEmbedding, TrainedContentEmbedding
from recbole_disent.parallel import process_group
from recbole_disent.training.checkpoint import plain
from recbole_disent.warm_origin import Origin, read_origin

# Known items whose rows a new item with content begins with.
NEIGHBOURS = 10
# Keys that decide which events there are, and their order. Otherwise, the last events of a user are others.
_ROWS = (
    "TIME_FIELD",
    "time",
    "recbole_time",
    "missing_time",
    "dedupe",
    "min_user",
    "min_item",
    "val_interval",
    "rm_dup_inter",
    "filter_inter_by_user_or_item",
    "user_inter_num_interval",
    "item_inter_num_interval",
    "benchmark_filename",
)
_SAME = 1e-4  # content vectors that differ by less are the same
_RIDGE = 1e-6  # relative to the mean square of a column


def warm_start(data: RunData, model: Any) -> dict[str, Any] | None:
    """Put the weights of the bundle or checkpoint ``warm_start`` into a new model.

    Args:
        data: data of the run.
        model: the new model, which is changed in place.

    Returns:
        The entry ``warm_start`` of the result file; None if the key is not set.

    Raises:
        UserError: the origin is of another model, of other shapes or of another split, or has no weights
            that can be matched.
    """
    config, path = data.config, data.config["warm_start"]
    if path is None:
        return None
    origin = process_group.object_from_first(lambda: read_origin(path))
    dataset = data.loaders[0]._dataset
    _check(config, origin, model, data.data_hash)
    axes = id_axes(config, dataset)
    tokens = {
        "items": dataset.field2id_token[dataset.iid_field],
        "users": dataset.field2id_token[dataset.uid_field],
    }
    rows = {of: _rows_of(_ids_of(origin, of), tokens[of]) for of in {"items", *(a.of for a in axes.values())}}
    if not (rows["items"][1:] > 0).any():
        raise UserError(
            f"warm_start: none of the {len(tokens['items']) - 1} items is among the items of '{path}'; give "
            "the model of an earlier state of this data set"
        )
    # Noise changes the items of training events.
    if origin.data_hash != data.data_hash and not (config["click_noise"] or origin.keys.get("click_noise")):
        # A bundle of a refit counts the validation events too, and its checkpoint does not.
        part = data.train_with_validation() if origin.refit and origin.kind == "bundle" else dataset
        _check_contained(origin, rows["items"], part.training_counts())
    values = _values(origin, model, axes, rows)
    training = model.training
    model.eval()  # a text encoder gives the same vectors each time
    with torch.no_grad():
        state = model.state_dict()
        for name, value in values.items():
            state[name].copy_(value)
        entry = _content(origin, model, rows["items"])
        _new_rows(model, axes, rows)
    model.train(training)  # and a content embedding forgets its table
    process_group.broadcast_model(model)
    found: dict[str, Any] = {
        "path": str(path),
        "digest": origin.digest,
        "dataset": origin.dataset,
        "data_hash": origin.data_hash,
        "refit": origin.refit,
        "items": _counts(rows["items"], origin.items),
        "users": _counts(rows["users"], origin.users) if "users" in rows else None,
        "content": entry,
    }
    logger = getLogger()
    logger.info(f"warm start: {found}")
    if origin.refit:
        same = origin.data_hash == data.data_hash
        known = "this data" if same else "its data, which users without new events still have"
        logger.warning(
            f"warm_start: '{path}' was trained on the validation part of {known} (refit), so that validation "
            "scores are too high; give the checkpoint without .refit in its name"
        )
    return found


def _check(config: Any, origin: Origin, model: Any, data_hash: str) -> None:
    name = config["model"]
    if origin.model != name:
        raise UserError(
            f"warm_start: '{origin.path}' is of the model {origin.model}, expected {name}; name that model "
            "or give another bundle or checkpoint"
        )
    if getattr(config["MODEL_TYPE"], "name", "") in ("TRADITIONAL", "DECISIONTREE"):
        raise UserError(f"warm_start: {name} is computed from the data at once; leave the key out")
    split = {key: origin.keys["eval_args"].get(key) for key in ("split", "order", "group_by")}
    ours = {key: config["eval_args"].get(key) for key in split}
    if split != ours:
        raise UserError(
            f"warm_start: '{origin.path}' was trained with the split {split}, expected {ours}, because it "
            "may know items that are held out here; set the same eval_args"
        )
    kind = next(iter(ours["split"] or {}), None)
    if origin.data_hash != data_hash and (ours["order"] == "RO" or kind == "RS"):
        raise UserError(
            f"warm_start: with the split {ours}, '{origin.path}' may know items that are held out here, "
            "because the training part of other data is not within the training part of these; use LS or TS "
            "in the order of time"
        )
    for key in _ROWS:
        theirs, here = origin.keys.get(key), plain(config[key], key)
        if key in origin.keys and theirs != here:
            raise UserError(
                f"warm_start: '{origin.path}' was trained with {key}={theirs!r}, expected {here!r}, because "
                f"it may know items that are held out here; set the same {key}"
            )
    trained = any(isinstance(module, TrainedContentEmbedding) for module in model.modules())
    if trained and origin.kind == "bundle":
        raise UserError(
            f"warm_start: the bundle '{origin.path}' does not hold the text encoder that content_trainable "
            "trains; give the checkpoint"
        )


def _check_contained(origin: Origin, rows: np.ndarray, clicks: np.ndarray) -> None:
    """Check that the training part here has the training events of the earlier model.

    Args:
        origin: the earlier model.
        rows: int64 (n_items,), row of each item in its tables.
        clicks: int64 (n_items,), training events of each item here, padding included.

    Raises:
        UserError: an item has fewer training events here.
    """
    if origin.clicks is None:
        getLogger().warning(
            f"warm_start: '{origin.path}' does not hold the number of training events of each item, because "
            "an earlier version wrote it: it may know items that are held out here"
        )
        return
    ours = np.zeros_like(origin.clicks)
    known = np.flatnonzero(rows > 0)
    ours[rows[known] - 1] = clicks[known]
    fewer = np.flatnonzero(ours < origin.clicks)
    if len(fewer):
        one = fewer[0]
        raise UserError(
            f"warm_start: the item '{origin.items[one]}' has {ours[one]} training events, expected at least "
            f"{origin.clicks[one]} as for '{origin.path}', which may know items that are held out here; give "
            "data that contain the earlier data, or train from the beginning"
        )


def _ids_of(origin: Origin, of: str) -> list[str]:
    ids = origin.items if of == "items" else origin.users
    if ids is None:
        raise UserError(
            f"warm_start: {origin.model} has a row for each user, but '{origin.path}' knows no users; export "
            "it without --no-histories, or give its checkpoint"
        )
    return ids


def _rows_of(old: list[str], new: Any) -> np.ndarray:
    """Row of each new id in the old table: int64 (n,), 0 for the padding, -1 for an id that is not there."""
    found = pd.Index(old).get_indexer(pd.Index([str(token) for token in new]))
    found = np.where(found >= 0, found + 1, -1)
    found[0] = 0
    return found


def _counts(rows: np.ndarray, old: list[str] | None) -> dict[str, int]:
    known = int((rows[1:] > 0).sum())
    return {"known": known, "new": len(rows) - 1 - known, "gone": len(old or ()) - known}


def _tensors(model: Any, axes: dict[str, IdAxis]) -> dict[str, Tensor]:
    """Tensors that are taken over: all but the buffers of items and users, which follow from the data."""
    buffers = {name for name, _ in model.named_buffers()}
    return {
        name: value
        for name, value in model.state_dict().items()
        if not name.endswith("_extra_state") and not (name in buffers and name in axes)
    }


def _values(
    origin: Origin, model: Any, axes: dict[str, IdAxis], rows: dict[str, np.ndarray]
) -> dict[str, Tensor]:
    """New value of each tensor; new rows have the mean of the known rows plus the row that was drawn."""
    mine = _tensors(model, axes)
    buffers = {name for name, _ in model.named_buffers()} & set(axes)
    settings = {name for name, b in model.named_buffers() if not b.dim() and b.is_floating_point()}
    content = {f"{name}.linear.weight" for name, _ in _contents(model)}
    theirs = {name: value for name, value in origin.weights.items() if name not in buffers}
    hint = f"train it with the keys of '{origin.path}' (its preset among them), or leave warm_start out"
    if set(mine) != set(theirs):
        name = min(set(mine) ^ set(theirs))
        where = "only here" if name in mine else f"only in '{origin.path}'"
        raise UserError(f"warm_start: the model has the weight '{name}' {where}; {hint}")
    found = {}
    for name, value in mine.items():
        old, axis = theirs[name].to(value), axes.get(name)
        shape = list(value.shape)
        if axis is not None:
            shape[axis.dim] = len(_ids_of(origin, axis.of)) + 1 + axis.extra
        if name in content:  # its columns are those of the content, which _content matches
            if old.shape[0] != shape[0]:
                shape[1] = old.shape[1]
            else:
                continue
        if list(old.shape) != shape:
            raise UserError(
                f"warm_start: the weight '{name}' of '{origin.path}' has the shape {list(old.shape)}, "
                f"expected {shape}; {hint}"
            )
        if name in settings and not torch.equal(old, value):
            raise UserError(
                f"warm_start: '{name.split('.')[-1]}' is {old.item():g} in '{origin.path}', expected "
                f"{value.item():g}; {hint}"
            )
        found[name] = old if axis is None else _matched(value, old, axis, rows[axis.of])
    return found


def _matched(value: Tensor, old: Tensor, axis: IdAxis, rows: np.ndarray) -> Tensor:
    drawn, old = value.detach().movedim(axis.dim, 0), old.movedim(axis.dim, 0)
    index = torch.from_numpy(rows).to(old.device)
    ids = old[: len(old) - axis.extra]
    new = ids[1:].mean(0) + drawn[: len(rows)]
    known = (index >= 0).view(-1, *[1] * (old.dim() - 1))
    table = torch.where(known, ids[index.clamp(min=0)], new)
    return torch.cat([table, old[len(ids) :]]).movedim(0, axis.dim)


# -- content ---------------------------------------------------------------------------


def _contents(model: Any) -> list[tuple[str, ContentEmbedding]]:
    return [(name, module) for name, module in model.named_modules() if isinstance(module, ContentEmbedding)]


def _content(origin: Origin, model: Any, rows: np.ndarray) -> dict[str, Any] | None:
    """Take over the projection of the content vectors, or fit it to the new vectors of known items.

    The vectors of `text` and `tokens` change with the texts of all items. The projection of the new vectors
    is then the ridge regression on what the old projection gave to the known items.
    """
    entry = None
    for name, module in _contents(model):
        old = origin.weights[f"{name}.linear.weight"].to(module.linear.weight)
        weight, vectors = module.linear.weight, origin.content
        if isinstance(module, TrainedContentEmbedding) or module.content_hash == origin.content_hash:
            weight.copy_(old)
            entry = {"fitted": False, "error": 0.0}
            continue
        if vectors is None:
            raise UserError(
                f"warm_start: the content of the items has changed since '{origin.path}' was trained, and a "
                "checkpoint does not hold its vectors; export it while its data are there, and give the "
                "bundle"
            )
        known = torch.from_numpy(np.flatnonzero(rows > 0))
        before = vectors[torch.from_numpy(rows)[known]].to(module.matrix)
        after = module.matrix[known.to(module.matrix.device)]
        if before.shape == after.shape and torch.allclose(before, after, atol=_SAME):
            weight.copy_(old)
            entry = {"fitted": False, "error": 0.0}
            continue
        x, y = after.double(), (before @ old.T).double()
        gram = x.T @ x
        ridge = _RIDGE * gram.diagonal().mean().clamp(min=1e-12)
        gram += ridge * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        fitted = torch.linalg.solve(gram, x.T @ y)
        error = float((x @ fitted - y).norm() / y.norm().clamp(min=1e-12))
        weight.copy_(fitted.T)
        getLogger().info(
            f"warm start: the projection of content was fitted, with a relative error of {error:.4f}"
        )
        entry = {"fitted": True, "error": error}
    return entry


def _new_rows(model: Any, axes: dict[str, IdAxis], rows: dict[str, np.ndarray]) -> None:
    """Give new items with content the mean of the rows of the known items with the most similar content."""
    contents = _contents(model)
    if not contents:
        return
    vectors = torch.nn.functional.normalize(contents[0][1].vectors().float(), dim=-1)
    has = vectors.abs().sum(1).cpu().numpy() > 0
    new = torch.from_numpy(np.flatnonzero((rows["items"] < 0) & has)).to(vectors.device)
    known = torch.from_numpy(np.flatnonzero((rows["items"] > 0) & has)).to(vectors.device)
    if not len(new) or not len(known):
        return
    count = min(NEIGHBOURS, len(known))
    nearest = torch.cat([(vectors[part] @ vectors[known].T).topk(count).indices for part in new.split(256)])
    for name, value in _tensors(model, axes).items():
        axis = axes.get(name)
        if axis is not None and axis.of == "items":
            table = value.movedim(axis.dim, 0)
            table[new] = table[known[nearest]].mean(1)
