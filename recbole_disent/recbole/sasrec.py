"""Query vectors of RecBole's SASRec without the work that the last state does not need."""

from __future__ import annotations

from typing import Any

import torch
from recbole.model.layers import TransformerEncoder, TransformerLayer
from torch import Tensor
from torch.nn import functional as F

from recbole_disent.recbole import vectors

_MODULE = "recbole.model.sequential_recommender.sasrec"


def last_state(model: Any) -> vectors.Vectors:
    """Vectors of SASRec in evaluation mode, as :func:`.vectors.last_state` returns them, in less time.

    The last layer computes queries and the feed-forward net only at the last item of a history, attention
    and GELU are torch's fused functions, and one product gives queries, keys and values. The states equal
    the states of ``model.forward`` up to rounding. A class with its own ``forward`` keeps it.
    """
    if type(model).forward.__module__ != _MODULE or type(model.trm_encoder) is not TransformerEncoder:
        return vectors.last_state(model)
    return model.item_embedding.weight, lambda batch: _encode(
        model, batch[model.ITEM_SEQ], batch[model.ITEM_SEQ_LEN]
    )[:, None]


def _encode(model: Any, items: Tensor, lengths: Tensor) -> Tensor:
    """States at the last item: int64 (B, L), left-aligned, and int64 (B,) -> float (B, D)."""
    states = model.item_embedding(items) + model.position_embedding.weight[: items.shape[1]]
    states = model.LayerNorm(states)
    *layers, last = model.trm_encoder.layer
    for layer in layers:
        attention = layer.multi_head_attention
        query, key, value = _heads(layer, _linear(states, attention.query, attention.key, attention.value), 3)
        # The padding comes after the last item, where a causal layer cannot see it.
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        states = _rest(layer, states, attended)
    attention = last.multi_head_attention
    key, value = _heads(last, _linear(states, attention.key, attention.value), 2)
    states = states.gather(1, (lengths - 1)[:, None, None].expand(-1, 1, states.shape[2]))
    (query,) = _heads(last, attention.query(states), 1)
    seen = torch.arange(items.shape[1], device=items.device) < lengths[:, None]
    attended = F.scaled_dot_product_attention(query, key, value, attn_mask=seen[:, None, None])
    return _rest(last, states, attended)[:, 0]


def _linear(states: Tensor, *parts: torch.nn.Linear) -> Tensor:
    """Outputs of several layers for the same input, side by side: (B, L, D) -> (B, L, n D)."""
    return F.linear(states, torch.cat([p.weight for p in parts]), torch.cat([p.bias for p in parts]))


def _heads(layer: TransformerLayer, values: Tensor, parts: int) -> tuple[Tensor, ...]:
    """Split outputs into *parts* tensors by heads: (B, L, n D) -> n times (B, H, L, D / H)."""
    heads = layer.multi_head_attention.num_attention_heads
    return tuple(p.unflatten(-1, (heads, -1)).transpose(1, 2) for p in values.chunk(parts, dim=-1))


def _rest(layer: TransformerLayer, states: Tensor, attended: Tensor) -> Tensor:
    """What follows the attention in a layer: (B, L, D) and (B, H, L, D / H) -> (B, L, D)."""
    attention, net = layer.multi_head_attention, layer.feed_forward
    states = attention.LayerNorm(states + attention.dense(attended.transpose(1, 2).flatten(2)))
    inner, act = net.dense_1(states), net.intermediate_act_fn
    # RecBole writes GELU as five operations.
    inner = F.gelu(inner) if getattr(act, "__func__", None) is type(net).gelu else act(inner)
    return net.LayerNorm(states + net.dense_2(inner))
