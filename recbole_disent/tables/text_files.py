"""Tables in CSV and TSV files with the quoting of RFC 4180."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterator, Sequence
from itertools import islice
from logging import getLogger
from pathlib import Path
from typing import IO, Any

import pandas as pd

from recbole_disent.data.text_files import faulty_line
from recbole_disent.errors import UserError
from recbole_disent.tables.table import distinct_names

# What reading a file raises if its bytes cannot be read or decoded; damaged .gz files raise the last two.
READ_ERRORS = (UnicodeError, OSError, EOFError, zlib.error)
# Maximum length of a cell; the default limit of csv, 128 KiB, is too small for some descriptions.
_LONGEST_CELL = 2**27


def open_text(path: Path, encoding: str, newline: str | None = None) -> IO[str]:
    """Open a text file, which gzip may have compressed, and skip a byte order mark.

    Raises:
        UserError: the encoding is unknown.
    """
    opener: Any = gzip.open if path.suffix.lower() == ".gz" else open
    try:
        return opener(path, "rt", encoding=without_mark(encoding), newline=newline)
    except LookupError as error:
        raise UserError(f"encoding: got '{encoding}', expected a name such as utf-8 or cp1252") from error


def without_mark(encoding: str) -> str:
    """Return the name of the encoding that accepts a byte order mark."""
    return "utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding


def unreadable(path: Path, error: Exception, encoding: str) -> UserError:
    """Return the error for a file whose bytes cannot be read or decoded."""
    if isinstance(error, UnicodeDecodeError):
        try:
            line = _faulty_line(path, encoding)
        except READ_ERRORS as damage:
            return unreadable(path, damage, encoding)
        where = f"{path}, line {line}" if line else str(path)
        return UserError(
            f"{where}: a byte is not {encoding} ({error.reason}); save the file as UTF-8, or name its "
            "encoding, such as encoding='cp1252'"
        )
    damaged = isinstance(error, gzip.BadGzipFile | EOFError | zlib.error)
    hint = "; copy the file again, or compress it again" if damaged else ""
    return UserError(f"{path}: the file cannot be read ({' '.join(str(error).split())}){hint}")


def _faulty_line(path: Path, encoding: str) -> int | None:
    opener: Any = gzip.open if path.suffix.lower() == ".gz" else open
    with opener(path, "rb") as file:
        return faulty_line(file, encoding)


class TextTable:
    """A CSV or TSV file whose first line names the columns.

    Cells are texts and stay unchanged: ``007`` stays ``007``, and ``NA`` is a text. Empty lines are
    ignored.

    Args:
        path: path of the file.
        separator: separator of the cells. If the header of a CSV file has no comma but a semicolon or a
            tab, the semicolon or the tab is the separator.
        encoding: encoding of the file.

    Raises:
        UserError: the file is empty or cannot be read, or two columns have the same name.
    """

    def __init__(self, path: Path, separator: str, encoding: str) -> None:
        self.name, self.files = str(path), [path]
        self._path, self._encoding = path, encoding
        try:
            with open_text(path, encoding, newline="") as file:
                head = file.readline()
            self._separator = _separator(head, separator, self.name)
            header = next(self._records(), (1, []))[1]
        except READ_ERRORS as error:
            raise unreadable(path, error, encoding) from error
        if not header:
            raise UserError(f"{path}: the file is empty, expected a first line with the names of the columns")
        if not all(name.strip() for name in header):
            number = next(n for n, name in enumerate(header, start=1) if not name.strip())
            # A column without a name usually contains row labels that pandas wrote.
            header = [name if name.strip() else f"unnamed_{n}" for n, name in enumerate(header, start=1)]
            getLogger().info(f"{path}, line 1: column {number} has no name")
        self.columns = distinct_names(header, f"{path}, line 1")

    def read(self, columns: Sequence[str]) -> pd.DataFrame:
        """Return columns as texts; an empty cell is ``""``, and equal cells share one str.

        Raises:
            UserError: a line has too many or too few cells or faulty quotes, or a byte cannot be decoded.
        """
        try:
            self._check()
            return pd.read_csv(
                self._path,
                sep=self._separator,
                names=self.columns,
                header=0,
                usecols=list(columns),
                index_col=False,
                dtype=str,
                na_filter=False,
                encoding=without_mark(self._encoding),
                compression="gzip" if self._path.suffix.lower() == ".gz" else None,
                engine="c",
            )[list(columns)]
        except READ_ERRORS as error:
            raise unreadable(self._path, error, self._encoding) from error
        except pd.errors.ParserError as error:
            raise UserError(f"{self.name}: {' '.join(str(error).split())}") from error

    def _check(self) -> None:
        """Check the quotes and the number of cells of each line; pandas drops or adds cells silently."""
        with open_text(self._path, self._encoding, newline="") as file:
            line = 1
            while block := file.read(2**20):
                if "\0" in block:  # pandas drops such characters
                    line += block[: block.index("\0")].count("\n")
                    raise UserError(f"{self.name}, line {line}: got a NUL character, expected text")
                line += block.count("\n")
        wanted = len(self.columns)
        for line, cells in self._records(strict=True):
            if len(cells) != wanted:
                raise UserError(
                    f"{self.name}, line {line}: got {len(cells)} cells, expected {wanted}; put "
                    f"a text that contains {self._separator!r} in double quotes"
                )

    def where(self, row: int) -> str:
        """Return a text with the line in which the record *row* begins."""
        line = next(islice(self._records(), row + 1, None))[0]
        return f"{self.name}, line {line}"

    def _records(self, strict: bool = False) -> Iterator[tuple[int, list[str]]]:
        """Yield the first line and the cells of each record, including the header.

        If *strict*, faulty quotes raise an error.
        """
        limit = csv.field_size_limit(_LONGEST_CELL)
        try:
            with open_text(self._path, self._encoding, newline="") as file:
                reader = csv.reader(file, delimiter=self._separator, strict=strict)
                start = 1
                try:
                    for cells in reader:
                        if len(cells) > 1 or (cells and cells[0].strip()):
                            yield start, cells
                        start = reader.line_num + 1
                except csv.Error as error:
                    raise UserError(
                        f"{self.name}, line {start}: the quotes are wrong ({error}); enclose a cell that "
                        'contains quotes in double quotes, and write each quote inside twice ("")'
                    ) from error
        finally:
            csv.field_size_limit(limit)


def _separator(head: str, separator: str, name: str) -> str:
    if separator == "," and "," not in head:
        for other in (";", "\t"):
            if other in head:
                getLogger().info(f"{name}: the cells are separated by {other!r}")
                return other
    return separator
