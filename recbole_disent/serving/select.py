"""The k best items of each row of scores, exactly; ties go to the item with the smaller number."""

from __future__ import annotations

import torch
from torch import Tensor

from recbole_disent.errors import UserError

# Items of a block. Only the k blocks with the greatest maxima can hold one of the k best items, so
# that a row is read once and sorted never.
BLOCK = 64
NEVER = float("-inf")


def refuse_nan(found: bool) -> None:
    """Raise :class:`UserError` if a score or a vector that is no number was *found*."""
    if found:
        raise UserError("the model gave scores that are not numbers (NaN): its training diverged")


def padded_width(n: int) -> int:
    """Return *n*, rounded up to whole blocks."""
    return -(-n // BLOCK) * BLOCK


def top_items(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Find the k best columns of each row.

    Args:
        scores: float (B, C), contiguous; -inf for what takes no part. Fast where C is a multiple of
            ``BLOCK``.
        k: length of the lists, at least 1.

    Returns:
        scores, float (B, k'), and columns, int64 (B, k'), where k' = min(k, C): the best first, and of equal
        scores the smaller column first. A list that cannot be filled ends with -inf.
    """
    rows, width = scores.shape
    k = min(k, width)
    blocks = width // BLOCK
    if width % BLOCK or blocks <= 2 * k:
        values, columns = _first(scores, None, k)
        tied = values[:, -1] == values[:, k - 1] if values.shape[1] > k else None
    else:
        maxima = scores.view(rows, blocks, BLOCK).amax(2)
        best, chosen = maxima.topk(k + 1, dim=1)
        inside = torch.arange(BLOCK, device=scores.device)
        places = (chosen[:, :k, None] * BLOCK + inside).flatten(1)
        values, columns = _first(scores.gather(1, places), places, k)
        least = values[:, k - 1]
        tied = (values[:, -1] == least) | ((best[:, k] == best[:, k - 1]) & (best[:, k - 1] == least))
    values, columns = values[:, :k], columns[:, :k]
    # Rows whose last item has equals outside of the list: of these the smallest columns belong into it.
    if tied is not None:
        for row in (tied & (values[:, k - 1] > NEVER)).nonzero()[:, 0].tolist():
            able = (scores[row] >= values[row, k - 1]).nonzero()[:, 0]
            order = scores[row, able].sort(descending=True, stable=True).indices[:k]
            columns[row] = able[order]
            values[row] = scores[row, able[order]]
    columns, order = columns.sort(dim=1)
    values, order = values.gather(1, order).sort(dim=1, descending=True, stable=True)
    return values, columns.gather(1, order)


def _first(scores: Tensor, places: Tensor | None, k: int) -> tuple[Tensor, Tensor]:
    """One more than k values where there are more, and their places."""
    values, index = scores.topk(min(k + 1, scores.shape[1]), dim=1)
    return values, index if places is None else places.gather(1, index)
