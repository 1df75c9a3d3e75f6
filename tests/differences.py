"""The differences between RecBole and this package that are wanted, each with what recognises it.

``docs/data.md`` lists them. A difference is recognised by what undoes it: RecBole gets a data set in which
the reason is gone, or its parts are changed by the rule of this package, and the results have to be equal
then, row for row and id for id.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from recbole_disent.data.splits import leave_one_out
from recbole_disent.errors import UserError
from tests.differential import Case, Parts, ours, recboles

# Cells that pandas, and with it RecBole, takes for missing.
_MISSING = {"", "NA", "null", "nan"}
_MARK = "\u02ba"


def _names(head: list[str]) -> list[str]:
    return [cell.partition(":")[0] for cell in head]


def _changed(case: Case, change: Callable[[str, list[str], list[list[str]]], list[list[str]]]) -> Case | None:
    """The case with other lines: *change* gets suffix, names of the columns and lines; None if all stay."""
    found = copy.deepcopy(case)
    for suffix, (head, *rows) in case.tables.items():
        found.tables[suffix] = [head, *change(suffix, _names(head), copy.deepcopy(rows))]
    return None if found == case else found


def _id_columns(case: Case) -> tuple[str, str]:
    return case.keys.get("USER_ID_FIELD", "user_id"), "item_id"


def lines_without_id(case: Case) -> Case | None:
    """RecBole leaves out lines without a user or an item, and takes other lines if both are missing."""

    def change(suffix: str, names: list[str], rows: list[list[str]]) -> list[list[str]]:
        places = [names.index(name) for name in _id_columns(case) if name in names]
        return [row for row in rows if not any(row[p] in _MISSING for p in places if p < len(row))]

    return _changed(case, change)


def empty_histories(case: Case) -> Case | None:
    """RecBole keeps lines of pre-split files without a history, of which sequential models learn nothing."""
    if not case.sequential:
        return None

    def change(suffix: str, names: list[str], rows: list[list[str]]) -> list[list[str]]:
        place = names.index("item_id_list") if "item_id_list" in names else None
        return [row for row in rows if place is None or place >= len(row) or row[place] not in _MISSING]

    return _changed(case, change)


def long_histories(case: Case) -> Case | None:
    """RecBole does not cut the histories of pre-split files; ours keep the last items."""
    if not case.sequential:
        return None
    limit = case.keys["MAX_ITEM_LIST_LENGTH"]

    def change(suffix: str, names: list[str], rows: list[list[str]]) -> list[list[str]]:
        for row in rows:
            place = names.index("item_id_list") if "item_id_list" in names else len(row)
            if place < len(row):
                kept = " ".join(row[place].split(" ")[-limit:])
                # A single entry such as "nan" would be a missing cell, but for the blank.
                row[place] = f"{kept} " if kept in _MISSING and kept != row[place] else kept
        return rows

    return _changed(case, change)


def repeated_features(case: Case) -> Case | None:
    """RecBole keeps several lines of a user or item in .user and .item; ours keep the first."""

    def change(suffix: str, names: list[str], rows: list[list[str]]) -> list[list[str]]:
        if suffix.endswith("inter"):
            return rows
        known = [row[0] for row in rows]
        return [row for number, row in enumerate(rows) if row[0] not in known[:number]]

    return _changed(case, change)


def quotes(case: Case) -> Case | None:
    """RecBole takes quotes for marks around a cell; here they are characters."""
    mark = lambda suffix, names, rows: [[cell.replace('"', _MARK) for cell in row] for row in rows]  # noqa: E731
    return _changed(case, mark)


def _unmarked(parts: Parts) -> Parts:
    ids = {name: [token.replace(_MARK, '"') for token in tokens] for name, tokens in parts.ids.items()}
    return Parts(ids, parts.parts)


#: Names of differences -> what makes a case in which both give the same.
CAUSES: dict[str, Callable[[Case], Case | None]] = {
    "lines without id": lines_without_id,
    "empty histories": empty_histories,
    "long histories": long_histories,
    "repeated features": repeated_features,
    "quotes": quotes,
}


def two_files(case: Case, parts: Parts) -> Parts | None:
    """RecBole gives two parts for a training and a test file; ours has an empty validation part."""
    if len(parts.parts) != 2:
        return None
    return Parts(parts.ids, [parts.parts[0], {}, parts.parts[1]])


def held_out_rows(case: Case, parts: Parts) -> Parts | None:
    """For general models leave-one-out keeps two rows of each user for training, RecBole one."""
    split = case.keys["eval_args"]["split"]
    if case.sequential or case.presplit or "LS" not in split or not any(parts.parts):
        return None
    names = next(part for part in parts.parts if part)
    rows = {n: torch.cat([part[n] for part in parts.parts if part]) for n in names}
    user = rows[_id_columns(case)[0]]
    size = user.bincount()[user]
    # RecBole's rows of a user in their order are those of training, validation and test part in turn.
    taken = [leave_one_out(user.numpy(), split["LS"], kept) for kept in (1, 2)]
    if [len(t) for t in taken[0]] != [_length(part) for part in parts.parts] or int(size.max()) < 2:
        return None
    return Parts(parts.ids, [{n: rows[n][t] for n in names} if len(t) else {} for t in taken[1]])


def repeated_entries(case: Case, parts: Parts) -> Parts | None:
    """RecBole makes lists of sequences as wide as the longest that was read, and repeats a single entry."""
    found, changed = [], False
    for part in parts.parts:
        part = dict(part)
        for name, values in part.items():
            base = part.get(name.removesuffix(case.keys.get("LIST_SUFFIX", "_list")))
            lists = values.dim() == 3 and base is not None and base.dim() == 2
            if lists and base.shape[1] < values.shape[2] and bool((values == values[:, :, :1]).all()):
                part[name], changed = values[:, :, :1], True
        found.append(part)
    return Parts(parts.ids, found) if changed else None


#: Names of differences -> what changes RecBole's parts by the rule of this package.
RULES: dict[str, Callable[[Case, Parts], Parts | None]] = {
    "two files": two_files,
    "repeated entries": repeated_entries,
    "held-out rows of general models": held_out_rows,
}


def _length(part: dict[str, torch.Tensor]) -> int:
    return len(next(iter(part.values()))) if part else 0


def _no_training(case: Case, parts: Parts | Exception) -> bool:
    return isinstance(parts, Parts) and not _length(parts.parts[0])


def _one_label(case: Case, parts: Parts | Exception) -> bool:
    if not isinstance(parts, Parts):
        return False
    labels = [part["label"] for part in parts.parts if part]
    return not labels or len(torch.cat(labels).unique()) == 1


def _untimed(case: Case, parts: Parts | Exception) -> bool:
    return any(cell in _MISSING for cell in case.column(case.keys.get("TIME_FIELD", "timestamp")))


def _short(case: Case, parts: Parts | Exception) -> bool:
    return any(len(row) < len(table[0]) for table in case.tables.values() for row in table)


def _empty(case: Case, parts: Parts | Exception) -> bool:
    for clean in (lines_without_id, empty_histories):
        case = clean(case) or case
    return any(len(table) == 1 for suffix, table in case.tables.items() if suffix.endswith("inter"))


#: Names of refusals -> their sentence, and whether RecBole's result is such a case.
REFUSALS: dict[str, tuple[str, Callable[[Case, Parts | Exception], bool]]] = {
    "nothing to train on": (r"the training part is empty", _no_training),
    "one label": (r"threshold: .* leaves no (positive|negative)", _one_label),
    "missing time": (r", line \d+: \w+: no time;", _untimed),
    "empty file": (r": no line after the header|no interaction is left of the", _empty),
    "short line": (r", line \d+: got \d+ cells, expected \d+", _short),
}


def unequal(one: Parts, other: Parts) -> str | None:
    """Say where two data sets differ first; None if they are equal."""
    for name in sorted({*one.ids, *other.ids}):
        if one.ids.get(name) != other.ids.get(name):
            return f"ids of {name}: {one.ids.get(name)} and {other.ids.get(name)}"
    if len(one.parts) != len(other.parts):
        return f"{len(one.parts)} and {len(other.parts)} parts"
    for number, (a, b) in enumerate(zip(one.parts, other.parts, strict=True)):
        if set(a) != set(b):
            return f"part {number}: columns {sorted(a)} and {sorted(b)}"
        for name in a:
            same = a[name].dtype == b[name].dtype and a[name].shape == b[name].shape
            if not same or not torch.allclose(a[name], b[name], rtol=0, atol=0, equal_nan=True):
                return f"part {number}, {name}: {a[name].tolist()} and {b[name].tolist()}"
    return None


def outcome(case: Case, folder: Path) -> str:
    """Build a case with both and name what came out.

    Raises:
        AssertionError: a difference that is not in the list.
    """
    case.write(folder)
    found, expected = ours(case, folder), recboles(case, folder)
    if isinstance(found, Parts) and isinstance(expected, Parts) and unequal(found, expected) is None:
        return "equal"
    names, case_there = [], case
    for name, clean in CAUSES.items():
        if (cleaned := clean(case_there)) is not None:
            names, case_there = [*names, name], cleaned
    there: Any = expected
    if names:
        case_there.write(folder)
        there = recboles(case_there, folder)
        there = _unmarked(there) if isinstance(there, Parts) else there
    for name, rule in RULES.items():
        if isinstance(there, Parts) and (changed := rule(case_there, there)) is not None:
            names, there = [*names, name], changed
    if not isinstance(found, (Parts, UserError)):
        # A session says RecBole's own sentence to the user.
        assert isinstance(there, type(found)), f"{found!r}; RecBole: {there!r}"
        assert str(there) == str(found), f"{found!r}; RecBole: {there!r}"
        return "both refuse"
    if isinstance(found, UserError):
        for name, (sentence, holds) in REFUSALS.items():
            if re.search(sentence, str(found)) and holds(case, there):
                return f"refused: {name}"
        assert isinstance(there, Exception), f"refused: {found}"
        return "both refuse"
    if isinstance(there, Exception):
        return f"RecBole fails: {type(there).__name__}"
    difference = unequal(found, there)
    assert difference is None, f"{difference} ({', '.join(names)})"
    return f"difference: {', '.join(names)}"
