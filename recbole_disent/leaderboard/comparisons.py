"""Significant differences between rows of a table, by paired tests over users and tests over seeds."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from recbole_disent import registry
from recbole_disent.leaderboard import statistics
from recbole_disent.leaderboard.collect import ResultGroup, Row


@dataclass(frozen=True)
class Comparison:
    """The comparison of a reference with another row by one metric.

    Attributes:
        difference: mean over users of the value of the reference minus the value of the other row; values
            are averaged over seeds first.
        low, high: ends of the bootstrap interval over users.
        p_users: p-value of the randomisation test over users.
        p_seeds: p-value of Welch's t-test over seeds; None with one seed.
        p_holm: larger of the two p-values, with Holm's correction.
    """

    reference: str
    other: str
    metric: str
    difference: float
    other_mean: float
    low: float
    high: float
    p_users: float
    p_seeds: float | None
    p_holm: float = 1.0


def has_users(row: Row) -> bool:
    """Whether the ranks of all users are known for every seed."""
    return bool(row.users) and len(row.users) == len(row.results)


def values_of_users(row: Row, metric: str) -> np.ndarray:
    """Return the value of each user for each seed, float64 (seeds, users)."""
    return statistics.of_ranks(metric, np.stack([u["rank"] for u in row.users]))


def user_values(row: Row, metric: str) -> np.ndarray:
    """Return the value of each user, averaged over seeds, float64 (users,)."""
    return values_of_users(row, metric).mean(0)


def _seeds_p(first: Row, second: Row, metric: str) -> float | None:
    # RecBole's traditional models draw no random numbers, so the seed does not change their results.
    certain = all(r["config"]["MODEL_TYPE"] == "TRADITIONAL" for r in [*first.results, *second.results])
    a, b = (values_of_users(row, metric).mean(1) for row in (first, second))
    return statistics.seeds_p(a, b, certain)


def _seed(options: dict[str, Any], *names: str) -> list[int]:
    return [options["statistics_seed"], *(zlib.crc32(name.encode()) for name in names)]


def title(row: Row) -> str:
    """Return the name of a row for use in a sentence."""
    return row.label if row.sweep is None else f"{row.label} at {row.sweep}"


def reference_of(rows: list[Row], label: str | None) -> Row | None:
    """Return the row that the other rows are tested against (key ``reference`` of a plan).

    Without a label the validation score decides; the test part is never used for this choice.
    """
    if label is not None:
        rows = [row for row in rows if row.label == label]
    else:
        rows = [row for row in rows if registry.spec_of(row.results[0]["model"]).cls] or rows
    return max(rows, key=lambda row: row.valid_score, default=None)


def compare(group: ResultGroup, metrics: list[str], options: dict[str, Any]) -> list[Comparison]:
    """Test the reference against every other row.

    In a sweep of several models, rows with the same value of the swept key are compared, and the model
    that is the reference at the first value is the reference at all values. In a sweep of one model, the
    values are compared.

    Returns:
        the comparisons; those of the same metric are one family for Holm's correction.
    """
    rows = [row for row in group.filled if has_users(row)]
    parts = [rows]
    if group.sweep is not None and len({row.label for row in rows}) > 1:
        values = list(dict.fromkeys(str(row.sweep) for row in rows))
        parts = [[row for row in rows if str(row.sweep) == value] for value in values]
    label = options["reference"]
    if len(parts) > 1 and label is None:
        first = reference_of(parts[0], None)
        label = first.label if first else None
    found = []
    for part in parts:
        reference = reference_of(part, label)
        if reference is None:
            continue
        others = [row for row in part if row is not reference]
        for metric in filter(statistics.is_of_ranks, metrics):
            found += [_one(reference, row, metric, options) for row in others]
    adjusted: dict[int, float] = {}
    for metric in metrics:
        family = [i for i, c in enumerate(found) if c.metric == metric]
        p = statistics.holm([max(found[i].p_users, found[i].p_seeds or 0.0) for i in family])
        adjusted.update(zip(family, p, strict=True))
    return [replace(c, p_holm=adjusted[i]) for i, c in enumerate(found)]


def _one(first: Row, second: Row, metric: str, options: dict[str, Any]) -> Comparison:
    a, b = user_values(first, metric), user_values(second, metric)
    names = (title(first), title(second), metric)
    low, high = statistics.bootstrap_interval(
        a - b, 1 - options["alpha"], options["resamples"], _seed(options, "interval", *names)
    )
    p = statistics.sign_flip_p(a - b, options["resamples"], _seed(options, "test", *names))
    p_seeds = _seeds_p(first, second, metric)
    return Comparison(*names, float((a - b).mean()), float(b.mean()), low, high, p, p_seeds)


def significantly_best(group: ResultGroup, metric: str, options: dict[str, Any]) -> list[Row]:
    """Return the best row of a column if it is significantly better than every other row.

    The best row is found on the same data that the tests use. A row is called the best by mistake only
    if it beats the row that is truly the best, and each of the n - 1 other rows may do so. Therefore the
    level of each test is alpha / (n - 1).

    Returns:
        a list with the best row, or an empty list.
    """
    rows = [row for row in group.filled if has_users(row)]
    if not statistics.is_of_ranks(metric) or len(rows) < 2 or len(rows) < len(group.filled):
        return []
    best = max(rows, key=lambda row: user_values(row, metric).mean())
    level = options["alpha"] / (len(rows) - 1)
    for row in rows:
        if row is best:
            continue
        p_seeds = _seeds_p(best, row, metric)
        if p_seeds is None or p_seeds >= level:
            return []
        seed = _seed(options, "best", title(best), title(row), metric)
        difference = user_values(best, metric) - user_values(row, metric)
        if statistics.sign_flip_p(difference, options["resamples"], seed) >= level:
            return []
    return [best]
