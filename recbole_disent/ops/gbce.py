"""gBCE: binary cross-entropy with sampled negatives and a calibrated probability of the next item.

A. Petrov, C. Macdonald, gSASRec: Reducing Overconfidence in Sequential Recommendation Trained with Negative
Sampling, RecSys 2023. There are P positions with n negatives each; vectors have the width D.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from recbole_disent.ops.sum_with_gradient import Gradients, sum_with_gradient, wide_dtype

# Numbers of a slice of drawn vectors on a CPU: the slice is read several times, fastest within the cache.
_SLICE = 2**20


def power(negatives: int, items: int, t: float) -> float:
    """Return beta, the power of the probability of the next item (equation 11 of the paper).

    beta = alpha (t (1 - 1 / alpha) + 1 / alpha), where alpha is the share of the other items that are drawn.

    Args:
        negatives: number n of negatives of a position.
        items: number of items, without padding.
        t: 0: beta is 1, which is plain binary cross-entropy; 1: beta is alpha, with which the scores of a
            perfect model are calibrated.

    Example:
        >>> power(256, 1025, 0.0), power(256, 1025, 1.0), power(256, 1025, 0.75)
        (1.0, 0.25, 0.4375)
    """
    alpha = min(1.0, negatives / max(1, items - 1))
    return alpha * (t * (1 - 1 / alpha) + 1 / alpha)


def draw_negatives(
    targets: Tensor, negatives: int, n_items: int, rows: Tensor | None, total: int, seed: Tensor
) -> Tensor:
    """Draw the negatives of each position with equal probabilities, with replacement, without its next item.

    Args:
        targets: int64 (P,), next items >= 1.
        negatives: number n of negatives of a position.
        n_items: rows of the item table, padding included; at least 3.
        rows: int64 (P,), number of each position in the global batch; None: the positions are that batch.
        total: number of positions of the global batch.
        seed: int64 (1,), seed of the draws for the global batch.

    Returns:
        int64 (P, n).
    """
    generator = torch.Generator(targets.device).manual_seed(int(seed))
    drawn = torch.randint(1, n_items - 1, (total, negatives), generator=generator, device=targets.device)
    drawn = drawn if rows is None else drawn[rows]
    return drawn + (drawn >= targets[:, None])


def _sum_of_softplus(
    rows: Tensor, columns: Tensor, gradients: Gradients, place: Tensor, limit: int
) -> tuple[Tensor]:
    """Sum over positions and their negatives of ln(1 + exp(row . column)); see :func:`sum_with_gradient`."""
    each = max(1, place.shape[1] * rows.shape[1])
    step = max(1, min(_SLICE, limit) // each) if rows.device.type == "cpu" else max(1, limit // each)
    total = rows.new_zeros(())
    for begin in range(0, len(place), step):
        part, index = rows[begin : begin + step], place[begin : begin + step]
        drawn = columns.index_select(0, index.flatten()).view(*index.shape, -1)
        scores = torch.bmm(drawn, part[:, :, None])
        total += F.softplus(scores).sum()
        if gradients is not None:
            for_rows, for_columns = gradients
            share = scores.sigmoid_()
            for_rows[begin : begin + step] = torch.bmm(share.transpose(1, 2), drawn)[:, 0]
            torch.mul(share, part[:, None], out=drawn)
            for_columns.index_add_(0, index.flatten(), drawn.flatten(0, 1))
    return (total,)


def distinct(items: Tensor, n_items: int) -> tuple[Tensor, Tensor]:
    """Return the distinct items, int64 (U,) in ascending order, and the place of each item among them.

    Args:
        items: int64, any shape, 0 <= item < n_items.
        n_items: rows of the item table.
    """
    seen = torch.zeros(n_items, dtype=torch.bool, device=items.device)
    seen[items.flatten()] = True
    return seen.nonzero()[:, 0], (seen.cumsum(0) - 1)[items]


def gbce(
    states: Tensor,
    targets: Tensor,
    negatives: Tensor,
    n_items: int,
    vectors_of: Callable[[Tensor], Tensor],
    beta: float,
    limit: int,
) -> Tensor:
    """Sum over positions of -(beta ln sigmoid(s_y) + sum_j ln(1 - sigmoid(s_j))) / (n + 1).

    s_i = w_i . F is the score of item i, y the next item, and j runs over the n negatives.

    Args:
        states: float (P, D), F at each position that is not padding.
        targets: int64 (P,), next items >= 1.
        negatives: int64 (P, n).
        n_items: rows of the item table, padding included.
        vectors_of: int64 (U,) -> float (U, D), w of distinct items.
        beta: see :func:`power`.
        limit: largest number of scores and of components of drawn vectors in memory at a time.

    Returns:
        float ().
    """
    items, place = distinct(torch.cat([targets[:, None], negatives], 1), n_items)
    vectors = vectors_of(items)
    dtype = wide_dtype(states, vectors)
    rows, columns = states.to(dtype), vectors.to(dtype)
    own = (rows * columns.index_select(0, place[:, 0])).sum(1)
    (others,) = sum_with_gradient(rows, columns, partial(_sum_of_softplus, place=place[:, 1:], limit=limit))
    return (beta * F.softplus(-own).sum() + others) / (negatives.shape[1] + 1)
