"""RecBole's CPR models, which rerank the items with the best scores."""

from __future__ import annotations

from typing import Any

from recbole_disent.errors import UserError


def check_data(config: Any, train: Any) -> None:
    """Check that there are as many items as the models rerank.

    Args:
        config: configuration with the key ``reranker_CAN_NUM``.
        train: the training part.

    Raises:
        UserError: there are fewer items.
    """
    given, limit = config["reranker_CAN_NUM"], train.item_num
    if not 1 <= given <= limit:
        raise UserError(
            f"reranker_CAN_NUM: got {given}, expected a number from 1 to {limit}: {config['model']} "
            f"reranks this number of the {limit - 1} items and the padding item; set for example "
            f"--reranker_CAN_NUM={max(limit // 2, 1)}"
        )
