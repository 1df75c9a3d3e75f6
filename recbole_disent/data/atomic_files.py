"""Reading of RecBole's atomic files, with checks and with little memory.

A file has a header with cells ``name:type`` and one interaction, user or item per line. A quote is an
ordinary character, because atomic files have no quoting.
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
from recbole_disent.data.arrow_reading import read_plain
from recbole_disent.data.text_files import codec, count_cells, open_text, require_text, undecodable
from recbole_disent.errors import UserError, nearest

Columns = list[tuple[str, FeatureType]]


def require_dataset(name: str, folder: str, parts: list[str] | None, downloadable: bool) -> None:
    """Check that a data set is on disk or can be downloaded.

    Args:
        name: name of the data set.
        folder: folder of its files.
        parts: suffixes in ``benchmark_filename``, or None.
        downloadable: whether RecBole has a download address for the data set.

    Raises:
        UserError: the data set is not on disk and cannot be downloaded, or a file of it is missing.
    """
    absolute = os.path.abspath(folder)
    files = [f"{name}.{part}.inter" for part in parts] if parts else [f"{name}.inter"]
    if not os.path.isdir(folder):
        if downloadable:
            return
        raise UserError(
            f"dataset '{name}': there is no folder {absolute}, and RecBole has no download for the data set; "
            f"{_how_to_obtain(name)}put {' and '.join(files)} there, or set --data_path=FOLDER to the "
            f"folder that contains '{name}'"
        )
    for file in files:
        if not os.path.isfile(os.path.join(folder, file)):
            raise UserError(
                f"dataset '{name}': the file {file} is missing in {absolute}; put the file there, or set "
                "another data_path"
            )


def _how_to_obtain(name: str) -> str:
    """Return how to get a data set that cannot be downloaded, as a clause of a sentence."""
    how = dataset_table.entry(name).get("obtain")
    return f"{how}; " if how else ""


def check_header(path: str, separator: str, encoding: str | None) -> Columns:
    """Read the header of an atomic file.

    Returns:
        The (field, type) of each column.

    Raises:
        UserError: the file is not a text file or is empty, or the first line is not a header ``name:type``.
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
                f"{', '.join(types)} in each column; columns are separated by {separator!r}"
            )
        if name in dict(columns):
            raise UserError(f"{path}, line 1: the column '{name}' occurs twice; rename one of them")
        columns.append((name, types[kind]))
    return columns


def require_columns(key: str, path: str, source: str, wanted: set[str], found: set[str]) -> None:
    """Check that a file has the columns that the user names; RecBole silently ignores missing columns.

    Args:
        key: ``load_col`` or ``unload_col``.
        path: path of the file.
        source: kind of the file: inter, user, item, ...
        wanted, found: names of the requested columns and of the columns in the file.

    Raises:
        UserError: a column is missing.
    """
    for name in sorted(wanted - found):
        raise UserError(
            f"{key}: got '{name}' for {source}, but {path} has no such column{nearest(name, found)}; "
            f"it has {', '.join(sorted(found))}"
        )


@dataclass
class AtomicFile:
    """The requested columns of a file.

    Attributes:
        path: path of the file.
        frame: one row for each line. Tokens are strings or categories (a missing token is NaN), numbers are
            float64, and sequences are arrays.
        lines: int64 (rows,), line number of each row; the header is line 1.
        short: bool (rows,), whether the line has fewer cells than the header.
        cells: int (rows,), number of cells of the line.
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
        """Keep only the rows for which *rows*, bool (rows,), is True."""
        self.frame = self.frame[rows].reset_index(drop=True)
        self.lines, self.cells, self.short = self.lines[rows], self.cells[rows], self.short[rows]

    def told(self, rows: np.ndarray) -> str:
        """Return a text with the first ten line numbers of the rows that the mask *rows* selects."""
        found = self.lines[rows]
        return f"line {', '.join(map(str, found[:10]))}{', ...' if len(found) > 10 else ''}"


def read_file(
    path: str,
    header: Columns,
    wanted: Columns,
    separator: str,
    seq_separator: str,
    encoding: str | None,
    categories: bool = False,
) -> AtomicFile:
    """Read columns of an atomic file; 20 million rows of tokens and numbers need a few gigabytes of memory.

    Tokens are read as objects, of which pandas keeps one Python string for each distinct token of a
    column (with ``low_memory`` it would do so for each part of the file). Categories do not work, because
    pandas 3.1 turns categories that look like numbers into numbers.

    Args:
        path: path of the file.
        header: all columns of the file.
        wanted: columns to read, in the order of the file.
        separator: separator of cells.
        seq_separator: separator of the entries of a sequence.
        encoding: encoding of the file; None means UTF-8.
        categories: whether tokens may be categories (of strings), which :func:`read_plain` reads fast.

    Raises:
        UserError: a line has more cells than the header, or a cell of a number column is not a number.
    """
    plain = read_plain(path, header, wanted, separator, encoding) if categories else None
    if plain is not None:
        number = np.broadcast_to(np.int32(len(header)), len(plain))
        return AtomicFile(path, plain, np.arange(2, len(plain) + 2), number, header)
    counts = count_cells(path, separator, encoding)[1:]
    body = np.flatnonzero(counts)
    cells, lines = counts[body], body + 2
    for row in np.flatnonzero(cells > len(header))[:1]:
        raise UserError(
            f"{path}, line {lines[row]}: got {cells[row]} cells, expected {len(header)} separated by "
            f"{separator!r} (field_separator); correct the line or set field_separator"
        )
    if not len(lines):
        return AtomicFile(path, _empty(wanted), lines, cells, header)
    # Where every line is short, pandas refuses names of columns that no line has.
    names = [name for name, _ in header][: int(cells.max())]
    numbers = {name for name, kind in wanted if kind == FeatureType.FLOAT}
    kinds: dict[str, Any] = {n: "float64" if n in numbers else object for n, _ in wanted if n in names}
    fast = len(separator) == 1 and separator.isascii()  # pandas' C engine accepts only such separators
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
                usecols=list(kinds) or names[:1],
                dtype=kinds,
                encoding=codec(encoding),
                quoting=csv.QUOTE_NONE,
                skip_blank_lines=False,
                engine="c" if fast else "python",
                **({"float_precision": "round_trip", "low_memory": False} if fast else {}),
            )
    except (ValueError, pd.errors.ParserError) as error:
        raise UserError(_locate(path, header, numbers, separator, encoding, error)) from error
    if len(body) < len(counts):
        frame = frame.iloc[body].reset_index(drop=True)
    data: dict[str, Any] = {}
    for name, kind in wanted:
        column = frame.pop(name) if name in kinds else pd.Series(np.full(len(lines), np.nan), dtype=object)
        if kind == FeatureType.FLOAT:
            data[name] = column.to_numpy(dtype=np.float64)
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
    """Return the error text for the first line whose number cannot be parsed."""
    names = [name for name, _ in header]
    with open_text(path, encoding) as file:
        for number, line in enumerate(file, start=1):
            if number == 1:
                continue
            for name, cell in zip(names, line.rstrip("\r\n").split(separator), strict=False):
                if name in numbers and cell:
                    try:
                        if "_" in cell:  # which Python accepts between digits, and pandas does not
                            raise ValueError
                        float(cell)
                    except ValueError:
                        return f"{path}, line {number}: {name}: got {cell!r}, expected a number"
    return f"{path}: {' '.join(str(error).split())}"
