"""Metrics of users from ranks, paired intervals and tests over users, and tests over seeds."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
from scipy import stats

from recbole_disent.errors import UserError, nearest

# Relative tolerance: sums in another order can round an equal statistic to a smaller number.
_TIE = 1e-9
# Largest number of draws in memory at a time.
_CHUNK = 2**22
# The draw of a binomial or multinomial count takes about this many times as long as the draw of a user.
_COST_OF_COUNT = 8


# Metrics that the rank of a single held-out item determines.
RANK_METRICS = ("recall", "hit", "ndcg", "mrr", "map", "precision")


def is_of_ranks(metric: str) -> bool:
    """Whether :func:`of_ranks` can compute a metric such as ndcg@10."""
    return metric.partition("@")[0] in RANK_METRICS


def require_metrics(wanted: Iterable[Any], known: Collection[str], lacking: str, having: str) -> None:
    """Check that all wanted metrics are known.

    Args:
        wanted: metrics such as ndcg@10, in upper or lower case.
        known: known metrics, in lower case.
        lacking, having: words of the error, before the wanted metric and before the known metrics.

    Raises:
        UserError: a metric is not known.
    """
    for metric in wanted:
        if str(metric).lower() not in known:
            raise UserError(
                f"metrics: got '{metric}', which {lacking}{nearest(str(metric), known)} "
                f"({having} {', '.join(sorted(known))})"
            )


def of_ranks(metric: str, ranks: np.ndarray) -> np.ndarray:
    """Return the value of a rank metric for each user with one held-out item.

    Args:
        metric: one of ``RANK_METRICS`` at a cut-off, such as ndcg@10.
        ranks: int (..., n); 1 is the best rank.

    Returns:
        float64 (..., n).

    Raises:
        KeyError: a rank does not determine the metric.
    """
    name, _, cut = metric.partition("@")
    k = int(cut)
    inside = ranks <= k
    if name in ("recall", "hit"):
        return inside.astype(np.float64)
    if name == "precision":
        return inside / k
    if name in ("mrr", "map"):
        return inside / ranks
    if name == "ndcg":
        return inside / np.log2(ranks + 1.0)
    raise KeyError(metric)


def _values(differences: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct values and the count of each; rank metrics have few distinct values."""
    return np.unique(np.round(differences, 12), return_counts=True)


def bootstrap_interval(
    differences: np.ndarray, level: float, resamples: int, seed: int | list[int]
) -> tuple[float, float]:
    """Percentile interval of the mean of paired differences, by resampling users.

    The counts of the distinct values in a resample have a multinomial distribution. If there are few
    distinct values, the function draws these counts instead of the users, which is faster.

    Args:
        differences: float (n,), the difference between two models for each user.
        level: level of confidence, such as 0.95.
        resamples: number of resamples.
        seed: seed of the draws.

    Returns:
        the lower and the upper end of the interval.
    """
    values, counts = _values(differences)
    n = len(differences)
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    means = np.empty(resamples)
    if len(values) * _COST_OF_COUNT < n:
        for part in _parts(resamples, len(values)):
            means[part] = rng.multinomial(n, counts / n, size=part.stop - part.start) @ values / n
    else:
        for part in _parts(resamples, n):
            chosen = rng.integers(n, size=(part.stop - part.start, n), dtype=np.int32)
            means[part] = np.asarray(differences)[chosen].mean(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def sign_flip_p(differences: np.ndarray, resamples: int, seed: int | list[int]) -> float:
    """Two-sided p-value of the paired randomisation test, which draws the sign of each user's difference.

    Of c users with the same absolute difference, the number of users that keep their sign has a binomial
    distribution. If there are few distinct differences, the function draws these numbers instead of the
    signs, which is faster.

    Args:
        differences: float (n,), the difference between two models for each user.
        resamples: number of random sign patterns.
        seed: seed of the draws.

    Returns:
        the p-value, at least 1 / (resamples + 1).
    """
    differences = np.asarray(differences, dtype=np.float64)
    differences = differences[differences != 0]
    values, counts = _values(np.abs(differences))
    n = len(differences)
    if not n:
        return 1.0
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    sums = np.empty(resamples)
    if len(values) * _COST_OF_COUNT < n:
        for part in _parts(resamples, len(values)):
            kept = rng.binomial(counts, 0.5, size=(part.stop - part.start, len(values)))
            sums[part] = (2 * kept - counts) @ values
    else:
        for part in _parts(resamples, n):
            size = part.stop - part.start, (n + 7) // 8
            signs = np.unpackbits(rng.integers(256, size=size, dtype=np.uint8), axis=1, count=n)
            sums[part] = 2.0 * (signs @ differences) - differences.sum()
    as_large = int((np.abs(sums) >= abs(differences.sum()) * (1 - _TIE)).sum())
    return (as_large + 1) / (resamples + 1)


def _parts(total: int, width: int) -> list[slice]:
    """Split *total* rows with *width* draws each into slices that fit into memory."""
    step = max(1, _CHUNK // width)
    return [slice(begin, min(begin + step, total)) for begin in range(0, total, step)]


def seeds_p(first: np.ndarray, second: np.ndarray, without_chance: bool = False) -> float | None:
    """Two-sided p-value of Welch's t-test between the results of two models over their seeds.

    Args:
        first, second: float (seeds,); the lengths may differ.
        without_chance: whether both models are independent of their seed, such as Pop.

    Returns:
        the p-value, or None if a model has fewer than two seeds, because one seed tells nothing about
        others. If neither model has any spread, the test is not defined and p is 1; with *without_chance*
        p is 0 for different results.
    """
    if len(first) < 2 or len(second) < 2:
        return None
    if np.ptp(first) == 0 and np.ptp(second) == 0:
        return 0.0 if without_chance and first[0] != second[0] else 1.0
    a, b = first.var(ddof=1) / len(first), second.var(ddof=1) / len(second)
    t = (first.mean() - second.mean()) / np.sqrt(a + b)
    freedom = (a + b) ** 2 / (a**2 / (len(first) - 1) + b**2 / (len(second) - 1))
    return float(2 * stats.t.sf(abs(t), freedom))


def holm(p: list[float]) -> list[float]:
    """Return Holm's adjusted p-values of a family of tests, in the given order."""
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    largest = 0.0
    for place, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p) - place) * p[index]))
        adjusted[index] = largest
    return adjusted.tolist()
