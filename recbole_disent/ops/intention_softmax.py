"""Softmax over all items, or over a shared sample of them, for sequences with K intention vectors.

There are P pairs (past, next item) and K intentions; vectors have the width D. The C columns are the
items of the softmax.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from recbole_disent.ops.chunked_softmax import LOG2_E, memory_of_scores
from recbole_disent.ops.sum_with_gradient import Gradients, sum_with_gradient, wide_dtype
from recbole_disent.parallel import process_group

# Scores of a slice on a CPU: the slice is read several times, which is fastest within the cache.
_SLICE = 2**19
# Fewest rows (pairs times intentions) of a slice on a CPU, for the matrix products.
_ROWS = 64


class Columns(NamedTuple):
    """The items of a softmax.

    Attributes:
        vectors: float (C, D), item embeddings.
        own: int64 (P,), the column of each pair's next item.
        log_inclusion: float (C,) or None; ln of the probability that an item is among the columns.
            None: the columns are all items.
        certain: int64 (2, n), with *log_inclusion*; pairs and the columns that each pair is certain to
            have, in ascending order of the pairs, without repeats. The own column of a pair is one of them.
    """

    vectors: Tensor
    own: Tensor
    log_inclusion: Tensor | None = None
    certain: Tensor | None = None


def _weighted_logsumexp(
    phi: Tensor,
    vectors: Tensor,
    gradients: Gradients,
    weights: Tensor,
    log_inclusion: Tensor | None,
    certain: Tensor | None,
    best: bool,
    limit: int,
) -> tuple[Tensor, Tensor]:
    """See :func:`weighted_logsumexp` and :func:`sum_with_gradient`."""
    pairs, intentions, width = phi.shape
    count = len(vectors)
    step = _pairs_of_a_slice(pairs, intentions, count, limit, phi.device.type == "cpu")
    values = phi.new_empty(pairs)
    buffer = memory_of_scores(phi, min(step, pairs) * intentions, count)
    for begin in range(0, pairs, step):
        part = phi[begin : begin + step]
        size = len(part)
        rows = part.flatten(0, 1) * LOG2_E
        scores = torch.mm(rows, vectors.T, out=buffer[: len(rows)]).view(size, intentions, count)
        if log_inclusion is not None and certain is not None:
            scores.sub_(log_inclusion * LOG2_E)
            first, last = torch.searchsorted(certain[0], torch.tensor([begin, begin + size]).to(certain))
            pair, column = certain[:, first:last]
            scores[pair - begin, :, column] += log_inclusion[column, None] * LOG2_E
        terms = _best(scores) if best and intentions > 1 else scores
        top = terms.amax((1, 2), keepdim=True)
        if terms is scores:
            total = scores.sub_(top).exp2_().sum((1, 2), keepdim=True)
        else:
            share = (terms - top).exp2_()
            total = share.sum((1, 2), keepdim=True)
            if gradients is not None:
                scores.eq_(terms)
                # Intentions with equal scores share the gradient of one.
                scores *= share.div_(scores.sum(1, keepdim=True))
        values[begin : begin + step] = (total.log() + top / LOG2_E).view(size)
        if gradients is not None:
            for_phi, for_vectors = gradients
            scale = weights[begin : begin + step, None, None] / total
            flat = scores.flatten(0, 1)
            torch.mm(flat, vectors, out=for_phi[begin : begin + step].view(-1, width))
            for_phi[begin : begin + step] *= scale
            for_vectors.addmm_(flat.T, (part * scale).flatten(0, 1))
    return (values * weights).sum(), values


def _pairs_of_a_slice(pairs: int, intentions: int, count: int, limit: int, cpu: bool) -> int:
    each = intentions * count
    step = max(_SLICE // each, -(-_ROWS // intentions)) if cpu else max(1, pairs)
    return max(1, min(step, limit // each))


def _best(scores: Tensor) -> Tensor:
    """Best score over k: (p, K, C) -> (p, 1, C)."""
    best = scores[:, 0]
    for k in range(1, scores.shape[1]):  # twice as fast as amax over a dimension that is not the last
        best = torch.maximum(best, scores[:, k])
    return best[:, None]


def weighted_logsumexp(
    phi: Tensor,
    columns: Columns,
    weights: Tensor | None = None,
    best: bool = False,
    limit: int = 2**26,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Sum over the pairs of weight * ln of the sum over items and intentions of exp(scale * h . phi).

    With ``log_inclusion``, each term whose item is not certain to be among the columns is divided by the
    probability that the item is among the columns. The sum is then an unbiased estimate of the sum over
    all items (Horvitz and Thompson, 1952).

    Args:
        phi: float (P, K, D).
        columns: C >= 1 items.
        weights: float (P,), without a gradient; None: 1.
        best: whether the sum includes only the best of an item's K scores.
        limit: largest number of scores in memory at a time.
        scale: factor of the products; None: 1 / sqrt(D).

    Returns:
        The weighted sum, float (), and each pair's logarithm, float (P,), without a gradient.
    """
    vectors = columns.vectors
    dtype = wide_dtype(phi, vectors)
    factor = phi.shape[-1] ** -0.5 if scale is None else scale
    inclusion = columns.log_inclusion
    compute = partial(
        _weighted_logsumexp,
        weights=phi.new_ones(len(phi), dtype=dtype) if weights is None else weights.to(dtype),
        log_inclusion=None if inclusion is None else inclusion.to(dtype),
        certain=columns.certain,
        best=best,
        limit=limit,
    )
    total, values = sum_with_gradient(phi.to(dtype) * factor, vectors, compute)
    return total, values


def own_scores(phi: Tensor, vectors: Tensor) -> Tensor:
    """h . phi^(k) / sqrt(D) of one item for each row: (P, K, D) and (P, D) -> (P, K)."""
    return torch.einsum("pkd,pd->pk", phi, vectors) * phi.shape[-1] ** -0.5


def all_items(table: Tensor, targets: Tensor) -> Columns:
    """Columns of all items except the padding item.

    Args:
        table: float (n_items, D), row 0 belongs to the padding item.
        targets: int64 (P,), next items >= 1.
    """
    return Columns(table[1:], targets - 1)


def sample(
    n_items: int,
    number: int,
    targets: Tensor,
    users: Tensor,
    blocks: process_group.Blocks,
    log_popularity: Tensor,
    vectors_of: Callable[[Tensor], Tensor],
) -> Columns:
    """Columns of a sample that all processes share: random items, and the next items of the batch.

    The next items of a pair's own user are certain to be in the sample. If they counted as draws by
    popularity, the loss would push items that the user likes away from the user.

    Args:
        n_items: rows of the item table, padding included.
        number: number of items that are drawn at random.
        targets: int64 (P,), next items of this process's pairs.
        users: int64 (P,), users of these pairs.
        blocks: how the global batch is divided.
        log_popularity: float (n_items,), ln of each item's share of the training clicks.
        vectors_of: int64 (C,) -> float (C, D), embeddings of items.
    """
    random = process_group.from_first(draw_items(n_items, number, targets.device))
    every = blocks.gather(targets)
    items = torch.cat([random, every]).unique()
    inclusion = log_inclusion(log_popularity[items], blocks.total, len(random) / (n_items - 1))
    pair, other = (users[:, None] == blocks.gather(users)).nonzero(as_tuple=True)
    places = (pair * len(items) + torch.searchsorted(items, every[other])).unique()
    certain = torch.stack([places // len(items), places % len(items)])
    return Columns(vectors_of(items), torch.searchsorted(items, targets), inclusion, certain)


def draw_items(n_items: int, number: int, device: torch.device) -> Tensor:
    """Draw distinct items with equal probabilities, in any order.

    The distinct values of independent draws are a random set, and so is a random part of them. If there are
    many more items than draws, this takes much less time than a permutation of all items.

    Args:
        n_items: rows of the item table, padding included.
        number: number of items; all items are returned if there are fewer.
        device: device of the result.

    Returns:
        int64 (number or n_items - 1,), items from 1 on.
    """
    if n_items > 4 * number:
        distinct = torch.randint(1, n_items, (number + number // 4 + 8,), device=device).unique()
        if len(distinct) >= number:  # fewer are very unlikely
            return distinct[torch.randperm(len(distinct), device=device)[:number]]
    return torch.randperm(n_items - 1, device=device)[:number] + 1


def log_inclusion(log_popularity: Tensor, pairs: int, drawn: float) -> Tensor:
    """ln of the probability that an item is in the sample: ln(1 - (1 - share)^P (1 - drawn)).

    The next items are treated as draws in proportion to the items' shares of the training clicks.

    Args:
        log_popularity: float (C,), ln of each item's share of the training clicks.
        pairs: number P of next items in the sample.
        drawn: share of all items that are drawn at random, without replacement.

    Returns:
        float (C,).
    """
    # The limit avoids ln 0 for an item with all clicks.
    never = pairs * torch.log1p(-log_popularity.exp().clamp(max=1 - 1e-6))
    # 1 - exp(x) would lose the digits of a rare item.
    return torch.log(-torch.expm1(never + (math.log1p(-drawn) if drawn < 1 else -math.inf)))
