"""Sampled candidates, which are drawn once per (data set, split, seed) and shared by all models."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from logging import getLogger

import numpy as np

from recbole_disent.files import write_atomically
from recbole_disent.hashing import digest

# Number of rounds of rejection sampling, after which the remaining rows are drawn exactly.
_ROUNDS = 8
_EXACT_CHUNK = 2**24


@dataclass(frozen=True)
class Candidates:
    """The k negatives of each held-out pair (user, item).

    Attributes:
        keys: int64 (R,), user * n_items + item, ascending and distinct.
        negatives: int32 (R, k), distinct within a row; 0 where a user has fewer than k possible negatives.
        n_items: number of items, including padding.
    """

    keys: np.ndarray
    negatives: np.ndarray
    n_items: int

    @property
    def short_rows(self) -> int:
        """Number of rows with fewer than k negatives, because the user's history has nearly all items."""
        return int((self.negatives == 0).any(1).sum())

    @property
    def hash(self) -> str:
        """Digest of all rows, which is equal for equal candidates."""
        return digest("candidates", self.keys, self.negatives)

    def of(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Return the negatives of B held-out rows, int64 (B, k).

        Args:
            users, items: int (B,), the held-out rows.

        Raises:
            KeyError: no candidates were drawn for one of the rows.
        """
        keys = users.astype(np.int64) * self.n_items + items
        rows = np.searchsorted(self.keys, keys).clip(max=len(self.keys) - 1)
        if not np.array_equal(self.keys[rows], keys):
            raise KeyError("no candidates were drawn for some of these rows")
        return self.negatives[rows].astype(np.int64)


def popularity(items: np.ndarray, n_items: int) -> np.ndarray:
    """Return the number of events of each item: int64 (n_items,)."""
    return np.bincount(items, minlength=n_items)


def draw(
    users: np.ndarray,
    items: np.ndarray,
    history: tuple[np.ndarray, np.ndarray],
    weights: np.ndarray,
    k: int,
    entropy: list[int],
) -> Candidates:
    """Draw k distinct negatives for each held-out row from the items outside the user's history.

    Items are drawn without replacement, with probabilities proportional to their weights. Items of weight 0
    are drawn, uniformly, only if a user has no other items left.

    Args:
        users, items: int (R,), held-out rows in any order; equal rows share their candidates.
        history: users and items of all events of all parts, including the held-out events.
        weights: float (n_items,), >= 0; the weight of item 0 (padding) is ignored.
        k: number of negatives for each row.
        entropy: numbers that seed the draw, such as [seed, split].
    """
    n_items = len(weights)
    keys = np.unique(users.astype(np.int64) * n_items + items)
    row_users = keys // n_items
    taken = np.unique(history[0].astype(np.int64) * n_items + history[1])
    rng = np.random.default_rng(np.random.SeedSequence([*entropy, k, n_items]))
    weights = weights.astype(np.float64).copy()
    weights[0] = 0.0
    negatives = np.zeros((len(keys), k), dtype=np.int32)
    filled = np.zeros(len(keys), dtype=np.int64)
    cumulative = np.cumsum(weights)
    for _ in range(_ROUNDS if cumulative[-1] > 0 else 0):
        open_rows = np.flatnonzero(filled < k)
        if not len(open_rows):
            break
        _reject_round(open_rows, row_users, taken, cumulative, negatives, filled, rng)
    rest = np.flatnonzero(filled < k)
    step = max(1, _EXACT_CHUNK // n_items)
    for begin in range(0, len(rest), step):
        rows = rest[begin : begin + step]
        negatives[rows] = _complete(negatives[rows], row_users[rows], taken, weights, rng)
    return Candidates(keys, negatives, n_items)


def _reject_round(
    rows: np.ndarray,
    row_users: np.ndarray,
    taken: np.ndarray,
    cumulative: np.ndarray,
    negatives: np.ndarray,
    filled: np.ndarray,
    rng: np.random.Generator,
) -> None:
    """Draw items for all incomplete rows, and keep new items outside the history in the order of the draw."""
    k, n_items = negatives.shape[1], len(cumulative)
    width = int(1.5 * (k - filled[rows].min())) + 8
    point = rng.random((len(rows), width)) * cumulative[-1]
    drawn = np.searchsorted(cumulative, point, side="right").clip(max=n_items - 1)
    keys = row_users[rows, None] * n_items + drawn
    position = np.searchsorted(taken, keys).clip(max=len(taken) - 1)
    good = taken[position] != keys
    # An item is a repeat if an earlier round, or a column further left in this round, has it.
    both = np.concatenate([negatives[rows], np.where(good, drawn, 0)], axis=1)
    order = np.argsort(both, axis=1, kind="stable")
    ordered = np.take_along_axis(both, order, 1)
    repeat = np.zeros(both.shape, dtype=bool)
    repeat[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    again = np.zeros_like(repeat)
    np.put_along_axis(again, order, repeat, 1)
    good &= ~again[:, k:]
    slot = filled[rows, None] + np.cumsum(good, axis=1) - 1
    good &= slot < k
    row, column = np.nonzero(good)
    negatives[rows[row], slot[row, column]] = drawn[row, column]
    filled[rows] += good.sum(1)


def _complete(
    have: np.ndarray,
    users: np.ndarray,
    taken: np.ndarray,
    weights: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Complete rows exactly by the Gumbel top-k trick.

    The items with the largest sums of log-weight and Gumbel noise are a weighted draw without replacement.
    """
    n_items, k = len(weights), have.shape[1]
    keys = rng.gumbel(size=(len(users), n_items))
    positive = weights > 0
    # Items of weight 0 rank after all others, because Gumbel noise is far below 1e6.
    keys += np.where(positive, np.log(np.where(positive, weights, 1.0)), -1e6)
    for number, user in enumerate(users):
        low, high = np.searchsorted(taken, [user * n_items, (user + 1) * n_items])
        keys[number, taken[low:high] - user * n_items] = -np.inf
    keys[:, 0] = -np.inf
    kept = np.where(have > 0, np.arange(k)[None], -1)
    row, column = np.nonzero(kept >= 0)
    # The items that earlier rounds drew come first, in their order.
    keys[row, have[row, column]] = 1e9 - column
    best = np.argsort(-keys, axis=1, kind="stable")[:, :k]
    if best.shape[1] < k:
        best = np.pad(best, ((0, 0), (0, k - best.shape[1])))
        keys[:, 0] = -np.inf
    return np.where(np.isinf(np.take_along_axis(keys, best, 1)), 0, best).astype(np.int32)


def cached(path: str | None, make: Callable[[], Candidates]) -> Candidates:
    """Return the candidates in the file *path*, or draw and store them.

    If the file is damaged, the candidates are drawn again; the same draw gives the same candidates.

    Args:
        path: path of the file; None means that the candidates are drawn but not stored.
        make: function that draws the candidates.
    """
    if path is not None and os.path.isfile(path):
        try:
            with np.load(path, allow_pickle=False) as stored:
                return Candidates(stored["keys"], stored["negatives"], int(stored["n_items"]))
        except Exception as error:  # damaged bytes can raise any exception
            getLogger().warning(
                f"{path}: the file cannot be read ({type(error).__name__}); the candidates are drawn again"
            )
    drawn = make()
    if path is not None:
        with write_atomically(path) as file:
            np.savez_compressed(
                file, keys=drawn.keys, negatives=drawn.negatives, n_items=np.int64(drawn.n_items)
            )
    return drawn
