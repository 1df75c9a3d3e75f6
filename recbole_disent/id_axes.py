"""Which axes of a model's weights have one row for each item or each user.

The functions build a small copy of the model several times. An axis that grows by one when the data
set has one more item is an axis of items. Sizes alone do not show this: a model can have as many positions as
items.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recbole_disent.content.matrix import Content
from recbole_disent.errors import UserError
from recbole_disent.registry import uses_content
from recbole_disent.serving.stand_in import (
    StandInConfig,
    StandInDataset,
    build_model,
    features_of,
    storable_keys,
)

_ITEMS, _USERS = 60, 80


@dataclass(frozen=True)
class IdAxis:
    """An axis of a weight with one row for each item or user, padding included.

    Attributes:
        dim: number of the axis.
        of: ``items`` or ``users``.
        extra: rows behind the last item or user, such as the row of a mask.
    """

    dim: int
    of: str
    extra: int


def id_axes(config: Any, dataset: Any) -> dict[str, IdAxis]:
    """Find the axes of items and users of the weights of a model.

    Args:
        config: configuration of the model.
        dataset: training part, for the columns of its items.

    Returns:
        Name of a tensor of ``state_dict`` -> its axis, for tensors that have one.

    Raises:
        UserError: the model cannot be built without its data, an axis holds items and users together, or a
            weight belongs to the values of an item column.
    """
    name = config["model"]
    try:
        plain = _shapes(config, dataset, _ITEMS, _USERS, 0)
        grown = {
            "items": _shapes(config, dataset, _ITEMS + 1, _USERS, 0),
            "users": _shapes(config, dataset, _ITEMS, _USERS + 1, 0),
            "values": _shapes(config, dataset, _ITEMS, _USERS, 1),
        }
    except UserError:
        raise
    except Exception as error:  # the constructor of any model
        raise UserError(
            f"warm_start: {name} is built from more than ids and counts ({type(error).__name__}: {error}), "
            "so that its weights cannot be matched by id; leave the key out"
        ) from error
    found = {}
    for key, shape in plain.items():
        axes = [
            (dim, of, other[key][dim] - shape[dim])
            for of, other in grown.items()
            for dim in range(len(shape))
            if other[key][dim] != shape[dim]
        ]
        if not axes:
            continue
        dim, of, growth = axes[0]
        if of == "values":
            raise UserError(
                f"warm_start: the weight '{key}' of {name} belongs to the values of an item column, whose "
                "numbers differ between data sets; leave the key out"
            )
        extra = shape[dim] - (_ITEMS if of == "items" else _USERS)
        if len(axes) > 1 or growth != 1 or extra < 0:
            raise UserError(
                f"warm_start: the weight '{key}' of {name} has no single axis of items or users, so that its "
                "rows cannot be matched by id; leave the key out"
            )
        found[key] = IdAxis(dim, of, extra)
    return found


def _shapes(config: Any, dataset: Any, items: int, users: int, more: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the weights of a small model; *more* is added to the number of values of item columns."""
    stand_in = StandInConfig(storable_keys(config), "cpu")
    features: dict[str, tuple[Tensor, str, int]] = {}
    for column, (values, kind, size) in features_of(dataset).items():
        row = torch.arange(items) % len(values)
        features[column] = (values[row], kind, size + more if kind.startswith("TOKEN") else size)
    rows = torch.arange(max(items, users) - 1)
    pairs = (rows % (users - 1) + 1, rows % (items - 1) + 1)
    counts = np.ones(items, dtype=np.int64)
    data = StandInDataset(
        stand_in, np.arange(items).astype(object), np.arange(users).astype(object), counts, features, pairs
    )
    content = Content(torch.ones(items, 3), None, "0" * 16, "") if uses_content(config) else None
    return {key: tuple(value.shape) for key, value in _tensors(build_model(stand_in, data, content))}


def _tensors(model: Any) -> list[tuple[str, Tensor]]:
    return [(key, value) for key, value in model.state_dict().items() if not key.endswith("_extra_state")]
