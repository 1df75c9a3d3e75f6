"""The keys ``data`` and ``items``, which use a table of events as the data set of a run."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

from recbole_disent.config import key_rules
from recbole_disent.errors import UserError
from recbole_disent.tables.cache import prepare

# Keys that control how a table is read. They have no effect on a data set in atomic files.
_OPTIONS = ("user", "item", "time", "min_user", "min_item", "dedupe", "missing_time")
# Keys that describe atomic files. The files of a table always have the default format.
_FORMAT = ("field_separator", "seq_separator")


def take_table(dataset: Any, given: dict[str, Any], notes: list[str]) -> Any:
    """Convert the table that the key ``data`` names to a data set.

    Args:
        dataset: name of a data set, or None.
        given: the user's keys. If they contain ``data``, the function sets ``data_path`` to the folder of
            the new data set, and removes ``encoding``, which is the encoding of the table.
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
    given.pop("encoding", None)
    return name


def stored_table(dataset: str, given: dict[str, Any]) -> str | None:
    """Change the keys of a stored run on a table to keys of the data set that was made of the table.

    If that data set is gone, the keys stay those of the table, which is then converted again.

    Args:
        dataset: name of the data set of the run.
        given: keys of the run; the function removes some of them.

    Returns:
        The name of the data set, or None if the table is to be converted again.
    """
    if given.get("data") is None:
        return dataset
    folder = given.get("data_path")
    if folder is None or not Path(folder, dataset).is_dir():
        given.pop("data_path", None)
        return None
    for key in ("data", "items", *_OPTIONS):
        if key != "missing_time":
            given.pop(key, None)
    return dataset


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
    left = {key: value for key, value in keys.items() if key not in (*_OPTIONS, "encoding")}
    return name, {**left, "data_path": path}


def _prepare(source: Any, items: Any, keys: dict[str, Any], notes: list[str]) -> tuple[str, str]:
    rules = key_rules.overall()
    for key in _FORMAT:
        if key in keys:
            raise UserError(
                f"{key}: got {keys[key]!r} with data, expected no such key, because it describes atomic "
                "files; leave the key out (the separator of a table is found in its header)"
            )
    options = {key: rules[key].check(keys[key]) for key in _OPTIONS if key in keys}
    if keys.get("encoding") is not None:
        options["encoding"] = str(keys["encoding"])
    path, name, summary = prepare(source, items, **options)
    notes.extend(f"data: {note}" for note in summary["notes"])
    if summary["catalogue"] is not None:
        notes.extend(f"items: {note}" for note in summary["catalogue"]["notes"])
    return path, name
