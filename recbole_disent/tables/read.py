"""Any table as data: one interface for files, folders and data frames.

Rows are numbered from 0 here; :meth:`Table.where` names a row as its owner sees it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from recbole_disent.errors import UserError, nearest

# Endings of the files that are read; ``.gz`` may follow those of text files.
TEXT_SEPARATORS = {".csv": ",", ".tsv": "\t"}
JSON_ENDINGS = (".jsonl", ".ndjson", ".json")
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


def open_table(source: Any, encoding: str = "utf-8", what: str = "data") -> Table:
    """Open a table of any kind.

    Args:
        source: path of a ``.csv``, ``.tsv``, ``.jsonl``, ``.ndjson``, ``.json`` (each also with
            ``.gz`` behind it) or ``.parquet`` file, or of a folder of Parquet files, which are read
            in natural order of their names (part-2 before part-10; names of folders, such as ``day=1``,
            give no column); or a pandas, Polars or Arrow
            table, or any object with ``__arrow_c_stream__`` or ``__dataframe__``.
        encoding: of text files. A byte order mark is accepted.
        what: name of the argument, for errors.

    Raises:
        UserError: no such file, an unknown kind of file or object, or a faulty header.

    Example:
        >>> open_table(pd.DataFrame({"user": [1], "item": [2]})).columns
        ['user', 'item']
    """
    from recbole_disent.tables import arrow, json_lines, text_files

    if isinstance(source, pd.DataFrame):
        return FrameTable(source)
    if not isinstance(source, str | os.PathLike):
        return arrow.from_object(source, what)
    path = Path(source)
    if path.is_dir():
        return arrow.from_folder(path)
    if not path.exists():
        raise UserError(f"{what}: there is no file {path}{_neighbour(path)}")
    ending = kind_of_file(path)
    if ending in TEXT_SEPARATORS:
        return text_files.TextTable(path, TEXT_SEPARATORS[ending], encoding)
    if ending in JSON_ENDINGS:
        return json_lines.open_json(path, encoding)
    if ending in PARQUET_ENDINGS:
        return arrow.from_files(str(path), [path])
    known = ", ".join([*TEXT_SEPARATORS, *JSON_ENDINGS, *PARQUET_ENDINGS])
    raise UserError(
        f"{what}: the file {path} ends with {path.suffix or 'nothing'!r}, expected one of {known}, "
        "or a folder of Parquet files"
    )


def kind_of_file(path: Path) -> str:
    """Return the ending that says what a file is, in lower case: ``.csv`` of ``a.CSV.gz``."""
    if path.suffix.lower() == ".gz":
        return Path(path.stem).suffix.lower()
    return path.suffix.lower()


def distinct_names(names: list[str], where: str) -> list[str]:
    """Check that no column name is there twice.

    Raises:
        UserError: one is.
    """
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{where}: the column '{name}' is there {names.count(name)} times; rename one")
    return names


def _neighbour(path: Path) -> str:
    folder = path.parent
    return nearest(path.name, os.listdir(folder)) if folder.is_dir() else ""
