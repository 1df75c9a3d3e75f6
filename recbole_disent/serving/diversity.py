"""Lists that are diverse by design: by the intentions of a history, or by item vectors."""

from __future__ import annotations

import torch
from torch import Tensor

from recbole_disent.serving.select import NEVER

Best = tuple[Tensor, Tensor]  # scores and columns of the best items, (B, k) each


def pool_size(k: int) -> int:
    """How many of the best items MMR chooses a list of *k* from."""
    return max(5 * k, 100)


def weights(shares: Tensor, amount: float) -> Tensor:
    """Shares of a list that its sources fill: the plain scores first, then each intention.

    Up to 0.5 places go from the plain list to the intentions that the history holds, in proportion
    to their shares in it. From 0.5 to 1 these shares become equal, so that at 1 the lists of all intentions
    alternate.

    Args:
        shares: float (B, K), share of each intention in the history.
        amount: in [0, 1].

    Returns:
        float (B, K + 1), rows sum to 1.
    """
    by_quota = min(2 * amount, 1.0)
    equal = max(2 * amount - 1, 0.0)
    mixed = shares * (1 - equal) + equal / shares.shape[1]
    plain = torch.full_like(shares[:, :1], 1 - by_quota)
    return torch.cat([plain, mixed * by_quota], 1)


def interleave(sources: list[Best], weights: Tensor) -> tuple[Tensor, Tensor]:
    """Fill lists from several sources: the next place goes to the source that is furthest below its share.

    Args:
        sources: S lists for each row, best first; a score of -inf ends a list.
        weights: float (B, S), share of the places for each source.

    Returns:
        columns, int64 (B, k), -1 behind the end of a list, and the source of each, int64 (B, k).
    """
    values = torch.stack([scores for scores, _ in sources], 1)
    columns = torch.stack([places for _, places in sources], 1)  # (B, S, k)
    rows, _, k = columns.shape
    free = values > NEVER
    given = torch.zeros_like(weights)
    chosen = columns.new_full((rows, k), -1)
    source = columns.new_zeros((rows, k))
    row = torch.arange(rows, device=columns.device)
    for place in range(k):
        able = free.any(2)
        # A source without a share waits until all others are empty.
        behind = (weights * (place + 1) - given).masked_fill(weights == 0, -2.0 * k)
        best = behind.masked_fill(~able, NEVER).argmax(1)
        first = free[row, best].byte().argmax(1)
        item = columns[row, best, first]
        any_left = able.any(1)
        chosen[:, place] = torch.where(any_left, item, chosen[:, place])
        source[:, place] = best
        given[row, best] += 1
        free &= columns != item[:, None, None]
    return chosen, source


def mmr(values: Tensor, columns: Tensor, table: Tensor, k: int, amount: float) -> Best:
    """Maximal marginal relevance (J. Carbonell, J. Goldstein, SIGIR 1998) among the best items.

    Each place goes to the item with the greatest (1 - amount) * relevance - amount * likeness, where
    relevance is the score, brought to [0, 1] within the row, and likeness the greatest cosine with the items
    that are in the list.

    Args:
        values, columns: the best items of each row, (B, P) each; a score of -inf ends a list.
        table: float (C, D), vectors of the columns.
        k: length of the lists.
        amount: in [0, 1].

    Returns:
        scores and columns, (B, min(k, P)) each.
    """
    k = min(k, values.shape[1])
    vectors = torch.nn.functional.normalize(table[columns], dim=-1)
    real = values > NEVER
    low = values.masked_fill(~real, float("inf")).amin(1, keepdim=True)
    high = values[:, :1]
    relevance = ((values - low) / (high - low).clamp(min=1e-12)).masked_fill(~real, 0.0)
    nearest = torch.zeros_like(values)
    free = real.clone()
    row = torch.arange(len(values), device=values.device)
    picked = []
    for place in range(k):
        gain = (1 - amount) * relevance - amount * nearest
        best = gain.masked_fill(~free, NEVER).argmax(1)
        done = ~free.any(1)
        picked.append(torch.where(done, -1, best))
        free[row, best] = False
        # To one item at a time, because the likenesses of all pairs are P * P numbers for each query.
        likeness = (vectors @ vectors[row, best, :, None])[:, :, 0]
        nearest = likeness if place == 0 else torch.maximum(nearest, likeness)
    index = torch.stack(picked, 1)
    ended = index < 0
    index = index.clamp(min=0)
    return values.gather(1, index).masked_fill(ended, NEVER), columns.gather(1, index)
