"""Opening of tables: one function for files, folders and data frames."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd

from recbole_disent.errors import UserError, nearest
from recbole_disent.tables import arrow, json_lines, text_files
from recbole_disent.tables.table import PARQUET_ENDINGS, FrameTable, Table

# Endings of supported files; the endings of text files may be followed by ``.gz``.
TEXT_SEPARATORS = {".csv": ",", ".tsv": "\t"}
JSON_ENDINGS = (".jsonl", ".ndjson", ".json")


def open_table(source: Any, encoding: str = "utf-8", what: str = "data") -> Table:
    """Open a table of any kind.

    Args:
        source: path of a ``.csv``, ``.tsv``, ``.jsonl``, ``.ndjson``, ``.json`` (each may also be
            followed by ``.gz``) or ``.parquet`` file; path of a folder of Parquet files; a pandas, Polars
            or Arrow table; or any object with ``__arrow_c_stream__`` or ``__dataframe__``. The files of a
            folder are read in the natural order of their names (part-2 before part-10). The names of
            subfolders, such as ``day=1``, do not become columns.
        encoding: encoding of text files. A byte order mark is accepted.
        what: name of the argument, for error messages.

    Raises:
        UserError: the file does not exist, the kind of file or object is unknown, or the header is faulty.

    Example:
        >>> open_table(pd.DataFrame({"user": [1], "item": [2]})).columns
        ['user', 'item']
    """
    if isinstance(source, pd.DataFrame):
        return FrameTable(source)
    if not isinstance(source, str | os.PathLike):
        return arrow.from_object(source, what)
    path = Path(source)
    if path.is_dir():
        return arrow.from_folder(path)
    if not path.exists():
        raise UserError(f"{what}: there is no file {path}{neighbour(path)}")
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
    """Return the ending of a file without ``.gz``, in lower case, such as ``.csv`` for ``a.CSV.gz``."""
    if path.suffix.lower() == ".gz":
        return Path(path.stem).suffix.lower()
    return path.suffix.lower()


def neighbour(path: Path) -> str:
    """Return ``"; did you mean 'x'?"`` for the most similar name in the folder of a path, or ``""``."""
    folder = path.parent
    return nearest(path.name, os.listdir(folder)) if folder.is_dir() else ""
