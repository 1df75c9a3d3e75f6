"""What a training step on whole sequences gets instead of RecBole's Interaction."""

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

    def pairs(self) -> tuple[Tensor, Tensor, Tensor]:
        """The P pairs, window by window.

        Returns:
            int64 (P,) each, on the CPU: window, number of the pair in it (from 0), and index in
            ``items`` of the last item of its past; the next item has the index after that.
        """
        counts = self.lengths - 1
        window = torch.repeat_interleave(torch.arange(len(counts)), counts)
        place = torch.arange(len(window)) - (counts.cumsum(0) - counts)[window]
        return window, place, (self.lengths.cumsum(0) - self.lengths)[window] + place

    @property
    def n_pairs(self) -> int:
        """Number of (past, future) pairs."""
        return len(self.items) - len(self.lengths)
