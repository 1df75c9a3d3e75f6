"""Which rows of a table differ: paired tests over users, joined with tests over seeds."""

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
    """A reference against another row at one metric.

    Attributes:
        difference: mean over users of reference - other, each averaged over its seeds.
        low, high: bootstrap interval over users.
        p_users: randomisation test over users.
        p_seeds: Welch's t-test over seeds; None with one seed.
        p_holm: the larger of both, with Holm's correction.
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
    """Return the value of each user with each seed: float64 (seeds, users)."""
    return statistics.of_ranks(metric, np.stack([u["rank"] for u in row.users]))


def user_values(row: Row, metric: str) -> np.ndarray:
    """Return each user's value, averaged over seeds: float64 (users,)."""
    return values_of_users(row, metric).mean(0)


def _seeds_p(first: Row, second: Row, metric: str) -> float | None:
    # RecBole's traditional models count and do not draw.
    certain = all(r["config"]["MODEL_TYPE"] == "TRADITIONAL" for r in [*first.results, *second.results])
    a, b = (values_of_users(row, metric).mean(1) for row in (first, second))
    return statistics.seeds_p(a, b, certain)


def _seed(options: dict[str, Any], *names: str) -> list[int]:
    return [options["statistics_seed"], *(zlib.crc32(name.encode()) for name in names)]


def title(row: Row) -> str:
    """Name of a row in a sentence."""
    return row.label if row.sweep is None else f"{row.label} at {row.sweep}"


def reference_of(rows: list[Row], label: str | None) -> Row | None:
    """Return the row that the others are tested against: see the key ``reference``.

    It is never chosen by the test part.
    """
    if label is not None:
        rows = [row for row in rows if row.label == label]
    else:
        rows = [row for row in rows if registry.spec_of(row.results[0]["model"]).cls] or rows
    return max(rows, key=lambda row: row.valid_score, default=None)


def compare(setting: ResultGroup, metrics: list[str], options: dict[str, Any]) -> list[Comparison]:
    """Test the reference against every other row; with a sweep, among the rows of each value.

    A sweep of a single model is tested between its values. The reference of a sweep is the
    one of its first value.

    Returns:
        comparisons; at each metric they are one family for Holm's correction.
    """
    rows = [row for row in setting.filled if has_users(row)]
    groups = [rows]
    if setting.sweep is not None and len({row.label for row in rows}) > 1:
        values = list(dict.fromkeys(str(row.sweep) for row in rows))
        groups = [[row for row in rows if str(row.sweep) == value] for value in values]
    label = options["reference"]
    if len(groups) > 1 and label is None:
        first = reference_of(groups[0], None)
        label = first.label if first else None
    found = []
    for group in groups:
        reference = reference_of(group, label)
        if reference is None:
            continue
        others = [row for row in group if row is not reference]
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


def significantly_best(setting: ResultGroup, metric: str, options: dict[str, Any]) -> list[Row]:
    """Return the best row of a column if it is significantly better than every other one, else nothing.

    The best is found on the very data that it is tested on. A row is shown as the best by
    mistake only if it beats the true best one, which one of the n - 1 others may do: each test
    is at the level alpha / (n - 1).
    """
    rows = [row for row in setting.filled if has_users(row)]
    if not statistics.is_of_ranks(metric) or len(rows) < 2 or len(rows) < len(setting.filled):
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
