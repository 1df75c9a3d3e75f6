"""Conversion of times to int64, from dates and from Unix times whose unit follows from their size."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from recbole_disent.errors import UserError
from recbole_disent.tables.cells import (
    KIND_NAMES,
    differing_rows,
    floats_of,
    kind_of,
    shown,
    without_decimals,
)

# Units from coarse to fine; each unit is 1000 times the next one.
UNITS = ("s", "ms", "us", "ns")
UNIT_NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
# Lower limits of the sizes of Unix seconds, milliseconds, microseconds and nanoseconds (each from 1973 to
# 5138), and of numbers that are too large for a time. The unit of smaller numbers is unknown.
_LEAST = np.array([1e8, 1e11, 1e14, 1e17, 9.2e18])
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_DATE = re.compile(r"\d{4}-\d|\d{8}T")
_YEAR_1 = -62135596800  # in Unix seconds
_CONVERT = (
    "no time of the column can be read, so convert the column, for example by "
    "pandas.to_datetime(column, format='%d.%m.%Y %H:%M')"
)


@dataclass
class Times:
    """Times of the events that have a time.

    Attributes:
        values: int64 (n,). For the units s, ms, us and ns the values are whole units since 1970 in UTC.
            For step they are the numbers of the table, and for rank they are the ranks of the times among
            the distinct times, from 0. The order of the values is exact.
        unit: the coarsest of s, ms, us and ns in which all times are whole, so that the values do not
            depend on the notation of the times. The unit is step for numbers that are too small for a Unix
            time, and rank for such numbers with fractions or for fractions that are too fine.
        found: description of the cells, such as "dates" or "milliseconds".
    """

    values: np.ndarray
    unit: str
    found: str


def parse_times(
    values: pd.Series, column: str, where: Callable[[int], str], missing_time: str = "error"
) -> tuple[Times, np.ndarray]:
    """Read the times of a column.

    Dates have the format ISO 8601, such as ``2024-05-01``, ``2024-05-01 12:00:00.5`` or
    ``2024-05-01T12:00:00+02:00``, or a date type of the table. Dates without a time zone are in UTC.
    Numbers are seconds, milliseconds, microseconds or nanoseconds since 1970, depending on their size.
    Numbers below 10^8 are steps without a known unit, of which only the order matters.

    Args:
        values: the column, with the index 0..n-1.
        column: name of the column, for error messages.
        where: function that names a row, for error messages.
        missing_time: what to do with rows whose time is missing or cannot be read: error raises an error,
            drop drops them.

    Returns:
        The times of the rows that are kept, and which rows are kept, bool (n,).

    Raises:
        UserError: a time is missing or cannot be read, or the numbers have different units.

    Example:
        >>> times, _ = parse_times(pd.Series(["1970-01-02", "1970-01-03"]), "date", str)
        >>> times.values.tolist(), times.unit
        ([86400, 172800], 's')
    """
    if missing_time not in ("error", "drop"):
        raise UserError(f"missing_time: got {missing_time!r}, expected error or drop")
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(values.cat.categories.dtype)
    values = without_decimals(values)
    missing, kind = missing_cells(values), kind_of(values)
    if kind == "text":
        read, kind = _texts(values.astype(object), missing)
    elif kind in ("datetime", "date"):
        read = pd.to_datetime(values, utc=True, errors="coerce")
    elif kind in ("integer", "float", "empty"):
        read = values.where(~missing) if values.dtype == object else values  # floats do not take pd.NA
    else:
        row = differing_rows(values)[1]
        raise UserError(
            f"{where(row)}: column '{column}' (time) contains {KIND_NAMES[kind]}, such as "
            f"{shown(values.iloc[row])}, expected dates or numbers"
        )
    kept = ~missing & read.notna().to_numpy()
    if kind == "float":
        kept = kept & np.isfinite(read.astype("float64").to_numpy())
    if missing_time == "error" and not kept.all():
        row = int((~kept).argmax())
        if missing[row]:
            what = f"the time in column '{column}' is missing"
        else:
            expected = "a date of ISO 8601 from 1678 to 2262" if kind == "date" else "a number"
            what = f"the time in column '{column}' is {shown(values.iloc[row])}, expected {expected}"
            what += _like(values, kept)
        none = not missing[row] and not kept.any()  # the whole column has another format
        hint = _CONVERT if none else "correct the time, or drop such rows by missing_time=drop"
        raise UserError(f"{where(row)}: {what}; {hint}")
    if not kept.any():
        what = f"no time in column '{column}' can be read"
        if missing.all():
            raise UserError(f"{where(0)}: {what}, because it is empty; name another column by time=NAME")
        first = shown(values[~missing].iloc[0])
        raise UserError(
            f"{where(0)}: {what}: got {first}, expected dates of ISO 8601 from 1678 to 2262, or numbers; "
            "convert the column, or name another one by time=NAME"
        )
    rows = kept.nonzero()[0]
    if kind in ("date", "datetime"):
        return _dates(read[kept]), kept
    return _numbers(read[kept], rows, column, where), kept


def missing_cells(values: pd.Series) -> np.ndarray:
    """Return which cells of a column hold nothing, or only blanks, as bool (n,)."""
    missing = values.isna().to_numpy(dtype=bool)
    if kind_of(values) == "text":
        missing = missing | (values.astype(object).str.strip() == "").to_numpy(dtype=bool)
    return missing


def _like(values: pd.Series, kept: np.ndarray) -> str:
    return f" like {shown(values.iloc[int(kept.argmax())])}" if kept.any() else ""


def _texts(values: pd.Series, missing: np.ndarray) -> tuple[pd.Series, str]:
    """Read all texts as numbers if the first text that can be read is a number, else as dates."""
    cells = values.where(~missing).str.strip()
    kinds = (_NUMBER.fullmatch(cell) or _DATE.match(cell) for cell in cells[~missing])
    first = next((kind for kind in kinds if kind), None)
    if first is not None and first.re is _NUMBER:
        numbers = pd.to_numeric(cells, errors="coerce")
        if numbers.isna().any():  # a missing number would turn integers into floats, so parse the rest alone
            good = numbers.notna()
            exact = pd.Series(np.nan, index=cells.index, dtype=object)
            exact[good] = pd.to_numeric(cells[good]).astype(object)
            return exact, "float" if pd.to_numeric(cells[good]).dtype.kind == "f" else "integer"
        return numbers, "float" if numbers.dtype.kind == "f" else "integer"
    # pandas would also accept words such as "now".
    dates = cells.where(cells.str.match(_DATE, na=False))
    dates = dates.str.replace(r"\s*(?:UTC|GMT)$", "Z", regex=True)
    return pd.to_datetime(dates, utc=True, format="ISO8601", errors="coerce"), "date"


def _dates(dates: pd.Series) -> Times:
    stamps = dates.dt.tz_convert("UTC").dt.tz_localize(None) if dates.dt.tz is not None else dates
    array = stamps.to_numpy()
    unit = np.datetime_data(array.dtype)[0]
    values, unit = _coarsest(array.view(np.int64), unit)
    return Times(values, unit, "dates")


def _numbers(numbers: pd.Series, rows: np.ndarray, column: str, where: Callable[[int], str]) -> Times:
    """Convert numbers to times; *rows* are their rows in the table, for error messages."""
    floats = floats_of(numbers)
    levels = np.searchsorted(_LEAST, np.abs(floats), side="right")
    if len(levels) and levels.max() == len(_LEAST):
        row = int(levels.argmax())
        raise UserError(
            f"{where(int(rows[row]))}: the time in column '{column}' is {shown(numbers.iloc[row])}, which is "
            "too large for Unix nanoseconds; correct the time"
        )
    whole = _whole(numbers)
    calendar = None if whole is None else _calendar(whole)
    if calendar is not None:
        return calendar
    known = levels[levels > 0]
    level = int(known.max()) if len(known) else 0
    if len(known) and known.min() < level:
        row, other = int((levels == known.min()).argmax()), int((levels == level).argmax())
        names = [UNIT_NAMES[UNITS[n - 1]] for n in (known.min(), level)]
        raise UserError(
            f"{where(int(rows[row]))}: the time in column '{column}' is {numbers.iloc[row]}, {names[0]} by "
            f"its size, but {numbers.iloc[other]} ({where(int(rows[other]))}) is {names[1]}; "
            "write all times in one unit, or as dates"
        )
    if level == 0:
        if whole is not None:
            return Times(whole, "step", "numbers too small for a Unix time")
        return Times(_ranks(floats), "rank", "numbers with fractions too small for a Unix time")
    unit = UNITS[level - 1]
    if floats.min() < _YEAR_1 * 1000.0 ** (level - 1):
        row = int(floats.argmin())
        raise UserError(
            f"{where(int(rows[row]))}: the time in column '{column}' is {numbers.iloc[row]}, which is before "
            "the year 1; correct the time"
        )
    if whole is not None:
        values, coarsest = _coarsest(whole, unit)
    else:
        values, coarsest = _fractions(floats, unit)
    early = int((floats < _LEAST[level - 1]).sum())
    found = UNIT_NAMES[unit] + (f" ({early} of them before 1973)" if early else "")
    return Times(values, coarsest, found)


def _calendar(numbers: np.ndarray) -> Times | None:
    """Read numbers such as 202611251430 (YYYYMMDDhhmm) and 20261125143059; None if one is no such date.

    By their size alone these numbers would be milliseconds of the years 1976 or 2572 to 2635.
    """
    for form, name, year in (
        ("%Y%m%d%H%M", "YYYYMMDDhhmm", 10**8),
        ("%Y%m%d%H%M%S", "YYYYMMDDhhmmss", 10**10),
    ):
        if len(numbers) and ((numbers >= 1900 * year) & (numbers < 2100 * year)).all():
            dates = pd.to_datetime(pd.Series(numbers.astype(str)), format=form, errors="coerce")
            if dates.notna().all():
                return replace(_dates(dates), found=f"dates written as digits ({name})")
    return None


def _whole(numbers: pd.Series) -> np.ndarray | None:
    """Return the numbers as int64 (n,), or None if a number has a fraction."""
    if kind_of(numbers) == "integer":
        return numbers.astype("int64").to_numpy()
    floats = numbers.astype("float64").to_numpy()
    return floats.astype(np.int64) if (floats == np.floor(floats)).all() else None


def _coarsest(values: np.ndarray, unit: str) -> tuple[np.ndarray, str]:
    """Divide by 1000 as long as all numbers stay whole and the unit is finer than a second."""
    level = UNITS.index(unit)
    while level and not (values % 1000).any():
        values, level = values // 1000, level - 1
    return values, UNITS[level]


def _fractions(numbers: np.ndarray, unit: str) -> tuple[np.ndarray, str]:
    """Convert floats to whole numbers of the coarsest finer unit from which the same floats result.

    If there is no such unit, the values are nanoseconds, which keep the order. If nanoseconds would
    overflow, the values are ranks.
    """
    level = UNITS.index(unit)
    floor = np.floor(numbers)
    for finer in range(level + 1, len(UNITS)):
        factor = 1000 ** (finer - level)
        if np.abs(numbers).max() * factor >= _LEAST[-1]:
            break
        # The whole part and the fraction are multiplied separately, because their sum would be rounded twice.
        values = floor.astype(np.int64) * factor + np.rint((numbers - floor) * factor).astype(np.int64)
        if finer == len(UNITS) - 1 or (values / factor == numbers).all():
            return values, UNITS[finer]
    return _ranks(numbers), "rank"


def _ranks(numbers: np.ndarray) -> np.ndarray:
    return np.unique(numbers, return_inverse=True)[1].astype(np.int64)
