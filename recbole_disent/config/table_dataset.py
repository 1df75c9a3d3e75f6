"""The keys ``data`` and ``items``: a table of events as the data set of a run."""

from __future__ import annotations

from os import PathLike
from typing import Any

from recbole_disent.config import key_rules
from recbole_disent.errors import UserError
from recbole_disent.tables.cache import prepare

# Keys that say how a table is read; they have no effect on a data set in atomic files.
_OPTIONS = ("user", "item", "time", "min_user", "min_item", "dedupe", "missing_time")


def take_table(dataset: Any, given: dict[str, Any], notes: list[str]) -> Any:
    """Make a data set of the table that the key ``data`` names.

    Args:
        dataset: name of a data set, or None.
        given: the keys of a user; with ``data`` they get the ``data_path`` of the new data set.
        notes: gets a sentence for each thing that was guessed, dropped or changed.

    Returns:
        The name of the data set; *dataset* itself where there is no table.

    Raises:
        UserError: a table that cannot be used, a data set beside a table, or keys without effect.
    """
    source = given.get("data")
    rules = key_rules.overall()
    if source is None:
        for key in ("items", *_OPTIONS):
            if key != "missing_time" and given.get(key, rules[key].default) != rules[key].default:
                raise UserError(
                    f"{key}: got {given[key]!r} without data; it says how a table is read, so give "
                    "data=FILE, or leave it out"
                )
        return dataset
    if dataset is not None or given.get("data_path") is not None:
        key, value = ("dataset", dataset) if dataset is not None else ("data_path", given["data_path"])
        raise UserError(f"{key}: got {value!r} with data={source!r}, expected one of the two")
    given["data_path"], name = _prepare(source, given.get("items"), given, notes)
    return name


def table_in_memory(
    data: Any, items: Any, keys: dict[str, Any], notes: list[str]
) -> tuple[str | None, dict[str, Any]]:
    """Make a data set of data frames.

    Args:
        data: the events: a pandas, Polars or Arrow table, or a path.
        items: the catalogue, of the same kinds; None: none.
        keys: configuration keys; those of a table are taken out.
        notes: see :func:`take_table`.

    Returns:
        The name of the data set, None where both are paths, and the keys of a run with it.

    Raises:
        UserError: a table that cannot be used.
    """
    if all(source is None or isinstance(source, str | PathLike) for source in (data, items)):
        paths = {"data": data, "items": items}
        return None, {**keys, **{key: str(path) for key, path in paths.items() if path is not None}}
    path, name = _prepare(data, items, keys, notes)
    return name, {**{key: value for key, value in keys.items() if key not in _OPTIONS}, "data_path": path}


def _prepare(source: Any, items: Any, keys: dict[str, Any], notes: list[str]) -> tuple[str, str]:
    rules = key_rules.overall()
    options = {key: rules[key].check(keys[key]) for key in _OPTIONS if key in keys and key in rules}
    path, name, summary = prepare(source, items, **options)
    notes.extend(f"data: {note}" for note in summary.get("notes", []))
    return path, name
