"""Times of interactions: their parsing from numbers and ISO dates, their unit, and the order of events."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import numpy as np
import pandas as pd

from recbole_disent.data.ordering import count_distinct, time_order

# Number of each unit in a second, and the range in seconds of Unix times of the years 1973 to 5138.
_UNITS = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
_FIRST, _LAST = 1e8, 1e11
_ISO = r"\d{4}-\d{2}-\d{2}(?:$|[T ])"


@dataclass(frozen=True)
class TimeTies:
    """Counts of events whose order the times do not decide.

    Attributes:
        equal: number of events that have the same time as the user's preceding event.
        lost: number of events whose time differs from the time of the user's preceding event, but is equal
            to it in float32.
        duplicates: number of events that have the user, item and time of an earlier event.
    """

    equal: int
    lost: int
    duplicates: int


def order_events(users: np.ndarray, times: np.ndarray, items: np.ndarray) -> tuple[np.ndarray, TimeTies]:
    """Order events by user and then by time; equal times keep the order of the file.

    Args:
        users: int (n,), user of each event.
        times: float64 (n,), time of each event.
        items: int (n,), item of each event.

    Returns:
        The positions of the ordered events, int64 (n,), and the counts of ties.

    Example:
        >>> order_events(np.array([1, 1]), np.array([1.7e9, 1.6e9]), np.array([3, 4]))[0].tolist()
        [1, 0]
    """
    order = time_order(users, times)
    same_user = np.diff(users[order]) == 0
    times = times[order]
    equal = same_user & (np.diff(times) == 0)
    rounded = same_user & (np.diff(times.astype(np.float32)) == 0)
    # Only events of a user at the same time can be duplicates. `group` numbers the sets of such events.
    group = np.concatenate([[0], np.cumsum(~equal)]) if len(order) else order
    tied = np.concatenate([equal, [False]]) | np.concatenate([[False], equal]) if len(order) else equal
    keys = group[tied] * (int(items.max(initial=0)) + 1) + items[order[tied]]
    ties = TimeTies(int(equal.sum()), int((rounded & ~equal).sum()), len(keys) - count_distinct(keys))
    return order, ties


def numbers_of(column: Any) -> np.ndarray:
    """Return the numbers of a column of numbers or of pairs (number, weight): float64 (n,)."""
    values = column.to_numpy()
    if values.dtype == object:  # columns in numerical_features contain pairs
        values = np.asarray(values.tolist(), dtype=np.float64)[:, 0]
    return values


def parse_times(texts: pd.Series) -> np.ndarray:
    """Convert texts to numbers; an ISO date becomes the number of seconds since 1970.

    Args:
        texts: (n,) strings; a date without a time zone is in UTC.

    Returns:
        float64 (n,); NaN for a text that is neither a number nor an ISO date.

    Example:
        >>> parse_times(pd.Series(["1970-01-02", "1970-01-01T00:00:01+00:00", "1.5", "soon"])).tolist()
        [86400.0, 1.0, 1.5, nan]
    """
    numbers = pd.to_numeric(texts, errors="coerce").to_numpy(dtype=np.float64, copy=True)
    dates = np.flatnonzero(np.isnan(numbers) & texts.str.match(_ISO).fillna(False).to_numpy(dtype=bool))
    if len(dates):
        # pandas 1.5 does not have this format, and parses each text separately by default.
        form = {} if pd.__version__.startswith("1.") else {"format": "ISO8601"}
        stamps = pd.to_datetime(texts.iloc[dates], utc=True, errors="coerce", **form)
        seconds = (stamps - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)
        numbers[dates] = seconds.to_numpy(dtype=np.float64)
    return numbers


def unit_of(first: float, last: float) -> str | None:
    """Return the unit (s, ms, us or ns) of Unix times from *first* to *last*; None for other numbers."""
    for unit, scale in _UNITS.items():
        if first >= _FIRST * scale and last < _LAST * scale:
            return unit
    return None


def readable(time: float, unit: str | None) -> str:
    """Return a time as an ISO date, or as a number if the unit is None."""
    if unit is None:
        return f"{time:g}"
    return datetime.fromtimestamp(time / _UNITS[unit], tz=timezone.utc).isoformat(timespec="seconds")
