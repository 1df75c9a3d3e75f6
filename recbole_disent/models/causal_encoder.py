"""The encoder of SASRec, with or without content; DisentS2S uses it with one head (KDD 2020, section 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_disent.models.content_embedding import ContentEmbedding
from recbole_disent.ops.causal_attention import causal_attention
from recbole_disent.ops.dropout import Dropout
from recbole_disent.ops.jagged import JaggedBatch


def init_weights(module: nn.Module, std: float) -> None:
    """Draw a layer's weights from N(0, std^2), and set biases and the padding item's vector to 0.

    Apply this function to every layer of a model with ``nn.Module.apply``.
    """
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, std=std)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
    if isinstance(module, nn.Embedding) and module.padding_idx is not None:
        nn.init.zeros_(module.weight[module.padding_idx])


class CausalBlock(nn.Module):
    """Causal self-attention and a feed-forward net, each with a residual connection and LayerNorm.

    Args:
        width: D.
        inner: width inside the feed-forward net.
        heads: attention heads.
        hidden_dropout: dropout on each sub-layer's output.
        attn_dropout: dropout on attention weights.
        eps: epsilon of both LayerNorms.
    """

    def __init__(
        self, width: int, inner: int, heads: int, hidden_dropout: float, attn_dropout: float, eps: float
    ) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.attn_norm = nn.LayerNorm(width, eps=eps)
        self.inner = nn.Linear(width, inner)
        self.outer = nn.Linear(inner, width)
        self.ffn_norm = nn.LayerNorm(width, eps=eps)
        self.dropout = Dropout(hidden_dropout)
        self.attn_dropout = attn_dropout

    def _attend(self, qkv: Tensor) -> Tensor:
        """(B, L, 3 D) -> (B, L, D); position i sees positions 0..i."""
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in qkv.chunk(3, dim=-1)
        )
        attended = causal_attention(query, key, value, self.attn_dropout, self.training)
        return attended.transpose(1, 2).flatten(2)

    def forward(self, x: Tensor, jagged: JaggedBatch | None = None) -> Tensor:
        """(B, L, D) -> (B, L, D), or (N, D) -> (N, D) for packed sequences."""
        qkv = self.qkv(x)
        attended = self._attend(qkv) if jagged is None else jagged.map(self._attend, qkv)
        x = self.attn_norm(x + self.dropout(self.out(attended)))
        return self.ffn_norm(x + self.dropout(self.outer(F.gelu(self.inner(x)))))


class CausalEncoder(nn.Module):
    """Item and position embeddings, then causal blocks. The output has one vector z_i per position.

    Sequences are left-aligned: padding (id 0) comes after the last item, where a causal
    encoder cannot see it. The encoder therefore needs no mask, and the amount of padding does not
    change the outputs at the items. The outputs at padding are meaningless.

    Args:
        n_items: rows of the item table, row 0 (padding) included.
        max_length: length of the longest sequence.
        width, inner, n_layers, n_heads, hidden_dropout, attn_dropout, item_dropout, eps: as in the
            properties file.
        content: content embedding, which is added to the embedding of the id; None: ids only.
    """

    def __init__(
        self,
        n_items: int,
        max_length: int,
        width: int,
        inner: int,
        n_layers: int,
        n_heads: int,
        hidden_dropout: float,
        attn_dropout: float,
        item_dropout: float,
        eps: float,
        content: ContentEmbedding | None = None,
    ) -> None:
        super().__init__()
        self.item_dropout = item_dropout
        self.item_embedding = nn.Embedding(n_items, width, padding_idx=0)
        self.position_embedding = nn.Embedding(max_length, width)
        self.input_norm = nn.LayerNorm(width, eps=eps)
        self.dropout = Dropout(hidden_dropout)
        self.blocks = nn.ModuleList(
            CausalBlock(width, inner, n_heads, hidden_dropout, attn_dropout, eps) for _ in range(n_layers)
        )
        self.content = content

    def embed_items(self, items: Tensor) -> Tensor:
        """Embeddings of item ids, any shape: (..., D)."""
        vectors = self.item_embedding(items)
        return vectors if self.content is None else vectors + self.content(items)

    def item_table(self) -> Tensor:
        """Embeddings of all items, padding included: (n_items, D)."""
        table = self.item_embedding.weight
        return table if self.content is None else table + self.content.table()

    def forward(self, items: Tensor) -> Tensor:
        """Encode item ids.

        Args:
            items: int64 (B, L), left-aligned, 0 is padding, L <= max_length.

        Returns:
            z, float (B, L, D); z[:, i] is the state after the items 0..i.
        """
        positions = self.position_embedding.weight[: items.shape[1]]
        return self._encode(self._hide(self.embed_items(items)) + positions, None)

    def packed(self, embedded: Tensor, jagged: JaggedBatch) -> Tensor:
        """Encode packed sequences as :meth:`forward` does, without padding.

        Args:
            embedded: float (N, D), item vector of each token.
            jagged: positions of the N tokens.

        Returns:
            z, float (N, D).
        """
        return self._encode(self._hide(embedded) + self.position_embedding(jagged.position), jagged)

    def _hide(self, embedded: Tensor) -> Tensor:
        """Set the embeddings of random items to 0, as if they were unknown; do not rescale the others."""
        if not self.training or self.item_dropout == 0:
            return embedded
        shown = torch.rand(*embedded.shape[:-1], 1, device=embedded.device) >= self.item_dropout
        return embedded * shown

    def _encode(self, x: Tensor, jagged: JaggedBatch | None) -> Tensor:
        x = self.dropout(self.input_norm(x))
        for block in self.blocks:
            x = block(x, jagged)
        return x
