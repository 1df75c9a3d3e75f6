"""A check for RecBole's NCL, which groups users and items by k-means."""

from __future__ import annotations

from typing import Any

from recbole_disent.errors import UserError


def check_data(config: Any, train: Any) -> None:
    """Check that there are at least as many users and items as clusters.

    Raises:
        UserError: ``num_clusters`` is larger than the number of users or of items.
    """
    most = min(train.user_num, train.item_num)
    if config["num_clusters"] > most:
        raise UserError(
            f"num_clusters: got {config['num_clusters']}, expected at most {most}, because each cluster "
            "needs a user or an item; set a smaller number"
        )
