"""The data report: statistics of the files and of the data set, with warnings about unusual values.

Every run logs the report and writes its numbers to the result file; ``recbole-disent data`` prints it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from recbole_disent.data.dataset import PartDataset
from recbole_disent.data.ordering import count_distinct
from recbole_disent.data.times import readable, unit_of

_QUANTILES = {"min": 0.0, "25 %": 0.25, "median": 0.5, "75 %": 0.75, "95 %": 0.95, "max": 1.0}
# Fractions of the events or rows above which the report contains a warning.
_MANY_COLD, _MANY_TIES, _MANY_DUPLICATES = 0.2, 0.5, 0.01


def describe(dataset: PartDataset, parts: list[PartDataset]) -> dict[str, Any]:
    """Return the statistics of a data set as values that JSON can represent.

    Args:
        dataset: the whole data set, after the split.
        parts: training, validation and test part.

    Returns:
        A dict with the keys

        * ``files``: number of lines of each file;
        * ``dropped``: number of interactions that each rule left out;
        * ``missing``: number of cells without a value, for each column;
        * ``interactions``, ``users``, ``items``: numbers after the filters;
        * ``time``: None without a time column, else ``field``, ``first`` and ``last`` (as in the file),
          ``from`` and ``to`` (as dates), ``unit``, ``equal_times`` (events with the time of the user's
          preceding event), ``float32_ties`` (further events whose time equals the preceding one in float32)
          and ``exact`` (whether the exact time decides the order);
        * ``duplicates``: number of events that have the user, item and time of another event; None without
          a time column;
        * ``repeat_share``: fraction of events whose item occurs earlier in the user's history;
        * ``lengths``: quantiles of the number of events per user;
        * ``rows``: number of rows of each part;
        * ``cold_targets``: number of held-out items without a training click, for each part;
        * ``warnings``: sentences.
    """
    users, items = parts[0].history
    n_items = dataset.item_num
    keys = users.astype(np.int64) * n_items + items
    repeats = len(keys) - count_distinct(keys)
    lengths = np.bincount(users, minlength=dataset.user_num)
    lengths = lengths[lengths > 0]
    clicked = np.bincount(items[parts[0].train_mask], minlength=n_items) > 0
    held = {part.part: part.inter_feat[dataset.iid_field].numpy() for part in parts[1:]}
    found: dict[str, Any] = {
        "files": dict(dataset.reading.lines),
        "dropped": dict(dataset.reading.dropped),
        "missing": dict(dataset.reading.missing),
        "interactions": len(keys),
        "users": len(lengths),
        "items": int(np.count_nonzero(np.bincount(items))),
        "time": _time(dataset),
        "duplicates": None if dataset.time_ties is None else dataset.time_ties.duplicates,
        "repeat_share": round(repeats / max(len(keys), 1), 4),
        "lengths": {name: float(np.quantile(lengths, q)) for name, q in _QUANTILES.items()},
        "rows": {part.part: len(part.inter_feat) for part in parts},
        "cold_targets": {name: int((~clicked[targets]).sum()) for name, targets in held.items()},
    }
    found["warnings"] = [*dataset.reading.notes, *_unusual(found, lengths)]
    return found


def _time(dataset: PartDataset) -> dict[str, Any] | None:
    if dataset.reading.times is None or dataset.time_ties is None:
        return None
    first, last = dataset.reading.times
    unit = unit_of(first, last)
    return {
        "field": dataset.time_field,
        "first": first,
        "last": last,
        "unit": unit,
        "from": readable(first, unit),
        "to": readable(last, unit),
        "equal_times": dataset.time_ties.equal,
        "float32_ties": dataset.time_ties.lost,
        "exact": not dataset.config["recbole_time"] and max(abs(first), abs(last)) <= 2**53,
    }


def _unusual(found: dict[str, Any], lengths: np.ndarray) -> list[str]:
    """Return warnings about unusual statistics."""
    told = []
    n, time = max(found["interactions"], 1), found["time"]
    if time is None:
        told.append("no time column was read: the order of the events is the order of the lines")
    else:
        if time["equal_times"] > _MANY_TIES * n:
            told.append(
                f"{time['equal_times']} of {n} events have the same time as the user's preceding event: "
                "their order is the order of the lines"
            )
        if max(abs(time["first"]), abs(time["last"])) > 2**53:
            told.append("times above 2^53 are rounded in float64: write the times in a larger unit")
    if (found["duplicates"] or 0) > _MANY_DUPLICATES * n:
        told.append(
            f"{found['duplicates']} events have the user, item and time of another event: dedupe=exact "
            "drops them when a table is read; rm_dup_inter=first keeps one event for each user and item"
        )
    if single := int((lengths == 1).sum()):
        told.append(f"{single} users have one event, from which no sequential model learns")
    for part, cold in found["cold_targets"].items():
        if cold > _MANY_COLD * max(found["rows"][part], 1):
            told.append(f"{cold} of {found['rows'][part]} {part} targets have no training click")
    for part in ("valid", "test"):
        if not found["rows"][part]:
            told.append(f"the {part} part is empty")
    return told


def as_text(found: dict[str, Any]) -> str:
    """Return a report as text, with one line for each statistic."""

    def counts(values: dict[str, Any]) -> str:
        return ", ".join(f"{name} {value:g}" for name, value in values.items()) or "none"

    lines = [
        ("lines read", counts(found["files"])),
        ("interactions left out", counts(found["dropped"])),
        ("cells without a value", counts(found["missing"])),
        ("interactions", f"{found['interactions']} of {found['users']} users with {found['items']} items"),
    ]
    if (time := found["time"]) is not None:
        unit = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}.get(
            time["unit"], "no Unix time"
        )
        order = "exact" if time["exact"] else "rounded"
        lines += [
            ("time", f"{time['field']} from {time['from']} to {time['to']} ({unit})"),
            ("order", f"{order}; {time['equal_times']} events have the time of the preceding event, "
                      f"{time['float32_ties']} more in float32"),
        ]  # fmt: skip
        lines.append(("duplicates", f"{found['duplicates']} events with the user, item and time of another"))
    lines += [
        (
            "repeats",
            f"the item of {100 * found['repeat_share']:.1f} % of the events occurs earlier in the history",
        ),
        ("events per user", counts(found["lengths"])),
        ("rows", counts(found["rows"])),
        ("targets without a training click", counts(found["cold_targets"])),
        *(("warning", text) for text in found["warnings"]),
    ]
    return "\n".join(["data report", *(f"  {name}: {text}" for name, text in lines)])
