"""Item tables and query vectors of RecBole's models whose scores are inner products.

Each function takes a model of RecBole and returns its item table, float (n_items, D), and a function
batch -> query vectors, float (B, 1, D). The score of an item is the inner product of its vector and
the query vector, and equals the score of the model's own ``full_sort_predict``
(``tests/test_contract_recbole.py`` tests this for each model).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Vectors = tuple[Tensor, Callable[[Any], Tensor]]


def last_state(model: Any) -> Vectors:
    """Vectors of a model that scores by its state after the last item."""
    return model.item_embedding.weight, lambda batch: model.forward(
        batch[model.ITEM_SEQ], batch[model.ITEM_SEQ_LEN]
    )[:, None]


def user_and_state(model: Any) -> Vectors:
    """Vectors of a model that scores by a state of user and sequence."""
    return model.item_embedding.weight, lambda batch: model.forward(
        batch[model.USER_ID], batch[model.ITEM_SEQ]
    )[:, None]


def masked_state(model: Any) -> Vectors:
    """Vectors of a model that scores by its state at a mask after the last item, with a bias.

    The bias of an item is one more column of the table, and the query vector has the constant 1 there.
    """
    table = torch.cat([model.item_embedding.weight[: model.n_items], model.output_bias[:, None]], 1)

    def queries(batch: Any) -> Tensor:
        lengths = batch[model.ITEM_SEQ_LEN]
        # The mask after the last item, as in RecBole's reconstruct_test_data, for all rows at once.
        items = torch.nn.functional.pad(batch[model.ITEM_SEQ], (0, 1))
        states = model.forward(items.scatter(1, lengths[:, None], model.mask_token)[:, 1:])
        state = model.gather_indexes(states, lengths - 1)
        return torch.cat([state, torch.ones_like(state[:, :1])], 1)[:, None]

    return table, queries


def user_rows(model: Any) -> Vectors:
    """Vectors of a general model with one embedding per user."""
    return model.item_embedding.weight, lambda batch: model.user_embedding(batch[model.USER_ID])[:, None]
