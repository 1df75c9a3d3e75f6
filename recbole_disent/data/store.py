"""All sequences, once: flat arrays sorted by user, then time, then file order."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def time_order(users: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return the stable order by user, then time; equal times stay in file order.

    Args:
        users: int (n,).
        times: number (n,).

    Returns:
        int64 (n,), positions in file order.
    """
    return np.lexsort((times, users))


class SequenceStore:
    """One copy of all events; a history is a window of it.

    Args:
        users: int (n,), internal user ids in ascending order.
        fields: field -> tensor whose first axis is the n events, in the same order.
            ``item_field`` is among them.
        item_field: name of the item field; kept as int32.
        n_users: users, padding user 0 included.

    Attributes:
        users: int32 (n,).
        offsets: int64 (n_users + 1,); user u has the events offsets[u] .. offsets[u + 1] - 1.
        fields: as given, tokens as int32 where they fit.
    """

    def __init__(self, users: np.ndarray, fields: dict[str, Tensor], item_field: str, n_users: int) -> None:
        counts = np.bincount(users, minlength=n_users)
        self.offsets = torch.from_numpy(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))
        self.users = torch.from_numpy(users.astype(np.int32))
        self.fields = {name: _narrow(values) for name, values in fields.items()}
        self.item_field = item_field

    def __len__(self) -> int:
        return len(self.users)

    @property
    def items(self) -> Tensor:
        """Item of each event: int32 (n,) (int64 for more than 2^31 items)."""
        return self.fields[self.item_field]

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        tensors = [self.users, self.offsets, *self.fields.values()]
        return sum(t.numel() * t.element_size() for t in tensors)

    def starts(self, ends: Tensor) -> Tensor:
        """Return the position of the first event of the user of each event in *ends*."""
        return self.offsets[self.users[ends].long()]

    def history_lengths(self, ends: Tensor, max_length: int) -> Tensor:
        """Return how many events of the user come before each event, at most *max_length*."""
        return (ends - self.starts(ends)).clamp(max=max_length)

    def histories(self, field: str, ends: Tensor, lengths: Tensor, width: int) -> Tensor:
        """Gather the events right before *ends*, oldest first.

        Args:
            field: which field.
            ends: int64 (B,), positions of the targets, which are not included.
            lengths: int64 (B,), events wanted of each.
            width: columns of the result, >= every length.

        Returns:
            (B, width, ...) left-aligned and padded with 0, in the field's batch dtype.
        """
        return self._gather(field, (ends - lengths)[:, None], 1, lengths, width)

    def futures(self, field: str, ends: Tensor, stops: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """Gather the events from *ends* on, reversed: the latest first, *ends* itself last.

        Args:
            field: which field.
            ends: int64 (B,), first event of each future.
            stops: int64 (B,), position behind the last event that may be seen.
            width: the longest future; of a longer one the events nearest to *ends* stay.

        Returns:
            (B, width) left-aligned and padded with 0, and the lengths, int64 (B,).
        """
        lengths = (stops - ends).clamp(min=0, max=width)
        first = (ends + lengths - 1)[:, None]
        return self._gather(field, first, -1, lengths, width), lengths

    def last_histories(self, users: Tensor, max_length: int) -> tuple[Tensor, Tensor]:
        """Gather the latest items of users, oldest first; the last event of a user is included.

        Args:
            users: int64 (B,), internal user ids.
            max_length: items wanted of each user at the most.

        Returns:
            items, int64 (B, W), left-aligned and padded with 0, where W is the longest history of these
            users (at least 1), and the lengths, int64 (B,), 0 for a user without an event.
        """
        ends = self.offsets[users + 1]
        lengths = (ends - self.offsets[users]).clamp(max=max_length)
        width = max(int(lengths.max()) if len(users) else 0, 1)
        if not len(self):
            return torch.zeros(len(users), width, dtype=torch.long), lengths
        return self.histories(self.item_field, ends, lengths, width), lengths

    def events_of(self, users: Tensor) -> tuple[Tensor, Tensor]:
        """All events of users: (place in *users*, item), both int64 (E,)."""
        return flatten_ranges(self.offsets[users], self.offsets[users + 1], self.items)

    def _gather(self, field: str, first: Tensor, step: int, lengths: Tensor, width: int) -> Tensor:
        place = torch.arange(width)
        real = place < lengths[:, None]
        index = (first + step * place).masked_fill_(~real, 0)
        values = self.fields[field][index]
        real = real.view(*real.shape, *[1] * (values.dim() - 2))
        return widen(values.masked_fill_(~real, 0))


def flatten_ranges(begins: Tensor, ends: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Ranges of *values*, one behind the other: (number of the range, value), both int64."""
    counts = ends - begins
    owner = torch.repeat_interleave(torch.arange(len(counts)), counts)
    place = torch.arange(len(owner)) - (counts.cumsum(0) - counts)[owner]
    return owner, values[begins[owner] + place].long()


def _narrow(values: Tensor) -> Tensor:
    """int64 ids as int32 where they fit, so that the store is half the size."""
    if values.dtype == torch.int64 and (not values.numel() or int(values.max()) < 2**31 - 1):
        return values.to(torch.int32)
    return values


def widen(values: Tensor) -> Tensor:
    """int32 ids back as the int64 that embeddings and RecBole expect."""
    return values.long() if values.dtype == torch.int32 else values
