"""The encoded pairs (past, future) of a batch."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass
class Pairs:
    """The encoded pairs (u, t) of a batch; P pairs, S of them with a future, F future items.

    Attributes:
        past: float (P, K, D), intention vectors.
        future: float (S, K, D), intention vectors, or None without a latent loss.
        sample: int64 (S,), number of the pair of each future among the P pairs, or None.
        targets: int64 (P,), next items.
        target_vectors: float (P, D), embeddings of *targets*.
        users: int64 (P,), user of each pair.
        items: int64 (F,), items of the futures; F is 0 unless the variant reconstructs them.
        item_vectors: float (F, D), embeddings of *items*.
        owner: int64 (F,), number of the pair of each future item.
    """

    past: Tensor
    future: Tensor | None
    sample: Tensor | None
    targets: Tensor
    target_vectors: Tensor
    users: Tensor
    items: Tensor
    item_vectors: Tensor
    owner: Tensor
