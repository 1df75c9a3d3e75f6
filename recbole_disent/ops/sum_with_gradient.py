"""Sums over slices of scores whose gradient is computed together with the value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Gradients for the rows, float (R, ...), and the columns, float (C, D); None if no gradient is wanted.
Gradients = tuple[Tensor, Tensor] | None


class _SumWithGradient(torch.autograd.Function):
    """See :func:`sum_with_gradient`."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, columns: Tensor, compute: Any, wanted: bool) -> tuple[Tensor, ...]:
        gradients = (torch.empty_like(rows), torch.zeros_like(columns)) if wanted else None
        total, *others = compute(rows, columns, gradients)
        if gradients is not None:
            ctx.save_for_backward(*gradients)
        ctx.mark_non_differentiable(*others)
        return total, *others

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Any, ...]:
        for_rows, for_columns = ctx.saved_tensors
        return for_rows * gradient, for_columns * gradient, None, None


def wide_dtype(*tensors: Tensor) -> torch.dtype:
    """Return the dtype of sums over the tensors: many exponentials need single precision at least."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype


def sum_with_gradient(
    rows: Tensor, columns: Tensor, compute: Callable[[Tensor, Tensor, Gradients], tuple[Tensor, ...]]
) -> tuple[Tensor, ...]:
    """Compute a sum and its gradient in one pass.

    Each slice of scores is used while it is in the cache, and no slice is kept or computed twice: the
    backward pass only multiplies the stored gradient by a factor.

    Args:
        rows: float (R, ...).
        columns: float (C, D).
        compute: function of the rows, the columns and the memory for their gradients. Both tensors are
            contiguous and in single precision at least. The function writes every element of the gradient
            of the rows and adds to the gradient of the columns, which starts with zeros. It returns the
            sum, float (), and any other results.

    Returns:
        The sum and the other results of *compute*, which have no gradient.
    """
    dtype = wide_dtype(rows, columns)
    wanted = torch.is_grad_enabled() and (rows.requires_grad or columns.requires_grad)
    with torch.autocast(rows.device.type, enabled=False):
        rows, columns = rows.to(dtype).contiguous(), columns.to(dtype).contiguous()
        return _SumWithGradient.apply(rows, columns, compute, wanted)
