"""Reading RecBole's atomic files: checks with one clear sentence, and little memory.

A file has a header of cells ``name:type`` and one interaction, user or item a line. Quotes are
characters like others: atomic files know no quoting.
"""

from __future__ import annotations

import csv
import os
import re
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from recbole.utils.enum_type import FeatureType

from recbole_disent.config import dataset_table
from recbole_disent.data.text_files import codec, count_cells, open_text, require_text, undecodable
from recbole_disent.errors import UserError, nearest

Columns = list[tuple[str, FeatureType]]


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


def check_header(path: str, separator: str, encoding: str | None) -> Columns:
    """Read the first line of an atomic file.

    Returns:
        (field, type) of each column.

    Raises:
        UserError: the file is no text or empty, or the line is no header ``name:type``.
    """
    require_text(path, encoding)
    try:
        with open_text(path, encoding) as file:
            head = file.readline().rstrip("\r\n")
    except UnicodeError as error:
        raise undecodable(path, encoding) from error
    if not head:
        raise UserError(
            f"{path}, line 1: the file is empty; expected a header such as "
            f"user_id:token{separator}item_id:token{separator}timestamp:float"
        )
    types = {t.value: t for t in FeatureType}
    columns: Columns = []
    for cell in head.split(separator):
        name, _, kind = cell.rpartition(":")
        if not name or ":" in name or kind not in types:
            raise UserError(
                f"{path}, line 1: got {cell!r}, expected a header 'name:type' with a type of "
                f"{', '.join(types)} in each of the columns, which are separated by {separator!r}"
            )
        if name in dict(columns):
            raise UserError(f"{path}, line 1: the column '{name}' is there twice; rename one of them")
        columns.append((name, types[kind]))
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
    for name in sorted(wanted - found):
        raise UserError(
            f"load_col: got '{name}' for {source}, but {path} has no such column{nearest(name, found)}; "
            f"it has {', '.join(sorted(found))}"
        )


@dataclass
class AtomicFile:
    """The wanted columns of a file.

    Attributes:
        path: of the file.
        frame: one row a line: tokens as strings (missing ones NaN), numbers as float64, sequences as arrays.
        lines: int64 (rows,), number of the line of each row, from 2 on.
        short: bool (rows,), whether the line has fewer cells than the header.
        cells: int (rows,), cells of the line.
        header: (field, type) of all columns of the file.
    """

    path: str
    frame: pd.DataFrame
    lines: np.ndarray
    cells: np.ndarray
    header: Columns
    short: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.short = self.cells < len(self.header)

    def keep(self, rows: np.ndarray) -> None:
        """Keep rows where *rows*, bool (rows,), is True."""
        self.frame = self.frame[rows].reset_index(drop=True)
        self.lines, self.cells, self.short = self.lines[rows], self.cells[rows], self.short[rows]

    def told(self, rows: np.ndarray) -> str:
        """Return the lines of the rows where *rows*, bool (rows,), is True, in words: the first ten."""
        found = self.lines[rows]
        return f"line {', '.join(map(str, found[:10]))}{', ...' if len(found) > 10 else ''}"


def read_file(
    path: str, header: Columns, wanted: Columns, separator: str, seq_separator: str, encoding: str | None
) -> AtomicFile:
    """Read columns of an atomic file: 20 million rows of tokens and numbers fit in a few gigabytes.

    Tokens are read as objects: the reader keeps one Python string for each distinct token of a column.
    Categories would not do, because pandas 3.1 makes numbers of categories that look like numbers.

    Args:
        path: of the file.
        header: all its columns.
        wanted: columns to be read, in the file's order.
        separator: between cells.
        seq_separator: between the entries of a sequence.
        encoding: None means UTF-8.

    Raises:
        UserError: a line has more cells than the header, or a number is none.
    """
    counts = count_cells(path, separator, encoding)[1:]
    body = np.flatnonzero(counts)
    cells, lines = counts[body], body + 2
    for place in np.flatnonzero(cells > len(header))[:1]:
        raise UserError(
            f"{path}, line {lines[place]}: got {cells[place]} cells, expected {len(header)}; the cells are "
            f"separated by {separator!r} (field_separator)"
        )
    names = [name for name, _ in header]
    numbers = {name for name, kind in wanted if kind == FeatureType.FLOAT}
    kinds: dict[str, Any] = {name: "float64" if name in numbers else object for name, _ in wanted}
    if not len(lines):
        return AtomicFile(path, _empty(wanted), lines, cells, header)
    fast = len(separator) == 1 and separator.isascii()  # pandas' C engine reads no other
    try:
        with warnings.catch_warnings():
            # Without it times of 17 digits lose their last one; pandas 4 is out of the range in setup.py.
            warnings.filterwarnings("ignore", "The 'float_precision' argument is deprecated")
            frame = pd.read_csv(
                path,
                sep=separator if fast else re.escape(separator),
                header=None,
                names=names,
                skiprows=1,
                index_col=False,
                usecols=list(kinds),
                dtype=kinds,
                encoding=codec(encoding),
                quoting=csv.QUOTE_NONE,
                skip_blank_lines=False,
                engine="c" if fast else "python",
                **({"float_precision": "round_trip"} if fast else {}),
            )
    except (ValueError, pd.errors.ParserError) as error:
        raise UserError(_locate(path, header, numbers, separator, encoding, error)) from error
    if len(body) < len(counts):
        frame = frame.iloc[body]
    data: dict[str, Any] = {}
    for name, kind in wanted:
        column = frame.pop(name)
        if kind == FeatureType.FLOAT:
            data[name] = column.to_numpy()
        elif kind == FeatureType.TOKEN:
            data[name] = column
        else:
            number = kind == FeatureType.FLOAT_SEQ
            data[name] = _sequences(path, name, column, lines, seq_separator, number)
    return AtomicFile(path, pd.DataFrame(data), lines, cells, header)


def _empty(wanted: Columns) -> pd.DataFrame:
    kinds = {name: float if kind == FeatureType.FLOAT else object for name, kind in wanted}
    return pd.DataFrame({name: pd.Series([], dtype=kind) for name, kind in kinds.items()})


def _sequences(
    path: str, name: str, column: pd.Series, lines: np.ndarray, separator: str, numbers: bool
) -> np.ndarray:
    """A text column as object arrays of tokens, or arrays of float64; missing cells are empty."""
    codes, categories = pd.factorize(column)
    values = np.empty(len(categories) + 1, dtype=object)
    values[-1] = np.array([], dtype=np.float64 if numbers else object)
    for number, text in enumerate(categories):
        entries = [entry for entry in str(text).split(separator) if entry]
        try:
            values[number] = np.array(entries, dtype=np.float64 if numbers else object)
        except ValueError:
            line = lines[np.flatnonzero(codes == number)[0]]
            raise UserError(f"{path}, line {line}: {name}: got {text!r}, expected numbers") from None
    return values[codes]


def _locate(
    path: str, header: Columns, numbers: set[str], separator: str, encoding: str | None, error: Exception
) -> str:
    """Name the first line with a number that is none."""
    names = [name for name, _ in header]
    with open_text(path, encoding) as file:
        for number, line in enumerate(file, start=1):
            if number == 1:
                continue
            for name, cell in zip(names, line.rstrip("\r\n").split(separator), strict=False):
                if name in numbers and cell:
                    try:
                        float(cell)
                    except ValueError:
                        return f"{path}, line {number}: {name}: got {cell!r}, expected a number"
    return f"{path}: {' '.join(str(error).split())}"
