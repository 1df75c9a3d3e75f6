"""Detection of duplicate events, and of users and items with too few events."""

from __future__ import annotations

import numpy as np

from recbole_disent.errors import UserError

DEDUPE = (None, "exact", "consecutive")


def duplicates(users: np.ndarray, items: np.ndarray, times: np.ndarray, how: str | None) -> np.ndarray:
    """Mark events that repeat an earlier event.

    Args:
        users, items, times: integers (n,), user, item and time of each event.
        how: None marks no event. exact marks events with the user, item and time of an earlier row.
            consecutive marks events whose item is also the item of the preceding event in the user's
            history, such as the second ``a`` of ``a a b a``. A history is ordered by time; equal times keep
            the order of the rows.

    Returns:
        bool (n,), whether each event is a duplicate.

    Raises:
        UserError: *how* has another value.

    Example:
        >>> duplicates(*np.array([[1, 1, 1], [5, 5, 5], [0, 0, 9]]), "exact").tolist()
        [False, True, False]
    """
    if how not in DEDUPE:
        raise UserError(f"dedupe: got {how!r}, expected exact, consecutive, or None for no event")
    repeated = np.zeros(len(users), dtype=bool)
    if how is None:
        return repeated
    keys = (users, items, times) if how == "exact" else (users, items)
    # The sort is stable, so that the first row of equal events comes first.
    order = np.lexsort((times, items, users) if how == "exact" else (times, users))
    same = np.logical_and.reduce([key[order][1:] == key[order][:-1] for key in keys])
    repeated[order[1:]] = same
    return repeated


def k_core(users: np.ndarray, items: np.ndarray, min_user: int, min_item: int) -> tuple[np.ndarray, int]:
    """Find the largest set of events in which every user and every item has enough events.

    Args:
        users, items: non-negative integers (n,), user and item of each event.
        min_user: minimum number of events of a user; 0 and 1 allow any number.
        min_item: minimum number of events of an item.

    Returns:
        bool (n,), whether each event is kept; and the number of rounds that removed events.

    Raises:
        UserError: a minimum is not a whole number of at least 0.

    Example:
        >>> kept, rounds = k_core(np.array([0, 0, 1]), np.array([0, 1, 0]), 2, 0)
        >>> kept.tolist(), rounds
        ([True, True, False], 1)
    """
    for key, least in (("min_user", min_user), ("min_item", min_item)):
        if not isinstance(least, int | np.integer) or isinstance(least, bool) or least < 0:
            raise UserError(f"{key}: got {least!r}, expected a whole number of at least 0")
    kept, rounds = np.arange(len(users)), 0
    while True:
        of_user, of_item = (np.bincount(ids[kept])[ids[kept]] for ids in (users, items))
        enough = (of_user >= min_user) & (of_item >= min_item)
        if enough.all():
            break
        kept, rounds = kept[enough], rounds + 1
    mask = np.zeros(len(users), dtype=bool)
    mask[kept] = True
    return mask, rounds
