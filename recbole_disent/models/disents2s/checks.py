"""Checks of the keys of DisentS2S that depend on each other."""

from __future__ import annotations

from typing import Any

from recbole_disent.content.checks import check as check_content
from recbole_disent.errors import UserError
from recbole_disent.models.disents2s import negatives


def check(config: Any) -> None:
    """Check the keys of DisentS2S that depend on each other.

    Raises:
        UserError: two keys do not fit together.
    """
    if config["content"]:
        check_content(config)
    negatives.check(config)
    if config["item_weight_decay"] and str(config["learner"]).lower() != "adamw":
        raise UserError(
            f"item_weight_decay: got {config['item_weight_decay']} with learner={config['learner']}, "
            "expected learner=adamw, whose weight decay is not part of the gradient"
        )
    stride, length = config["targets_per_window"], config["MAX_ITEM_LIST_LENGTH"]
    if stride is not None and stride > length:
        raise UserError(
            f"targets_per_window: got {stride}, expected at most MAX_ITEM_LIST_LENGTH={length}, the length "
            "of the longest past"
        )
    if config["passes_per_window"] > (stride or length):
        raise UserError(
            f"passes_per_window: got {config['passes_per_window']}, expected at most {stride or length}, "
            "the largest number of pairs in a window"
        )
