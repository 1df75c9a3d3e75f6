"""Checks of the keys of TSSR that depend on each other."""

from __future__ import annotations

from typing import Any

from recbole_disent.content.checks import check as check_content
from recbole_disent.errors import UserError
from recbole_disent.models import item_loss


def check(config: Any) -> None:
    """Check the keys of TSSR that depend on each other.

    Raises:
        UserError: two keys do not fit together.
    """
    check_content(config)
    item_loss.check(config)
    if config["hidden_size"] % config["n_heads"]:
        raise UserError(
            f"n_heads: got {config['n_heads']}, expected a divisor of hidden_size={config['hidden_size']}"
        )
    if config["streams"] == "id" and config["output"] == "both":
        raise UserError(
            "output: got 'both' with streams=id, expected linear or id: the id stream has no content"
        )
    by_output = config["output"] == "both"
    by_contrast = config["streams"] == "both" and config["item_weight"] > 0
    if config["score_by_content"] and not (by_output or by_contrast):
        raise UserError(
            f"score_by_content: got {config['score_by_content']}, expected 0: only streams=both with "
            "item_weight above 0, or output=both, learn content embeddings of next items"
        )
