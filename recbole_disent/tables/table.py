"""What a table is: its columns are known, and its cells are read on demand.

Rows are numbered from 0 here; :meth:`Table.where` names a row as its owner sees it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import pandas as pd

from recbole_disent.errors import UserError

# Endings of Parquet files.
PARQUET_ENDINGS = (".parquet", ".pq")


class Table(Protocol):
    """A table whose columns are known and whose cells are read on demand.

    Attributes:
        name: of the file, or "the DataFrame"; it begins every error message.
        columns: names of the columns, distinct.
        files: the files that it consists of; empty for a table in memory.
    """

    name: str
    columns: list[str]
    files: list[Path]

    def read(self, columns: Sequence[str]) -> pd.DataFrame:
        """Return these columns, one row a record, index 0..n-1; text cells as they are written."""

    def where(self, row: int) -> str:
        """Name a row, such as ``events.csv, line 7``."""


class FrameTable:
    """A pandas DataFrame."""

    def __init__(self, frame: pd.DataFrame, name: str = "the DataFrame", first_row: int = 0) -> None:
        self.name = name
        self.files: list[Path] = []
        self._first_row = first_row
        if frame.columns.nlevels > 1:
            raise UserError(f"{name}: the column names have {frame.columns.nlevels} levels, expected one")
        self.columns = distinct_names([str(name) for name in frame.columns], name)
        self._frame = frame.reset_index(drop=True).set_axis(self.columns, axis=1)

    def read(self, columns: Sequence[str]) -> pd.DataFrame:
        """Return these columns."""
        return self._frame[list(columns)]

    def where(self, row: int) -> str:
        """Name a row: its position from 0, as ``iloc`` takes it, or its record in a file from 1."""
        return f"{self.name}, row {row + self._first_row}"


class LazyTable:
    """A table whose kind knows its columns early and its cells late, such as Parquet."""

    def __init__(
        self,
        name: str,
        columns: list[str],
        read: Callable[[list[str]], pd.DataFrame],
        files: list[Path] | None = None,
        first_row: int = 1,
    ) -> None:
        self.name, self.files = name, files or []
        self.columns = distinct_names(columns, name)
        self._read, self._first_row = read, first_row

    def read(self, columns: Sequence[str]) -> pd.DataFrame:
        """Return these columns."""
        return self._read(list(columns))

    def where(self, row: int) -> str:
        """Name a row."""
        return f"{self.name}, row {row + self._first_row}"


def distinct_names(names: list[str], where: str) -> list[str]:
    """Check that no column name is there twice.

    Raises:
        UserError: one is.
    """
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{where}: the column '{name}' is there {names.count(name)} times; rename one")
    return names
