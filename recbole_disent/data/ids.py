"""Internal ids of tokens, as RecBole numbers them, without a Python object for each row."""

from __future__ import annotations

import numpy as np
import pandas as pd


class TokenIds(dict[str, dict[str, int]]):
    """RecBole's ``field2token_id``: field -> token -> id; a field gets its dict on the first access.

    Args:
        tokens: RecBole's ``field2id_token``: field -> array of the tokens, in the order of their ids.
    """

    def __init__(self, tokens: dict[str, np.ndarray]) -> None:
        super().__init__()
        self.tokens = tokens

    def __missing__(self, field: str) -> dict[str, int]:
        # Fields that share their ids share the dict, as in RecBole.
        shared = (ids for other, ids in self.items() if self.tokens.get(other) is self.tokens[field])
        ids = next(shared, None)
        if ids is None:
            ids = {token: number for number, token in enumerate(self.tokens[field])}
        self[field] = ids
        return ids


def codes_and_tokens(column: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Number the tokens of a column by their first rows.

    Args:
        column: (n,) tokens, as objects or as categories.

    Returns:
        The number of each row's token, int (n,), which is -1 for a missing token; and the distinct tokens,
        object (k,).
    """
    codes, tokens = pd.factorize(column)
    return codes, np.asarray(tokens, dtype=object)


def shared_ids(columns: list[pd.Series]) -> tuple[list[np.ndarray], np.ndarray]:
    """Number the tokens of several columns together, by their first rows in the columns one after another.

    Args:
        columns: columns of tokens, as objects or as categories.

    Returns:
        The id of each row's token for each column, int64 (n,), which is 0 for a missing token; and the
        tokens in the order of their ids, str (k + 1,), with ``[PAD]`` first.

    Example:
        >>> ids, tokens = shared_ids([pd.Series(["b", "a", "b"]), pd.Series(["c", "a"])])
        >>> [i.tolist() for i in ids], tokens.tolist()
        ([[1, 2, 1], [3, 2]], ['[PAD]', 'b', 'a', 'c'])
    """
    parts = [codes_and_tokens(column) for column in columns]
    numbers, distinct = pd.factorize(np.concatenate([tokens for _, tokens in parts]))
    ids, begin = [], 0
    for codes, tokens in parts:
        # The last entry is the id of a missing token, whose code is -1.
        of_token = np.append(numbers[begin : begin + len(tokens)] + 1, 0)
        ids.append(of_token[codes])
        begin += len(tokens)
    return ids, np.array(["[PAD]", *distinct])


class Counted:
    """The ids of one side of the interactions (users or items), which a filter counts.

    Args:
        column: (n,) tokens of the interactions.
        features: RecBole's features of the side, with one row for each id, or None.
        field: name of the column of the ids in *features*.

    Attributes:
        codes: int (n,), number of the id of each interaction.
        n_ids: number of ids of the interactions and the features.
        rows: int64, number of the id of each row of the features.
    """

    def __init__(self, column: pd.Series, features: pd.DataFrame | None, field: str) -> None:
        self.codes, tokens = codes_and_tokens(column)
        self.features = features
        self.rows, self.n_ids = np.zeros(0, dtype=np.int64), len(tokens)
        if features is not None:
            both = np.concatenate([tokens, features[field].to_numpy(dtype=object)])
            numbers, distinct = pd.factorize(both)
            self.rows, self.n_ids = numbers[len(tokens) :], len(distinct)

    def without(self, ids: np.ndarray) -> pd.DataFrame | None:
        """Drop the rows of the features with the ids of a mask, bool (ids,), and return the features."""
        if self.features is not None:
            kept = ~ids[self.rows]
            self.features, self.rows = self.features[kept], self.rows[kept]
        return self.features
