"""The options of an optimiser, such as the learning rate, in a resumed run."""

from __future__ import annotations

from typing import Any

import torch

from recbole_disent.training.row_adam import RowAdam


def with_our_options(state: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return the state of an optimiser in a checkpoint with the options of this run.

    ``load_state_dict`` takes the options from the state, so that a changed key would have no effect, and a
    learning rate that still rises (:class:`~recbole_disent.training.warm_up.WarmUp`) would be the final one.

    Args:
        state: state of the optimiser in the checkpoint.
        optimizer: optimiser of this run.

    Raises:
        ValueError: the checkpoint has another number of groups.
    """
    if isinstance(optimizer, RowAdam):  # its tables keep the options of this run anyway
        return {**state, "dense": with_our_options(state["dense"], optimizer.dense)}
    groups = zip(state["param_groups"], optimizer.param_groups, strict=True)
    return {
        **state,
        "param_groups": [{**theirs, **ours, "params": theirs["params"]} for theirs, ours in groups],
    }
