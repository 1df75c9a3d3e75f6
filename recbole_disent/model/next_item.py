"""Cross-entropy of the next item over all items."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from recbole_disent.errors import UserError
from recbole_disent.model.functional import score_limit, sum_of_logsumexp
from recbole_disent.model.popularity import logit_adjustment


def require_recboles_class(config: Any, key: str, otherwise: Any) -> None:
    """Check that a model's class is RecBole's, where a key relies on how that works.

    Args:
        config: a configuration.
        key: is set so that this package trains the model in another way.
        otherwise: value of the key that leaves all to the model.

    Raises:
        UserError: it is another class of that name.
    """
    model_class = config.model_class
    if not model_class.__module__.startswith("recbole.model."):
        raise UserError(
            f"{key}: got {config[key]} for the class {model_class.__name__} of {model_class.__module__}, "
            f"expected {otherwise}: it is not RecBole's"
        )


def require_recboles(config: Any, key: str, otherwise: Any) -> None:
    """Check that a key stands for another way to RecBole's cross-entropy: class and loss.

    Args and errors are those of :func:`require_recboles_class`, and another loss.
    """
    require_recboles_class(config, key, otherwise)
    if config["loss_type"] != "CE":
        raise UserError(
            f"loss_type: got {config['loss_type']!r} with {key}={config[key]}, expected CE "
            f"({key}={otherwise} takes RecBole's other losses)"
        )


def check(config: Any) -> None:
    """Check the keys of a model of RecBole that can have a lean softmax together.

    Raises:
        UserError: logit adjustment in RecBole's own loss; another class of that name or another loss
            than cross-entropy for ``lean_softmax``.
    """
    if config["lean_softmax"]:
        require_recboles(config, "lean_softmax", False)
    elif config["logit_adjustment"] != "never":
        raise UserError(
            f"logit_adjustment: got {config['logit_adjustment']} with lean_softmax=False, expected "
            "lean_softmax=True"
        )


class OverAllItems:
    """What this package's softmax adds to a model of RecBole: a limit of memory and ``logit_adjustment``.

    To be put before RecBole's class among the bases.
    """

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)  # type: ignore[call-arg]
        self._score_limit = score_limit(config)
        self.register_buffer("_log_share", logit_adjustment(config, dataset), persistent=False)  # type: ignore[attr-defined]


def next_item(
    states: Tensor, targets: Tensor, table: Tensor, bias: Tensor | None, limit: int, padding: bool = False
) -> Tensor:
    """Sum over positions of ln sum_i exp(w_i . F + b_i) - (w_y . F + b_y).

    Args:
        states: float (P, D), F at each position that is not padding.
        targets: int64 (P,), next items y >= 1.
        table: float (n_items, D), w; row 0 is that of the padding item.
        bias: float (n_items,) or None.
        limit: scores that may exist at a time.
        padding: the padding item is one of the classes, as in RecBole.

    Returns:
        float ().
    """
    first = 0 if padding else 1
    own = (states * F.embedding(targets, table)).sum()
    rows, columns = states, table[first:]
    if bias is not None:
        own = own + bias[targets].sum()
        # A bias is one more column of w, and of F a one.
        rows = torch.cat([rows, rows.new_ones(len(rows), 1)], 1)
        columns = torch.cat([columns, bias[first:, None]], 1)
    return sum_of_logsumexp(rows, columns, limit) - own
