"""What a training step of DisentS2S gets besides RecBole's Interaction."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class WindowBatch:
    """Windows of users' training sequences, one after another, without padding.

    A window of n items stands for the n - 1 pairs (first t items, reversed rest, item t + 1).

    Attributes:
        items: int64 (N,), items of all W windows.
        lengths: int64 (W,), n >= 2 of each window, ascending; always on the CPU, for shapes
            are made from it.
        users: int64 (W,), internal user id.
    """

    items: Tensor
    lengths: Tensor
    users: Tensor

    def to(self, device: torch.device) -> WindowBatch:
        """Return the batch on *device*, but for its lengths."""
        return WindowBatch(
            self.items.to(device, non_blocking=True),
            self.lengths,
            self.users.to(device, non_blocking=True),
        )

    @property
    def n_pairs(self) -> int:
        """Number of (past, future) pairs."""
        return len(self.items) - len(self.lengths)
