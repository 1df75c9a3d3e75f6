"""A training loader that counts its batches and can end early."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any


class CountedLoader:
    """A training loader for one epoch of RecBole's trainer.

    Args:
        loader: any training loader.
        limit: number of batches after which the epoch ends; None: the epoch ends with the loader.

    Attributes:
        steps: number of batches so far.
    """

    def __init__(self, loader: Any, limit: int | None = None) -> None:
        self._loader, self._limit, self.steps = loader, limit, 0

    def __iter__(self) -> Iterator[Any]:
        for batch in islice(self._loader, self._limit):
            self.steps += 1
            yield batch

    def __len__(self) -> int:
        size = len(self._loader)
        return size if self._limit is None else min(size, self._limit)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)
