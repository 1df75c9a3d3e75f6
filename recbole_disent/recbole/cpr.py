"""RecBole's CPR models, which rank the best items of their own scores once more."""

from __future__ import annotations

from typing import Any

from recbole_disent.errors import UserError


def check_data(config: Any, train: Any) -> None:
    """Check that there are as many items as the models rank once more.

    Args:
        config: ``reranker_CAN_NUM``, a number or numbers separated by commas.
        train: the training part.

    Raises:
        UserError: there are fewer, or the key holds no numbers.
    """
    given, limit = config["reranker_CAN_NUM"], train.item_num
    entries = given if isinstance(given, (list, tuple)) else str(given).split(",")
    try:
        wanted = [int(entry) for entry in entries]
    except ValueError:
        raise UserError(f"reranker_CAN_NUM: got {given!r}, expected numbers such as 100 or '500,100,20'") from None
    if not 1 <= min(wanted) <= max(wanted) <= limit:
        raise UserError(
            f"reranker_CAN_NUM: got {given}, expected numbers from 1 to {limit}: {config['model']} ranks that many "
            f"of the {limit - 1} items and the padding once more; say such as --reranker_CAN_NUM={max(limit // 2, 1)}"
        )
