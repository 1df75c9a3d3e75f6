"""Tables in JSON lines files, or in a JSON array of objects."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd

from recbole_disent.errors import UserError
from recbole_disent.tables.cells import shown
from recbole_disent.tables.table import Table, distinct_names
from recbole_disent.tables.text_files import READ_ERRORS, open_text, unreadable


class JsonTable:
    """A table whose rows are JSON objects; a key that an object lacks is a missing cell."""

    def __init__(self, path: Path, records: list[dict[str, Any]], lines: list[int] | None) -> None:
        self.name, self.files = str(path), [path]
        self._records, self._lines = records, lines
        self.columns = distinct_names(list(dict.fromkeys(chain.from_iterable(records))), self.name)

    def read(self, columns: Sequence[str]) -> pd.DataFrame:
        """Return columns; numbers keep their JSON type, and null becomes None."""
        # The dtype object prevents pandas from converting 7 and null to 7.0 and NaN.
        data = {name: [record.get(name) for record in self._records] for name in columns}
        return pd.DataFrame({name: pd.Series(cells, dtype=object) for name, cells in data.items()})

    def where(self, row: int) -> str:
        """Return the line of a row, or its index in the array, from 1, as text."""
        return f"{self.name}, " + (f"line {self._lines[row]}" if self._lines else f"record {row + 1}")


def open_json(path: Path, encoding: str) -> Table:
    """Read a JSON file.

    Raises:
        UserError: the file cannot be read or is empty, or a line or a record is not a JSON object.
    """
    try:
        with open_text(path, encoding) as file:
            start = file.read(4096).lstrip()[:1]
            file.seek(0)
            if start == "[":
                return _array(path, file.read())
            return _lines(path, file)
    except READ_ERRORS as error:
        raise unreadable(path, error, encoding) from error


def _array(path: Path, text: str) -> JsonTable:
    try:
        records = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:  # ValueError: also an integer of more than 4300 digits
        raise UserError(f"{path}: the file is not valid JSON ({error})") from error
    if not records:
        raise UserError(f"{path}: the array is empty, expected an object for each row")
    for number, record in enumerate(records, start=1):
        if not isinstance(record, dict):
            raise UserError(f"{path}, record {number}: got {shown(record)}, expected an object {{...}}")
    return JsonTable(path, records, None)


def _lines(path: Path, lines: Iterable[str]) -> JsonTable:
    records: list[dict[str, Any]] = []
    numbers: list[int] = []
    for number, line in enumerate(lines, start=1):
        if line.isspace():
            continue
        try:
            record = json.loads(line, object_pairs_hook=_once)
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{path}, line {number}: got {shown(line.strip())}, expected a JSON object {{...}} in one "
                f"line ({error})"
            ) from error
        if type(record) is not dict:
            raise UserError(f"{path}, line {number}: got {shown(record)}, expected a JSON object {{...}}")
        records.append(record)
        numbers.append(number)
    if not records:
        raise UserError(f"{path}: the file is empty, expected a JSON object in each line")
    return JsonTable(path, records, numbers)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make the dictionary of an object; json would take the last value of a key that appears twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {shown(twice)} appears twice in an object; give each key once")
    return found
