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
        UserError: a Parquet file, and no pyarrow.
    """
    if f"{name}.parquet" in files:
        try:
            from pyarrow import parquet
        except ImportError as error:
            raise UserError(
                f"bundle '{folder.name}': {name}.parquet needs the package 'pyarrow': pip install pyarrow"
            ) from error
        return parquet.read_table(folder / f"{name}.parquet").to_pydict()
    if f"{name}.csv" not in files:
        return None
    with open(folder / f"{name}.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    return {column: [row[i] for row in rows[1:]] for i, column in enumerate(rows[0])}
