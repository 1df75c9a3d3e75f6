"""Training rows that are stored as positions, in place of RecBole's Interaction with padded histories."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_disent.data.store import SequenceStore, widen


class LazyInteraction(Interaction):
    """Rows (history, target) of a :class:`SequenceStore`, each stored as the position of its target.

    The object has the same columns as RecBole's augmented data, but creates a column only on access. Scalar
    columns are cheap; padded histories need their full memory. Indexing with rows returns a
    :class:`LazyInteraction`, and :meth:`gather` returns a batch.

    Args:
        store: store of the events.
        rows: int64 (n,), positions of the targets.
        user_field, length_field: names of the columns of the users and of the history lengths.
        list_fields: field of the store for each column of histories.
        max_length: maximum length of a history, which is the width of a padded history.
    """

    def __init__(
        self,
        store: SequenceStore,
        rows: Tensor,
        user_field: str,
        length_field: str,
        list_fields: dict[str, str],
        max_length: int,
    ) -> None:
        self.store = store
        self.rows = rows
        self.user_field = user_field
        self.length_field = length_field
        self.list_fields = list_fields
        self.max_length = max_length
        self._columns = [user_field, *store.fields, length_field, *list_fields]

    @property
    def length(self) -> int:
        """Number of rows."""
        return len(self.rows)

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return list(self._columns)

    @property
    def interaction(self) -> dict[str, Tensor]:
        """All columns at their full size, for small data; larger data may not fit in memory."""
        return {name: self[name] for name in self._columns}

    def __iter__(self) -> Any:
        return iter(self._columns)

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, str):
            return self._column(index, self.rows, self.max_length)
        return self.with_rows(self.rows[_row_index(index)])

    def __setitem__(self, key: str, value: Any) -> None:
        raise TypeError(f"column '{key}': rows of a SequenceStore are read-only")

    def with_rows(self, rows: Tensor) -> LazyInteraction:
        """Return the same columns for other positions of the store, int64 (n,)."""
        new = object.__new__(type(self))
        new.__dict__.update(self.__dict__)
        new._columns = list(self._columns)
        new.rows = rows
        return new

    def _column(self, name: str, rows: Tensor, width: int) -> Tensor:
        if name not in self._columns:
            raise KeyError(name)
        if name == self.user_field:
            return self.store.users_of(rows)
        if name == self.length_field:
            return self.store.history_lengths(rows, self.max_length)
        if name in self.list_fields:
            lengths = self.store.history_lengths(rows, self.max_length)
            return self.store.histories(self.list_fields[name], rows, lengths, width)
        return widen(self.store.fields[name][rows])

    def gather(self, index: Any, trim: bool = False) -> Interaction:
        """Return a batch with the columns that RecBole's loaders and models expect.

        Args:
            index: the rows: indices, a slice or a mask.
            trim: whether the histories are padded to the longest history of the batch, and not to the
                maximum length.
        """
        rows = self.rows[_row_index(index)]
        if rows.dim() == 0:
            rows = rows[None]
        width = self.max_length
        if trim and len(rows):
            width = max(int(self.store.history_lengths(rows, width).max()), 1)
        return Interaction({name: self._column(name, rows, width) for name in self._columns})

    def sort(self, by: Any, ascending: Any = True) -> None:
        """Sort the rows by scalar columns, as RecBole does; an ascending sort is stable."""
        fields = [by] if isinstance(by, str) else list(by)
        order = [ascending] if isinstance(ascending, bool) else list(ascending)
        if len(order) == 1:
            order *= len(fields)
        for field, up in zip(fields[::-1], order[::-1], strict=True):
            if field not in self._columns:
                raise ValueError(f"column '{field}' is not among {self._columns}")
            key = self[field].numpy()
            key = key if key.ndim == 1 else key[..., 0]
            index = np.argsort(key, kind="stable")
            self._reindex(torch.from_numpy(index if up else index[::-1].copy()))

    def _reindex(self, index: Any) -> None:
        self.rows = self.rows[index]

    def drop(self, column: str) -> None:
        """Remove a column from the batches."""
        if column not in self._columns:
            raise ValueError(f"column '{column}' is not among {self._columns}")
        self._columns.remove(column)

    def numpy(self) -> dict[str, np.ndarray]:
        """Return all columns as arrays."""
        return {name: value.numpy() for name, value in self.interaction.items()}


def _row_index(index: Any) -> Any:
    if isinstance(index, (list, range)):
        return torch.as_tensor(np.asarray(index, dtype=np.int64))
    if isinstance(index, np.ndarray):
        return torch.from_numpy(index)
    return index
