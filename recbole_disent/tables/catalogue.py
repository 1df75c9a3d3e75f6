"""Conversion of a table of items to the typed columns of an ``.item`` file."""

from __future__ import annotations

import re
from collections.abc import Callable
from logging import getLogger
from typing import Any

import numpy as np
import pandas as pd

from recbole_disent.errors import UserError
from recbole_disent.tables.cells import KIND_NAMES, kind_of, to_ids, to_numbers, without_decimals
from recbole_disent.tables.columns import guess, require_column
from recbole_disent.tables.read import open_table
from recbole_disent.tables.text_files import TextTable

# Names of columns of events, which a column of items must not have.
_TAKEN = {"user_id", "item_id", "rating", "timestamp", "label"}
# The usual notation of a number. Texts such as 007 or 0123456789012345 are codes, not numbers.
_NUMBER = r"\s*[+-]?(?:0|[1-9]\d{0,14})(?:\.\d*)?(?:[eE][+-]?\d+)?\s*"


def read_catalogue(
    data: Any, item: str | None = None, like: str | None = None, encoding: str = "utf-8"
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read a table of items.

    A column of texts, dates or booleans becomes ``name:token_seq``, and a column of numbers becomes
    ``name:float``. A column of lists becomes ``name:token_seq``; an element that contains spaces stays one
    token, in which ``_`` replaces each run of spaces. A column of lists of floats becomes
    ``name:float_seq``. A column of a CSV or TSV file contains numbers if all of its cells are numbers. A
    cell with leading zeros or more than 15 digits is a code and not a number.

    Args:
        data: any source that :func:`~recbole_disent.tables.read.open_table` accepts.
        item: column of the ids; None means the column named *like*, or a column guessed by its name.
        like: name of the item column in the table of events.
        encoding: encoding of text files.

    Returns:
        A table with one row for each item, with the columns ``item_id`` (str) and the other columns named
        as above; and a summary with ``source``, ``rows``, ``columns`` (name in the table -> name with
        type), ``id`` and ``notes``.

    Raises:
        UserError: the table or a column cannot be used, or the rows of an item differ.

    Example:
        >>> frame, _ = read_catalogue(pd.DataFrame({"sku": ["a"], "price": [2.5], "name": ["A"]}))
        >>> list(frame)
        ['item_id', 'price:float', 'name:token_seq']
    """
    table = open_table(data, encoding, "items")
    notes: list[str] = []
    name = _id_column(table.columns, item, like, table.name, notes)
    raw = table.read(table.columns)
    if raw.empty:
        raise UserError(f"{table.name}: the table is empty, expected a row for each item")
    found: dict[str, Any] = {"item_id": to_ids(raw[name], "item", name, table.where).astype(object)}
    names: dict[str, str] = {}
    for column in table.columns:
        if column == name:
            continue
        cells, kind = _typed(raw[column], column, table.where, isinstance(table, TextTable))
        if kind is None:
            notes.append(f"column '{column}' is empty and is left out")
            continue
        names[column] = f"{_field(column, found)}:{kind}"
        if names[column].rpartition(":")[0] != column:
            notes.append(f"column '{column}' is named {names[column].rpartition(':')[0]}")
        found[names[column]] = cells
    frame = pd.DataFrame(found)
    same = frame.astype(str).duplicated()
    if same.any():
        notes.append(f"{int(same.sum())} rows are identical to an earlier row and are left out")
    twice = frame["item_id"].duplicated() & ~same
    if twice.any():
        row = int(twice.to_numpy().argmax())
        first = int((frame["item_id"] == frame["item_id"].iloc[row]).to_numpy().argmax())
        raise UserError(
            f"{table.where(row)}: the item '{frame['item_id'].iloc[row]}' has other values than in "
            f"{table.where(first)}; keep one of the rows"
        )
    for note in notes:
        getLogger().info(f"{table.name}: {note}")
    summary = {"source": table.name, "rows": len(raw), "id": name, "columns": names, "notes": notes}
    return frame[~same].reset_index(drop=True), summary


def compare_items(events: pd.DataFrame, items: pd.DataFrame, summary: dict[str, Any]) -> None:
    """Count the items that only one of the two tables has, and add the counts to *summary*.

    Args:
        events: the frame of :func:`~recbole_disent.tables.events.read_events`.
        items, summary: the results of :func:`read_catalogue`.

    Raises:
        UserError: the tables have no item in common.
    """
    seen, known = set(events["item_id"].cat.categories), set(items["item_id"])
    if not seen & known:
        raise UserError(
            f"{summary['source']}: no item of the events is in column '{summary['id']}', which contains ids "
            f"such as {items['item_id'].iloc[0]!r}, expected ids such as {events['item_id'].iloc[0]!r}"
        )
    summary["items_without_row"] = len(seen - known)
    summary["rows_without_event"] = len(known - seen)
    if seen - known:
        note = f"{len(seen - known)} of {len(seen)} items of the events have no row in the table of items"
        _note(summary, note)


def count_changes(summary: dict[str, Any], changed: int) -> None:
    """Add the number of texts with characters that an ``.item`` file cannot contain to *summary*."""
    summary["texts_changed"] = changed
    if changed:
        _note(summary, f"spaces replace tabs, line breaks and invalid characters in {changed} texts")


def _note(summary: dict[str, Any], note: str) -> None:
    summary["notes"].append(note)
    getLogger().info(f"{summary['source']}: {note}")


def _id_column(columns: list[str], item: str | None, like: str | None, where: str, notes: list[str]) -> str:
    if item:
        require_column(columns, item, "item", where)
        return item
    if like in columns:
        return like
    named = guess(columns, "item") or [c for c in columns if c.lower() == "id"]
    if len(named) != 1:
        what = f"could be any of {', '.join(named)}" if named else "cannot be guessed"
        raise UserError(
            f"{where}: the column of the item ids {what} (the columns are {', '.join(columns)}); rename it "
            f"to the name of the item column of the events{f' ({like})' if like else ''}"
        )
    notes.append(f"the item ids are in column '{named[0]}', guessed from its name")
    return named[0]


def _field(column: str, taken: dict[str, Any]) -> str:
    """Return a name for a column that is valid in an atomic file and not yet used."""
    field = re.sub(r'[:\t\n\r\0"]', "_", column).strip() or "column"
    used = _TAKEN | {name.rpartition(":")[0] or name for name in taken}
    while field in used:
        field = f"item_{field}"
    return field


def _typed(
    values: pd.Series, column: str, where: Callable[[int], str], untyped: bool
) -> tuple[Any, str | None]:
    """Return the cells of a column as in an ``.item`` file, and their type, or (None, None) if all are empty.

    The numbers of an *untyped* table are texts.
    """
    values = without_decimals(values)
    kind = kind_of(values)
    cells = values.astype(object)
    filled = cells[cells.notna()]
    if kind == "text":
        filled = filled.str.strip()
        filled = filled[filled != ""]
        if len(filled) and untyped and pd.Series(filled.unique()).str.fullmatch(_NUMBER).all():
            values, kind = cells.str.strip(), "float"
    if filled.empty or kind == "empty":
        return None, None
    if kind in ("integer", "float"):
        return to_numbers(values, "value", column, where), "float"
    if kind == "text":
        return cells.where(cells.notna(), ""), "token_seq"
    if kind in ("boolean", "date", "datetime"):
        return cells.map(lambda cell: "" if pd.isna(cell) else str(cell)), "token_seq"
    if kind == "list":
        return _lists(cells, column, where)
    row = int(cells.notna().to_numpy().argmax())
    raise UserError(
        f"{where(row)}: column '{column}' of the items contains {KIND_NAMES[kind]}, expected texts, numbers "
        "or lists; convert them to texts, or leave the column out"
    )


def _lists(cells: pd.Series, column: str, where: Callable[[int], str]) -> tuple[list[str], str]:
    rows = [list(cell) if isinstance(cell, list | tuple | np.ndarray) else [] for cell in cells]
    kinds = {type(v) for row in rows for v in row if not (isinstance(v, float | np.floating) and v != v)}
    # Writers of JSON write 0 for 0.0. Lists of whole numbers alone are ids.
    fractions = {kind for kind in kinds if issubclass(kind, float | np.floating)}
    if fractions and all(
        issubclass(kind, int | np.integer) and kind is not bool for kind in kinds - fractions
    ):
        for number, row in enumerate(rows):
            if not all(np.isfinite(value) for value in row):
                raise UserError(
                    f"{where(number)}: column '{column}' of the items contains a list with NaN or infinity, "
                    "expected finite numbers"
                )
        return [" ".join(repr(float(value)) for value in row) for row in rows], "float_seq"
    for number, row in enumerate(rows):
        for value in row:
            if isinstance(value, dict | list | tuple | np.ndarray):
                raise UserError(
                    f"{where(number)}: column '{column}' of the items contains lists of lists or of records, "
                    "expected lists of texts or numbers"
                )
    joined = [[re.sub(r"\s+", "_", str(v).strip()) for v in row if not pd.isna(v)] for row in rows]
    return [" ".join(filter(None, row)) for row in joined], "token_seq"
