"""Text files that users write: their encoding, their lines and the cells of each line.

The encoding never depends on the locale of the machine: a file is UTF-8, with or without a byte
order mark, unless the key ``encoding`` names another one.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import IO

import numpy as np

from recbole_disent.errors import UserError

_CHUNK = 2**24
_NEWLINE, _RETURN, _NUL = b"\n"[0], b"\r"[0], 0
# First bytes of files that are no plain text, and what to do about them.
_FORMATS = {
    b"\x1f\x8b": "is compressed with gzip; decompress it (gunzip)",
    b"PK\x03\x04": "is a zip archive or a spreadsheet; unpack it, or export it as tab separated text",
    b"BZh": "is compressed with bzip2; decompress it (bunzip2)",
    b"\xfd7zXZ\x00": "is compressed with xz; decompress it (unxz)",
    b"\x28\xb5\x2f\xfd": "is compressed with zstd; decompress it (unzstd)",
    b"PAR1": "is a Parquet file; export it as tab separated text",
}
_WIDE = {
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF32_BE: "utf-32",
}


def codec(encoding: str | None) -> str:
    """Return the name of the codec that reads a file: UTF-8 (with or without a byte order mark) for None.

    Raises:
        UserError: Python knows no such encoding.
    """
    try:
        name = codecs.lookup(encoding or "utf-8").name
        "".encode(name)  # codecs such as hex know no text
    except (LookupError, TypeError, ValueError):
        raise UserError(
            f"encoding: got {encoding!r}, expected an encoding that Python knows, such as utf-8, latin-1, "
            "gb18030 or utf-16"
        ) from None
    return "utf-8-sig" if name == "utf-8" else name


def require_text(path: str, encoding: str | None) -> None:
    """Check by its first bytes that a file is text in the encoding.

    Raises:
        UserError: it is compressed, or in UTF-16 or UTF-32 that ``encoding`` does not name.
    """
    with open(path, "rb") as file:
        head = file.read(8)
    for mark, what in _FORMATS.items():
        if head.startswith(mark):
            raise UserError(f"{path}: the file {what} first")
    for mark, name in _WIDE.items():
        if head.startswith(mark) and not codec(encoding).startswith((name, "utf-32")):
            raise UserError(
                f"{path}: the file is encoded in {name.upper()}; save it as UTF-8, or say encoding={name}"
            )


def open_text(path: str, encoding: str | None) -> IO[str]:
    """Open a file for reading; lines end with a line feed only."""
    return open(path, encoding=codec(encoding), newline="\n")


def undecodable(path: str, encoding: str | None) -> UserError:
    """Return the error for a file that is not in its encoding; it names the first line with such bytes."""
    name, number = codec(encoding), 1
    with open(path, "rb") as file:
        for line in file:
            try:
                line.decode(name)
            except UnicodeError:
                break
            number += 1
    return UserError(
        f"{path}, line {number}: bytes that are not {name.removesuffix('-sig')}; save the file as UTF-8, or "
        "name its encoding with the key 'encoding'"
    )


def count_cells(path: str, separator: str, encoding: str | None) -> np.ndarray:
    """Count the cells of each line.

    Args:
        path: of the file.
        separator: between cells; quotes have no meaning.
        encoding: of the file.

    Returns:
        int32 (lines,), the header's line included; 0 for an empty line.

    Raises:
        UserError: bytes that are not of the encoding, a NUL byte, or a carriage return within a line.
    """
    counts = []
    lines = 0
    try:
        with open_text(path, encoding) as file:
            for text in _whole_lines(file):
                found = _count(path, text, separator, lines)
                counts.append(found)
                lines += len(found)
    except UnicodeError as error:
        raise undecodable(path, encoding) from error
    return np.concatenate(counts) if counts else np.zeros(0, dtype=np.int32)


def _whole_lines(file: IO[str]) -> Iterator[str]:
    """Chunks of a file, each of them whole lines with a line feed at the end."""
    rest: list[str] = []
    while chunk := file.read(_CHUNK):
        head, feed, tail = chunk.rpartition("\n")
        if not feed:
            rest.append(chunk)
            continue
        yield "".join([*rest, head, feed])
        rest = [tail] if tail else []
    if rest:
        yield "".join([*rest, "\n"])


def _count(path: str, text: str, separator: str, before: int) -> np.ndarray:
    data = np.frombuffer(text.encode("utf-8"), dtype=np.uint8)
    ends = np.flatnonzero(data == _NEWLINE)
    for byte, what in ((_NUL, "a NUL byte"), (_RETURN, "a carriage return within the line")):
        places = np.flatnonzero(data == byte)
        if byte == _RETURN:  # one before the line feed belongs to the end of the line
            places = places[data[places + 1] != _NEWLINE]
        if len(places):
            line = before + int(np.searchsorted(ends, places[0])) + 1
            raise UserError(f"{path}, line {line}: {what}; expected text with one interaction or item a line")
    if len(separator) == 1 and separator.isascii():
        marks = np.flatnonzero(data == ord(separator))
        counts = np.diff(np.searchsorted(marks, ends), prepend=0).astype(np.int32) + 1
    else:
        counts = np.array([line.count(separator) + 1 for line in text.split("\n")[:-1]], dtype=np.int32)
    starts = np.concatenate([[0], ends[:-1] + 1])
    first = data[starts]
    counts[(first == _NEWLINE) | (first == _RETURN)] = 0
    return counts
