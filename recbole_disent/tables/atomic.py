"""Writing data frames to RecBole's atomic files, and reading them back.

An atomic file is tab-separated text in UTF-8 whose header gives each column a type. The format has no rule
for quotes. Two kinds of readers must read the same values: pandas as RecBole calls it, for which a double
quote opens a quoted cell and ``NA`` is a missing cell, and readers that do not interpret cells. Therefore
an id that the two would read differently is an error. A text that they would read differently gets a
leading space, which both ignore in a ``token_seq`` and which :func:`from_atomic` removes.
"""

from __future__ import annotations

import csv
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recbole_disent.data.text_files import count_cells
from recbole_disent.errors import UserError
from recbole_disent.files import write_for_user
from recbole_disent.tables.cells import MISSING_TEXTS, id_fault, kind_of
from recbole_disent.tables.table import distinct_names

TYPES = ("token", "token_seq", "float", "float_seq")
IDS = {"inter": ("user_id", "item_id"), "item": ("item_id",)}
# Characters that a text cannot contain: ends of cells and lines, NUL, and lone surrogates.
_UNWRITABLE = re.compile("[\t\n\r\0\ud800-\udfff]")
# Texts that get a leading space, whether or not they already have leading spaces.
_AMBIGUOUS = re.compile(rf' *(?:".*|(?:{"|".join(map(re.escape, sorted(MISSING_TEXTS - {""})))}))', re.DOTALL)
_ROWS_AT_ONCE = 100_000


def to_atomic(
    events: pd.DataFrame, items: pd.DataFrame | None, folder: str | os.PathLike[str], name: str
) -> dict[str, Any]:
    """Write ``<folder>/<name>/<name>.inter`` and, with items, ``<name>.item``.

    The name of a column may contain its type, as in ``year:token``. Otherwise ``user_id``, ``item_id`` and
    texts of events become ``token``, texts of items become ``token_seq``, and numbers become ``float``.
    Whole numbers are written without a decimal point, and floats with the digits that restore their exact
    value. The rows keep their order. Each file is either complete or absent, and the ``.inter`` file is
    written last.

    Args:
        events: table with the columns ``user_id`` and ``item_id`` (texts) and further columns such as
            ``timestamp``.
        items: table with the column ``item_id``, in which each id occurs once; None writes no ``.item``
            file.
        folder, name: folder and name of the data set: the keys ``data_path`` and ``dataset`` of a run.

    Returns:
        A dict with ``texts_changed``, the number of texts in which a character such as a tab or a newline
        was replaced by a space, and ``files``, the paths of the files.

    Raises:
        UserError: an id is missing or cannot be stored in the files, a column has an unsupported type, or
            *items* is None and an ``.item`` file exists, which a run would read as the items of these
            events.

    Example:
        >>> events = pd.DataFrame({"user_id": ["007"], "item_id": ["x"], "timestamp": [5]})
        >>> to_atomic(events, None, "data", "shop")["files"]
        ['data/shop/shop.inter']
    """
    target = Path(folder) / name
    found = render(events, items)
    item_file = target / f"{name}.item"
    if items is None and item_file.exists():
        raise UserError(
            f"{item_file}: the file exists, and a run would read it as the items of the new events; remove "
            "the file, or give items"
        )
    files = []
    for kind, (data, _) in found.items():
        path = target / f"{name}.{kind}"
        with write_for_user(path) as file:
            file.write(data)
        files.append(str(path))
    return {"texts_changed": sum(changed for _, changed in found.values()), "files": files}


def render(events: pd.DataFrame, items: pd.DataFrame | None) -> dict[str, tuple[bytes, int]]:
    """Return the contents of the files that :func:`to_atomic` writes.

    Returns:
        For each kind of file (``inter``, ``item``) its bytes and the number of changed texts.
    """
    found = {}
    if items is not None:
        found["item"] = _render(items, "item")
    found["inter"] = _render(events, "inter")
    return found


def _render(frame: pd.DataFrame, source: str) -> tuple[bytes, int]:
    what = {"inter": "events", "item": "items"}[source]
    header = [_header(str(column), source, what) for column in frame.columns]
    fields = distinct_names([field for field, _ in header], what)
    for field in IDS[source]:
        if field not in fields:
            raise UserError(f"{what}: got the columns {', '.join(fields)}, expected '{field}' among them")
    if frame.empty:
        raise UserError(f"{what}: the table is empty, expected at least one row")
    columns, names, changed = [], [], 0
    for number, (field, kind) in enumerate(header):
        cells, kind, count = _cells(frame.iloc[:, number], field, kind, source, what)
        columns.append(cells)
        names.append(f"{field}:{kind}")
        changed += count
    pieces = ["\t".join(names)]
    for begin in range(0, len(frame), _ROWS_AT_ONCE):
        rows = zip(*(cells[begin : begin + _ROWS_AT_ONCE] for cells in columns), strict=True)
        pieces.append("\n".join(map("\t".join, rows)))
    return ("\n".join(pieces) + "\n").encode("utf-8"), changed


def _header(column: str, source: str, what: str) -> tuple[str, str | None]:
    field, _, kind = column.rpartition(":")
    if not field or kind not in TYPES:
        field, kind = column, ""
    if field in IDS[source]:
        kind = "token"
    if not field.strip() or re.search('[:\t\n\r\0"\ud800-\udfff]', field):
        raise UserError(
            f"{what}: the column name {field!r} is empty or has a colon, quote, tab or newline; rename it"
        )
    return field, kind or None


def _cells(
    values: pd.Series, field: str, kind: str | None, source: str, what: str
) -> tuple[list[str], str, int]:
    """Return the texts of a column, its type, and the number of texts that were changed."""
    found = kind_of(values)
    if kind is None:
        text = "token_seq" if source == "item" else "token"
        if found == "empty" and values.dtype.kind == "f":
            found = "float"  # a column of numbers that are all missing
        kinds = {"text": text, "empty": text, "integer": "float", "float": "float"}
        kind = kinds.get(found)
    if kind is None or found not in ("text", "integer", "float", "empty"):
        raise UserError(
            f"{what}: column '{field}' holds {found} values, expected texts or numbers; "
            "recbole_disent.tables.prepare converts other types"
        )
    if kind == "token":
        return _tokens(values, field, source, what), kind, 0
    if kind == "float":
        return _floats(values, field, what), kind, 0
    cells, count = [], 0
    for value in values.astype(object).where(values.notna(), ""):
        text, changes = _UNWRITABLE.subn(" ", str(value))
        count += changes > 0
        cells.append(" " + text if _AMBIGUOUS.fullmatch(text) else text)
    return cells, kind, count


def _tokens(values: pd.Series, field: str, source: str, what: str) -> list[str]:
    codes, distinct = pd.factorize(values)
    names = []
    for code, value in enumerate(distinct):
        text = str(value)
        fault = id_fault(text) if text or field in IDS[source] else None
        if fault:
            raise UserError(f"{what}, row {int((codes == code).argmax())}: {field} is {text!r}; {fault}")
        names.append(text)
    if field in IDS[source] and (codes < 0).any():
        raise UserError(f"{what}, row {int((codes < 0).argmax())}: {field} is missing")
    if source == "item" and field == "item_id" and len(names) < len(codes):
        row = int(pd.Series(codes).duplicated().to_numpy().argmax())
        raise UserError(
            f"{what}, row {row}: the item '{names[codes[row]]}' is a duplicate; keep one row of the item"
        )
    return np.array([*names, ""], dtype=object)[codes].tolist()  # the code -1 (missing) selects ""


def _floats(values: pd.Series, field: str, what: str) -> list[str]:
    numbers = pd.to_numeric(values, errors="coerce")
    floats = numbers.astype("float64").to_numpy()
    faulty = np.isinf(floats) | (np.isnan(floats) & values.notna().to_numpy())
    if faulty.any():
        row = int(faulty.argmax())
        raise UserError(f"{what}, row {row}: {field} is {values.iloc[row]}, expected a finite number")
    if kind_of(numbers) == "integer":
        return ["" if pd.isna(number) else str(number) for number in numbers.tolist()]
    return ["" if number != number else repr(number) for number in floats.tolist()]


def from_atomic(
    folder: str | os.PathLike[str], name: str, types: bool = False
) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Read ``<folder>/<name>/<name>.inter`` and ``<name>.item``, for example files of :func:`to_atomic`.

    Args:
        folder, name: folder and name of the data set.
        types: whether the names of the columns contain their types, such as ``year:token``. From tables
            with such names, :func:`to_atomic` writes the same files again.

    Returns:
        The events, and the items or None if there is no ``.item`` file. Tokens and sequences are str (a
        sequence is one text), in which quotes are characters. A ``float`` column is int64 if all cells are
        whole numbers without a decimal point, else float64 with NaN for an empty cell.

    Raises:
        UserError: a file does not exist, a header has no types, or a cell is not a number.
    """
    base = Path(folder) / name
    events = base / f"{name}.inter"
    if not events.is_file():
        raise UserError(f"{base}: there is no file {events.name} in this folder")
    items = base / f"{name}.item"
    return _read(events, types), _read(items, types) if items.is_file() else None


def _read(path: Path, types: bool) -> pd.DataFrame:
    try:
        with open(path, encoding="utf-8-sig", newline="\n") as file:
            names = file.readline().rstrip("\r\n").split("\t")
        header = [(field, kind) for field, _, kind in (name.rpartition(":") for name in names)]
        for field, kind in header:
            if not field or kind not in TYPES:
                raise UserError(
                    f"{path}, line 1: got {':'.join(filter(None, (field, kind)))!r}, expected a header "
                    f"'name:type' with a type of {', '.join(TYPES)} in each column"
                )
        distinct_names([field for field, _ in header], f"{path}, line 1")
        cells = count_cells(str(path), "\t", "utf-8-sig")
        cells = cells[: int(np.flatnonzero(cells)[-1]) + 1]  # empty lines at the end are no rows
        wrong = np.flatnonzero(cells != len(names))
        if len(wrong):
            raise UserError(
                f"{path}, line {wrong[0] + 1}: got {cells[wrong[0]]} cells, expected {len(names)} as in the "
                "header; correct the line"
            )
        raw = pd.read_csv(
            path, sep="\t", header=0, names=names, nrows=len(cells) - 1, dtype=str, na_filter=False,
            quoting=csv.QUOTE_NONE, encoding="utf-8-sig", engine="c", skip_blank_lines=False,
        )  # fmt: skip
    except (UnicodeError, pd.errors.ParserError) as error:
        raise UserError(f"{path}: the file cannot be read ({' '.join(str(error).split())})") from error
    data = {}
    for name, (field, kind) in zip(names, header, strict=True):
        cells = raw[name].astype(object)
        data[name if types else field] = _parse(cells, field, kind, path)
    return pd.DataFrame(data)


def _parse(cells: pd.Series, field: str, kind: str, path: Path) -> Any:
    if kind == "token_seq":
        texts = [text[1:] if text[:1] == " " and _AMBIGUOUS.fullmatch(text) else text for text in cells]
        return pd.Series(texts, dtype=object)
    if kind != "float":
        return cells
    filled = cells.where(cells != "", None)
    numbers = pd.to_numeric(filled, errors="coerce")
    faulty = ~np.isfinite(numbers.astype("float64").to_numpy()) & filled.notna().to_numpy()
    if faulty.any():
        row = int(faulty.argmax())
        raise UserError(f"{path}, line {row + 2}: {field} is {cells.iloc[row]!r}, expected a number")
    if numbers.dtype.kind in "iu":
        return numbers
    # Python's float is exact; the conversion of pandas sometimes differs in the last bit.
    return np.array([float(text) if text else np.nan for text in cells], dtype=np.float64)
