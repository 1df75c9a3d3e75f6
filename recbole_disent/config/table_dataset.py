"""The keys ``data`` and ``items``, which use a table of events as the data set of a run."""

from __future__ import annotations

from os import PathLike
from typing import Any

from recbole_disent.config import key_rules
from recbole_disent.errors import UserError
from recbole_disent.tables.cache import prepare

# Keys that control how a table is read. They have no effect on a data set in atomic files.
_OPTIONS = ("user", "item", "time", "min_user", "min_item", "dedupe", "missing_time")


def take_table(dataset: Any, given: dict[str, Any], notes: list[str]) -> Any:
    """Convert the table that the key ``data`` names to a data set.

    Args:
        dataset: name of a data set, or None.
        given: the user's keys. If they contain ``data``, the function sets ``data_path`` to the folder of
            the new data set.
        notes: list to which the function appends a sentence for everything it guessed, dropped or changed.

    Returns:
        The name of the data set, or *dataset* if ``data`` is not given.

    Raises:
        UserError: the table cannot be used, both a data set and a table are given, or a key has no effect.
    """
    source = given.get("data")
    rules = key_rules.overall()
    if source is None:
        for key in ("items", *_OPTIONS):
            if key != "missing_time" and given.get(key, rules[key].default) != rules[key].default:
                raise UserError(
                    f"{key}: got {given[key]!r} without data; the key controls how a table is read; set "
                    "data=FILE, or leave the key out"
                )
        return dataset
    if dataset is not None or given.get("data_path") is not None:
        key, value = ("dataset", dataset) if dataset is not None else ("data_path", given["data_path"])
        raise UserError(
            f"{key}: got {value!r} with data={source!r}, expected only one of the two; leave one of them out"
        )
    given["data_path"], name = _prepare(source, given.get("items"), given, notes)
    return name


def table_in_memory(
    data: Any, items: Any, keys: dict[str, Any], notes: list[str]
) -> tuple[str | None, dict[str, Any]]:
    """Convert tables in memory to a data set.

    Args:
        data: table of events: a pandas, Polars or Arrow table, or a path.
        items: table of items of the same kinds, or None.
        keys: configuration keys.
        notes: see :func:`take_table`.

    Returns:
        The name of the data set, or None if both tables are paths; and the configuration keys of a run on
        the data set, without the keys that control how a table is read.

    Raises:
        UserError: a table cannot be used.
    """
    if all(source is None or isinstance(source, str | PathLike) for source in (data, items)):
        paths = {"data": data, "items": items}
        return None, {**keys, **{key: str(path) for key, path in paths.items() if path is not None}}
    path, name = _prepare(data, items, keys, notes)
    return name, {**{key: value for key, value in keys.items() if key not in _OPTIONS}, "data_path": path}


def _prepare(source: Any, items: Any, keys: dict[str, Any], notes: list[str]) -> tuple[str, str]:
    rules = key_rules.overall()
    options = {key: rules[key].check(keys[key]) for key in _OPTIONS if key in keys}
    path, name, summary = prepare(source, items, **options)
    notes.extend(f"data: {note}" for note in summary.get("notes", []))
    return path, name
