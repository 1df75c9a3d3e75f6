"""What a training step of DisentS2S gets besides RecBole's Interaction."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# Column of one process's share of a batch: the number of each row in the global batch.
ROW_IN_BATCH = "row_in_batch"


@dataclass
class WindowBatch:
    """Windows of users' training sequences, in groups of like length so that little is padding.

    A window of n items stands for the n - 1 pairs (first t items, reversed rest, item t + 1).

    Attributes:
        items: per group int64 (B_g, N_g), left-aligned, 0 is padding; N_g is the group's
            longest window.
        lengths: per group int64 (B_g,), n >= 2.
        users: per group int64 (B_g,), internal user id.
        pairs: int64 (P,) or None; where the batch is one process's share of a global batch, the
            number of each pair in it. Such a share may be empty.
    """

    items: list[Tensor]
    lengths: list[Tensor]
    users: list[Tensor]
    pairs: Tensor | None = None

    def to(self, device: torch.device) -> WindowBatch:
        """Return the batch on *device*."""
        parts = (self.items, self.lengths, self.users)
        items, lengths, users = ([t.to(device, non_blocking=True) for t in part] for part in parts)
        return WindowBatch(items, lengths, users, None if self.pairs is None else self.pairs.to(device))

    @property
    def n_pairs(self) -> int:
        """Number of (past, future) pairs."""
        return int(sum(int(lengths.sum()) - len(lengths) for lengths in self.lengths))
