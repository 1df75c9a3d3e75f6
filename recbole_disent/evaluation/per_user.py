"""The rank of each user's test item, which determines every rank metric of the user."""

from __future__ import annotations

from typing import Any

import numpy as np

from recbole_disent.errors import UserError
from recbole_disent.files import require_writable, write_for_user
from recbole_disent.loaders.evaluation import EvalLoader


def one_each(loader: Any) -> bool:
    """Whether there are ranked test items, and each user has at most one."""
    if not isinstance(loader, EvalLoader):
        return False
    users = loader.dataset.inter_feat[loader.dataset.uid_field].numpy()
    return len(users) > 0 and len(np.unique(users)) == len(users)


def check_one_each(loader: Any) -> None:
    """Check before training that each user has at most one ranked test item.

    Raises:
        UserError: a user has several test items, there is none, or the metrics rank no items.
    """
    if not one_each(loader):
        raise UserError(
            "per_user_file: got a test part without ranks or with several items of a user, expected at most "
            "one ranked item of each user; leave the key out, or use eval_args split "
            "{'LS': 'valid_and_test'} and ranking metrics"
        )


def check_place(path: str) -> None:
    """Check before training that the file can be written.

    Raises:
        UserError: the path is a folder, or its folder cannot be written to.
    """
    try:
        require_writable(path)
    except UserError as error:
        raise UserError(f"per_user_file: {error}") from None


def write_per_user(path: str, ranking: Any, loader: EvalLoader) -> None:
    """Write the ranks of the last evaluation of *loader*, users ascending.

    The file (npz) has four int32 arrays (n,). ``user`` is RecBole's internal id, which is the same for
    every model on the same data (the result file's data hash). ``rank`` is the rank of the test item; 1
    is best. ``history`` is the number of the user's events before the test item. ``popularity`` is the
    number of the test item's training clicks (before any click_noise).
    """
    dataset, train = loader.dataset, ranking.train
    feat = dataset.inter_feat
    users = feat[dataset.uid_field].numpy()
    order = np.argsort(users, kind="stable")
    # The targets of sequential models are numbered by row, and the targets of general models by user.
    ranks = ranking.last_ranks[order] if dataset.one_target_per_query else ranking.last_ranks
    place = dataset.earlier(order)[0].numpy()
    clicks = np.bincount(train.history[1][train.train_mask], minlength=dataset.item_num)
    with write_for_user(path) as file:
        np.savez_compressed(
            file,
            user=users[order].astype(np.int32),
            rank=ranks.astype(np.int32),
            history=np.bincount(place, minlength=len(order)).astype(np.int32),
            popularity=clicks[feat[dataset.iid_field].numpy()[order]].astype(np.int32),
        )
