"""What a training step on whole sequences gets instead of RecBole's Interaction."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def trained_pairs(counts: Tensor, phase: Tensor, every: int) -> Tensor:
    """How many of each window's pairs are trained, int64 (W,): each *every*-th, from number *phase* on."""
    return (counts - phase + every - 1) // every


@dataclass
class WindowBatch:
    """Windows of users' training sequences, one after another, without padding.

    A window of n items without margins stands for the n - 1 pairs (first t items, reversed rest,
    item t + 1). Margins are items that only complete pasts and futures: with b before and a
    after, the pairs are those of t = b + 1, ..., n - 1 - a, their pasts begin with the window
    and their futures end with it. Of these the batch trains every n-th, from one on.

    Attributes:
        items: int64 (N,), items of all W windows.
        lengths: int64 (W,), n >= 2 of each window, ascending; always on the CPU, for shapes
            are made from it.
        users: int64 (W,), internal user id.
        before, after: int64 (W,) on the CPU, b and a of each window.
        phase: int64 (W,) on the CPU, number in its window of the first pair that is trained.
        every: n, the distance in its window of a pair that is trained to the next one.
        number: int64 (P,) or None; where the batch is one process's share of a global batch, the
            number of each pair in it. Such a share may be empty.
    """

    items: Tensor
    lengths: Tensor
    users: Tensor
    before: Tensor
    after: Tensor
    phase: Tensor
    every: int
    number: Tensor | None = None

    @property
    def counts(self) -> Tensor:
        """Pairs of each window: int64 (W,) on the CPU."""
        return self.lengths - 1 - self.before - self.after

    @property
    def trained(self) -> Tensor:
        """Those of them that the batch trains: int64 (W,) on the CPU."""
        return trained_pairs(self.counts, self.phase, self.every)

    def furthest(self) -> Tensor:
        """Number of the last pair of each window that is trained: int64 (W,) on the CPU."""
        return self.phase + (self.trained - 1) * self.every

    def to(self, device: torch.device) -> WindowBatch:
        """Return the batch on *device*, but for its lengths and margins."""
        return WindowBatch(
            self.items.to(device, non_blocking=True),
            self.lengths,
            self.users.to(device, non_blocking=True),
            self.before,
            self.after,
            self.phase,
            self.every,
            None if self.number is None else self.number.to(device, non_blocking=True),
        )

    def pairs(self) -> tuple[Tensor, Tensor, Tensor]:
        """The P pairs that are trained, window by window.

        Returns:
            int64 (P,) each, on the CPU: window, number of the pair in it (from 0), and index in
            ``items`` of the last item of its past; the next item has the index after that.
        """
        trained = self.trained
        window = torch.repeat_interleave(torch.arange(len(trained)), trained)
        place = (torch.arange(len(window)) - (trained.cumsum(0) - trained)[window]) * self.every
        place += self.phase[window]
        return window, place, (self.lengths.cumsum(0) - self.lengths + self.before)[window] + place

    def __len__(self) -> int:
        """Number of (past, future) pairs that are trained."""
        return int(self.trained.sum())
