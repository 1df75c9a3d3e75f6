"""A metric for groups of users, by the length of the history or the popularity of the test item."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recbole_disent.leaderboard import statistics
from recbole_disent.leaderboard.collect import ResultGroup, Row
from recbole_disent.leaderboard.comparisons import has_users, values_of_users

FIELDS = {"history": "history length", "popularity": "target popularity"}
_GROUPS = 5


@dataclass(frozen=True)
class Breakdown:
    """The values of a metric for each row and each group of users.

    Attributes:
        field: "history" or "popularity".
        metric: name of the metric.
        groups: (smallest, largest) value of the field in each group, ascending and without overlap.
        users: int (groups,), number of users in each group.
        rows: rows of the table that have ranks of users.
        values: a float64 array (seeds, groups) for each row.
    """

    field: str
    metric: str
    groups: list[tuple[int, int]]
    users: np.ndarray
    rows: list[Row]
    values: list[np.ndarray]

    @property
    def names(self) -> list[str]:
        """Names of the groups, such as ``3`` or ``4–6``."""
        return [f"{low}" if low == high else f"{low}\N{EN DASH}{high}" for low, high in self.groups]


def assign(values: np.ndarray, groups: int = _GROUPS) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Put whole numbers into groups of about the same size.

    Equal numbers are in the same group, and 0 is a group of its own.

    Args:
        values: int (n,), >= 0.
        groups: largest number of groups, not counting the group of 0.

    Returns:
        the group of each number, int64 (n,), and the (smallest, largest) number of each group.
    """
    positive = values[values > 0]
    inner: np.ndarray | list[float] = (
        np.unique(np.quantile(positive, np.arange(1, groups) / groups, method="higher"))
        if len(positive)
        else []
    )
    bounds = np.unique(np.concatenate([[1], inner]))
    number = np.searchsorted(bounds, values, side="right")
    used, number = np.unique(number, return_inverse=True)
    return number, [
        (int(values[number == g].min()), int(values[number == g].max())) for g in range(len(used))
    ]


def break_down(group: ResultGroup, metric: str, field: str) -> Breakdown | None:
    """Return a metric by groups of users, or None if the ranks of users do not determine it."""
    rows = [row for row in group.filled if has_users(row)]
    if not rows or not statistics.is_of_ranks(metric):
        return None
    number, bounds = assign(rows[0].users[0][field])
    users = np.bincount(number)
    found = []
    for row in rows:
        values = values_of_users(row, metric)
        found.append(np.stack([np.bincount(number, weights=seed) / users for seed in values]))
    return Breakdown(field, metric, bounds, users, rows, found)
