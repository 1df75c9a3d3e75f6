"""The batch of a training step on whole sequences, which replaces RecBole's Interaction."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def trained_pairs(counts: Tensor, phase: Tensor, every: int) -> Tensor:
    """Return the number of pairs of each window that are trained: every n-th pair from pair *phase* on.

    Args:
        counts: int64 (W,), number of pairs of each window.
        phase: int64 (W,), index of the first trained pair of each window, from 0.
        every: n.

    Returns:
        int64 (W,).
    """
    return (counts - phase + every - 1) // every


@dataclass
class WindowBatch:
    """Windows of users' training sequences, concatenated without padding.

    A window of n items without margins yields n - 1 pairs: pair t has the first t items as its past, the
    reversed rest as its future, and item t + 1 as its target. Margins are items that only extend pasts and
    futures. With b items before and a items after, the window yields the pairs t = b + 1, ..., n - 1 - a.
    Their pasts start at the beginning of the window, and their futures end at the end of the window. The
    batch trains every ``every``-th pair of a window, starting with pair ``phase``.

    Attributes:
        items: int64 (N,), items of all W windows.
        lengths: int64 (W,), number of items n >= 2 of each window, in ascending order. The tensor is
            always on the CPU, because shapes depend on its values.
        users: int64 (W,), internal user id of each window.
        before, after: int64 (W,) on the CPU, margins b and a of each window.
        phase: int64 (W,) on the CPU, index in its window of the first pair that is trained.
        every: distance between two trained pairs of a window.
        number: int64 (P,), index of each pair in the global batch if the batch is the shard of one
            process, else None. A shard may be empty.
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
        """Number of pairs of each window: int64 (W,) on the CPU."""
        return self.lengths - 1 - self.before - self.after

    @property
    def trained(self) -> Tensor:
        """Number of pairs of each window that the batch trains: int64 (W,) on the CPU."""
        return trained_pairs(self.counts, self.phase, self.every)

    def furthest(self) -> Tensor:
        """Return the index of the last trained pair of each window: int64 (W,) on the CPU."""
        return self.phase + (self.trained - 1) * self.every

    def to(self, device: torch.device) -> WindowBatch:
        """Return the batch on *device*; the lengths, the margins and the phases stay on the CPU."""
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
        """Return the P pairs that are trained, in the order of the windows.

        Returns:
            Three tensors, int64 (P,) on the CPU: the window of each pair, the index of the pair in its
            window (from 0), and the index in ``items`` of the last item of its past. The target is the
            item at the following index.
        """
        trained = self.trained
        window = torch.repeat_interleave(torch.arange(len(trained)), trained)
        pair = (torch.arange(len(window)) - (trained.cumsum(0) - trained)[window]) * self.every
        pair += self.phase[window]
        return window, pair, (self.lengths.cumsum(0) - self.lengths + self.before)[window] + pair

    def __len__(self) -> int:
        """Number of (past, future) pairs that are trained."""
        return int(self.trained.sum())
