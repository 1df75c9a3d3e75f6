"""The kinds of cells of a column, and the conversion of cells to ids and numbers."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from recbole_disent.errors import UserError

# From 2^53 on, several integers share a float.
WHOLE_FLOATS = 2.0**53
_LARGEST_FLOAT = int(sys.float_info.max)
# Texts that RecBole's reader (pandas) interprets as a missing cell.
MISSING_TEXTS = frozenset(
    ["", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A",
     "NA", "NULL", "NaN", "None", "n/a", "nan", "null"]
)  # fmt: skip
# Characters that would end a cell or a line in an atomic file, or a text in C.
FORBIDDEN = {"\t": "a tab", "\n": "a newline", "\r": "a carriage return", "\0": "a NUL character"}


def kind_of(values: pd.Series) -> str:
    """Return the kind of the cells of a column, ignoring missing cells.

    Returns:
        One of text, integer, float, boolean, datetime, date, list, nested, bytes, empty, mixed (values of
        several types) and other (values of another type).
    """
    if isinstance(values.dtype, pd.CategoricalDtype):
        return kind_of(pd.Series(values.cat.categories))
    dtype = values.dtype
    if pd.api.types.is_datetime64_any_dtype(dtype):
        return "datetime" if values.notna().any() else "empty"
    found = pd.api.types.infer_dtype(values, skipna=True)
    names = {"string": "text", "mixed-integer-float": "float", "floating": "float", "datetime64": "datetime"}
    found = names.get(found, found)
    if found in ("text", "integer", "float", "boolean", "datetime", "date", "bytes", "empty"):
        return "empty" if not values.notna().any() else found
    first = next((v for v in values if not (np.isscalar(v) and pd.isna(v)) and v is not None), None)
    if isinstance(first, dict):
        return "nested"
    if isinstance(first, list | tuple | np.ndarray):
        # infer_dtype returns "mixed" for every column of lists.
        others = (v for v in values if v is not None and not isinstance(v, list | tuple | np.ndarray | float))
        return "mixed" if next(others, None) is not None else "list"
    start, odd = differing_rows(values)
    return "other" if start == odd else "mixed"


def without_decimals(values: pd.Series) -> pd.Series:
    """Convert Decimals, which databases export, to ints, or to floats if one of them is not whole."""
    if values.dtype != object or pd.api.types.infer_dtype(values, skipna=True) != "decimal":
        return values
    filled = values[values.notna()]
    kind: Any = int if all(value == value.to_integral_value() for value in filled) else float
    return pd.Series([None if pd.isna(v) else kind(v) for v in values], dtype=object)


def to_ids(values: pd.Series, role: str, column: str, where: Callable[[int], str]) -> pd.Categorical:
    """Convert a column to ids; integers and whole floats become decimal texts, and texts stay unchanged.

    Args:
        values: the column, with the index 0..n-1.
        role: user or item, for error messages.
        column: name of the column, for error messages.
        where: function that names a row, for error messages.

    Returns:
        n values whose categories are str, in the order of their first rows.

    Raises:
        UserError: an id is missing or cannot be stored in an atomic file, a float is not whole, or the
            cells have several types.

    Example:
        >>> list(to_ids(pd.Series([7.0, 8.0]), "user", "uid", str))
        ['7', '8']
    """
    values = without_decimals(values)
    kind = kind_of(values)
    if kind not in ("text", "integer", "float", "empty"):
        _refuse_kind(values, kind, role, column, where)
    codes, distinct = pd.factorize(values)
    missing = (codes < 0) | np.isin(codes, [code for code, value in enumerate(distinct) if value == ""])
    if missing.any():
        row = int(missing.argmax())
        raise UserError(f"{where(row)}: the {role} is missing; expected an id in column '{column}'")
    names = []
    for code, value in enumerate(distinct):
        try:
            names.append(_id_text(value))
        except ValueError as error:
            row = int((codes == code).argmax())
            raise UserError(
                f"{where(row)}: the {role} in column '{column}' is {shown(value)}; {error}"
            ) from error
    return pd.Categorical.from_codes(codes, categories=pd.Index(names, dtype=object))


def _id_text(value: Any) -> str:
    """Return an id as text; raise a ValueError with the reason if the value cannot be an id."""
    if isinstance(value, float | np.floating):
        if not float(value).is_integer() or abs(float(value)) >= WHOLE_FLOATS:
            raise ValueError("an id has to be a text or a whole number below 2^53; store the id as text")
        value = int(value)
    text = str(value)
    fault = id_fault(text)
    if fault:
        raise ValueError(fault)
    return text


def id_fault(text: str) -> str | None:
    """Return the reason why a text cannot be an id in RecBole's atomic files, or None."""
    if not text.strip(" "):
        return "the id is blank; leave the row out, or fill in an id"
    if text in MISSING_TEXTS:
        return "RecBole reads this text as a missing id; leave the row out, or rename the id"
    if text.startswith('"'):
        return "RecBole reads a double quote at the beginning as a quoted cell; rename the id"
    for character, name in FORBIDDEN.items():
        if character in text:
            return f"an id cannot contain {name}; rename the id"
    if not _encodable(text):
        return "the id is not valid Unicode; rename the id"
    return None


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def to_numbers(values: pd.Series, role: str, column: str, where: Callable[[int], str]) -> np.ndarray:
    """Convert a column to numbers; a missing or empty cell becomes NaN.

    Args:
        values: the column, with the index 0..n-1.
        role: role of the column, for error messages.
        column: name of the column, for error messages.
        where: function that names a row, for error messages.

    Returns:
        float64 (n,), or int64 (n,) if all cells are whole numbers without a decimal point.

    Raises:
        UserError: a cell is not a finite number.
    """
    values = without_decimals(values)
    kind = kind_of(values)
    if kind in ("text", "integer", "float", "empty"):
        cells = values.astype(object)
        if values.dtype == object and kind != "text":
            cells = cells.map(_infinite)
        missing = (cells.where(cells.notna(), "") == "").to_numpy(dtype=bool)
        numbers = pd.to_numeric(cells.where(~missing), errors="coerce")
        faulty = ~np.isfinite(numbers.astype("float64").to_numpy()) & ~missing
        if not faulty.any():
            if missing.any():
                return numbers.astype("float64").to_numpy()
            found = pd.to_numeric(cells).to_numpy()
            return found if found.dtype == np.int64 else found.astype(np.float64)
        row = int(faulty.argmax())
        raise UserError(
            f"{where(row)}: the {role} in column '{column}' is {shown(values.iloc[row])}, expected a number"
        )
    row = int(values.notna().to_numpy().argmax())
    if kind == "mixed":
        numbers = [isinstance(v, int | float | np.number) and not isinstance(v, bool) for v in values]
        filled = values.notna().to_numpy()
        row = int((filled & ~np.array(numbers)).argmax())
    raise UserError(
        f"{where(row)}: the {role} in column '{column}' is {shown(values.iloc[row])}, expected a number"
    )


def floats_of(numbers: pd.Series) -> np.ndarray:
    """Return numbers as float64 (n,); whole numbers that are too large for a float become infinite."""
    try:
        return numbers.astype("float64").to_numpy()
    except OverflowError:
        cells = [_infinite(number) for number in numbers]  # JSON has whole numbers of any length
        return pd.Series(cells, dtype="float64").to_numpy()


def _infinite(number: Any) -> Any:
    large = isinstance(number, int) and abs(number) > _LARGEST_FLOAT
    return (np.inf if number > 0 else -np.inf) if large else number


KIND_NAMES = {
    "text": "texts", "boolean": "true and false", "datetime": "dates", "date": "dates", "list": "lists",
    "nested": "nested records", "bytes": "bytes", "mixed": "values of several types",
    "other": "values of an unsupported type",
}  # fmt: skip


def _refuse_kind(values: pd.Series, kind: str, role: str, column: str, where: Callable[[int], str]) -> None:
    if kind == "mixed":
        first, other = differing_rows(values)
        raise UserError(
            f"{where(other)}: column '{column}' ({role}) contains {shown(values.iloc[other])}, but "
            f"{shown(values.iloc[first])}, a value of another type, in {where(first)}; convert all "
            "values to text"
        )
    hint = {
        "nested": "; flatten the records, and name the column of the id",
        "bytes": "; decode the bytes to text",
        "list": "; write one row for each element",
    }.get(kind, "")
    raise UserError(
        f"{where(0)}: column '{column}' ({role}) contains {KIND_NAMES[kind]}, expected texts or "
        f"whole numbers{hint}"
    )


def differing_rows(values: pd.Series) -> tuple[int, int]:
    """Return the first row of a column with a value, and the first row whose value has another type."""
    kinds = [None if v is None or (np.isscalar(v) and pd.isna(v)) else type(v) for v in values]
    first = next((row for row, kind in enumerate(kinds) if kind), 0)
    other = next((row for row, kind in enumerate(kinds) if kind and kind is not kinds[first]), first)
    return first, other


def shown(value: Any) -> str:
    """Return the text of a cell for an error message, with at most 60 characters."""
    text = repr(value.item() if isinstance(value, np.generic) else value)
    return text if len(text) <= 60 else text[:57] + "..."
