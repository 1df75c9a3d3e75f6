"""Arrow tables: Parquet files, and tables of other libraries. The package pyarrow is optional."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd

from recbole_disent.errors import UserError
from recbole_disent.tables.table import PARQUET_ENDINGS, FrameTable, LazyTable, Table

# The pandas types for integer columns. They allow missing cells without a conversion to float, which would
# keep only 53 bits.
_INTEGERS = {
    f"{sign}int{bits}": pd.api.types.pandas_dtype(f"{sign.upper()}Int{bits}")
    for sign in ("", "u")
    for bits in (8, 16, 32, 64)
}


def from_files(name: str, paths: list[Path]) -> Table:
    """Open Parquet files as one table, in the order given.

    Raises:
        UserError: pyarrow is not installed, a file is not a Parquet file, or two files have different
            columns.
    """
    pa = _pyarrow(f"{name}: reading Parquet")
    from pyarrow import parquet

    columns: list[str] = []
    for path in paths:
        try:
            found = list(parquet.read_schema(path).names)
        except (pa.ArrowException, OSError) as error:
            raise UserError(
                f"{path}: the file is not a Parquet file or is damaged ({_first_sentence(error)})"
            ) from error
        if columns and set(found) != set(columns):
            odd = ", ".join(sorted(set(found) ^ set(columns)))
            raise UserError(f"{path}: the columns differ from the columns of {paths[0]} in {odd}")
        columns = columns or found

    def read(wanted: list[str]) -> pd.DataFrame:
        parts = []
        for path in paths:
            try:
                # pyarrow's data sets would read a=1/ in the path as a column; ParquetFile does not.
                with parquet.ParquetFile(path) as file:
                    parts.append(file.read(columns=wanted).select(wanted))
            except (pa.ArrowException, OSError) as error:
                raise UserError(f"{path}: the file cannot be read ({_first_sentence(error)})") from error
        for path, part in zip(paths, parts, strict=True):
            if part.schema.types != parts[0].schema.types:
                raise UserError(
                    f"{path}: the columns have the types {_types(part)}, expected {_types(parts[0])} "
                    f"as in {paths[0]}"
                )
        return to_pandas(pa.concat_tables([part.replace_schema_metadata() for part in parts]))

    return LazyTable(name, columns, read, files=paths)


def from_folder(folder: Path) -> Table:
    """Open all Parquet files below a folder as one table.

    Raises:
        UserError: the folder contains no Parquet file, or see :func:`from_files`.
    """
    inside = [path.relative_to(folder) for path in folder.rglob("*")]
    wanted = [
        path
        for path in inside
        if path.suffix.lower() in PARQUET_ENDINGS and not any(part[0] in "._" for part in path.parts)
    ]
    if not wanted:
        raise UserError(f"{folder}: no file in this folder ends with {' or '.join(PARQUET_ENDINGS)}")
    return from_files(str(folder), [folder / path for path in sorted(wanted, key=_natural)])


def from_object(source: Any, what: str) -> Table:
    """Open a table of another library through Arrow's or the data frame interchange protocol.

    Args:
        source: the table.
        what: name of the argument, for error messages.

    Raises:
        UserError: pyarrow is needed and not installed, or the object is not a table.
    """
    kind = type(source).__name__
    name = f"the {kind}"
    if hasattr(source, "__arrow_c_stream__"):
        pa = _pyarrow(f"{what}: reading a {type(source).__module__.partition('.')[0]} {kind}")
        try:
            table = source if isinstance(source, pa.Table) else pa.table(source)
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise UserError(f"{what}: {name} is not a table ({_first_sentence(error)})") from error
        return LazyTable(name, list(table.column_names), lambda c: to_pandas(table.select(c)), first_row=0)
    if hasattr(source, "__dataframe__"):
        return FrameTable(pd.api.interchange.from_dataframe(source), name)
    raise UserError(
        f"{what}: got an object of type {kind}, expected a path, or a pandas, Polars or Arrow table"
    )


def to_pandas(table: Any) -> pd.DataFrame:
    """Convert an Arrow table to pandas; integers, dates and times keep their full precision."""
    return table.to_pandas(types_mapper=lambda kind: _INTEGERS.get(str(kind)))


def _pyarrow(doing: str) -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise UserError(f"{doing} needs pyarrow; install it by: pip install pyarrow") from error
    return pyarrow


def _types(table: Any) -> str:
    return ", ".join(f"{field.name}: {field.type}" for field in table.schema)


def _first_sentence(error: Exception) -> str:
    return re.split(r"\.\s", " ".join(str(error).split()), maxsplit=1)[0].rstrip(".")


def _natural(path: Path) -> list[tuple[int, int | str]]:
    """Return a sort key that compares numbers in names as numbers."""
    pieces = re.split(r"(\d+)", path.as_posix())
    return [(1, int(piece)) if piece.isdecimal() else (0, piece) for piece in pieces]
