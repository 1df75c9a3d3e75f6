"""RecBole's CPR models, which rank the best items of their own scores once more."""

from __future__ import annotations

from typing import Any

from recbole_disent.errors import UserError


def check_data(config: Any, train: Any) -> None:
    """Check that there are as many items as the models rank once more.

    Args:
        config: the key ``reranker_CAN_NUM``.
        train: the training part.

    Raises:
        UserError: there are fewer.
    """
    given, limit = config["reranker_CAN_NUM"], train.item_num
    if not 1 <= given <= limit:
        raise UserError(
            f"reranker_CAN_NUM: got {given}, expected a number from 1 to {limit}: {config['model']} ranks "
            "that many "
            f"of the {limit - 1} items and the padding once more; say such as "
            f"--reranker_CAN_NUM={max(limit // 2, 1)}"
        )
