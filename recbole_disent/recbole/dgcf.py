"""A check for RecBole's DGCF, which draws as many users as items for the loss of each batch."""

from __future__ import annotations

from typing import Any

from recbole_disent.errors import UserError


def check_data(config: Any, train: Any) -> None:
    """Check that a batch draws no more users and items than there are.

    DGCF draws max(users, items) / batches of both.

    Raises:
        UserError: ``train_batch_size`` makes too few batches for the numbers of users and items.
    """
    fewest, most = sorted((train.user_num, train.item_num))
    batches = train.inter_num // config["train_batch_size"] + 1
    if int(most / batches) > fewest:
        # The fewest batches with most / batches < fewest + 1.
        largest = train.inter_num // (most // (fewest + 1))
        raise UserError(
            f"train_batch_size: got {config['train_batch_size']}, expected at most {largest}: the model "
            f"draws {int(most / batches)} users and items for each of {batches} batches, and there are "
            f"{fewest} of one kind"
        )
