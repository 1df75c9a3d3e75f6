"""Parts of a data set whose files contain a cut history in each row, like RecBole's augmented files."""

from __future__ import annotations

from typing import Any

import numpy as np

from recbole_disent.errors import UserError


def describe_padded(parts: list[Any]) -> list[Any]:
    """Set ``history`` and ``train_mask`` of each part from the padded histories and the targets of its rows.

    Events that a row repeats from the row before it count once; see :func:`_repeated`.

    Returns:
        The same parts.

    Raises:
        UserError: the configuration has ``click_noise``, which needs whole sequences.
    """
    if parts[0].config["click_noise"]:
        raise UserError(
            f"click_noise: got {parts[0].config['click_noise']} with benchmark files that contain histories, "
            "expected files with one interaction per line; leave click_noise out"
        )
    first = parts[0]
    number = np.repeat(np.arange(len(parts)), [len(part.inter_feat) for part in parts])
    users, targets, lengths, lists = (
        np.concatenate([part.inter_feat[field].numpy() for part in parts])
        for field in (
            first.uid_field,
            first.iid_field,
            first.item_list_length_field,
            first.item_id_list_field,
        )
    )
    order = np.lexsort((lengths, number, users))
    users, lengths, number = users[order], lengths[order], number[order]
    events = np.pad(lists[order], ((0, 0), (0, 1)))
    events[np.arange(len(events)), lengths] = targets[order]
    columns = np.arange(events.shape[1])
    fresh = (columns >= _repeated(users, events, lengths)[:, None]) & (columns <= lengths[:, None])
    row, column = fresh.nonzero()
    for part in parts:
        part.history, part.train_mask = (users[row], events[row, column]), number[row] == 0
    return parts


def _repeated(users: np.ndarray, events: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Count the first events of each row that repeat the row before it.

    A row repeats the row before it if it belongs to the same user and its history begins with all events of
    that row, or is these events without the first one, as in histories that are cut to a length.

    Args:
        users: int (N,), the user of each row.
        events: int64 (N, L + 1), the history and behind it the target of each row; 0 stands for none.
        lengths: int (N,), the length of each history.

    Returns:
        int (N,).
    """
    found = np.zeros(len(users), dtype=np.int64)
    columns = np.arange(events.shape[1] - 1)
    for begin in range(1, len(users), 2**16):
        now = slice(begin, min(begin + 2**16, len(users)))
        before = slice(begin - 1, now.stop - 1)
        same = users[now] == users[before]
        length, size = lengths[now], lengths[before] + 1
        begins = ((events[now, :-1] == events[before, :-1]) | (columns >= size[:, None])).all(1)
        cut = ((events[now, :-1] == events[before, 1:]) | (columns >= length[:, None])).all(1)
        found[now] = np.where(
            same & begins & (length >= size), size, np.where(same & cut & (length == size - 1), length, 0)
        )
    return found
