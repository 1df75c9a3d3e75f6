"""The keys ``data`` and ``items``, which use a table of events as the data set of a run."""

from __future__ import annotations

from logging import getLogger
from os import PathLike
from pathlib import Path
from typing import Any

from recbole_disent.config import key_rules
from recbole_disent.errors import UserError
from recbole_disent.tables.cache import changed, prepare

_TABLES = ("data", "items")
# Keys that control how a table is read. They have no effect on a data set in atomic files.
OPTIONS = ("user", "item", "time", "min_user", "min_item", "dedupe", "missing_time")
# Keys that describe atomic files. The files of a table always have the default format.
_FORMAT = ("field_separator", "seq_separator")


def take_table(dataset: Any, given: dict[str, Any], notes: list[str]) -> Any:
    """Convert the table that the key ``data`` names to a data set.

    Args:
        dataset: name of a data set, or None.
        given: the user's keys of all sources; ``data`` and ``items`` may be tables in memory. If they
            contain ``data``, the function sets ``data_path`` to the folder of the new data set, and removes
            ``encoding``, which is the encoding of the table. Of tables in memory it also removes all other
            keys that describe them, because nobody can read these tables again.
        notes: list to which the function appends a sentence for everything it guessed, dropped or changed.

    Returns:
        The name of the data set, or *dataset* if ``data`` is not given.

    Raises:
        UserError: the table cannot be used, both a data set and a table are given, or a key has no effect.
    """
    source = given.get("data")
    rules = key_rules.overall()
    if source is None:
        for key in ("items", *OPTIONS):
            value = shown(given.get(key, rules[key].default))
            if key != "missing_time" and value != shown(rules[key].default):
                raise UserError(
                    f"{key}: got {value} without data; the key controls how a table is read; set "
                    "data=FILE, or leave the key out"
                )
        return dataset
    if dataset is not None or given.get("data_path") is not None:
        key, value = ("dataset", dataset) if dataset is not None else ("data_path", given["data_path"])
        raise UserError(
            f"{key}: got {value!r} with data={shown(source)}, expected only one of the two; leave "
            "one of them out"
        )
    for key in ("user", "item", "time"):
        if isinstance(given.get(key), int | float) and not isinstance(given[key], bool):
            given[key] = str(given[key])  # the name of a column may look like a number
    given["data_path"], name = _prepare(source, given.get("items"), given, notes)
    memory = any(_in_memory(given.get(key)) for key in _TABLES)
    for key in (*_TABLES, *OPTIONS, "encoding") if memory else ("encoding",):
        given.pop(key, None)
    return name


def decoded(given: dict[str, Any]) -> bool:
    """Return whether all tables among the user's keys are in memory, so that none has an encoding."""
    tables = [given[key] for key in _TABLES if given.get(key) is not None]
    return bool(tables) and all(_in_memory(table) for table in tables)


def _in_memory(table: Any) -> bool:
    return table is not None and not isinstance(table, str | PathLike)


def shown(value: Any) -> str:
    """Return the value of a key as text for a message; a table in memory is not printed."""
    plain = value is None or isinstance(value, str | PathLike | int | float)
    return repr(value) if plain else "a table in memory"


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
    if changed(Path(folder, dataset), given["data"], given.get("items")):
        getLogger().warning(
            f"data: the table {given['data']!r} or its items changed after the training; the events of that "
            f"time are used ({Path(folder, dataset)}); train again to use the new ones"
        )
    for key in (*_TABLES, *OPTIONS):
        if key != "missing_time":
            given.pop(key, None)
    return dataset


def _prepare(source: Any, items: Any, keys: dict[str, Any], notes: list[str]) -> tuple[str, str]:
    rules = key_rules.overall()
    for key in _FORMAT:
        if key in keys:
            raise UserError(
                f"{key}: got {keys[key]!r} with data, expected no such key, because it describes atomic "
                "files; leave the key out (the separator of a table is found in its header)"
            )
    options = {key: rules[key].check(keys[key]) for key in OPTIONS if key in keys}
    if keys.get("encoding") is not None:
        options["encoding"] = str(keys["encoding"])
    path, name, summary = prepare(source, items, **options)
    notes.extend(f"data: {note}" for note in summary["notes"])
    if summary["catalogue"] is not None:
        notes.extend(f"items: {note}" for note in summary["catalogue"]["notes"])
    return path, name
