"""Content of items: one matrix, aligned with RecBole's internal item ids.

Content is known before a click, so items of every part have it. No interaction enters: the
order of the ids is all that comes from the data set.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from recbole.utils.enum_type import FeatureType
from sklearn.preprocessing import normalize
from torch import Tensor

from recbole_disent import dataset_table
from recbole_disent.data import text_encoder
from recbole_disent.data.candidates import digest
from recbole_disent.data.content_file import read_vectors
from recbole_disent.data.content_text import text_vectors, token_vectors
from recbole_disent.data.item_file import ItemTable, read_items
from recbole_disent.errors import UserError, nearest
from recbole_disent.files import write_atomically

SOURCES = ("text", "tokens", "file", "encoder")
# Raised when the same inputs give other vectors than before, so that no old cache is read.
_VERSION = 1


@dataclass
class Content:
    """Content of all items of a data set.

    Attributes:
        matrix: float32 (n_items, F), row 0 (padding) zero; each source's part of a row has
            unit length, or is zero where an item has none. (n_items, 0) where the encoder is trained along.
        texts: text of each item for an encoder that is trained along, else None; "" for padding.
        hash: digest of what the vectors are made of: item ids, columns, files and settings.
        place: the cache file, for errors.
    """

    matrix: Tensor
    texts: list[str] | None
    hash: str
    place: str


def sources(config: Any) -> list[str]:
    """Return ``content_source`` as a list."""
    return _listed(config["content_source"]) or []


def _listed(value: Any) -> list[str] | None:
    return [value] if isinstance(value, str) else value


def check(config: Any) -> None:
    """Check the content keys of a configuration together, before data are read.

    Raises:
        UserError: a source that is not known, or keys that do not fit together.
    """
    found = sources(config)
    for source in found:
        if source not in SOURCES:
            raise UserError(
                f"content_source: got {source!r}, expected some of {', '.join(SOURCES)}"
                f"{nearest(str(source), set(SOURCES))}"
            )
    if not found or len(set(found)) < len(found):
        raise UserError(
            f"content_source: got {found!r}, expected one or more of {', '.join(SOURCES)}, each once"
        )
    for key in ("content_fields", "content_token_fields"):
        fields = _listed(config[key])
        if fields is not None and (not fields or not all(isinstance(f, str) for f in fields)):
            raise UserError(f"{key}: got {config[key]!r}, expected columns such as [title, brand], or null")
        if fields is not None and len(set(fields)) < len(fields):
            raise UserError(f"{key}: got {fields!r}, expected each column once")
    for key, source in (("content_file", "file"), ("content_encoder", "encoder")):
        if source in found and not config[key]:
            raise UserError(f"{key}: not given; content_source={source} needs it")
        if config[key] and source not in found:
            raise UserError(
                f"{key}: got {config[key]!r}, but content_source={found} lacks '{source}'; add it"
            )
    if config["content_trainable"] and found != ["encoder"]:
        raise UserError(
            f"content_trainable: got True with content_source={found}, expected content_source=[encoder]: "
            "only an encoder can be trained along"
        )


def item_content(config: Any, dataset: Any) -> Content:
    """Make the content of the items of a data set, or read it from the cache.

    Args:
        config: ``content_*`` keys, ``checkpoint_dir`` (home of the cache).
        dataset: a part; gives the item ids, the place of its files and a logger.

    Raises:
        UserError: files or columns that are missing or faulty, or no content at all.
    """
    tokens = [str(token) for token in dataset.field2id_token[dataset.iid_field]]
    parts = [_PARTS[source](config, dataset, tokens) for source in sources(config)]
    names = hashlib.sha256("\n".join(tokens).encode()).hexdigest()
    mark = digest("\n".join([f"{_VERSION} {names}", *(part.mark for part in parts)]))
    place = os.path.join(config["checkpoint_dir"], "content", f"{dataset.dataset_name}-{mark}.npz")
    if config["content_trainable"]:
        return Content(torch.zeros(len(tokens), 0), parts[0].texts, mark, place)
    matrix = _read_cache(place, len(tokens))
    if matrix is None:
        matrix = np.concatenate([part.vectors() for part in parts], axis=1)
        matrix[0] = 0
        if not matrix.any():
            raise UserError(
                f"content_source: {config['content_source']} gave no content: every text, bag or vector is "
                "empty; name other columns with content_fields"
            )
        with write_atomically(place) as file:
            np.savez(file, matrix=matrix)
    without = int((~matrix[1:].any(1)).sum())
    if without:
        dataset.logger.warning(f"content: {without} of {len(tokens) - 1} items have none; theirs is zero")
    return Content(torch.from_numpy(matrix), None, mark, place)


def _read_cache(place: str, n_items: int) -> np.ndarray | None:
    """The matrix at *place*; None where there is none, or a damaged one."""
    try:
        with np.load(place, allow_pickle=False) as stored:
            matrix = stored["matrix"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return matrix if matrix.shape[0] == n_items and matrix.dtype == np.float32 else None


# -- sources: each has a mark of its inputs, and makes vectors when the cache has none -------


class _Texts:
    """Words of columns."""

    def __init__(self, config: Any, dataset: Any, tokens: list[str]) -> None:
        table = _table(config, dataset, "content_fields", _listed(config["content_fields"]))
        _warn_of_missing(dataset, tokens, table)
        empty = [""] * len(table.kinds)
        rows = [table.cells.get(token, empty) for token in tokens[1:]]
        self.texts = ["", *(" ".join(filter(None, row)) for row in rows)]
        if not any(text.strip() for text in self.texts):
            raise UserError(
                f"content_fields: {table.path}: the columns {', '.join(table.kinds)} are empty for every "
                "item of the interactions; name columns with texts"
            )
        self.width: int = config["content_dim"]
        self.mark = digest("\0".join(["text", str(self.width), *self.texts]))

    def vectors(self) -> np.ndarray:
        return text_vectors(self.texts, self.width)


class _Tokens:
    """Bags of tokens of columns; the same word in two columns is two tokens."""

    def __init__(self, config: Any, dataset: Any, tokens: list[str]) -> None:
        key = "content_fields" if config["content_token_fields"] is None else "content_token_fields"
        table = _table(config, dataset, key, _listed(config[key]))
        for field, kind in table.kinds.items():
            if kind not in (FeatureType.TOKEN, FeatureType.TOKEN_SEQ):
                raise UserError(
                    f"{key}: column '{field}' of {table.path} is of type {kind.value}, expected token or "
                    "token_seq for content_source=tokens"
                )
        _warn_of_missing(dataset, tokens, table)
        blank = config["seq_separator"]
        self.rows: list[list[str]] = []
        for token in tokens:
            bag = []
            for (field, kind), cell in zip(table.kinds.items(), table.cells.get(token, []), strict=False):
                parts = cell.split(blank) if kind == FeatureType.TOKEN_SEQ else [cell]
                bag += [f"{field}={part}" for part in parts if part]
            self.rows.append(sorted(set(bag)))
        self.limit: int = config["content_max_tokens"]
        self.mark = digest("\0".join(["tokens", str(self.limit), *("\1".join(row) for row in self.rows)]))

    def vectors(self) -> np.ndarray:
        return token_vectors(self.rows, self.limit)


class _File:
    """A matrix of the user's."""

    def __init__(self, config: Any, dataset: Any, tokens: list[str]) -> None:
        path = config["content_file"]
        ids, vectors = read_vectors(path, config["field_separator"], config["encoding"])
        place = {token: row for row, token in enumerate(tokens)}
        unknown = [token for token in ids if place.get(token, 0) == 0]
        if unknown and config["content_file_unknown"] == "error":
            raise UserError(
                f"content_file: {path}: the item '{unknown[0]}' is in no interaction ({len(unknown)} such "
                f"ids of {len(ids)}); check that the ids are those of the .inter file, or say "
                "content_file_unknown=ignore"
            )
        known = [row for row, token in enumerate(ids) if place.get(token, 0)]
        if not known:
            raise UserError(
                f"content_file: {path}: none of its {len(ids)} ids is an item of the interactions (such as "
                f"'{tokens[1]}')"
            )
        self.matrix = np.zeros((len(tokens), vectors.shape[1]), dtype=np.float32)
        self.matrix[[place[ids[row]] for row in known]] = normalize(vectors[known])
        missing = np.ones(len(tokens), dtype=bool)
        missing[[0, *(place[ids[row]] for row in known)]] = False
        if missing.any():
            how = config["content_file_missing"]
            dataset.logger.warning(
                f"content_file: {missing.sum()} of {len(tokens) - 1} items are not in {path}; they get: {how}"
            )
            if how == "mean":
                self.matrix[missing] = normalize(self.matrix[~missing][1:].mean(0, keepdims=True))
        self.mark = digest("file", self.matrix)

    def vectors(self) -> np.ndarray:
        return self.matrix


class _Encoded(_Texts):
    """Texts read by a text encoder."""

    def __init__(self, config: Any, dataset: Any, tokens: list[str]) -> None:
        super().__init__(config, dataset, tokens)
        self.config = config
        self.mark = digest("\0".join(["encoder", text_encoder.mark(config), *self.texts]))

    def vectors(self) -> np.ndarray:
        vectors = normalize(text_encoder.encode(self.config, self.texts)).astype(np.float32)
        # An encoder gives an empty text a direction, too.
        vectors[[not text.strip() for text in self.texts]] = 0
        return vectors


_PARTS: dict[str, Any] = {"text": _Texts, "tokens": _Tokens, "file": _File, "encoder": _Encoded}


def _table(config: Any, dataset: Any, key: str, fields: list[str] | None) -> ItemTable:
    path = os.path.join(dataset.dataset_path, f"{dataset.dataset_name}.item")
    # Names that come with the package are those of one version of a data set, of several.
    own = key in config.external_config_dict
    separator, encoding = config["field_separator"], config["encoding"]
    other_id = dataset_table.entry(config["dataset"]).get("item_file_id")
    table = read_items(path, config["ITEM_ID_FIELD"], fields, separator, encoding, key, own, other_id)
    missing = [field for field in fields or [] if field not in table.kinds]
    if missing:
        dataset.logger.warning(
            f"content: {path} has no column {', '.join(missing)}; read are {', '.join(table.kinds)}"
        )
    return table


def _warn_of_missing(dataset: Any, tokens: list[str], table: ItemTable) -> None:
    missing = [token for token in tokens[1:] if token not in table.cells]
    if len(missing) == len(tokens) - 1:
        raise UserError(
            f"content_fields: {table.path}: none of its item ids is in the interactions, which have ids "
            f"such as '{tokens[1]}'"
        )
    if missing:
        dataset.logger.warning(
            f"content: {len(missing)} of {len(tokens) - 1} items, such as '{missing[0]}', have no line in "
            f"{table.path}"
        )
