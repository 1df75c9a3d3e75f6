"""Users, sequences and items from files, row by row."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from logging import getLogger
from pathlib import Path
from typing import Any

import pandas as pd

from recbole_disent.errors import UserError


def users(path: Path) -> Iterator[str]:
    """Read ids from the column ``user`` of a CSV or Parquet file.

    Raises:
        UserError: a damaged file, no such column, one of another type, or an empty id.
    """
    if path.suffix == ".parquet":
        yield from _parquet_users(path)
        return
    with _reading(path) as reader:
        for _, row in _rows(path, reader, ("user",)):
            yield row["user"]


def _parquet_users(path: Path) -> Iterator[str]:
    try:
        from pyarrow import parquet, types
    except ImportError as error:
        raise UserError(
            f"{path}: Parquet needs the package 'pyarrow'; install it, or give a CSV file"
        ) from error
    try:
        file = parquet.ParquetFile(path)
        names = file.schema_arrow.names
        if names.count("user") != 1:
            raise UserError(f"{path}: its columns are {', '.join(names)}, expected one 'user'")
        kind = file.schema_arrow.field("user").type
        plain = kind.value_type if types.is_dictionary(kind) else kind
        if not types.is_integer(plain) and str(plain) not in ("string", "large_string", "string_view"):
            raise UserError(f"{path}: the column 'user' has the type {kind}, expected text or whole numbers")
        batches = (batch.column("user").to_pylist() for batch in file.iter_batches(columns=["user"]))
        for row, user in enumerate(chain.from_iterable(batches), start=1):
            if user is None or user == "":
                raise UserError(f"{path}, row {row}: the column 'user' is empty; expected an id")
            yield str(user)
    except UserError:
        raise
    except Exception as error:  # the reader of damaged bytes raises whatever they lead it to
        raise UserError(
            f"{path}: is damaged or no Parquet file ({' '.join(str(error).split())}); write it again"
        ) from error


def sequences(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Read (id, items) of sequences, oldest item first.

    * ``.csv``: columns ``sequence`` and ``item``, the rows of a sequence one after another;
    * ``.jsonl``: a line is a list of items, or an object with ``sequence`` and ``items``;
    * ``.txt``: a line holds the items of a sequence, separated by blanks; empty lines are left out.

    Sequences without an id have the number of their line, from 0. No two may have the same id.

    Raises:
        UserError: another ending, or a line that is none of these.
    """
    if path.suffix == ".csv":
        yield from _csv_sequences(path)
    elif path.suffix == ".jsonl":
        met: set[str] = set()
        for number, text in _lines(path):
            name, found = _json_sequence(f"{path}, line {number + 1}", number, text)
            if name in met:
                raise UserError(f"{path}, line {number + 1}: the sequence '{name}' is there already")
            met.add(name)
            yield name, found
    elif path.suffix == ".txt":
        blank = 0
        for number, text in _lines(path):
            if items := text.split():
                yield str(number), items
            blank += not items
        if blank:
            getLogger().warning(f"{path}: {blank} lines hold no item and are left out")
    else:
        raise UserError(f"--sequences: got '{path}', expected a file that ends with .csv, .jsonl or .txt")


def _csv_sequences(path: Path) -> Iterator[tuple[str, list[str]]]:
    name: str | None = None
    items: list[str] = []
    ended: set[str] = set()
    with _reading(path) as reader:
        for line, row in _rows(path, reader, ("sequence", "item")):
            if row["sequence"] != name:
                if name is not None:
                    ended.add(name)
                    yield name, items
                name, items = row["sequence"], []
                if name in ended:
                    raise UserError(
                        f"{path}, line {line}: the sequence '{name}' has ended before; sort the file by "
                        "sequence"
                    )
            items.append(row["item"])
    if name is not None:
        yield name, items


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file with their numbers, from 0."""
    with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
        for number, text in enumerate(file):
            if not _is_unicode(text):
                raise UserError(f"{path}, line {number + 1}: it is not in UTF-8; save the file in UTF-8")
            yield number, text


def _json_sequence(where: str, number: int, text: str) -> tuple[str, list[str]]:
    expected = 'expected ["i1", "i2"] or {"sequence": "s1", "items": ["i1", "i2"]}'
    try:
        found = json.loads(text, object_pairs_hook=tuple)  # a dictionary would hide repeated keys
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: {expected}, but this is no JSON ({error})") from error
    name: Any = number
    if isinstance(found, tuple):
        keys = sorted(key for key, _ in found)
        if keys not in (["items"], ["items", "sequence"]):
            raise UserError(f"{where}: {expected}, got the keys {keys}")
        pairs = dict(found)
        name, found = pairs.get("sequence", number), pairs["items"]
    if not _is_id(name):
        raise UserError(f"{where}: the sequence has the name {name!r}, expected a text or a whole number")
    if not isinstance(found, list):
        raise UserError(f"{where}: {expected}")
    for item in found:
        if not _is_id(item):
            raise UserError(f"{where}: got the item {item!r}, expected a text or a whole number")
    return str(name), [str(item) for item in found]


def _is_id(value: Any) -> bool:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return whole or (isinstance(value, str) and value != "" and _is_unicode(value))


def _is_unicode(text: str) -> bool:
    """Whether UTF-8 can hold a text: it has no half of a pair of surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def items(path: Path | None, owner: str) -> pd.DataFrame | None:
    """Read a CSV file with a column ``item`` and maybe a column *owner*; None for no file.

    Raises:
        UserError: other columns, without a column *owner*; or a row with an empty cell, or with more cells
            than columns.
    """
    if path is None:
        return None
    with _reading(path) as reader:
        names = list(reader.fieldnames or [])
        if "item" in names and owner not in names and len(names) > 1:
            raise UserError(
                f"{path}, line 1: the columns are {', '.join(names)}, expected '{owner}' and 'item', or "
                "'item' alone"
            )
        columns = (owner, "item") if owner in names else ("item",)
        rows = [[row[name] for name in columns] for _, row in _rows(path, reader, columns)]
    return pd.DataFrame(rows, columns=list(columns), dtype=object)


@contextmanager
def _reading(path: Path) -> Iterator[csv.DictReader[str]]:
    """Open a CSV file; what cannot be read becomes a UserError."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            yield reader
        except (csv.Error, UnicodeDecodeError) as error:
            raise UserError(
                f"{path}, line {reader.line_num}: {error}; save the file as CSV in UTF-8"
            ) from error


def _rows(
    path: Path, reader: csv.DictReader[str], wanted: tuple[str, ...]
) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows with the numbers of their last lines; each has a value in every column of *wanted*."""
    names = reader.fieldnames or []
    for name in wanted:
        if name not in names:
            if not names:
                raise UserError(f"{path}: the file is empty, expected a header with a column '{name}'")
            raise UserError(f"{path}, line 1: the columns are {', '.join(names)}, expected one '{name}'")
        if names.count(name) > 1:
            raise UserError(f"{path}, line 1: {names.count(name)} columns are named '{name}', expected one")
    for row in reader:
        if None in row:
            raise UserError(
                f"{path}, line {reader.line_num}: more cells than the header has; put ids that contain a "
                "comma in quotes"
            )
        for name in wanted:
            if row[name] is None:
                raise UserError(f"{path}, line {reader.line_num}: fewer cells than the header has")
            if not row[name]:
                raise UserError(
                    f"{path}, line {reader.line_num}: the column '{name}' is empty; expected an id"
                )
        yield reader.line_num, row
