"""Reading of the columns of an ``.item`` file as text, separately from RecBole's item features.

If RecBole loaded these columns, every model would use them as features, items without interactions would
get ids, and each text would be padded to the longest text. Reading them here does not change the data set.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from logging import getLogger

from recbole.utils.enum_type import FeatureType

from recbole_disent.data.atomic_files import check_header
from recbole_disent.data.text_files import open_text, undecodable
from recbole_disent.errors import UserError, nearest


@dataclass
class ItemTable:
    """Selected columns of an ``.item`` file.

    Attributes:
        path: path of the file.
        kinds: type of each column, in the requested order.
        cells: the texts of each item id, one text for each column.
    """

    path: str
    kinds: dict[str, FeatureType]
    cells: dict[str, list[str]]


def read_items(
    path: str,
    id_field: str,
    fields: list[str] | None,
    separator: str,
    encoding: str | None,
    key: str,
    all_of_them: bool = True,
    other_id: str | None = None,
) -> ItemTable:
    """Read columns of an ``.item`` file; the text of a cell stays as it is, including quotes.

    Args:
        path: path of the file.
        id_field: column of the item ids.
        fields: columns to read; None means all columns except the ids.
        separator, encoding: separator of the cells and encoding of the file.
        key: configuration key that names the columns, for error messages.
        all_of_them: whether the file must have all of *fields*; if False, one of them is enough.
        other_id: column of the item ids if the file has no column *id_field*.

    Raises:
        UserError: the file or a column does not exist, a line has too many cells, an id is missing or
            occurs twice, or a byte cannot be decoded.
    """
    if not os.path.isfile(path):
        raise UserError(
            f"{key}: the file {path} does not exist; write the columns of the items to it (with a header "
            f"such as {id_field}:token{separator}title:token_seq), or set content_source=file"
        )
    try:
        header = check_header(path, separator, encoding)
        kinds, names = dict(header), [field for field, _ in header]
        if id_field not in kinds and other_id in kinds:
            getLogger().info(f"{path}: the item ids are in the column '{other_id}'")
            id_field = str(other_id)
        if fields and not all_of_them:
            fields = [field for field in fields if field in kinds] or fields
        wanted = _wanted(path, kinds, id_field, fields, key)
        with open_text(path, encoding) as file:
            cells = _cells(path, file, names, id_field, wanted, separator)
        return ItemTable(path, wanted, cells)
    except UnicodeError as error:
        raise undecodable(path, encoding) from error


def _wanted(
    path: str, kinds: dict[str, FeatureType], id_field: str, fields: list[str] | None, key: str
) -> dict[str, FeatureType]:
    others = [name for name in kinds if name != id_field]
    if id_field not in kinds:
        raise UserError(
            f"{path}, line 1: got the columns {', '.join(kinds)}, expected a column '{id_field}' with "
            "the item ids"
        )
    for field in fields or []:
        if field not in others:
            raise UserError(
                f"{key}: {path} has no column '{field}', expected some of {', '.join(others) or 'none'}"
                f"{nearest(field, set(others))}"
            )
    found = fields if fields is not None else others
    if not found:
        raise UserError(
            f"{key}: there is no column to read, because {path} has only {', '.join(others) or 'item ids'}; "
            "add a column"
        )
    return {name: kinds[name] for name in found}


def _cells(
    path: str,
    file: Iterable[str],
    names: list[str],
    id_field: str,
    wanted: dict[str, FeatureType],
    separator: str,
) -> dict[str, list[str]]:
    columns = [names.index(field) for field in wanted]
    id_column = names.index(id_field)
    found: dict[str, list[str]] = {}
    lines: dict[str, int] = {}
    for number, line in enumerate(file, start=1):
        if number == 1 or not line.strip("\r\n"):
            continue
        cells = line.rstrip("\r\n").split(separator)
        if len(cells) > len(names):
            raise UserError(
                f"{path}, line {number}: got {len(cells)} cells, expected {len(names)}; remove the separator "
                f"{separator!r} from the texts"
            )
        cells += [""] * (len(names) - len(cells))
        token = cells[id_column]
        if not token:
            raise UserError(f"{path}, line {number}: no item id; expected one in column '{id_field}'")
        if token in lines:
            raise UserError(
                f"{path}, line {number}: the item '{token}' is a duplicate of line {lines[token]}; "
                "keep one of the lines"
            )
        lines[token] = number
        found[token] = [cells[column] for column in columns]
    return found
