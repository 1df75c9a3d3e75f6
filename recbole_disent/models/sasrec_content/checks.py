"""Checks of the keys of SASRecContent that depend on each other."""

from __future__ import annotations

from typing import Any

from recbole_disent.content.checks import check as check_content
from recbole_disent.errors import UserError
from recbole_disent.models import item_loss


def check(config: Any) -> None:
    """Check the keys of SASRecContent that depend on each other.

    Raises:
        UserError: two keys do not fit together.
    """
    item_loss.check(config)
    if config["content"]:
        check_content(config)
    elif config["score_by_content"]:
        raise UserError(f"score_by_content: got {config['score_by_content']} with content=False, expected 0")
    if config["hidden_size"] % config["n_heads"]:
        raise UserError(
            f"n_heads: got {config['n_heads']}, expected a divisor of hidden_size={config['hidden_size']}"
        )
