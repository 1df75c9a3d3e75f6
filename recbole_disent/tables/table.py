"""The interface of tables, whose columns are known and whose cells are read on demand.

Rows are numbered from 0 in this package; :meth:`Table.where` names a row for users.
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
        name: path of the file, or "the DataFrame"; every error message begins with the name.
        columns: distinct names of the columns.
        files: the files of the table; empty for a table in memory.
    """

    name: str
    columns: list[str]
    files: list[Path]

    def read(self, columns: Sequence[str]) -> pd.DataFrame:
        """Return columns with one row for each record and the index 0..n-1; texts stay unchanged."""

    def where(self, row: int) -> str:
        """Return a text that identifies a row, such as ``events.csv, line 7``."""


class FrameTable:
    """A pandas DataFrame."""

    def __init__(self, frame: pd.DataFrame, name: str = "the DataFrame", first_row: int = 0) -> None:
        self.name = name
        self.files: list[Path] = []
        self._first_row = first_row
        if frame.columns.nlevels > 1:
            raise UserError(f"{name}: the column names have {frame.columns.nlevels} levels, expected one")
        taken = {str(column) for column in frame.columns}
        levels = [level for level in frame.index.names if level is not None and str(level) not in taken]
        if levels:  # such as the times of the events
            try:
                frame = frame.reset_index(levels)
            except ValueError as error:
                raise UserError(f"{name}: two levels of the index have one name ({error})") from error
        self.columns = distinct_names([str(name) for name in frame.columns], name)
        self._frame = frame.reset_index(drop=True).set_axis(self.columns, axis=1)

    def read(self, columns: Sequence[str]) -> pd.DataFrame:
        """Return these columns."""
        return self._frame[list(columns)]

    def where(self, row: int) -> str:
        """Return a text that identifies a row by its number, from 0 as in ``iloc`` by default."""
        return f"{self.name}, row {row + self._first_row}"


class LazyTable:
    """A table whose columns are known and whose cells a function reads, such as a Parquet file."""

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
        """Return a text that identifies a row."""
        return f"{self.name}, row {row + self._first_row}"


def distinct_names(names: list[str], where: str) -> list[str]:
    """Check that no column name occurs twice, and return the names.

    Raises:
        UserError: a name occurs twice.
    """
    for name in names:
        if names.count(name) > 1:
            raise UserError(
                f"{where}: the column '{name}' occurs {names.count(name)} times, expected once; "
                "rename one of them"
            )
    return names
