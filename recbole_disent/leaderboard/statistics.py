"""Per-user metrics from ranks; paired intervals and tests over users, and over seeds."""

from __future__ import annotations

import numpy as np
from scipy import stats

# Float sums in another order must not turn an equal statistic into a smaller one.
_TIE = 1e-9
# Draws of a multinomial or binomial that are held at a time.
_CHUNK = 2**22


# Metrics that follow from the rank of a user's one held-out item.
RANK_METRICS = ("recall", "hit", "ndcg", "mrr", "map", "precision")


def is_of_ranks(metric: str) -> bool:
    """Whether :func:`of_ranks` knows a metric@k."""
    return metric.partition("@")[0] in RANK_METRICS


def of_ranks(metric: str, ranks: np.ndarray) -> np.ndarray:
    """Return the value of a rank metric for each user with one held-out item.

    Args:
        metric: one of ``RANK_METRICS`` at a cut-off, such as ndcg@10.
        ranks: int (..., n), 1 is best.

    Returns:
        float64 (..., n).

    Raises:
        KeyError: a metric that does not follow from a rank.
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
    """Distinct values and how often each occurs: rank metrics have few of them."""
    return np.unique(np.round(differences, 12), return_counts=True)


def bootstrap_interval(
    differences: np.ndarray, level: float, resamples: int, seed: int | list[int]
) -> tuple[float, float]:
    """Percentile interval of the mean of paired differences, by resampling users.

    Counts of distinct values in a resample are multinomial: drawing the counts is drawing the
    users, at the cost of the distinct values.

    Args:
        differences: float (n,), a user's difference between two models.
        level: of confidence, such as 0.95.
        resamples: number of resamples.
        seed: of the draws.

    Returns:
        lower and upper end.
    """
    values, counts = _values(differences)
    n = len(differences)
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    step = max(1, _CHUNK // len(values))
    means = np.concatenate([
        rng.multinomial(n, counts / n, size=min(step, resamples - done)) @ values / n
        for done in range(0, resamples, step)
    ])  # fmt: skip
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def sign_flip_p(differences: np.ndarray, resamples: int, seed: int | list[int]) -> float:
    """Two-sided p-value of the paired randomisation test: each user's difference changes its sign or not.

    Of c users with the same absolute difference a binomial number keep their sign: drawing
    that number is drawing the signs.

    Args:
        differences: float (n,).
        resamples: number of random sign patterns.
        seed: of the draws.

    Returns:
        p, at least 1 / (resamples + 1).
    """
    differences = np.asarray(differences, dtype=np.float64)
    values, counts = _values(np.abs(differences[differences != 0]))
    if not len(values):
        return 1.0
    observed = abs(differences.sum())
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    step = max(1, _CHUNK // len(values))
    as_large = 0
    for done in range(0, resamples, step):
        kept = rng.binomial(counts, 0.5, size=(min(step, resamples - done), len(values)))
        sums = (2 * kept - counts) @ values
        as_large += int((np.abs(sums) >= observed * (1 - _TIE)).sum())
    return (as_large + 1) / (resamples + 1)


def seeds_p(first: np.ndarray, second: np.ndarray) -> float | None:
    """Two-sided p-value of Welch's t-test between the results of two models' seeds.

    Returns:
        p; None with fewer than two seeds of either, which tell nothing about other seeds.
    """
    if len(first) < 2 or len(second) < 2:
        return None
    if np.ptp(first) == 0 and np.ptp(second) == 0:  # models without chance, such as Pop
        return 1.0 if first[0] == second[0] else 0.0
    a, b = first.var(ddof=1) / len(first), second.var(ddof=1) / len(second)
    t = (first.mean() - second.mean()) / np.sqrt(a + b)
    freedom = (a + b) ** 2 / (a**2 / (len(first) - 1) + b**2 / (len(second) - 1))
    return float(2 * stats.t.sf(abs(t), freedom))


def holm(p: list[float]) -> list[float]:
    """Holm's adjusted p-values of a family of tests, in the order given."""
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    largest = 0.0
    for place, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p) - place) * p[index]))
        adjusted[index] = largest
    return adjusted.tolist()
