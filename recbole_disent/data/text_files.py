"""Text files of users: the encoding of a file, its lines and the cells of each line.

The encoding does not depend on the locale of the machine. A file is UTF-8, with or without a byte order
mark, unless the key ``encoding`` names another encoding.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import IO

import numpy as np

from recbole_disent.errors import UserError

_CHUNK = 2**24
_NEWLINE, _RETURN, _NUL = b"\n"[0], b"\r"[0], 0
# First bytes of formats other than plain text, and what the user has to do with such a file.
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
    """Return the name of the Python codec for an encoding.

    Args:
        encoding: name of the encoding; None means UTF-8, with or without a byte order mark.

    Raises:
        UserError: Python does not know the encoding.
    """
    try:
        name = codecs.lookup(encoding or "utf-8").name
        "".encode(name)  # fails for codecs such as hex, which do not encode text
    except (LookupError, TypeError, ValueError):
        raise UserError(
            f"encoding: got {encoding!r}, expected an encoding that Python knows, such as utf-8, latin-1, "
            "gb18030 or utf-16"
        ) from None
    return "utf-8-sig" if name == "utf-8" else name


def require_text(path: str, encoding: str | None) -> None:
    """Check by the first bytes of a file that it is text in the encoding.

    Raises:
        UserError: the file is compressed, or it is UTF-16 or UTF-32 and *encoding* is not.
    """
    with open(path, "rb") as file:
        head = file.read(8)
    for mark, what in _FORMATS.items():
        if head.startswith(mark):
            raise UserError(f"{path}: the file {what} first")
    for mark, name in _WIDE.items():
        if head.startswith(mark) and not codec(encoding).startswith((name, "utf-32")):
            raise UserError(
                f"{path}: the file is encoded in {name.upper()}; save it as UTF-8, or set encoding={name}"
            )


def open_text(path: str, encoding: str | None) -> IO[str]:
    """Open a file for reading; only a line feed ends a line."""
    return open(path, encoding=codec(encoding), newline="\n")


def faulty_line(file: IO[bytes], encoding: str) -> int | None:
    """Return the number of the first line that cannot be decoded, or None; a line feed ends a line."""
    decoder, line = codecs.getincrementaldecoder(encoding)(), 1
    while chunk := file.read(_CHUNK):
        state = decoder.getstate()
        try:
            line += decoder.decode(chunk).count("\n")
        except UnicodeError:
            decoder.setstate(state)
            for byte in chunk:
                try:
                    line += decoder.decode(bytes([byte])).count("\n")
                except UnicodeError:
                    return line
    try:
        decoder.decode(b"", True)
    except UnicodeError:
        return line
    return None


def undecodable(path: str, encoding: str | None) -> UserError:
    """Return the error for a file that cannot be decoded; the message names the first faulty line."""
    name = codec(encoding)
    with open(path, "rb") as file:
        number = faulty_line(file, name)
    return UserError(
        f"{path}, line {number}: got bytes that are not {name.removesuffix('-sig')}; save the file as UTF-8, "
        "or set the key 'encoding'"
    )


def count_cells(path: str, separator: str, encoding: str | None) -> np.ndarray:
    """Count the cells of each line.

    Args:
        path: path of the file.
        separator: separator of cells; quotes are ordinary characters.
        encoding: encoding of the file; None means UTF-8.

    Returns:
        int32 (lines,), number of cells of each line, including the header; 0 for an empty line.

    Raises:
        UserError: a byte cannot be decoded, or a line contains a NUL byte or a carriage return.
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
    """Yield chunks of a file, each of which consists of whole lines and ends with a line feed."""
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
        found = np.flatnonzero(data == byte)
        if byte == _RETURN:  # a carriage return before a line feed is part of the end of the line
            found = found[data[found + 1] != _NEWLINE]
        if len(found):
            line = before + int(np.searchsorted(ends, found[0])) + 1
            raise UserError(
                f"{path}, line {line}: got {what}, expected text with one interaction or item per line"
            )
    if len(separator) == 1 and separator.isascii():
        marks = np.flatnonzero(data == ord(separator))
        counts = np.diff(np.searchsorted(marks, ends), prepend=0).astype(np.int32) + 1
    else:
        counts = np.array([line.count(separator) + 1 for line in text.split("\n")[:-1]], dtype=np.int32)
    starts = np.concatenate([[0], ends[:-1] + 1])
    first = data[starts]
    counts[(first == _NEWLINE) | (first == _RETURN)] = 0
    return counts
