"""Sequence disentanglement layer: K intention vectors per sequence (KDD 2020, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_disent.ops.jagged import JaggedBatch

PAST, FUTURE = 0, 1


class Disentanglement(nn.Module):
    """Intention clustering, intention weighting and aggregation.

    Args:
        width: D.
        n_intentions: K.
        max_length: length of the longest sequence, and number of rows of the position table alpha.
        eps: epsilon of the five LayerNorms.
        last_item_weight: what the weight of the last item gets in addition; 0 is the method of the paper.
    """

    last_item_weight: Tensor

    def __init__(
        self, width: int, n_intentions: int, max_length: int, eps: float, last_item_weight: float = 0.0
    ) -> None:
        super().__init__()
        self.scale = width**-0.5
        # A buffer, so that weights that were trained with another value or before it existed are refused.
        self.register_buffer("last_item_weight", torch.tensor(last_item_weight))
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
        """p(k|i) = softmax_k of LN_1(z_i) . LN_2(c_k) / sqrt(D): (..., D) -> (..., K)."""
        prototypes = self.prototype_norm(self.prototypes)
        return (self.state_norm(z) @ prototypes.T * self.scale).softmax(-1)

    def _keys(self, placed: Tensor) -> Tensor:
        keys = self.key_norm(placed)
        return keys + torch.relu(self.key_layer(keys))

    def forward(self, z: Tensor, lengths: Tensor, side: int) -> Tensor:
        """Intention vectors of whole sequences.

        Args:
            z: float (B, L, D), the encoder's output; left-aligned.
            lengths: int64 (B,), number of items t >= 1 of each sequence.
            side: PAST or FUTURE; selects the beta that is added.

        Returns:
            phi, float (B, K, D).
        """
        weights = self.weights(z, lengths)
        pooled = torch.einsum("blk,bl,bld->bkd", self.cluster(z), weights, z)
        return self.output_norm(self.bias[side] + pooled)

    def weights(self, z: Tensor, lengths: Tensor) -> Tensor:
        """p(i) + w [i = t], the weight of each item in the intention vectors: float (B, L).

        p(i) sums to 1, and padding has the weight 0. The last item t gets w = ``last_item_weight`` more.

        Args:
            z, lengths: as in :meth:`forward`.
        """
        last = (lengths - 1).clamp(min=0)
        placed = self.position[: z.shape[1]] + z
        query = self.query_norm(placed[torch.arange(z.shape[0], device=z.device), last] + self.query_bias)
        scores = torch.einsum("bld,bd->bl", self._keys(placed), query) * self.scale
        place = torch.arange(z.shape[1], device=z.device)
        shares = scores.masked_fill(place > last[:, None], float("-inf")).softmax(-1)
        return shares + self.last_item_weight * (place == last[:, None])

    def prefix_sums(self, z: Tensor, jagged: JaggedBatch) -> Tensor:
        """Sums of p(k|i) (p(i) + w [i = t]) z_i over i, for every prefix of packed sequences at once.

        p(k|i) does not depend on the prefix, and p(i) is a causal attention with the query at t. One
        masked matrix product with the values p(k|i) z_i, of width K D, therefore gives all sums.

        Args:
            z: float (N, D), the encoder's output.
            jagged: positions of the N tokens.

        Returns:
            float (N, K D); the row of a sequence's token t belongs to its first t items.
        """
        placed = F.embedding(jagged.position, self.position) + z
        query = self.query_norm(placed + self.query_bias)
        values = torch.einsum("nk,nd->nkd", self.cluster(z), z).flatten(1)
        sums = jagged.map(self._causal_sums, query * self.scale, self._keys(placed), values)
        return sums + self.last_item_weight * values

    @staticmethod
    def _causal_sums(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        length = query.shape[1]
        later = torch.ones(length, length, dtype=torch.bool, device=query.device).triu(1)
        scores = query @ keys.transpose(1, 2)
        return scores.masked_fill(later, float("-inf")).softmax(-1) @ values

    def from_prefix_sums(self, sums: Tensor, side: int) -> Tensor:
        """Turn rows of :meth:`prefix_sums` into phi as in :meth:`forward`: (S, K D) -> (S, K, D)."""
        return self.output_norm(self.bias[side] + sums.unflatten(1, self.prototypes.shape))
