"""Tables of ids in a bundle: Parquet where pyarrow is installed, else CSV."""

from __future__ import annotations

import csv
from collections.abc import Collection
from pathlib import Path
from typing import Any

from recbole_disent.errors import UserError


def write(folder: Path, name: str, columns: dict[str, list[Any]]) -> None:
    """Write ``NAME.parquet``, or ``NAME.csv`` without pyarrow."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        with open(folder / f"{name}.csv", "w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(columns)
            table.writerows(zip(*columns.values(), strict=True))
        return
    parquet.write_table(pyarrow.table(columns), folder / f"{name}.parquet")


def read(folder: Path, name: str, files: Collection[str]) -> dict[str, list[Any]] | None:
    """Read a table of a bundle.

    Args:
        folder: of the bundle.
        name: of the table, without an ending.
        files: of the bundle.

    Returns:
        column -> values; None where the bundle has no such table.

    Raises:
        UserError: a damaged file, or a Parquet file and no pyarrow.
    """
    kind = next((kind for kind in ("parquet", "csv") if f"{name}.{kind}" in files), None)
    if kind is None:
        return None
    try:
        return (_read_parquet if kind == "parquet" else _read_csv)(folder / f"{name}.{kind}")
    except ImportError as error:
        raise UserError(
            f"bundle '{folder.name}': {name}.parquet needs the package 'pyarrow': pip install pyarrow"
        ) from error
    except Exception as error:  # the reader of damaged bytes raises whatever they lead it to
        raise UserError(
            f"bundle '{folder.name}': {name}.{kind} is no table of ids ({' '.join(str(error).split())}); "
            "copy the bundle again"
        ) from error


def _read_parquet(path: Path) -> dict[str, list[Any]]:
    from pyarrow import parquet

    return parquet.read_table(path).to_pydict()


def _read_csv(path: Path) -> dict[str, list[Any]]:
    with open(path, encoding="utf-8", newline="") as file:
        names, *rows = csv.reader(file)
    for number, row in enumerate(rows, start=2):
        if len(row) != len(names):
            raise ValueError(f"row {number} has {len(row)} cells, expected {len(names)}")
    return {column: [row[i] for row in rows] for i, column in enumerate(names)}
