"""Sequences of different lengths side by side, without padding.

All tokens of a batch are in one (N, ...) tensor, sequence after sequence. Layers that process one
token at a time (most of a Transformer) use this tensor directly. Only functions of whole sequences
get padded copies, one for each group of sequences of similar length.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

# The longest sequence of a group is at most this many times its shortest.
_RATIO = 1.5


class _Spread(torch.autograd.Function):
    """Copies the rows of x to the rows *where* of a taller zero tensor; *where* holds no row twice."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, where: Tensor, height: int) -> Tensor:
        ctx.save_for_backward(where)
        return x.new_zeros(height, x.shape[1]).index_copy_(0, where, x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient.index_select(0, ctx.saved_tensors[0]), None, None


class _Collect(torch.autograd.Function):
    """Selects the rows *where* of x: the inverse of :class:`_Spread`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, where: Tensor) -> Tensor:
        ctx.save_for_backward(where)
        ctx.height = len(x)
        return x.index_select(0, where)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        whole = gradient.new_zeros(ctx.height, gradient.shape[1])
        return whole.index_copy_(0, ctx.saved_tensors[0], gradient), None


class JaggedBatch:
    """Positions of the N tokens of B packed sequences.

    Args:
        lengths: int64 (B,) on the CPU, ascending, >= 1.
        device: device of the tokens.

    Attributes:
        starts: int64 (B,), CPU; first token of each sequence.
        position: int64 (N,), on *device*; position of each token in its sequence, from 0.
    """

    def __init__(self, lengths: Tensor, device: torch.device | str = "cpu") -> None:
        ends = lengths.cumsum(0)
        self.starts = ends - lengths
        owner = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
        position = torch.arange(len(owner)) - self.starts[owner]
        self.position = position.to(device, non_blocking=True)
        self.sizes: list[int] = []  # number of tokens of each group
        self.shapes: list[tuple[int, int]] = []  # number of sequences and largest length of each group
        self.where: list[Tensor | None] = []  # row of each token in the padded copy
        for begin, end in pairwise(_bounds(lengths.tolist())):
            first, last = int(self.starts[begin]), int(ends[end - 1])
            width = int(lengths[end - 1])
            self.sizes.append(last - first)
            self.shapes.append((end - begin, width))
            rows = (owner[first:last] - begin) * width + position[first:last]
            full = last - first == (end - begin) * width
            self.where.append(None if full else rows.to(device, non_blocking=True))

    def map(self, function: Callable[..., Tensor], *tokens: Tensor) -> Tensor:
        """Apply a causal function of padded sequences, group by group.

        Args:
            function: takes float (b, l, ...) for each of *tokens*, left-aligned and padded with
                zeros at the end, and returns (b, l, C). Its value at a position must not depend on
                later ones.
            tokens: float (N, ...) each.

        Returns:
            float (N, C).
        """
        results = []
        for parts, shape, where in zip(
            zip(*(t.split(self.sizes) for t in tokens), strict=True), self.shapes, self.where, strict=True
        ):
            if where is None:
                result = function(*(part.view(*shape, -1) for part in parts)).flatten(0, 1)
            else:
                height = shape[0] * shape[1]
                padded = (_Spread.apply(part, where, height).view(*shape, -1) for part in parts)
                result = _Collect.apply(function(*padded).flatten(0, 1), where)
            results.append(result)
        return torch.cat(results)


def _bounds(lengths: list[int]) -> list[int]:
    """First sequence of each group, and the end of the last group."""
    bounds, shortest = [0], lengths[0]
    for number, length in enumerate(lengths):
        if length > shortest * _RATIO:
            bounds.append(number)
            shortest = length
    return [*bounds, len(lengths)]
