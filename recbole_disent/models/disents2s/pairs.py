"""The encoded pairs (past, future) of a batch."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass
class Pairs:
    """The encoded pairs (u, t) of a batch; P pairs, S of them with a future, F future items.

    Attributes:
        past: float (P, K, D), intention vectors.
        future: float (S, K, D), or None where no latent loss asks for it.
        sample: int64 (S,), the pairs of *future*, or None; of several processes each has some.
        targets: int64 (P,), next items.
        target_vectors: float (P, D), their embeddings.
        users: int64 (P,).
        items: int64 (F,), items of the futures; none unless a variant reconstructs them.
        item_vectors: float (F, D), their embeddings.
        owner: int64 (F,), the pair of each.
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
