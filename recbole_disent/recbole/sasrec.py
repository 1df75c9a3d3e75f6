"""States of RecBole's SASRec: of whole sequences in training, and the query vector after the last item."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from recbole.model.layers import TransformerEncoder, TransformerLayer
from torch import Tensor
from torch.nn import functional as F

from recbole_disent.ops.causal_attention import causal_attention
from recbole_disent.ops.jagged import JaggedBatch
from recbole_disent.recbole import vectors

_MODULE = "recbole.model.sequential_recommender.sasrec"


def has_its_forward(model: Any) -> bool:
    """Return whether a model computes its states as RecBole's SASRec does."""
    return type(model).forward.__module__ == _MODULE and type(model.trm_encoder) is TransformerEncoder


def states_of_sequences(model: Any, items: Tensor, jagged: JaggedBatch) -> Tensor:
    """States of SASRec after each item of packed sequences, as ``model.forward`` gives them for a prefix.

    Only the attention has padded copies of the sequences, and :func:`.causal_attention` replaces RecBole's
    attention. Without dropout the states are equal up to rounding.

    Args:
        model: a model for which :func:`has_its_forward` holds.
        items: int64 (N,), item ids.
        jagged: positions of the N items.

    Returns:
        float (N, D).
    """
    states = model.item_embedding(items) + model.position_embedding(jagged.position)
    states = model.dropout(model.LayerNorm(states))
    for layer in model.trm_encoder.layer:
        attention = layer.multi_head_attention
        together = _linear(states, attention.query, attention.key, attention.value)
        attended = jagged.map(partial(_attend, layer), together)
        states = _rest(layer, states, attended)
    return states


def _attend(layer: TransformerLayer, together: Tensor) -> Tensor:
    """Attention of queries, keys and values side by side: (B, L, 3 D) -> (B, L, D)."""
    query, key, value = _heads(layer, together, 3)
    rate = layer.multi_head_attention.attn_dropout.p
    return _joined(causal_attention(query, key, value, rate, layer.training))


def last_state(model: Any) -> vectors.Vectors:
    """Vectors of SASRec in evaluation mode, as :func:`.vectors.last_state` returns them, in less time.

    The last layer computes queries and the feed-forward net only at the last item of a history, attention
    and GELU are torch's fused functions, and one product gives queries, keys and values. The states equal
    the states of ``model.forward`` up to rounding. A class with its own ``forward`` keeps it.
    """
    if not has_its_forward(model):
        return vectors.last_state(model)
    return model.item_embedding.weight, lambda batch: _encode(
        model, batch[model.ITEM_SEQ], batch[model.ITEM_SEQ_LEN]
    )[:, None]


def _encode(model: Any, items: Tensor, lengths: Tensor) -> Tensor:
    """States of a model in evaluation mode at the last item.

    The shapes are int64 (B, L), left-aligned, and int64 (B,) -> float (B, D).
    """
    states = model.item_embedding(items) + model.position_embedding.weight[: items.shape[1]]
    states = model.LayerNorm(states)
    *layers, last = model.trm_encoder.layer
    for layer in layers:
        attention = layer.multi_head_attention
        query, key, value = _heads(layer, _linear(states, attention.query, attention.key, attention.value), 3)
        # The padding comes after the last item, where a causal layer cannot see it.
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        states = _rest(layer, states, _joined(attended))
    attention = last.multi_head_attention
    key, value = _heads(last, _linear(states, attention.key, attention.value), 2)
    states = states.gather(1, (lengths - 1)[:, None, None].expand(-1, 1, states.shape[2]))
    (query,) = _heads(last, attention.query(states), 1)
    seen = torch.arange(items.shape[1], device=items.device) < lengths[:, None]
    attended = F.scaled_dot_product_attention(query, key, value, attn_mask=seen[:, None, None])
    return _rest(last, states, _joined(attended))[:, 0]


def _linear(states: Tensor, *parts: torch.nn.Linear) -> Tensor:
    """Outputs of several layers for the same input, side by side: (..., D) -> (..., n D)."""
    return F.linear(states, torch.cat([p.weight for p in parts]), torch.cat([p.bias for p in parts]))


def _heads(layer: TransformerLayer, values: Tensor, parts: int) -> tuple[Tensor, ...]:
    """Split outputs into *parts* tensors by heads: (B, L, n D) -> n times (B, H, L, D / H)."""
    heads = layer.multi_head_attention.num_attention_heads
    return tuple(p.unflatten(-1, (heads, -1)).transpose(1, 2) for p in values.chunk(parts, dim=-1))


def _joined(attended: Tensor) -> Tensor:
    """The heads side by side: (B, H, L, D / H) -> (B, L, D)."""
    return attended.transpose(1, 2).flatten(2)


def _rest(layer: TransformerLayer, states: Tensor, attended: Tensor) -> Tensor:
    """What follows the attention in a layer: (..., D) and (..., D) -> (..., D)."""
    attention, net = layer.multi_head_attention, layer.feed_forward
    states = attention.LayerNorm(states + attention.out_dropout(attention.dense(attended)))
    inner, act = net.dense_1(states), net.intermediate_act_fn
    # RecBole writes GELU as five operations.
    inner = F.gelu(inner) if getattr(act, "__func__", None) is type(net).gelu else act(inner)
    return net.LayerNorm(states + net.dropout(net.dense_2(inner)))
