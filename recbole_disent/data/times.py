"""Times of interactions: numbers and ISO dates, their unit, and the order that they give."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone

import numpy as np
import pandas as pd

from recbole_disent.data.store import time_order

# Unix times of the years 1973 to 2286 in each unit, and how many of it are a second.
_UNITS = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
_FIRST, _LAST = 1e8, 1e10
_ISO = r"\d{4}-\d{2}-\d{2}(?:$|[T ])"


@dataclass(frozen=True)
class TimeTies:
    """What the times of the events say about their order.

    Attributes:
        equal: events that have the same time as the user's event before.
        lost: events whose time differs from the time of the user's event before, but not in float32.
        duplicates: events that are there already, with the same user, item and time.
    """

    equal: int
    lost: int
    duplicates: int


def order_events(users: np.ndarray, times: np.ndarray, items: np.ndarray) -> tuple[np.ndarray, TimeTies]:
    """Order events by user, then time; equal times stay in the order of the file.

    Args:
        users: int (n,).
        times: float64 (n,).
        items: int (n,).

    Returns:
        int64 (n,), positions of the events in their order; and what is known of it.

    Example:
        >>> order_events(np.array([1, 1]), np.array([1.7e9, 1.6e9]), np.array([3, 4]))[0].tolist()
        [1, 0]
    """
    order = time_order(users, times)
    same_user = np.diff(users[order]) == 0
    times = times[order]
    equal = same_user & (np.diff(times) == 0)
    rounded = same_user & (np.diff(times.astype(np.float32)) == 0)
    # Only events at one time of a user can be duplicates: groups of such events, and their items.
    group = np.concatenate([[0], np.cumsum(~equal)]) if len(order) else order
    tied = np.concatenate([equal, [False]]) | np.concatenate([[False], equal]) if len(order) else equal
    keys = group[tied] * (int(items.max(initial=0)) + 1) + items[order[tied]]
    ties = TimeTies(int(equal.sum()), int((rounded & ~equal).sum()), len(keys) - len(np.unique(keys)))
    return order, ties


def parse_times(texts: pd.Series) -> np.ndarray:
    """Return the numbers that cells hold, or the seconds since 1970 of ISO dates.

    Args:
        texts: (n,) strings; a date without a zone is taken as UTC.

    Returns:
        float64 (n,); NaN for what is neither a number nor an ISO date.

    Example:
        >>> parse_times(pd.Series(["1970-01-02", "1970-01-01T00:00:01+00:00", "1.5", "soon"])).tolist()
        [86400.0, 1.0, 1.5, nan]
    """
    numbers = pd.to_numeric(texts, errors="coerce").to_numpy(dtype=np.float64, copy=True)
    dates = np.flatnonzero(np.isnan(numbers) & texts.str.match(_ISO).fillna(False).to_numpy(dtype=bool))
    if len(dates):
        # pandas 1.5 has no such format, and parses each text by itself.
        form = {} if pd.__version__.startswith("1.") else {"format": "ISO8601"}
        stamps = pd.to_datetime(texts.iloc[dates], utc=True, errors="coerce", **form)
        seconds = (stamps - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)
        numbers[dates] = seconds.to_numpy(dtype=np.float64)
    return numbers


def unit_of(first: float, last: float) -> str | None:
    """Return the unit of Unix times in a range: s, ms, us or ns; None if they are no Unix times."""
    for unit, scale in _UNITS.items():
        if first >= _FIRST * scale and last < _LAST * scale:
            return unit
    return None


def readable(time: float, unit: str | None) -> str:
    """Return a time as an ISO date, or the number where there is no unit."""
    if unit is None:
        return f"{time:g}"
    return datetime.fromtimestamp(time / _UNITS[unit], tz=timezone.utc).isoformat(timespec="seconds")
