"""The store of all sequences, in flat arrays that are sorted by user, then time, then order in the file."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

# Events of a part of a count, and number of times that the wanted events are fewer than all events.
_PART, _FEW = 2**24, 8


class SequenceStore:
    """Store of all events, in which the history of an event is a range of preceding events.

    Args:
        users: int (n,), internal user ids in ascending order.
        fields: a tensor (n, ...) for each field, with the events in the same order. The fields include
            *item_field*.
        item_field: name of the item field.
        n_users: number of users, including the padding user 0.

    Attributes:
        users: int32 (n,), internal user id of each event.
        offsets: int64 (n_users + 1,); user u has the events offsets[u] .. offsets[u + 1] - 1.
        fields: the fields; int64 values are stored as int32 if they fit.
    """

    def __init__(self, users: np.ndarray, fields: dict[str, Tensor], item_field: str, n_users: int) -> None:
        counts = np.bincount(users, minlength=n_users)
        self.offsets = torch.from_numpy(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))
        self.users = torch.from_numpy(users.astype(np.int32))
        self.fields = {name: narrow(values) for name, values in fields.items()}
        self.item_field = item_field

    def __len__(self) -> int:
        return len(self.users)

    @property
    def items(self) -> Tensor:
        """Item of each event: int32 (n,), or int64 for more than 2^31 items."""
        return self.fields[self.item_field]

    @property
    def nbytes(self) -> int:
        """Number of bytes of all arrays."""
        tensors = [self.users, self.offsets, *self.fields.values()]
        return sum(t.numel() * t.element_size() for t in tensors)

    def later_events(self) -> Tensor:
        """Return the positions of all events except the first event of each user: int64."""
        later = torch.ones(len(self), dtype=torch.bool)
        later[self.offsets[:-1][self.offsets.diff() > 0]] = False
        return later.nonzero()[:, 0]

    def users_of(self, ends: Tensor) -> Tensor:
        """Return the user of each event in *ends*: int64."""
        if ends.numel() * _FEW > len(self):
            return self.users[ends].long()
        # A search in `offsets` reads no page of `users`, which may be mapped and as large as the events.
        return torch.searchsorted(self.offsets, ends, right=True) - 1

    def starts(self, ends: Tensor) -> Tensor:
        """Return the position of the first event of the user of each event in *ends*."""
        return self.offsets[self.users_of(ends)]

    def item_counts(self, n_items: int, mask: np.ndarray) -> np.ndarray:
        """Return the number of events of each item among the events of a mask: int64 (n_items,)."""
        counts, items = np.zeros(n_items, dtype=np.int64), self.items.numpy()
        for begin in range(0, len(items), _PART):  # numpy counts copies of all numbers with 8 bytes each
            part = slice(begin, begin + _PART)
            counts += np.bincount(items[part][mask[part]], minlength=n_items)
        return counts

    def user_bounds(self, parts: int) -> list[int]:
        """Cut the users into contiguous parts with about the same number of events.

        Args:
            parts: number of parts n.

        Returns:
            The first user of each part, and the number of users: n + 1 values.
        """
        wanted = torch.arange(1, parts) * len(self) // parts
        inner = torch.searchsorted(self.offsets[:-1].contiguous(), wanted).tolist()
        return [0, *inner, len(self.offsets) - 1]

    def history_lengths(self, ends: Tensor, max_length: int) -> Tensor:
        """Return the number of events of the user before each event, at most *max_length*."""
        return (ends - self.starts(ends)).clamp(max=max_length)

    def histories(self, field: str, ends: Tensor, lengths: Tensor, width: int) -> Tensor:
        """Gather the events right before *ends*, oldest first.

        Args:
            field: name of the field.
            ends: int64 (B,), positions of the targets, which are not part of the histories.
            lengths: int64 (B,), number of events to gather before each target.
            width: number of columns of the result, >= every length.

        Returns:
            (B, width, ...), left-aligned and padded with 0, with int32 values converted to int64.
        """
        return self._gather(field, (ends - lengths)[:, None], 1, lengths, width)

    def futures(self, field: str, ends: Tensor, stops: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """Gather the events from *ends* on in reverse order: the latest event first, *ends* itself last.

        Args:
            field: name of the field.
            ends: int64 (B,), position of the first event of each future.
            stops: int64 (B,), position after the last event that a future may contain.
            width: maximum length; a longer future keeps the events nearest to *ends*.

        Returns:
            The events (B, width), left-aligned and padded with 0, and the lengths, int64 (B,).
        """
        lengths = (stops - ends).clamp(min=0, max=width)
        first = (ends + lengths - 1)[:, None]
        return self._gather(field, first, -1, lengths, width), lengths

    def last_histories(self, users: Tensor, max_length: int) -> tuple[Tensor, Tensor]:
        """Gather the latest items of users, oldest first, including the last event of each user.

        Args:
            users: int64 (B,), internal user ids.
            max_length: maximum number of items for each user.

        Returns:
            The items, int64 (B, W), left-aligned and padded with 0, where W >= 1 is the length of the
            longest history; and the lengths, int64 (B,), which are 0 for users without events.
        """
        ends = self.offsets[users + 1]
        lengths = (ends - self.offsets[users]).clamp(max=max_length)
        width = max(int(lengths.max()) if len(users) else 0, 1)
        if not len(self):
            return torch.zeros(len(users), width, dtype=torch.long), lengths
        return self.histories(self.item_field, ends, lengths, width), lengths

    def events_of(self, users: Tensor) -> tuple[Tensor, Tensor]:
        """Return all events of users: the position in *users* and the item of each event, int64 (E,)."""
        return flatten_ranges(self.offsets[users], self.offsets[users + 1], self.items)

    def _gather(self, field: str, first: Tensor, step: int, lengths: Tensor, width: int) -> Tensor:
        column = torch.arange(width)
        real = column < lengths[:, None]
        index = (first + step * column).masked_fill_(~real, 0)
        values = self.fields[field][index]
        real = real.view(*real.shape, *[1] * (values.dim() - 2))
        return widen(values.masked_fill_(~real, 0))


def flatten_ranges(begins: Tensor, ends: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Concatenate ranges of *values*.

    Args:
        begins, ends: int64 (R,), first position of each range and position after its last value.
        values: int (n,).

    Returns:
        The index of the range and the value of each element, both int64 (E,).

    Example:
        >>> flatten_ranges(torch.tensor([0, 3]), torch.tensor([2, 4]), torch.tensor([5, 6, 7, 8]))
        (tensor([0, 0, 1]), tensor([5, 6, 8]))
    """
    counts = ends - begins
    owner = torch.repeat_interleave(torch.arange(len(counts)), counts)
    offset = torch.arange(len(owner)) - (counts.cumsum(0) - counts)[owner]
    return owner, values[begins[owner] + offset].long()


def narrow(values: Tensor) -> Tensor:
    """Convert int64 ids to int32 if they fit, which halves the size of the store."""
    if values.dtype == torch.int64 and (not values.numel() or int(values.max()) < 2**31 - 1):
        return values.to(torch.int32)
    return values


def widen(values: Tensor) -> Tensor:
    """Convert int32 ids to int64, which embeddings and RecBole expect."""
    return values.long() if values.dtype == torch.int32 else values
