"""Sources of content. Each has a ``mark``, which identifies its inputs, and a method that makes vectors."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from recbole.utils.enum_type import FeatureType
from sklearn.preprocessing import normalize

from recbole_disent.config import dataset_table
from recbole_disent.content import encoder as text_encoder
from recbole_disent.content.checks import listed
from recbole_disent.content.text import text_vectors, token_vectors
from recbole_disent.content.vectors_file import read_vectors
from recbole_disent.data.item_file import ItemTable, read_items
from recbole_disent.errors import UserError
from recbole_disent.hashing import digest

_TOKEN_TYPES = (FeatureType.TOKEN, FeatureType.TOKEN_SEQ)


class _Texts:
    """The words of text columns."""

    def __init__(self, config: Any, dataset: Any, tokens: list[str]) -> None:
        table = _table(config, dataset, "content_fields", listed(config["content_fields"]))
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
    """Bags of the tokens of columns; the same word in two columns counts as two tokens.

    If the user names no columns, other columns than those of type token and token_seq are left out.
    """

    def __init__(self, config: Any, dataset: Any, tokens: list[str]) -> None:
        key = "content_fields" if config["content_token_fields"] is None else "content_token_fields"
        named = listed(config[key])
        if named is None:
            key = "content_token_fields"  # the key that messages name
        table = _table(config, dataset, key, named)
        others = {field: kind for field, kind in table.kinds.items() if kind not in _TOKEN_TYPES}
        if others and (named or len(others) == len(table.kinds)):
            field, kind = next(iter(others.items()))
            raise UserError(
                f"{key}: column '{field}' of {table.path} is of type {kind.value}, expected token or "
                "token_seq for content_source=tokens; name columns of these types by content_token_fields, "
                "or change the type in the header"
            )
        _warn_of_missing(dataset, tokens, table)
        blank = config["seq_separator"]
        self.rows: list[list[str]] = []
        for token in tokens:
            bag = []
            for (field, kind), cell in zip(table.kinds.items(), table.cells.get(token, []), strict=False):
                if field in others:
                    continue
                parts = cell.split(blank) if kind == FeatureType.TOKEN_SEQ else [cell]
                bag += [f"{field}={part}" for part in parts if part]
            self.rows.append(sorted(set(bag)))
        if not any(self.rows):
            used = ", ".join(field for field in table.kinds if field not in others)
            dataset.logger.warning(
                f"{key}: {table.path}: the columns {used} are empty for every item of the interactions, so "
                "the source 'tokens' adds nothing"
            )
        self.limit: int = config["content_max_tokens"]
        self.mark = digest("\0".join(["tokens", str(self.limit), *("\1".join(row) for row in self.rows)]))

    def vectors(self) -> np.ndarray:
        return token_vectors(self.rows, self.limit)


class _File:
    """Vectors from a file of the user."""

    def __init__(self, config: Any, dataset: Any, tokens: list[str]) -> None:
        path = config["content_file"]
        ids, vectors = read_vectors(path, config["field_separator"], config["encoding"])
        item_of = {token: item for item, token in enumerate(tokens)}
        unknown = [token for token in ids if item_of.get(token, 0) == 0]
        if unknown and config["content_file_unknown"] == "error":
            raise UserError(
                f"content_file: {path}: the item '{unknown[0]}' is in no interaction ({len(unknown)} such "
                f"ids of {len(ids)}); use the item ids of the .inter file, or set "
                "content_file_unknown=ignore"
            )
        known = [row for row, token in enumerate(ids) if item_of.get(token, 0)]
        if not known:
            raise UserError(
                f"content_file: {path}: none of the {len(ids)} ids is an item of the interactions, expected "
                f"ids such as '{tokens[1]}'"
            )
        self.matrix = np.zeros((len(tokens), vectors.shape[1]), dtype=np.float32)
        self.matrix[[item_of[ids[row]] for row in known]] = normalize(vectors[known])
        missing = np.ones(len(tokens), dtype=bool)
        missing[[0, *(item_of[ids[row]] for row in known)]] = False
        if missing.any():
            how = config["content_file_missing"]
            dataset.logger.warning(
                f"content_file: {missing.sum()} of {len(tokens) - 1} items are not in {path}; "
                f"content_file_missing={how} decides their vectors"
            )
            if how == "mean":
                self.matrix[missing] = normalize(self.matrix[~missing][1:].mean(0, keepdims=True))
        self.mark = digest("file", self.matrix)

    def vectors(self) -> np.ndarray:
        return self.matrix


class _Encoded(_Texts):
    """Text columns that a text encoder turns into vectors."""

    def __init__(self, config: Any, dataset: Any, tokens: list[str]) -> None:
        super().__init__(config, dataset, tokens)
        self.config = config
        self.mark = digest("\0".join(["encoder", text_encoder.mark(config), *self.texts]))

    def vectors(self) -> np.ndarray:
        vectors = normalize(text_encoder.encode(self.config, self.texts)).astype(np.float32)
        # An encoder returns a nonzero vector for an empty text.
        vectors[[not text.strip() for text in self.texts]] = 0
        return vectors


PARTS: dict[str, Any] = {"text": _Texts, "tokens": _Tokens, "file": _File, "encoder": _Encoded}


def _table(config: Any, dataset: Any, key: str, fields: list[str] | None) -> ItemTable:
    path = os.path.join(dataset.dataset_path, f"{dataset.dataset_name}.item")
    # The data-set configurations of the package name columns of one version of a data set. Another version
    # may lack some of them, so only columns that the user named are all required.
    all_of_them = key in config.external_config_dict
    separator, encoding = config["field_separator"], config["encoding"]
    other_id = dataset_table.entry(config["dataset"]).get("item_file_id")
    table = read_items(path, config["ITEM_ID_FIELD"], fields, separator, encoding, key, all_of_them, other_id)
    missing = [field for field in fields or [] if field not in table.kinds]
    if missing:
        dataset.logger.warning(
            f"content: {path} has no column {', '.join(missing)}; the columns used are "
            f"{', '.join(table.kinds)}"
        )
    return table


def _warn_of_missing(dataset: Any, tokens: list[str], table: ItemTable) -> None:
    missing = [token for token in tokens[1:] if token not in table.cells]
    if len(missing) == len(tokens) - 1:
        raise UserError(
            f"content_fields: {table.path}: none of the item ids is in the interactions, expected ids such "
            f"as '{tokens[1]}'"
        )
    if missing:
        dataset.logger.warning(
            f"content: {len(missing)} of {len(tokens) - 1} items, such as '{missing[0]}', have no line in "
            f"{table.path}"
        )
