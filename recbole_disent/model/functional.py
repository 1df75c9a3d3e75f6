"""Operations that take most of a training step, written so that they do not."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class _ByteDropout(torch.autograd.Function):
    """Dropout from random bytes: eight elements for one random number, not one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cut: int) -> Tensor:
        n = x.numel()
        noise = torch.empty((n + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
        keep = noise.view(torch.uint8)[:n].view(x.shape) >= cut
        mask = keep.to(x.dtype).mul_(256 / (256 - cut))
        ctx.save_for_backward(mask)
        return x * mask

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.saved_tensors[0], None


class Dropout(nn.Module):
    """Dropout; on a CPU with a probability rounded to 1/256 and five times faster than torch's.

    Kept elements are scaled by the rounded probability, so that the expectation is exact.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        if not self.training or self.p == 0:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.p)
        return _ByteDropout.apply(x, min(round(self.p * 256), 255))

    def extra_repr(self) -> str:
        return f"p={self.p}"


class _LogSumExp(torch.autograd.Function):
    """See :func:`logsumexp_of_products`. Scores exist in slices of *limit* elements only.

    Where one slice is enough, its softmax is kept for the gradient; else it is made again.
    """

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        columns: Tensor,
        scale: float,
        fold: int,
        offset: Tensor | None,
        groups: tuple[Tensor, bool] | None,
        limit: int,
    ) -> Tensor:
        step = max(1, limit // max(1, len(columns) * fold)) * fold
        result = rows.new_empty(len(rows) // fold)
        kept = None
        for begin in range(0, len(rows), step):
            end = min(begin + step, len(rows))
            scores = _scores(rows, columns, scale, fold, offset, groups, begin, end)
            top = scores.amax(1, keepdim=True)
            total = scores.sub_(top).exp_().sum(1, keepdim=True)
            result[begin // fold : end // fold] = (total.log() + top)[:, 0]
            if end - begin == len(rows):
                kept = scores.div_(total)
        ctx.save_for_backward(rows, columns, result, *([] if kept is None else [kept]))
        ctx.arguments = scale, fold, offset, groups, step
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        rows, columns, result, *kept = ctx.saved_tensors
        scale, fold, offset, groups, step = ctx.arguments
        weight = (gradient * scale).repeat_interleave(fold)[:, None]
        for_rows, for_columns = torch.empty_like(rows), torch.zeros_like(columns)
        for begin in range(0, len(rows), step):
            end = min(begin + step, len(rows))
            if kept:
                share = kept[0]
            else:
                share = _scores(rows, columns, scale, fold, offset, groups, begin, end)
                share.sub_(result[begin // fold : end // fold, None]).exp_()
            share = share.view(end - begin, len(columns))
            for_rows[begin:end] = (share @ columns) * weight[begin:end]
            for_columns += share.T @ (rows[begin:end] * weight[begin:end])
        return for_rows, for_columns, None, None, None, None, None


def _scores(
    rows: Tensor,
    columns: Tensor,
    scale: float,
    fold: int,
    offset: Tensor | None,
    groups: tuple[Tensor, bool] | None,
    begin: int,
    end: int,
) -> Tensor:
    """Scores of the rows begin .. end - 1: ((end - begin) / fold, fold * n columns)."""
    scores = rows[begin:end] @ (columns * scale).T
    if offset is not None:
        scores -= offset
    if groups is not None:
        group, own = groups
        per_row, per_column = len(rows) // len(group), len(columns) // len(group)
        place = torch.arange(begin, end, device=rows.device) // per_row
        blocked = group[place][:, None] == group
        if own:
            blocked &= place[:, None] != torch.arange(len(group), device=rows.device)
        scores.masked_fill_(blocked.repeat_interleave(per_column, 1), float("-inf"))
    return scores.view((end - begin) // fold, -1)


def logsumexp_of_products(
    rows: Tensor,
    columns: Tensor,
    scale: float,
    fold: int = 1,
    offset: Tensor | None = None,
    groups: Tensor | None = None,
    limit: int = 2**26,
    own: bool = True,
) -> Tensor:
    """ln of the sum of exp(scale * row . column - offset) over all columns and *fold* rows.

    Args:
        rows: float (R, D); *fold* rows in succession belong together.
        columns: float (C, D).
        scale: of the products.
        fold: rows that are summed into one value.
        offset: float (C,) or None, taken off each column's scores.
        groups: int64 (P,) or None; R and C are multiples of P. Columns of another sample of
            a row's group take no part.
        limit: scores that may exist at a time.
        own: whether the columns of a row's own sample take part; False needs *groups*.

    Returns:
        float (R / fold,).
    """
    parts = None if groups is None else (groups, own)
    # Sums of many exponentials are not for half precision, whatever made the vectors.
    wide = torch.promote_types(torch.promote_types(rows.dtype, columns.dtype), torch.float32)
    with torch.autocast(rows.device.type, enabled=False):
        return _LogSumExp.apply(rows.to(wide), columns.to(wide), scale, fold, offset, parts, limit)
