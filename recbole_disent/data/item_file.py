"""Columns of an ``.item`` file as text: read apart from RecBole's item features.

RecBole would give every model these columns as features, number items that nobody has
interacted with, and pad each text to the longest. Here the data set stays as it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from logging import getLogger

from recbole.utils.enum_type import FeatureType

from recbole_disent.data.atomic_files import check_header
from recbole_disent.errors import UserError, nearest


@dataclass
class ItemTable:
    """Chosen columns of an ``.item`` file.

    Attributes:
        path: of the file.
        kinds: column -> type, in the wanted order.
        cells: item id -> one text a column.
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
    """Read columns of an ``.item`` file; cells are taken as they stand, quotes included.

    Args:
        path: of the file.
        id_field: column of the item id.
        fields: wanted columns; None: all but the id.
        separator, encoding: of the file.
        key: configuration key that named the columns, for errors.
        all_of_them: whether each of *fields* has to be there; False: one is enough.
        other_id: column of the item id where there is no *id_field*.

    Raises:
        UserError: no file, a column that is not there, a line with too many cells, an id given
            twice or missing, or bytes that are not of the encoding.
    """
    if not os.path.isfile(path):
        raise UserError(
            f"{key}: the file {path} is not there; put the columns of the items into it (header such as "
            f"{id_field}:token{separator}title:token_seq), or take content_source=file"
        )
    try:
        header = check_header(path, separator, encoding)
        kinds, names = dict(header), [field for field, _ in header]
        if id_field not in kinds and other_id in kinds:
            getLogger().info(f"{path}: the item ids are those of the column '{other_id}'")
            id_field = str(other_id)
        if fields and not all_of_them:
            fields = [field for field in fields if field in kinds] or fields
        wanted = _wanted(path, kinds, id_field, fields, key)
        with open(path, encoding=encoding, newline="\n") as file:
            cells = _cells(path, file, names, id_field, wanted, separator)
        return ItemTable(path, wanted, cells)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: a byte that is not {error.encoding} (position {error.start}); save the file as UTF-8, "
            "or name its encoding with the key 'encoding'"
        ) from error


def _wanted(
    path: str, kinds: dict[str, FeatureType], id_field: str, fields: list[str] | None, key: str
) -> dict[str, FeatureType]:
    others = [name for name in kinds if name != id_field]
    if id_field not in kinds:
        raise UserError(f"{path}, line 1: no column '{id_field}' with the item ids; got {', '.join(kinds)}")
    for field in fields or []:
        if field not in others:
            raise UserError(
                f"{key}: {path} has no column '{field}', expected some of {', '.join(others) or 'none'}"
                f"{nearest(field, set(others))}"
            )
    found = fields if fields is not None else others
    if not found:
        raise UserError(f"{key}: no column to read; {path} has {', '.join(others) or 'item ids only'}")
    return {name: kinds[name] for name in found}


def _cells(
    path: str,
    file: Iterable[str],
    names: list[str],
    id_field: str,
    wanted: dict[str, FeatureType],
    separator: str,
) -> dict[str, list[str]]:
    places = [names.index(field) for field in wanted]
    id_place = names.index(id_field)
    found: dict[str, list[str]] = {}
    lines: dict[str, int] = {}
    for number, line in enumerate(file, start=1):
        if number == 1 or not line.strip("\r\n"):
            continue
        cells = line.rstrip("\r\n").split(separator)
        if len(cells) > len(names):
            raise UserError(
                f"{path}, line {number}: got {len(cells)} cells, expected {len(names)}; take the separator "
                f"{separator!r} out of the texts"
            )
        cells += [""] * (len(names) - len(cells))
        token = cells[id_place]
        if not token:
            raise UserError(f"{path}, line {number}: no item id; expected one in column '{id_field}'")
        if token in lines:
            raise UserError(
                f"{path}, line {number}: the item '{token}' is there already, in line {lines[token]}; "
                "keep one of them"
            )
        lines[token] = number
        found[token] = [cells[place] for place in places]
    return found
