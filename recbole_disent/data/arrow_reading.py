"""A fast reader of plain interaction files: several threads, and no Python object for each row.

The reader needs the package pyarrow, and reads only files that every reader reads in the same way: UTF-8
text with complete lines of tokens and finite numbers. It leaves all other files, and therefore every
fault, to :func:`recbole_disent.data.atomic_files.read_file`.
"""

from __future__ import annotations

import codecs
from typing import Any

import numpy as np
import pandas as pd
from recbole.utils.enum_type import FeatureType

from recbole_disent.data.text_files import codec

_CHUNK = 2**24
# Cells that pandas reads as missing values. A file with one of them is left to pandas.
MISSING = ["", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>",
           "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"]  # fmt: skip


def read_plain(
    path: str,
    header: list[tuple[str, FeatureType]],
    wanted: list[tuple[str, FeatureType]],
    separator: str,
    encoding: str | None,
) -> pd.DataFrame | None:
    """Read columns of a plain file.

    Args:
        path: path of the file.
        header: all columns of the file.
        wanted: columns to read, in the order of the file.
        separator: separator of cells.
        encoding: encoding of the file; None means UTF-8.

    Returns:
        One row for each line after the header. Tokens are categories, whose categories are strings, and
        numbers are float64. None if the file is not plain or pyarrow is not installed.
    """
    kinds = {kind for _, kind in wanted}
    if len(header) < 2 or not kinds <= {FeatureType.TOKEN, FeatureType.FLOAT}:
        return None
    if len(separator) != 1 or not separator.isascii() or codec(encoding) != "utf-8-sig":
        return None
    try:
        import pyarrow as pa
        from pyarrow import csv
    except ImportError:
        return None
    lines = _count_plain_lines(path)
    if not lines:
        return None
    token = pa.dictionary(pa.int32(), pa.string())
    try:
        table = csv.read_csv(
            path,
            csv.ReadOptions(
                skip_rows=1,
                column_names=[name for name, _ in header],
                block_size=_CHUNK,
            ),
            # An empty or incomplete line and a line with too many cells are errors.
            csv.ParseOptions(
                delimiter=separator, quote_char=False, escape_char=False, ignore_empty_lines=False
            ),
            csv.ConvertOptions(
                include_columns=[name for name, _ in wanted],
                column_types={n: token if kind == FeatureType.TOKEN else pa.float64() for n, kind in wanted},
                null_values=MISSING,
                strings_can_be_null=True,
                check_utf8=False,  # _count_plain_lines has checked the bytes
            ),
        )
    except pa.ArrowException:
        return None
    if len(table) != lines or any(column.null_count for column in table.columns):
        return None
    data: dict[str, Any] = {}
    for name, kind in wanted:
        column = table.column(name)
        table = table.drop_columns([name])  # frees each column after its conversion
        if kind == FeatureType.TOKEN:
            data[name] = _categories(column)
        else:
            data[name] = column.to_numpy()
            if not np.isfinite(data[name]).all():
                return None
    del column
    pa.default_memory_pool().release_unused()
    return pd.DataFrame(data, copy=False)


def _count_plain_lines(path: str) -> int | None:
    """Return the number of lines after the header, or None if a byte needs the other reader.

    These are bytes that are not UTF-8, NUL bytes, and carriage returns, which end a line for pyarrow.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    ends, last = 0, b"\n"
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            if b"\0" in chunk or b"\r" in chunk:
                return None
            if not chunk.isascii() or decoder.getstate()[0]:
                try:
                    decoder.decode(chunk)
                except UnicodeDecodeError:
                    return None
            ends += chunk.count(b"\n")
            last = chunk[-1:]
    if decoder.getstate()[0]:
        return None
    return ends - 1 + (last != b"\n")


def _categories(column: Any) -> pd.Categorical:
    """Return a column of dictionaries as categories, in the order of their first rows."""
    array = column.unify_dictionaries().combine_chunks()
    tokens = pd.Index(array.dictionary.to_numpy(zero_copy_only=False), dtype=object)
    return pd.Categorical.from_codes(array.indices.to_numpy(), dtype=pd.CategoricalDtype(tokens))
