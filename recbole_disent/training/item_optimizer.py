"""The key ``item_optimizer``: whether a run updates tables densely or at the rows of each step only."""

from __future__ import annotations

from logging import getLogger
from typing import Any

import torch
from torch import nn

from recbole_disent.errors import UserError
from recbole_disent.training.row_adam import RowAdam

# A row costs the sparse optimiser about this multiple of the dense optimiser's time for a row; measured
# (docs, "Train with a large catalogue").
_COST_OF_A_ROW = 5


def sparse_tables(config: Any, model: nn.Module) -> dict[nn.Embedding, int]:
    """Return the tables that the run updates by rows, and about how many rows a step touches.

    Args:
        config: a configuration.
        model: a model; it declares its tables by ``row_tables() -> dict[nn.Embedding, int]``.

    Returns:
        With ``sparse``, all declared tables. With ``auto``, the tables with at least five times as many rows
        as a step touches, if the learner allows it. With ``dense``, no table.

    Raises:
        UserError: ``item_optimizer: sparse`` for a model, a learner or keys that it does not work with.
    """
    wanted = config["item_optimizer"]
    if wanted == "dense":
        return {}
    tables: dict[nn.Embedding, int] = model.row_tables() if hasattr(model, "row_tables") else {}  # type: ignore[operator]
    reason = _reason_against(config, tables)
    if wanted == "sparse":
        if reason:
            raise UserError(f"item_optimizer: got sparse, {reason}")
        return tables
    if reason:
        return {}
    found = {table: rows for table, rows in tables.items() if len(table.weight) >= _COST_OF_A_ROW * rows}
    for table, rows in found.items():
        getLogger().info(
            f"item_optimizer: auto chooses sparse, because a training step touches about {rows} of the "
            f"{len(table.weight)} rows of a table"
        )
    return found


def _reason_against(config: Any, tables: dict[nn.Embedding, int]) -> str | None:
    """Return what a sparse optimiser does not work with, and what to do about it; None: nothing."""
    learner = str(config["learner"]).lower()
    if not tables:
        return (
            f"but a training step of {config['model']} reads whole tables with these keys; leave "
            "item_optimizer out (a softmax over a sample or over the batch reads rows)"
        )
    if learner not in ("adam", "adamw"):
        return f"but learner is {config['learner']}; expected learner=adam or adamw, or item_optimizer=dense"
    if learner == "adam" and config["weight_decay"]:
        return (
            f"but weight_decay is {config['weight_decay']} with learner=adam, which changes every row in "
            "every step; expected learner=adamw, weight_decay=0 or item_optimizer=dense"
        )
    if config["enable_scaler"]:
        return "but enable_scaler is True, which does not scale gradients of rows; set item_optimizer=dense"
    return None


def split_groups(
    groups: list[dict[str, Any]], tables: list[nn.Embedding]
) -> tuple[list[dict[str, Any]], dict[nn.Embedding, dict[str, Any]]]:
    """Take tables out of groups of parameters.

    Args:
        groups: groups for an optimiser.
        tables: embeddings whose weights are in the groups.

    Returns:
        The groups without the tables, and embedding -> options of its group.
    """
    ids = {id(table.weight): table for table in tables}
    rest, options = [], {}
    for group in groups:
        others = [p for p in group["params"] if id(p) not in ids]
        if others:
            rest.append({**group, "params": others})
        for p in group["params"]:
            if id(p) in ids:
                options[ids[id(p)]] = {key: value for key, value in group.items() if key != "params"}
    return rest, options


def require_same(optimizer: torch.optim.Optimizer, state: Any, path: str) -> None:
    """Check that the optimiser of a checkpoint updates its tables as this run does.

    Args:
        optimizer: optimiser of this run.
        state: state of the optimiser in the checkpoint, or any value if the checkpoint is damaged.
        path: name of the checkpoint in an error.

    Raises:
        UserError: one of the two is sparse and the other is dense.
    """
    ours, theirs = isinstance(optimizer, RowAdam), isinstance(state, dict) and "rows" in state
    if ours != theirs and isinstance(state, dict):
        names = {True: "sparse", False: "dense"}
        raise UserError(
            f"item_optimizer: got {names[ours]}, expected {names[theirs]}, as in checkpoint '{path}'; resume "
            f"with item_optimizer={names[theirs]}"
        )
