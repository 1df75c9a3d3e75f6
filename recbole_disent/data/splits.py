"""Vectorised splits, which select the same rows as RecBole's loops, in the same order."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from recbole_disent.data.ordering import group_order


def group_rows(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Group rows by key.

    The groups are in the order of their first rows, and the rows of a group keep their order.

    Args:
        keys: int (n,), key of each row.

    Returns:
        order: int64 (n,), the rows, one group after the other.
        rank: int32 or int64 (n,), position of each row of *order* in its group, from 0.
        size: int32 or int64 (n,), number of rows in the group of each row of *order*.
    """
    if not len(keys):
        empty = np.zeros(0, dtype=np.int64)
        return empty, empty, empty
    by_key = group_order(keys)
    ordered = keys[by_key]
    new = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    del ordered
    counts = np.diff(np.append(new, len(keys)))
    groups = np.argsort(by_key[new], kind="stable")  # a group's first row is its earliest
    new, counts = new[groups], counts[groups]
    # The arrays of all rows decide the peak memory of a preparation.
    small = np.int32 if len(keys) < 2**31 else np.int64
    rank: np.ndarray = np.arange(len(keys), dtype=small)
    rank -= np.repeat((np.cumsum(counts) - counts).astype(small), counts)
    place: np.ndarray = np.repeat(new, counts)
    place += rank
    order = by_key[place]
    del by_key, place
    return order, rank, np.repeat(counts.astype(small), counts)


_HELD_OUT = {"valid_and_test": 2, "valid_only": 1, "test_only": 1}


def leave_one_out(keys: np.ndarray, mode: str, kept: int) -> list[np.ndarray]:
    """Hold out the last rows of each group.

    Args:
        keys: int (n,), group of each row; the rows are in time order.
        mode: ``valid_and_test``, ``valid_only`` or ``test_only``.
        kept: number of rows of each group that are never held out.

    Returns:
        The rows of the training, validation and test part. If only one row of a group can be held out,
        ``valid_and_test`` puts it in the test part.
    """
    if mode not in _HELD_OUT:
        raise NotImplementedError(f"leave_one_out: got mode {mode!r}, expected {', '.join(_HELD_OUT)}")
    order, rank, size = group_rows(keys)
    wanted = _HELD_OUT[mode]
    held = np.clip(size - kept, 0, wanted)
    from_end = size - 1 - rank  # 0 for the last row of a group
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
    """Split each group, or all rows together, at the positions ``cuts_of(size)``.

    Args:
        keys: int (n,), group of each row; None means that all rows are one group.
        n_rows: n.
        cuts_of: function from the size of a group to the n_parts - 1 positions where the group is cut.
        n_parts: number of parts.

    Returns:
        The rows of each part.
    """
    if keys is None:
        keys = np.zeros(n_rows, dtype=np.int64)
    order, rank, size = group_rows(keys)
    sizes, which = np.unique(size, return_inverse=True)
    cuts = np.array([cuts_of(int(s)) for s in sizes], dtype=np.int64).reshape(len(sizes), n_parts - 1)
    part = (rank[:, None] >= cuts[which]).sum(1)
    return [order[part == p] for p in range(n_parts)]


def by_time(keys: np.ndarray, times: np.ndarray, ratios: list[float]) -> list[np.ndarray]:
    """Split at one time for all groups, as RecBole does.

    Rows after the quantile 1 - ratios[2] of all times form the test part. The other rows of each group are
    divided between the training and the validation part.

    Args:
        keys: int (n,), group of each row; the rows are in time order.
        times: number (n,), time of each row.
        ratios: three ratios whose sum is 1.

    Returns:
        The rows of the training, validation and test part.
    """
    if not len(times):  # no percentile of nothing
        return [np.zeros(0, dtype=np.int64)] * 3
    boundary = np.percentile(times, 100 * (1 - ratios[-1]))
    order, _, _ = group_rows(keys)
    late = times[order] > boundary
    early, test = order[~late], order[late]
    # `early` is already in the order of the groups, so that grouping it again does not reorder it.
    _, rank, size = group_rows(keys[early])
    cut = (size * (ratios[0] / (1 - ratios[2]))).astype(np.int64)
    return [early[rank < cut], early[rank >= cut], test]
