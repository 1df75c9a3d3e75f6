"""Causal self-attention with dropout for the training of long sequences on a CPU."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from recbole_disent.ops.chunked_softmax import LOG2_E
from recbole_disent.ops.dropout import SCALE, cut_of, dropped, keep_mask

# Up to this length torch's attention, or with dropout all scores of a batch at once, is as fast.
_SHORT = 128
# Queries of a chunk: a chunk computes no scores of the keys after its last query.
_CHUNK = 64
# Scores of a slice of several sequences, which are read several times within the cache.
_SLICE = 2**17


def causal_attention(query: Tensor, key: Tensor, value: Tensor, dropout: float, training: bool) -> Tensor:
    """Scaled dot-product attention of each position to itself and to the positions before it.

    Args:
        query: float (B, H, L, C).
        key: float (B, H, L, C).
        value: float (B, H, L, C).
        dropout: probability with which an attention weight is dropped in training. On a CPU it is rounded
            to 1/256, as in :class:`~recbole_disent.ops.dropout.Dropout`.
        training: whether the result is for a training step.

    Returns:
        float (B, H, L, C).

    Example:
        >>> states = torch.ones(1, 2, 3, 4)
        >>> causal_attention(states, states, states, 0.0, training=True).shape
        torch.Size([1, 2, 3, 4])
    """
    rate = dropout if training else 0.0
    mixed = query.dtype not in (torch.float32, torch.float64) or torch.is_autocast_enabled("cpu")
    short = query.shape[2] <= _SHORT
    if not training or query.device.type != "cpu" or mixed or (short and rate == 0):
        return F.scaled_dot_product_attention(query, key, value, is_causal=True, dropout_p=rate)
    if not short:
        parts = [part.flatten(0, 1) for part in (query, key, value)]
        attended: Tensor = _CausalAttention.apply(*parts, cut_of(rate))
        return attended.view(query.shape)
    # Torch's fused attention on a CPU has no dropout, and its other attention has a slow one.
    scores = (query / math.sqrt(query.shape[3])) @ key.transpose(2, 3)
    scores = scores + query.new_full(scores.shape[2:], -math.inf).triu_(1)
    return dropped(scores.softmax(3), rate) @ value


class _CausalAttention(torch.autograd.Function):
    """See :func:`causal_attention`; the three tensors are float (n, L, C).

    No pass keeps the weights of the attention: the backward pass computes them again, and draws the same
    dropout again from the same seed (T. Dao et al., FlashAttention, NeurIPS 2022).
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, cut: int) -> Tensor:
        ctx.scale = 1 / math.sqrt(query.shape[2])
        query, keys = query * (ctx.scale * LOG2_E), key.transpose(1, 2)
        ctx.cut, ctx.seed = cut, int(torch.randint(2**62, ())) if cut else 0
        draws = torch.Generator().manual_seed(ctx.seed)
        result, logs = torch.empty_like(value), query.new_empty(*query.shape[:2], 1)
        hidden = _hidden(query)
        for part, begin, end in _slices(query):
            weights = _scores(query, keys, hidden, part, begin, end)
            top = weights.amax(2, keepdim=True)
            total = weights.sub_(top).exp2_().sum(2, keepdim=True)
            torch.add(total.log2(), top, out=logs[part, begin:end])
            if cut:
                weights.mul_(keep_mask(weights, cut, draws))
                total.mul_(1 - cut / SCALE)
            torch.div(torch.bmm(weights, value[part, :end]), total, out=result[part, begin:end])
        ctx.save_for_backward(query, keys, value, result, logs)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        query, keys, value, result, logs = ctx.saved_tensors
        gradient = gradient.contiguous()
        key, values = keys.transpose(1, 2), value.transpose(1, 2)
        # The sum over the keys of a weight times its gradient.
        mean = (gradient * result).sum(2, keepdim=True)
        for_query, for_key = torch.empty_like(query), torch.zeros_like(key)
        for_value = torch.zeros_like(value)
        draws = torch.Generator().manual_seed(ctx.seed)
        hidden = _hidden(query)
        for part, begin, end in _slices(query):
            weights = _scores(query, keys, hidden, part, begin, end).sub_(logs[part, begin:end]).exp2_()
            own = gradient[part, begin:end]
            for_weights = torch.bmm(own, values[part, :, :end])
            kept = weights
            if ctx.cut:
                mask = keep_mask(weights, ctx.cut, draws).mul_(SCALE / (SCALE - ctx.cut))
                for_weights.mul_(mask)
                kept = mask.mul_(weights)
            for_value[part, :end] += torch.bmm(kept.transpose(1, 2), own)
            for_scores = for_weights.sub_(mean[part, begin:end]).mul_(weights)
            torch.bmm(for_scores, key[part, :end], out=for_query[part, begin:end])
            for_key[part, :end] += torch.bmm(for_scores.transpose(1, 2), query[part, begin:end])
        return for_query.mul_(ctx.scale), for_key.div_(LOG2_E), for_value, None


def _slices(query: Tensor) -> Iterator[tuple[slice, int, int]]:
    """Yield some of the n sequences, and the first and the end of some of their queries."""
    count, length, _ = query.shape
    for begin in range(0, length, _CHUNK):
        end = min(begin + _CHUNK, length)
        step = max(1, _SLICE // ((end - begin) * end))
        for first in range(0, count, step):
            yield slice(first, min(first + step, count)), begin, end


def _hidden(query: Tensor) -> Tensor:
    """-inf where the key of a chunk comes after the query of the chunk, else 0: (_CHUNK, _CHUNK)."""
    return query.new_full((_CHUNK, _CHUNK), -math.inf).triu_(1)


def _scores(query: Tensor, keys: Tensor, hidden: Tensor, part: slice, begin: int, end: int) -> Tensor:
    """Scores, times log2(e), of the queries from *begin* to *end* and all keys before *end*.

    Returns:
        float (m, end - begin, end).
    """
    scores = torch.bmm(query[part, begin:end], keys[part, :, :end])
    scores[:, :, begin:] += hidden[: end - begin, : end - begin]
    return scores
