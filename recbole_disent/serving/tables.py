"""Tables and lists in, tables of the same kind out: pandas, Arrow or Polars."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from recbole_disent.errors import UserError, shortened


def kind_of(values: Any) -> str:
    """Return ``pandas``, ``pyarrow`` or ``polars``: the library whose tables the caller uses."""
    library = type(values).__module__.partition(".")[0]
    return library if library in ("pyarrow", "polars") else "pandas"


def columns(table: Any) -> list[str] | None:
    """Names of the columns of a table; None for what is no table."""
    names = getattr(table, "column_names", None)  # Arrow
    if names is None and hasattr(table, "columns"):
        names = list(table.columns)
    return None if names is None else [str(name) for name in names]


def _listed(column: Any) -> list[Any]:
    for method in ("to_pylist", "to_list", "tolist"):
        if hasattr(column, method):
            return getattr(column, method)()
    return list(column)


def column(values: Any, name: str, key: str) -> list[Any]:
    """Read ids from a list, an array, a series, or the column *name* of a table.

    Args:
        values: of the caller.
        name: of the column.
        key: argument that the values came with, for errors.

    Raises:
        UserError: neither of these, or a table that has not one such column.
    """
    names = columns(values)
    if names is not None:
        if names.count(name) != 1:
            raise UserError(f"{key}: the table has the columns {', '.join(names)}, expected one '{name}'")
        return _listed(values[name])
    single = isinstance(values, (str, bytes)) or not isinstance(values, Iterable)
    if single or isinstance(values, Mapping) or getattr(values, "ndim", 1) != 1:
        raise UserError(
            f"{key}: got {shortened(values)}, expected a list of ids or a table with a column '{name}'"
        )
    return _listed(values)


def owner_ids(values: Any, name: str, key: str) -> list[Any]:
    """Read ids of users or sequences as :func:`column` does; each has to be there.

    Raises:
        UserError: see :func:`column`; or an id is missing, which pandas reads an empty cell as.
    """
    found = column(values, name, key)
    for number, one in enumerate(found, start=1):
        if one is None or one is pd.NA or one != one:
            raise UserError(
                f"{key}: the {name} number {number} of {len(found)} is missing (got {one}), expected an id; "
                "leave it out"
            )
    return found


def as_given(ids: Iterable[Any]) -> np.ndarray:
    """Return ids as an array of their type; of several types, numbers stay what they are."""
    listed = list(ids)
    found = pd.Series(listed, dtype=None if listed else object)
    if found.dtype.kind == "f" and not all(isinstance(one, (float, np.floating)) for one in listed):
        found = pd.Series(listed, dtype=object)
    return found.to_numpy()


def pairs(values: Any, first: str, key: str) -> tuple[list[Any], list[Any]] | None:
    """Read pairs (*first*, item) from a table or a dictionary id -> items; None for other values."""
    if isinstance(values, Mapping):
        for owner, items in values.items():
            if isinstance(items, (str, bytes)) or not isinstance(items, Iterable):
                raise UserError(f"{key}: got {items!r} for '{owner}', expected a list of item ids")
        listed = {owner: list(items) for owner, items in values.items()}  # an iterator can be read only once
        owners = [owner for owner, items in listed.items() for _ in items]
        return owners, [item for items in listed.values() for item in items]
    names = columns(values)
    if names is None or first not in names:
        return None
    return owner_ids(values, first, key), column(values, "item", key)


def sequences(values: Any) -> tuple[list[Any], list[list[Any]]]:
    """Read sequences of item ids.

    Args:
        values: a list of lists, a dictionary id -> list, or a table with the columns ``sequence`` and
            ``item`` whose rows are in the order of the events.

    Returns:
        an id for each sequence (its number, where it has none), and its items.

    Raises:
        UserError: none of these.
    """
    if isinstance(values, Mapping):
        return list(values), [_one(items, name) for name, items in values.items()]
    if columns(values) is not None:
        grouped: dict[Any, list[Any]] = {}
        for name, item in zip(owner_ids(values, "sequence", "sequences"), column(values, "item", "sequences"),
                              strict=True):  # fmt: skip
            grouped.setdefault(name, []).append(item)
        return list(grouped), list(grouped.values())
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise UserError(f"sequences: got {values!r}, expected a list of lists of item ids")
    rows = [_one(items, number) for number, items in enumerate(values)]
    return list(range(len(rows))), rows


def _one(items: Any, name: Any) -> list[Any]:
    if isinstance(items, (str, bytes)) or not isinstance(items, Iterable):
        raise UserError(
            f"sequences: number {name} is {items!r}, expected a list of item ids such as ['i1', 'i2']"
        )
    return list(items)


def like(frame: pd.DataFrame, kind: str) -> Any:
    """Return a data frame as a table of the wanted kind."""
    if kind == "pyarrow":
        import pyarrow

        return pyarrow.Table.from_pandas(frame, preserve_index=False)
    if kind == "polars":
        import polars

        plain = frame.astype(object).where(frame.notna(), None)
        return polars.DataFrame({str(name): values.tolist() for name, values in plain.items()})
    return frame
