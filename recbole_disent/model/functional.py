"""Operations that take most of a training step, written so that they do not."""

from __future__ import annotations

from typing import Any, NamedTuple

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


# Stands for -inf where all terms of a sum are excluded, so that nothing is inf - inf.
_LOWEST = -1e30


class _Terms(NamedTuple):
    """Which exponentials are summed; see :func:`logsumexp_of_products`."""

    scale: float
    fold: int
    offset: Tensor | None
    groups: Tensor | None
    own: bool
    place: Tensor | None
    best: bool

    def scores(self, rows: Tensor, columns: Tensor, begin: int, end: int) -> tuple[Tensor, Tensor | None]:
        """Scores of the n = (end - begin) / fold values of the rows begin .. end - 1.

        Returns:
            float (n, fold * C) and None; of the best rows (n, C) and which they are, int64 (n, C).
        """
        scores = rows[begin:end] @ (columns * self.scale).T
        if self.offset is not None:
            scores -= self.offset
        if self.groups is not None:
            samples = len(self.groups)
            mine = samples if self.place is None else len(self.place)
            place = torch.arange(begin, end, device=rows.device) // max(1, len(rows) // max(1, mine))
            place = place if self.place is None else self.place[place]
            blocked = self.groups[place][:, None] == self.groups
            if self.own:
                blocked &= place[:, None] != torch.arange(samples, device=rows.device)
            scores.masked_fill_(blocked.repeat_interleave(len(columns) // samples, 1), float("-inf"))
        if not self.best:
            return scores.view((end - begin) // self.fold, -1), None
        top = scores.view((end - begin) // self.fold, self.fold, -1).max(1)
        return top.values, top.indices

    def spread(self, share: Tensor, which: Tensor | None, rows: int) -> Tensor:
        """The way back of :meth:`scores`: to (rows, C)."""
        if which is None:
            return share.view(rows, -1)
        whole = share.new_zeros(len(share), self.fold, share.shape[1])
        return whole.scatter_(1, which[:, None], share[:, None]).view(rows, -1)


class _LogSumExp(torch.autograd.Function):
    """See :func:`logsumexp_of_products`. Scores exist in slices of *limit* elements only.

    Where one slice is enough, its softmax is kept for the gradient; else it is made again.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, columns: Tensor, terms: _Terms, limit: int) -> Tensor:
        fold = terms.fold
        step = max(1, limit // max(1, len(columns) * fold)) * fold
        result = rows.new_empty(len(rows) // fold)
        kept = None
        for begin in range(0, len(rows), step):
            end = min(begin + step, len(rows))
            scores, which = terms.scores(rows, columns, begin, end)
            top = scores.amax(1, keepdim=True).clamp_(min=_LOWEST)
            total = scores.sub_(top).exp_().sum(1, keepdim=True)
            result[begin // fold : end // fold] = (total.log() + top)[:, 0]
            if end - begin == len(rows):
                kept = terms.spread(scores.div_(total.clamp_(min=-1 / _LOWEST)), which, len(rows))
        ctx.save_for_backward(rows, columns, result, *([] if kept is None else [kept]))
        ctx.terms, ctx.step = terms, step
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        rows, columns, result, *kept = ctx.saved_tensors
        terms, fold = ctx.terms, ctx.terms.fold
        weight = (gradient * terms.scale).repeat_interleave(fold)[:, None]
        for_rows, for_columns = torch.empty_like(rows), torch.zeros_like(columns)
        for begin in range(0, len(rows), ctx.step):
            end = min(begin + ctx.step, len(rows))
            if kept:
                share = kept[0]
            else:
                scores, which = terms.scores(rows, columns, begin, end)
                scores = scores.sub(result[begin // fold : end // fold, None].clamp(min=_LOWEST)).exp_()
                share = terms.spread(scores, which, end - begin)
            for_rows[begin:end] = (share @ columns) * weight[begin:end]
            for_columns += share.T @ (rows[begin:end] * weight[begin:end])
        return for_rows, for_columns, None, None


def logsumexp_of_products(
    rows: Tensor,
    columns: Tensor,
    scale: float,
    fold: int = 1,
    offset: Tensor | None = None,
    groups: Tensor | None = None,
    limit: int = 2**26,
    own: bool = True,
    place: Tensor | None = None,
    best: bool = False,
) -> Tensor:
    """ln of the sum of exp(scale * row . column - offset) over all columns and *fold* rows.

    Args:
        rows: float (R, D); *fold* rows in succession belong together.
        columns: float (C, D).
        scale: of the products.
        fold: rows that are summed into one value.
        offset: float (C,) or None, taken off each column's scores.
        groups: int64 (P,) or None; C is a multiple of P. Columns of another sample of a row's
            group take no part.
        limit: scores that may exist at a time.
        own: whether the columns of a row's own sample take part; False needs *groups*.
        place: int64 (p,) or None; R is a multiple of p: which of the P samples the rows are of.
            None: of all P, in their order.
        best: whether of each column only the best of the *fold* rows takes part.

    Returns:
        float (R / fold,); -inf, without a gradient, where no term is left.
    """
    # Sums of many exponentials are not for half precision, whatever made the vectors.
    wide = torch.promote_types(torch.promote_types(rows.dtype, columns.dtype), torch.float32)
    terms = _Terms(scale, fold, offset, groups, own, place, best)
    with torch.autocast(rows.device.type, enabled=False):
        return _LogSumExp.apply(rows.to(wide), columns.to(wide), terms, limit)
