"""Vectorised splits: the rows RecBole's loops would choose, in the same order."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def group_rows(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Group rows by key; groups come in the order of their first row, rows keep theirs.

    Args:
        keys: int (n,).

    Returns:
        order: int64 (n,), rows, group after group.
        place: int64 (n,), place of each row of *order* in its group.
        size: int64 (n,), rows of its group.
    """
    if not len(keys):
        empty = np.zeros(0, dtype=np.int64)
        return empty, empty, empty
    by_key = np.argsort(keys, kind="stable")
    ordered = keys[by_key]
    new = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    counts = np.diff(np.append(new, len(keys)))
    groups = np.argsort(by_key[new], kind="stable")  # a group's first row is its earliest
    size = np.repeat(counts[groups], counts[groups])
    begin = np.cumsum(counts[groups]) - counts[groups]
    place = np.arange(len(keys)) - np.repeat(begin, counts[groups])
    order = by_key[np.repeat(new[groups], counts[groups]) + place]
    return order, place, size


_HELD_OUT = {"valid_and_test": 2, "valid_only": 1, "test_only": 1}


def leave_one_out(keys: np.ndarray, mode: str, kept: int) -> list[np.ndarray]:
    """Hold out the last rows of each group.

    Args:
        keys: int (n,), group of each row; rows are in time order.
        mode: ``valid_and_test``, ``valid_only`` or ``test_only``.
        kept: rows of a group that are never held out.

    Returns:
        rows of the training, validation and test part. Where a group has but one row to
        hold out, it is for the test (``valid_and_test``).
    """
    if mode not in _HELD_OUT:
        raise NotImplementedError(f"leave_one_out: got mode {mode!r}, expected {', '.join(_HELD_OUT)}")
    order, place, size = group_rows(keys)
    wanted = _HELD_OUT[mode]
    held = np.clip(size - kept, 0, wanted)
    from_end = size - 1 - place  # 0 for the last row of a group
    out = from_end < held
    parts = [order[~out]] + [order[out & (from_end == k)] for k in range(wanted)[::-1]]
    empty = order[:0]
    if mode == "valid_only":
        return [parts[0], parts[1], empty]
    if mode == "test_only":
        return [parts[0], empty, parts[1]]
    return parts


def by_ratio(
    keys: np.ndarray | None, n_rows: int, cuts_of: Callable[[int], list[int]], n_parts: int
) -> list[np.ndarray]:
    """Split each group (or all rows, for ``keys=None``) in the places ``cuts_of(size)``.

    Args:
        keys: int (n,) or None.
        n_rows: n.
        cuts_of: size of a group -> the n_parts - 1 places where it is cut.
        n_parts: number of parts.
    """
    if keys is None:
        keys = np.zeros(n_rows, dtype=np.int64)
    order, place, size = group_rows(keys)
    sizes, which = np.unique(size, return_inverse=True)
    cuts = np.array([cuts_of(int(s)) for s in sizes], dtype=np.int64).reshape(len(sizes), n_parts - 1)
    part = (place[:, None] >= cuts[which]).sum(1)
    return [order[part == p] for p in range(n_parts)]


def by_time(keys: np.ndarray, times: np.ndarray, ratios: list[float]) -> list[np.ndarray]:
    """Split at one time for all groups, as RecBole does.

    Rows after the quantile 1 - ratios[2] of all times are for the test; the others of a group are
    divided between training and validation.

    Args:
        keys: int (n,), group of each row; rows are in time order.
        times: number (n,).
        ratios: three shares with the sum 1.

    Returns:
        rows of the training, validation and test part.
    """
    if not len(times):  # no percentile of nothing
        return [np.zeros(0, dtype=np.int64)] * 3
    boundary = np.percentile(times, 100 * (1 - ratios[-1]))
    order, _, _ = group_rows(keys)
    late = times[order] > boundary
    early, test = order[~late], order[late]
    # Rows of a group stay together, so that the groups of the early rows are those of all rows.
    _, place, size = group_rows(keys[early])
    cut = (size * (ratios[0] / (1 - ratios[2]))).astype(np.int64)
    return [early[place < cut], early[place >= cut], test]
