"""Conversion of a table of events to RecBole's columns, with a summary of every change."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from logging import getLogger
from typing import Any

import numpy as np
import pandas as pd

from recbole_disent.errors import UserError
from recbole_disent.tables.cells import shown, to_ids, to_numbers
from recbole_disent.tables.clean import duplicates, k_core
from recbole_disent.tables.columns import Choice, choose_columns
from recbole_disent.tables.read import open_table
from recbole_disent.tables.table import Table
from recbole_disent.tables.times import UNIT_NAMES, UNITS, Times, missing_cells, parse_times

# RecBole reads numbers as float64, which represents all whole numbers up to this limit exactly.
_LARGEST_EXACT = 2**53


@dataclass
class Events:
    """Events in RecBole's columns.

    Attributes:
        frame: one row for each event, in the order of the table, with the columns ``user_id`` and
            ``item_id`` (categories of str), ``rating`` (int64 or float64) if the table has ratings, and
            ``timestamp`` (int64).
        summary: what was read, guessed and dropped, as values that JSON can represent; see
            :func:`read_events`.
    """

    frame: pd.DataFrame
    summary: dict[str, Any]


def read_events(
    data: Any,
    user: str | None = None,
    item: str | None = None,
    time: Choice = None,
    rating: Choice = None,
    min_user: int = 0,
    min_item: int = 0,
    dedupe: str | None = None,
    missing_time: str = "error",
    encoding: str = "utf-8",
) -> Events:
    """Read a table of events.

    Args:
        data: any source that :func:`~recbole_disent.tables.read.open_table` accepts.
        user, item, time, rating: names of the columns. None means that the column is guessed
            (:data:`~recbole_disent.tables.columns.NAMES`). False means that there is no time or no rating.
            Without a time, the order of the rows is the order of the events.
        min_user, min_item: minimum numbers of events of a user and of an item. Events are dropped in
            rounds until all users and items have enough events (k-core).
        dedupe: None, exact or consecutive; see :func:`~recbole_disent.tables.clean.duplicates`. Duplicates
            are dropped before the k-core.
        missing_time: what to do with rows without a readable time: error raises an error, drop drops them.
        encoding: encoding of text files.

    Returns:
        The events. Their summary has the keys ``source``, ``rows`` (rows of the table), ``columns``
        (role -> name), ``guessed`` (roles), ``time`` (``found``, ``unit``, ``first``, ``last``),
        ``dropped`` (``missing_time``, ``unreadable_time``, ``duplicates``, ``too_few``, and ``rounds`` of
        the k-core), ``events``, ``users``, ``items`` (the remaining numbers), ``notes`` (a sentence for
        everything that was guessed, dropped or changed) and ``warnings`` (the notes that are logged as
        warnings).

    Raises:
        UserError: the table, a column or a cell cannot be used, or no event remains.

    Example:
        >>> table = pd.DataFrame({"userId": [1, 1, 2], "movieId": ["a", "b", "a"], "ts": [3, 1, 2]})
        >>> read_events(table).frame["timestamp"].tolist()
        [3, 1, 2]
    """
    table = open_table(data, encoding)
    given: dict[str, Choice] = {"user": user, "item": item, "time": time, "rating": rating}
    columns, guessed = choose_columns(table.columns, given, table.name)
    raw = table.read(list(columns.values()))
    if len(raw) < 2:
        raise UserError(
            f"{table.name}: the table has {len(raw)} row{'s' * (len(raw) != 1)} below its header, "
            "expected one row for each event of several users"
        )
    summary: dict[str, Any] = {
        "source": table.name, "rows": len(raw), "columns": columns, "guessed": guessed,
    }  # fmt: skip
    notes: list[str] = []
    if guessed:
        notes.append(f"columns guessed from their names: {', '.join(f'{r}={columns[r]}' for r in guessed)}")
    warnings: list[str] = []
    if "time" not in columns:
        notes.append(
            f"there is no time column (the columns are {', '.join(table.columns)}; time=NAME names one): the "
            "order of the rows is the order of the events"
        )
        warnings += notes[-1:] if time is None else []
    frame, times, exact, no_time = _canonical(table, raw, columns, missing_time, notes, warnings)
    if dedupe == "exact" and "time" not in columns:
        raise UserError("dedupe: got 'exact', which needs a time column; name one by time=NAME")
    frame, dropped = _reduce(frame, exact, dedupe, min_user, min_item, table.name)
    summary |= {
        "time": _describe(frame["timestamp"].to_numpy(), times),
        "dropped": {**no_time, **dropped},
        "events": len(frame),
        "users": frame["user_id"].nunique(),
        "items": frame["item_id"].nunique(),
        "notes": notes,
        "warnings": warnings,
    }
    if len(frame) < len(raw):
        counts = ", ".join(
            f"{n} {what.replace('_', ' ')}"
            for what, n in summary["dropped"].items()
            if n and what != "rounds"
        )
        notes.append(f"{len(raw) - len(frame)} of {len(raw)} rows are dropped ({counts})")
    if unused := [name for name in table.columns if name not in columns.values()]:
        notes.append(f"columns that are not used: {', '.join(unused)}")
    for note in notes:
        if not note.startswith("columns guessed"):  # choose_columns has logged these
            say = getLogger().warning if note in warnings else getLogger().info
            say(f"{table.name}: {note}")
    return Events(frame, summary)


def _canonical(
    table: Table,
    raw: pd.DataFrame,
    columns: dict[str, str],
    missing_time: str,
    notes: list[str],
    warnings: list[str],
) -> tuple[pd.DataFrame, Times, np.ndarray, dict[str, int]]:
    """Return RecBole's columns, the times as written and as read, and the numbers of rows without a time."""
    data: dict[str, Any] = {
        f"{role}_id": to_ids(raw[columns[role]], role, columns[role], table.where)
        for role in ("user", "item")
    }
    if "rating" in columns:
        data["rating"] = to_numbers(raw[columns["rating"]], "rating", columns["rating"], table.where)
        if np.isnan(data["rating"]).any():
            notes.append(f"{int(np.isnan(data['rating']).sum())} events have no rating")
    frame = pd.DataFrame(data)
    if "time" not in columns:
        frame["timestamp"] = np.arange(len(frame), dtype=np.int64)
        order = frame["timestamp"].to_numpy()
        none_lost = {"missing_time": 0, "unreadable_time": 0}
        return frame, Times(order, "step", "order of the rows"), order, none_lost
    times, kept = parse_times(raw[columns["time"]], columns["time"], table.where, missing_time)
    unit = UNIT_NAMES.get(times.unit, times.unit)
    notes.append(f"the times in column '{columns['time']}' are {times.found}, written as {unit}")
    no_time, unreadable = _without_time(table, raw[columns["time"]], kept)
    notes += unreadable
    warnings += unreadable
    frame = frame[kept].reset_index(drop=True)
    frame["timestamp"] = exact = times.values
    if np.abs(times.values).max() > _LARGEST_EXACT:
        # float64 would lose the order of such times, but the order of sorted rows keeps it.
        frame = frame.sort_values("timestamp", kind="stable", ignore_index=True)
        exact = frame["timestamp"].to_numpy()
        frame["timestamp"] = exact // 1000
        times = Times(frame["timestamp"].to_numpy(), UNITS[UNITS.index(times.unit) - 1], times.found)
        notes.append(
            "the times are too fine for float64: they are rounded down to microseconds, and the rows are "
            "sorted by time, so that the order stays exact"
        )
    return frame, times, exact, no_time


def _without_time(table: Table, times: pd.Series, kept: np.ndarray) -> tuple[dict[str, int], list[str]]:
    """Return the numbers of rows that are dropped, and a note if some have a time that cannot be read."""
    notes: list[str] = []
    if kept.all():  # usual, and a long column of texts takes time
        return {"missing_time": 0, "unreadable_time": 0}, notes
    missing = missing_cells(times) & ~kept
    unreadable = ~missing & ~kept
    if unreadable.any():
        row = int(unreadable.argmax())
        notes.append(
            f"some times cannot be read: {int(unreadable.sum())} of {len(kept)} rows are dropped for this, "
            f"the first with {shown(times.iloc[row])} in column '{times.name}' ({table.where(row)}); to keep "
            "such rows, write their times like those of the other rows"
        )
    return {"missing_time": int(missing.sum()), "unreadable_time": int(unreadable.sum())}, notes


def _reduce(
    frame: pd.DataFrame, times: np.ndarray, dedupe: str | None, min_user: int, min_item: int, name: str
) -> tuple[pd.DataFrame, dict[str, int]]:
    users, items = (frame[field].cat.codes.to_numpy().astype(np.int64) for field in ("user_id", "item_id"))
    single = ~duplicates(users, items, times, dedupe)
    kept = single.copy()
    kept[single], rounds = k_core(users[single], items[single], min_user, min_item)
    if not kept.any():
        raise UserError(
            f"{name}: no event is left with min_user={min_user} and min_item={min_item}; choose smaller "
            "values, or check the columns of the user and the item"
        )
    too_few = int(single.sum() - kept.sum())
    counts = {"duplicates": int((~single).sum()), "too_few": too_few, "rounds": rounds}
    if kept.all():
        return frame, counts
    left = frame[kept].reset_index(drop=True)
    for field in ("user_id", "item_id"):
        left[field] = left[field].cat.remove_unused_categories()
    return left, counts


def _describe(values: np.ndarray, times: Times) -> dict[str, Any]:
    ends: list[Any] = [int(values.min()), int(values.max())]
    if times.unit in UNITS:
        start, per_second = datetime(1970, 1, 1, tzinfo=timezone.utc), 1000 ** UNITS.index(times.unit)
        ends = [(start + timedelta(seconds=end / per_second)).isoformat() for end in ends]
    return {"found": times.found, "unit": times.unit, "first": ends[0], "last": ends[1]}
