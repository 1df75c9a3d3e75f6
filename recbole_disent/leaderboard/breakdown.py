"""A metric for groups of users: by the length of their history, by the popularity of their target."""

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
    """A metric of each row for each group.

    Attributes:
        field: history or popularity.
        metric: name of the metric.
        groups: (least, largest) value of each group, ascending and without overlap.
        users: int (groups,), users in each.
        rows: the rows of a setting that have ranks of users.
        values: per row float64 (seeds, groups).
    """

    field: str
    metric: str
    groups: list[tuple[int, int]]
    users: np.ndarray
    rows: list[Row]
    values: list[np.ndarray]

    @property
    def names(self) -> list[str]:
        """Groups in words."""
        return [f"{low}" if low == high else f"{low}\N{EN DASH}{high}" for low, high in self.groups]


def assign(values: np.ndarray, groups: int = _GROUPS) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Put whole numbers into groups of about the same size; equal numbers stay together, 0 alone.

    Args:
        values: int (n,), >= 0.
        groups: at the most, without that of 0.

    Returns:
        int64 (n,), group of each; (least, largest) number of each group.
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


def break_down(setting: ResultGroup, metric: str, field: str) -> Breakdown | None:
    """Return a metric by groups of users; None where no ranks of users tell it."""
    rows = [row for row in setting.filled if has_users(row)]
    if not rows or not statistics.is_of_ranks(metric):
        return None
    number, groups = assign(rows[0].users[0][field])
    users = np.bincount(number)
    found = []
    for row in rows:
        values = values_of_users(row, metric)
        found.append(np.stack([np.bincount(number, weights=seed) / users for seed in values]))
    return Breakdown(field, metric, groups, users, rows, found)
