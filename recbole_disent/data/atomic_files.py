"""Reading RecBole's atomic files: checks with one clear sentence, and little memory."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pandas as pd
from recbole.utils.enum_type import FeatureType

from recbole_disent.config import dataset_table
from recbole_disent.errors import UserError, nearest


def require_dataset(name: str, folder: str, parts: list[str] | None, downloadable: bool) -> None:
    """Check that a data set can be had, before anything is loaded.

    Args:
        name: of the data set.
        folder: where its files are looked for.
        parts: the suffixes of ``benchmark_filename``, or None.
        downloadable: whether RecBole knows an address for it.

    Raises:
        UserError: it is neither on disk nor downloadable.
    """
    place = os.path.abspath(folder)
    files = [f"{name}.{part}.inter" for part in parts] if parts else [f"{name}.inter"]
    if not os.path.isdir(folder):
        if downloadable:
            return
        raise UserError(
            f"dataset '{name}': no folder {place}, and RecBole knows no download for it; "
            f"{_how_to_obtain(name)}put {' and '.join(files)} there, or say --data_path=FOLDER for the "
            f"folder that contains '{name}'"
        )
    for file in files:
        if not os.path.isfile(os.path.join(folder, file)):
            raise UserError(f"dataset '{name}': the file {file} is missing in {place}")


def _how_to_obtain(name: str) -> str:
    """Return what to do to get a data set that cannot be downloaded, as a part of a sentence."""
    how = dataset_table.entry(name).get("obtain")
    return f"{how}; " if how else ""


def check_header(path: str, separator: str, encoding: str | None) -> list[tuple[str, FeatureType]]:
    """Read the first line of an atomic file.

    Returns:
        (field, type) of each column.

    Raises:
        UserError: the file is empty, or the line is no header ``name:type``.
    """
    with open(path, encoding=encoding) as file:
        head = file.readline().rstrip("\r\n")
    if not head:
        raise UserError(
            f"{path}, line 1: the file is empty; expected a header such as "
            f"user_id:token{separator}item_id:token{separator}timestamp:float"
        )
    types = {t.value: t for t in FeatureType}
    columns = []
    for cell in head.split(separator):
        field, _, kind = cell.rpartition(":")
        if not field or ":" in field or kind not in types:
            raise UserError(
                f"{path}, line 1: got {cell!r}, expected a header 'name:type' with a type of "
                f"{', '.join(types)} in each of the columns, which are separated by {separator!r}"
            )
        columns.append((field, types[kind]))
    return columns


def require_columns(path: str, source: str, wanted: set[str], found: set[str]) -> None:
    """Check columns that a user's ``load_col`` names; RecBole passes over missing ones in silence.

    Args:
        path: of the file.
        source: its kind: inter, user, item, ...
        wanted, found: names of columns.

    Raises:
        UserError: one is not there.
    """
    for field in sorted(wanted - found):
        raise UserError(
            f"load_col: got '{field}' for {source}, but {path} has no such column{nearest(field, found)}; "
            f"it has {', '.join(sorted(found))}"
        )


def read_events(
    path: str,
    columns: list[tuple[str, FeatureType]],
    separator: str,
    encoding: str | None,
) -> pd.DataFrame:
    """Read columns without sequences: 20 million rows fit in a few gigabytes.

    Tokens are read as categories, so that each distinct one is a single Python string, and
    given as an object column of these shared strings, as RecBole goes on with.

    Raises:
        UserError: a line cannot be read, a number is none, or there is no line.
    """
    with open(path, encoding=encoding) as file:
        head, first = (file.readline().split(separator) for _ in range(2))
    if len(first) > len(head):  # pandas would take the first cell for a row label
        raise UserError(f"{path}, line 2: got {len(first)} cells, expected {len(head)}")
    names = {f"{field}:{kind.value}": field for field, kind in columns}
    kinds: dict[str, Any] = {
        f"{field}:{kind.value}": "float64" if kind == FeatureType.FLOAT else "category"
        for field, kind in columns
    }
    try:
        frame = pd.read_csv(
            path,
            sep=separator,
            usecols=list(names),
            dtype=kinds,
            encoding=encoding,
            engine="c",
        )
    except (ValueError, pd.errors.ParserError) as error:
        raise UserError(_locate(path, columns, separator, encoding, error)) from error
    if frame.empty:
        raise UserError(f"{path}: no line after the header; expected one interaction a line")
    data: dict[str, Any] = {}
    for name in list(frame.columns):
        column = frame.pop(name)
        # As objects: pandas 3 would make text of its own of them.
        text = kinds[name] == "category"
        data[names[name]] = pd.Series(_shared_strings(column), dtype=object) if text else column.to_numpy()
    return pd.DataFrame(data)


def _shared_strings(column: pd.Series) -> np.ndarray:
    """A category column as objects; missing values as NaN."""
    values = np.append(column.cat.categories.to_numpy(dtype=object), [np.nan]).astype(object)
    return values[column.cat.codes.to_numpy()]


def _locate(
    path: str,
    columns: list[tuple[str, FeatureType]],
    separator: str,
    encoding: str | None,
    error: Exception,
) -> str:
    """Name the first line with a fault: wrong number of cells, or a number that is none."""
    wanted = dict(columns)
    head: list[str] = []
    with open(path, encoding=encoding) as file:
        for number, line in enumerate(file, start=1):
            cells = line.rstrip("\r\n").split(separator)
            if number == 1:
                head = [cell.rpartition(":")[0] for cell in cells]
                continue
            if len(cells) > len(head):
                return f"{path}, line {number}: got {len(cells)} cells, expected {len(head)}"
            for field, cell in zip(head, cells, strict=False):
                if wanted.get(field) == FeatureType.FLOAT and cell:
                    try:
                        float(cell)
                    except ValueError:
                        return f"{path}, line {number}: {field}: got {cell!r}, expected a number"
    return f"{path}: {' '.join(str(error).split())}"
