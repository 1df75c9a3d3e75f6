"""Layers of TSSR: two causal stacks, cross-attention between them, and a gate (arXiv 2403.07623).

Sequences are left-aligned: padding comes last, where a causal layer cannot see it. The outputs at
padding are meaningless.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_disent.ops.causal_attention import causal_attention
from recbole_disent.ops.dropout import Dropout
from recbole_disent.ops.jagged import JaggedBatch


class BlockSizes(NamedTuple):
    """Settings that all blocks of a model share, from the keys of the properties file."""

    width: int
    inner: int
    heads: int
    residual_init: float
    hidden_dropout: float
    attn_dropout: float
    eps: float


class Block(nn.Module):
    """Causal multi-head attention and a feed-forward net, each as LN(x + a * sublayer(x)).

    Without a *source*, the block uses self-attention. With a *source*, it uses cross-attention: queries
    come from x, and keys and values come from the source.
    """

    def __init__(self, sizes: BlockSizes) -> None:
        super().__init__()
        width, inner, self.heads, initial, hidden_dropout, self.attn_dropout, eps = sizes
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.inner = nn.Linear(width, inner)
        self.outer = nn.Linear(inner, width)
        self.attn_scale = nn.Parameter(torch.tensor(float(initial)))  # a of each sub-layer
        self.ffn_scale = nn.Parameter(torch.tensor(float(initial)))
        self.attn_norm = nn.LayerNorm(width, eps=eps)
        self.ffn_norm = nn.LayerNorm(width, eps=eps)
        self.dropout = Dropout(hidden_dropout)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def _attend(self, query: Tensor, key_value: Tensor) -> Tensor:
        """(B, L, D), (B, L, 2 D) -> (B, L, D)."""
        key, value = key_value.chunk(2, dim=-1)
        query, key, value = (self._split(part) for part in (query, key, value))
        attended = causal_attention(query, key, value, self.attn_dropout, self.training)
        return attended.transpose(1, 2).flatten(2)

    def forward(self, x: Tensor, source: Tensor | None, jagged: JaggedBatch | None) -> Tensor:
        """(B, L, D), (B, L, D) -> (B, L, D); position i sees positions 0..i of the source.

        With *jagged*, the shapes are (N, D), (N, D) -> (N, D).
        """
        query, key_value = self.query(x), self.key_value(x if source is None else source)
        if jagged is None:
            attended = self._attend(query, key_value)
        else:
            attended = jagged.map(self._attend, query, key_value)
        attended = self.out(attended)
        x = self.attn_norm(x + self.attn_scale * self.dropout(attended))
        return self.ffn_norm(x + self.ffn_scale * self.dropout(self.outer(F.gelu(self.inner(x)))))


class Stack(nn.Module):
    """A sequence of blocks; in a cross-attention stack all blocks have the same source."""

    def __init__(self, layers: int, sizes: BlockSizes) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(sizes) for _ in range(layers))

    def forward(self, x: Tensor, source: Tensor | None, jagged: JaggedBatch | None) -> Tensor:
        """Apply the blocks in order; the arguments are those of :class:`Block`."""
        for block in self.blocks:
            x = block(x, source, jagged)
        return x


class Gate(nn.Module):
    """Joins the streams.

    ``sigmoid``: S * a + (1 - S) * b, elementwise, with S = sigmoid(W [a ; b] + c).
    ``none``: the mean of a and b (S = 1/2). ``concat``: W [a ; b] + c.
    """

    def __init__(self, kind: str, width: int) -> None:
        super().__init__()
        self.kind = kind
        self.linear = nn.Linear(2 * width, width) if kind != "none" else None

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """(..., D), (..., D) -> (..., D)."""
        if self.linear is None:
            return (a + b) / 2
        joined = self.linear(torch.cat([a, b], -1))
        # With mixed precision the layer's output has another dtype.
        return joined if self.kind == "concat" else torch.lerp(b, a, joined.sigmoid().to(a.dtype))


class States(NamedTuple):
    """Outputs of the encoders for a batch: float (B, L, D) each, or (N, D) for packed sequences.

    Attributes:
        by_id, by_content: F_id and F_con, outputs of the unimodal encoders; None for a stream
            that the model does not have.
        joined: F, from which the next item is predicted.
    """

    by_id: Tensor | None
    by_content: Tensor | None
    joined: Tensor


class TwoStreamEncoder(nn.Module):
    """Position embeddings, unimodal encoders, multimodal encoders and a gate.

    Args:
        sizes: settings of all blocks.
        max_length: length of the longest sequence.
        n_layers, n_cross_layers: number of blocks of each unimodal and each multimodal encoder.
        streams: ``both``, ``id`` or ``content``.
        gate: see :class:`Gate`.
    """

    def __init__(
        self, sizes: BlockSizes, max_length: int, n_layers: int, n_cross_layers: int, streams: str, gate: str
    ) -> None:
        super().__init__()
        self.position_embedding = nn.Embedding(max_length, sizes.width)
        self.dropout = Dropout(sizes.hidden_dropout)
        self.id_stack = Stack(n_layers, sizes) if streams != "content" else None
        self.content_stack = Stack(n_layers, sizes) if streams != "id" else None
        crosses = streams == "both" and n_cross_layers > 0
        self.id_cross = Stack(n_cross_layers, sizes) if crosses else None
        self.content_cross = Stack(n_cross_layers, sizes) if crosses else None
        self.gate = Gate(gate, sizes.width) if streams == "both" else None

    def forward(
        self, by_id: Tensor | None, by_content: Tensor | None, jagged: JaggedBatch | None = None
    ) -> States:
        """Encode sequences.

        Args:
            by_id, by_content: e^id and e^con, float (B, L, D), left-aligned, or (N, D) with
                *jagged*; None for a stream that the model does not have.
            jagged: positions of the tokens of packed sequences; None for padded sequences.
        """
        if self.id_stack is not None and by_id is not None:
            by_id = self.id_stack(self._with_positions(by_id, jagged), None, jagged)
        if self.content_stack is not None and by_content is not None:
            by_content = self.content_stack(self._with_positions(by_content, jagged), None, jagged)
        if by_id is None or by_content is None or self.gate is None:
            joined = by_id if by_id is not None else by_content
            assert joined is not None
            return States(by_id, by_content, joined)
        first, second = by_id, by_content
        if self.id_cross is not None and self.content_cross is not None:
            first = self.id_cross(by_id, by_content, jagged)
            second = self.content_cross(by_content, by_id, jagged)
        return States(by_id, by_content, self.gate(first, second))

    def _with_positions(self, x: Tensor, jagged: JaggedBatch | None) -> Tensor:
        if jagged is None:
            return self.dropout(x + self.position_embedding.weight[: x.shape[1]])
        return self.dropout(x + self.position_embedding(jagged.position))
