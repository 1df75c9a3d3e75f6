"""Softmaxes over many columns that keep only a slice of the scores in memory at a time."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from recbole_disent.ops.sum_with_gradient import Gradients, sum_with_gradient, wide_dtype


def max_scores(config: Any) -> int:
    """Largest number of scores in memory at a time, from ``loss_chunk_mb`` and torch's default dtype."""
    return config["loss_chunk_mb"] * 2**20 // torch.get_default_dtype().itemsize


# Replaces -inf where all terms of a sum are excluded, so that no value becomes inf - inf.
_LOWEST = -1e30
# Subtracted from the score of an excluded term. The score is then far below _LOWEST, and its exp() is 0.
_FAR = 1e36


# 2^(x log2(e)) is exp(x), and torch computes powers of 2 three times as fast on a CPU.
LOG2_E = math.log2(math.e)


def _exp2_(x: Tensor) -> Tensor:
    """2^x in place; 0 where it is below 1e-37, because a CPU is slow with denormal numbers."""
    return F.threshold(x.clamp_(min=-125.0).exp2_(), 1e-37, 0.0, inplace=True)


class _Terms(NamedTuple):
    """Selects the exponentials that are summed; see :func:`logsumexp_of_products`."""

    scale: float
    offset: Tensor | None
    groups: Tensor | None
    own: bool
    row_index: Tensor | None
    best: bool

    def scores(
        self, rows: Tensor, columns: Tensor, begin: int, end: int, values: int
    ) -> tuple[Tensor, Tensor | None]:
        """Scores, times log2(e), of the m = end - begin results from *begin* on, of *values* results.

        Args:
            rows: float (fold, m, D).
            columns: float (C, D).

        Returns:
            float (fold, m, C) and None. With ``best``: the scores of the best rows, float (1, m, C), and the
            number of each best row in its fold, uint8 (m, C).
        """
        scores = (rows.flatten(0, 1) @ (columns * (self.scale * LOG2_E)).T).view(*rows.shape[:2], -1)
        which = None
        if self.best:
            # The best rows are chosen first: the steps below are the same for each row of a fold.
            best, which = scores[0], scores.new_zeros(scores.shape[1:], dtype=torch.uint8)
            for number in range(1, len(scores)):  # masked_fill would take ten times longer
                which = torch.maximum(which, (scores[number] > best).view(torch.uint8) * number)
                best = torch.maximum(best, scores[number])
            scores = best[None]
        if self.offset is not None:
            scores -= self.offset * LOG2_E
        if self.groups is not None:
            samples = len(self.groups)
            mine = samples if self.row_index is None else len(self.row_index)
            row_index = torch.arange(begin, end, device=rows.device) // max(1, values // max(1, mine))
            row_index = row_index if self.row_index is None else self.row_index[row_index]
            blocked = self.groups[row_index][:, None] == self.groups
            if self.own:
                blocked &= row_index[:, None] != torch.arange(samples, device=rows.device)
            if len(columns) > samples:
                blocked = blocked.repeat_interleave(len(columns) // samples, 1)
            scores.sub_(blocked.to(scores.dtype), alpha=_FAR)
        return scores, which

    @staticmethod
    def spread(share: Tensor, which: Tensor | None, fold: int) -> Tensor:
        """Undo the choice of the best rows in :meth:`scores`: (1, m, C) -> (fold, m, C)."""
        if which is None:
            return share
        whole = share.new_empty(fold, *which.shape)
        for number in range(fold):
            torch.mul(share[0], which == number, out=whole[number])
        return whole


class _LogSumExp(torch.autograd.Function):
    """See :func:`logsumexp_of_products`. The scores are computed in slices of *limit* elements.

    If one slice is enough, its softmax is kept for the backward pass. Otherwise the backward pass
    computes each slice again.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, columns: Tensor, terms: _Terms, limit: int) -> Tensor:
        values, fold, _ = rows.shape
        step = max(1, limit // max(1, len(columns) * fold))
        result = rows.new_empty(values)
        kept: list[Tensor] = []
        for begin in range(0, values, step):
            end = min(begin + step, values)
            part = rows[begin:end].transpose(0, 1).contiguous()
            scores, which = terms.scores(part, columns, begin, end, values)
            top = scores.amax((0, 2))[:, None].clamp_(min=_LOWEST)
            total = _exp2_(scores.sub_(top)).sum(2).sum(0)[:, None]
            result[begin:end] = (total.log() + top / LOG2_E)[:, 0]
            if end - begin == values:
                kept = [scores.div_(total.clamp_(min=-1 / _LOWEST)), *([] if which is None else [which])]
        ctx.save_for_backward(rows, columns, result, *kept)
        ctx.terms, ctx.step = terms, step
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        rows, columns, result, *kept = ctx.saved_tensors
        values, fold, width = rows.shape
        weight = (gradient * ctx.terms.scale)[:, None]
        for_rows, for_columns = torch.empty_like(rows), torch.zeros_like(columns)
        for begin in range(0, values, ctx.step):
            end = min(begin + ctx.step, values)
            part = rows[begin:end].transpose(0, 1).contiguous()
            if kept:
                share, which = kept[0], kept[1] if len(kept) > 1 else None
            else:
                share, which = ctx.terms.scores(part, columns, begin, end, values)
                share = _exp2_(share.sub_(result[begin:end, None].clamp(min=_LOWEST) * LOG2_E))
            share = ctx.terms.spread(share, which, fold).flatten(0, 1)
            for_part = (share @ columns).view(fold, -1, width) * weight[begin:end]
            for_rows[begin:end] = for_part.transpose(0, 1)
            for_columns += share.T @ (part * weight[begin:end]).flatten(0, 1)
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
    row_index: Tensor | None = None,
    best: bool = False,
) -> Tensor:
    """ln of the sum of exp(scale * row . column - offset) over all columns and *fold* rows.

    Args:
        rows: float (R, D); each run of *fold* rows gives one value.
        columns: float (C, D).
        scale: factor of the products.
        fold: number of rows that are summed into one value.
        offset: float (C,) or None, subtracted from each column's scores.
        groups: int64 (P,) or None, group of each of P samples; C is a multiple of P. The sum of a row
            leaves out the columns of other samples in the row's group.
        limit: largest number of scores in memory at a time.
        own: whether the sum of a row includes the columns of the row's own sample; False needs *groups*.
        row_index: int64 (p,) or None; the samples, among the P, that the rows belong to; R is a multiple
            of p. None: the rows belong to all P samples in order.
        best: whether the sum includes, for each column, only the best of the *fold* rows.

    Returns:
        float (R / fold,); -inf, without a gradient, where no term is left.

    Raises:
        ValueError: *best* with a *fold* above 256, because the numbers of the best rows are bytes.
    """
    if best and fold > 256:
        raise ValueError(f"fold: got {fold} with best=True, expected at most 256")
    wide = wide_dtype(rows, columns)
    terms = _Terms(scale, offset, groups, own, row_index, best)
    with torch.autocast(rows.device.type, enabled=False):
        folds = rows.view(len(rows) // fold, fold, rows.shape[1]).to(wide)
        return _LogSumExp.apply(folds, columns.to(wide), terms, limit)


# Scores of a slice on a CPU: the slice is read several times, which is fastest within the cache.
_SLICE = 2**19
# Fewest rows of a slice, for the matrix products.
_ROWS = 64


def memory_of_scores(like: Tensor, rows: int, columns: int) -> Tensor:
    """Memory for the scores of a slice, where each row starts at a multiple of 64 bytes if *like* is float.

    With other starts, the matrix products of a CPU take a tenth longer. The limit of a caller
    does not count the elements that fill a row, at most 15.

    Returns:
        a tensor (rows, columns) of the dtype and device of *like*, with any values.
    """
    return like.new_empty(rows, -(-columns // 16) * 16)[:, :columns]


# Sums of exponentials between these bounds have all their digits in single precision.
_SMALL, _LARGE = 1e-30, 1e30


def _exponentials(rows: Tensor, columns: Tensor, out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Exponentials of all products, exp(row . column), each row times a factor of its own.

    Args:
        rows: float (R, D).
        columns: float (C, D).
        out: float (R, C), memory for the exponentials.

    Returns:
        *out*; the sums of its rows, float (R, 1); ln of the sums without the factors, float (R, 1).
    """
    rows = rows * LOG2_E
    if rows.device.type == "cpu":
        # Scores are rarely large, and then no maximum has to be subtracted.
        each = torch.mm(rows, columns.T, out=out).exp2_().sum(1, keepdim=True)
        if bool(((each > _SMALL) & (each < _LARGE)).all()):
            return out, each, each.log()
    scores = torch.mm(rows, columns.T, out=out)
    top = scores.amax(1, keepdim=True)
    each = scores.sub_(top).exp2_().sum(1, keepdim=True)
    return out, each, each.log() + top / LOG2_E


def sum_of_logsumexp(rows: Tensor, columns: Tensor, limit: int = 2**26) -> Tensor:
    """Sum over the rows of ln of the sum over the columns of exp(row . column).

    A softmax over all items uses this function: it computes the scores in slices, and only once.

    Args:
        rows: float (R, D).
        columns: float (C, D), C >= 1.
        limit: largest number of scores in memory at a time.

    Returns:
        float ().
    """

    def compute(rows: Tensor, columns: Tensor, gradients: Gradients) -> tuple[Tensor]:
        step = _SLICE // len(columns) if rows.device.type == "cpu" else len(rows)
        step = max(1, min(max(step, _ROWS), limit // len(columns)))
        total = rows.new_zeros(())
        buffer = memory_of_scores(rows, min(step, len(rows)), len(columns))
        for begin in range(0, len(rows), step):
            part = rows[begin : begin + step]
            terms, each, logs = _exponentials(part, columns, buffer[: len(part)])
            total += logs.sum()
            if gradients is not None:
                for_rows, for_columns = gradients
                torch.mm(terms, columns, out=for_rows[begin : begin + step]).div_(each)
                for_columns.addmm_(terms.T, part / each)
        return (total,)

    return sum_with_gradient(rows, columns, compute)[0]
