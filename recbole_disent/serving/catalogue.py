"""What is known about items and users beside the model: ids, popularity, texts, histories."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recbole_disent.data.store import SequenceStore
from recbole_disent.errors import UserError

ITEM = "item"


@dataclass
class Catalogue:
    """External ids and what belongs to them.

    Attributes:
        items: object (n_items,), external item ids as text; row 0 is the padding item.
        counts: int64 (n_items,), training clicks of each item.
        users: object (n_users,), external user ids as text, row 0 is the padding user; None where the
            bundle knows no users.
        histories: all events of the users, the held-out ones included; None where there are none.
        texts: text of each item, (n_items,), or None.
    """

    items: np.ndarray
    counts: np.ndarray
    users: np.ndarray | None = None
    histories: SequenceStore | None = None
    texts: list[str] | None = None

    @cached_property
    def _number_of_item(self) -> dict[str, int]:
        return _numbers_of(self.items, "item")

    @cached_property
    def _number_of_user(self) -> dict[str, int]:
        return {} if self.users is None else _numbers_of(self.users, "user")

    def item_numbers(self, ids: Iterable[Any]) -> np.ndarray:
        """Internal ids of items: int64 (n,), 0 for an unknown id.

        Raises:
            UserError: an id is there twice in :attr:`items`.
        """
        return _look_up(self._number_of_item, ids)

    def user_numbers(self, ids: Iterable[Any]) -> np.ndarray:
        """Internal ids of users: int64 (n,), 0 for an unknown id.

        Raises:
            UserError: an id is there twice in :attr:`users`.
        """
        return _look_up(self._number_of_user, ids)

    def encode(self, sequences: list[Any]) -> tuple[SequenceStore, np.ndarray]:
        """Turn lists of item ids into a store in which sequence number s is "user" s.

        Args:
            sequences: one list of item ids for each sequence, oldest first.

        Returns:
            the store, and how many ids of each sequence are unknown and left out, int64 (B,).
        """
        lengths = np.array([len(s) for s in sequences], dtype=np.int64)
        owner = np.repeat(np.arange(len(sequences)), lengths)
        numbers = self.item_numbers([item for sequence in sequences for item in sequence])
        known = numbers > 0
        unknown = np.bincount(owner[~known], minlength=len(sequences))
        return store_of(owner[known], numbers[known], len(sequences)), unknown

    def require_users(self) -> np.ndarray:
        """Return the external user ids.

        Raises:
            UserError: the bundle was exported without users.
        """
        if self.users is None:
            raise UserError(
                "users: this bundle knows no users, because it was exported without their histories; give "
                "sequences of items, or export again without --no-histories"
            )
        return self.users


# Dictionaries: an index of pandas 3 copies its texts for each search, which takes longer than to make a list.
def _numbers_of(ids: np.ndarray, word: str) -> dict[str, int]:
    # Row 0 is the padding: its name is nobody's id, unless the data have an id of that name.
    found = dict(zip(ids[1:].tolist(), range(1, len(ids)), strict=True))
    if twice := len(ids) - 1 - len(found):
        raise UserError(f"bundle: {twice} {word} ids are there twice; export it again")
    return found


def _look_up(numbers: dict[str, int], ids: Iterable[Any]) -> np.ndarray:
    return np.array([numbers.get(str(i), 0) for i in ids], dtype=np.int64)


def store_of(users: np.ndarray, items: np.ndarray, n_users: int) -> SequenceStore:
    """Make a store of items only: int (n,) users in ascending order and their items."""
    fields: dict[str, Tensor] = {ITEM: torch.from_numpy(np.require(items, np.int64, ("C", "W")))}
    return SequenceStore(np.asarray(users, dtype=np.int64), fields, ITEM, n_users)


def histories_of(parts: list[Any]) -> SequenceStore:
    """All events of a split data set: user by user in time order, the held-out events included.

    Args:
        parts: training, validation and test part. Where rows carry a cut history each, as in RecBole's
            augmented files, the history of a user is the last row and its target.
    """
    dataset = parts[0]
    lists = getattr(dataset, "item_id_list_field", None)
    if lists in dataset.inter_feat and not hasattr(dataset, "store"):
        return _last_rows(parts)
    users, items = dataset.history
    order = np.argsort(users, kind="stable")
    return store_of(users[order], items[order], dataset.user_num)


def _last_rows(parts: list[Any]) -> SequenceStore:
    dataset = parts[0]
    feats = [part.inter_feat for part in parts]
    users = np.concatenate([feat[dataset.uid_field].numpy() for feat in feats])
    lengths = np.concatenate([feat[dataset.item_list_length_field].numpy() for feat in feats])
    number = np.repeat(np.arange(len(parts)), [len(feat) for feat in feats])
    order = np.lexsort((lengths, number, users))  # stable: of equal lengths the later row
    last = order[np.append(np.diff(users[order]) != 0, True)]
    rows = torch.cat([feat[dataset.item_id_list_field] for feat in feats])[last]
    rows = torch.nn.functional.pad(rows, (0, 1))
    length = torch.from_numpy(lengths[last])
    rows[torch.arange(len(rows)), length] = torch.cat([feat[dataset.iid_field] for feat in feats])[last]
    real = torch.arange(rows.shape[1]) <= length[:, None]
    owner = np.repeat(users[last], lengths[last] + 1)
    return store_of(owner, rows[real].numpy(), dataset.user_num)
