"""Sequence disentanglement layer: K intention vectors per sequence (KDD 2020, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

PAST, FUTURE = 0, 1


class Disentanglement(nn.Module):
    """Intention clustering, intention weighting and aggregation.

    Args:
        width: D.
        n_intentions: K.
        max_length: longest sequence, rows of the position table alpha.
        eps: of the five LayerNorms.
    """

    def __init__(self, width: int, n_intentions: int, max_length: int, eps: float) -> None:
        super().__init__()
        self.scale = width**-0.5
        self.prototypes = nn.Parameter(torch.empty(n_intentions, width))  # c_k
        self.position = nn.Parameter(torch.empty(max_length, width))  # alpha_i
        self.query_bias = nn.Parameter(torch.empty(width))  # b'
        self.bias = nn.Parameter(torch.empty(2, n_intentions, width))  # beta_k, past and future
        self.key_layer = nn.Linear(width, width)  # W, b
        self.state_norm = nn.LayerNorm(width, eps=eps)  # LN_1
        self.prototype_norm = nn.LayerNorm(width, eps=eps)  # LN_2
        self.key_norm = nn.LayerNorm(width, eps=eps)  # LN_3
        self.query_norm = nn.LayerNorm(width, eps=eps)  # LN_4
        self.output_norm = nn.LayerNorm(width, eps=eps)  # LN_5

    def cluster(self, z: Tensor) -> Tensor:
        """p(k|i) = softmax_k of LN_1(z_i) . LN_2(c_k) / sqrt(D): (B, L, D) -> (B, L, K)."""
        prototypes = self.prototype_norm(self.prototypes)
        return (self.state_norm(z) @ prototypes.T * self.scale).softmax(-1)

    def _keys(self, z: Tensor) -> Tensor:
        keys = self.key_norm(self.position[: z.shape[1]] + z)
        return keys + torch.relu(self.key_layer(keys))

    def forward(self, z: Tensor, lengths: Tensor, side: int) -> Tensor:
        """Intention vectors of whole sequences.

        Args:
            z: float (B, L, D), the encoder's output; left-aligned.
            lengths: int64 (B,), t >= 1, items of each sequence.
            side: PAST or FUTURE, which beta is added.

        Returns:
            phi, float (B, K, D).
        """
        last = (lengths - 1).clamp(min=0)
        state = z[torch.arange(len(z), device=z.device), last]
        query = self.query_norm(self.position[last] + state + self.query_bias)
        scores = torch.einsum("bld,bd->bl", self._keys(z), query) * self.scale
        padding = torch.arange(z.shape[1], device=z.device) > last[:, None]
        weights = scores.masked_fill(padding, float("-inf")).softmax(-1)
        pooled = torch.einsum("blk,bl,bld->bkd", self.cluster(z), weights, z)
        return self.output_norm(self.bias[side] + pooled)

    def prefixes(self, z: Tensor, side: int) -> Tensor:
        """Intention vectors of every prefix at once: the same as :meth:`forward` for t = 1..L.

        p(k|i) does not depend on the prefix and p(i) is a causal attention with the query
        at t, so all prefixes are one masked product with values p(k|i) z_i of width K D.

        Args:
            z: float (B, L, D).
            side: PAST or FUTURE.

        Returns:
            phi, float (B, L, K, D); phi[:, t - 1] belongs to the prefix of t items.
        """
        batch, length, width = z.shape
        query = self.query_norm(self.position[:length] + z + self.query_bias)
        scores = query @ self._keys(z).transpose(1, 2) * self.scale
        later = torch.ones(length, length, dtype=torch.bool, device=z.device).triu(1)
        weights = scores.masked_fill(later, float("-inf")).softmax(-1)
        values = torch.einsum("blk,bld->blkd", self.cluster(z), z).flatten(2)
        pooled = (weights @ values).view(batch, length, -1, width)
        return self.output_norm(self.bias[side] + pooled)
