"""From a trained model to recommendations: :func:`load` a bundle or a checkpoint, then ask for lists."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from recbole_disent.errors import UserError
from recbole_disent.registry import load_model_file
from recbole_disent.serving import tables
from recbole_disent.serving.arguments import (
    check_device,
    check_diversity,
    check_k,
    refuse_unknown,
    warn_of_unknown,
)
from recbole_disent.serving.catalogue import store_of
from recbole_disent.serving.encode import Encoder
from recbole_disent.serving.filters import read_filters
from recbole_disent.serving.index import Index
from recbole_disent.serving.likeness import Likeness
from recbole_disent.serving.lists import Filters, ListMaker, Lists, Queries
from recbole_disent.serving.source import Source, from_checkpoint

UNKNOWN_USERS = ("error", "popularity")


def load(
    path: str | os.PathLike[str],
    device: str = "cpu",
    config_dict: dict[str, Any] | None = None,
    memory_mb: int = 128,
) -> Recommender:
    """Load what recommends: a bundle, which stands alone, or a checkpoint, which needs its data set.

    Args:
        path: folder of a bundle, or ``.pth`` file of a run.
        device: where the model of a bundle computes, such as ``cuda``; for a checkpoint its keys say so.
        config_dict: keys of a checkpoint that differ here, such as ``data_path``; bundle: ``model_file``.
        memory_mb: bound of the scores that are in memory at once, MiB.

    Raises:
        UserError: neither of both, a damaged file, or other data than the checkpoint was trained on.

    Example:
        >>> rec = load("bundle")  # doctest: +SKIP
        >>> rec.recommend_sequences([["i1", "i2"]], k=10)  # doctest: +SKIP
    """
    check_device(device, os.path.isdir(path))
    if os.path.isdir(path):
        from recbole_disent.serving.bundle import read

        keys = dict(config_dict or {})
        if file := keys.pop("model_file", None):
            load_model_file(str(file))
        if keys:
            raise UserError(
                f"config_dict: got '{next(iter(keys))}', but a bundle needs no data set and takes model_file "
                "only; leave the key out, or load a checkpoint"
            )
        return Recommender(read(path, device), memory_mb)
    if not os.path.exists(path):
        raise UserError(f"'{path}' is not there; give the folder of a bundle or the .pth file of a run")
    return Recommender(from_checkpoint(path, config_dict), memory_mb)


class Recommender:
    """Lists, likenesses and vectors of one trained model, by the ids of its data set.

    Args:
        source: the model and what it is about.
        memory_mb: bound of the scores that are in memory at once, MiB.

    Attributes:
        items: object (n,), ids of all items, in the order of :meth:`item_vectors`.
        about: facts such as ``model``, ``dataset`` and ``data_hash``.
    """

    def __init__(self, source: Source, memory_mb: int = 128) -> None:
        self.source, self.catalogue, self.about = source, source.catalogue, source.about
        self.encoder = Encoder(source.model, source.config, source.dataset)
        self._maker = ListMaker(self.encoder, self.catalogue, memory_mb)

    def save(
        self, folder: str | os.PathLike[str], histories: bool = True, overwrite: bool = False, **extras: Any
    ) -> Path:
        """Write a bundle: a folder that stands alone and that :func:`load` takes.

        Args:
            folder: to be made.
            histories: whether it holds the histories of users; what it holds without them is told by
                :func:`recbole_disent.serving.bundle.write`.
            overwrite: whether a bundle of that name is replaced.
            extras: ``onnx=True``, ``program=True`` (the query encoder for other programs) and ``index``
                (``faiss`` or ``hnsw``), for further files.

        Raises:
            UserError: see :func:`recbole_disent.serving.bundle.write`.
        """
        from recbole_disent.serving.bundle import Extras, write

        return write(self.source, folder, histories, overwrite, Extras(**extras))

    @property
    def items(self) -> np.ndarray:
        """Ids of all items: object (n,)."""
        return self.catalogue.items[1:]

    @property
    def users(self) -> np.ndarray:
        """Ids of all users: object (m,).

        Raises:
            UserError: the bundle knows no users.
        """
        return self.catalogue.require_users()[1:]

    # -- lists -------------------------------------------------------------------------

    def recommend(
        self,
        users: Any = "all",
        k: int = 10,
        *,
        filter_history: bool = True,
        items_allowed: Any = None,
        items_excluded: Any = None,
        unknown_users: str = "error",
        diversity: float = 0.0,
        diversify: str | None = None,
        index: bool = False,
    ) -> Any:
        """Recommend to known users. A history ends with the user's last event, held-out items included.

        Args:
            users: ids, a table with a column ``user``, or ``"all"``.
            k: length of the lists, at least 1; a list is shorter where no more items are allowed.
            filter_history: whether items that the user has met are left out.
            items_allowed: ids of the only items that may be recommended; a table with the columns ``user``
                and ``item``, or a dictionary user -> ids, says it for each user by itself, and users that
                are not in it may have all items.
            items_excluded: items that are never recommended, in the same forms.
            unknown_users: ``error``, or ``popularity``: users that the model does not know get the
                most popular items.
            diversity: in [0, 1], 0 for the best items by score alone.
            diversify: with *diversity*, ``intentions`` (the default): places go to the intentions that the
                history holds (up to 0.5), then equally to all (1); ``mmr``: by item vectors.
            index: whether candidates come from the approximate index of the bundle. Their scores are exact.
                Where *items_allowed* is given, all scores are computed.

        Returns:
            A table with the columns ``user``, ``item``, ``score``, ``rank`` (from 1), ``intention`` (the
            query vector that chose the item, from 0; missing for a model with one) and ``source``
            (``model``, or ``popularity`` for a user without a history, whose scores are counts of clicks).
            It is of the kind of *users* (pandas, Arrow or Polars). Ties go to the item that comes
            first in :attr:`items`.

        Raises:
            UserError: an unknown user, or an argument that cannot be used.
        """
        ids = self._user_ids(users)
        hint = "leave them out, or say unknown_users='popularity' (--unknown-users popularity)"
        queries = self.queries_of_users(ids, unknown_users, hint)
        filters = read_filters(self.catalogue, ids, "user", filter_history, items_allowed, items_excluded)
        self.require_histories(filter_history)
        return self._table(
            "user", ids, queries, k, filters, diversity, diversify, index, tables.kind_of(users)
        )

    def recommend_sequences(
        self,
        sequences: Any,
        k: int = 10,
        *,
        filter_history: bool = True,
        items_allowed: Any = None,
        items_excluded: Any = None,
        diversity: float = 0.0,
        diversify: str | None = None,
        index: bool = False,
    ) -> Any:
        """Recommend to anybody by the items of a sequence, oldest first.

        Ids of items that the model does not know are left out and counted in a warning; a sequence
        without a known item gets the most popular items.

        Args:
            sequences: a list of lists of item ids, a dictionary id -> list, or a table with the columns
                ``sequence`` and ``item``.
            k, filter_history, items_allowed, items_excluded, diversity, diversify, index: see
                :meth:`recommend`; tables name a ``sequence`` in place of a ``user``.

        Returns:
            The table of :meth:`recommend` with a column ``sequence`` in place of ``user``.

        Raises:
            UserError: a model that knows users only, or an argument that cannot be used.
        """
        ids, rows = tables.sequences(sequences)
        queries, unknown = self.queries_of_sequences(rows)
        warn_of_unknown(unknown)
        filters = read_filters(self.catalogue, ids, "sequence", filter_history, items_allowed, items_excluded)
        kind = tables.kind_of(sequences)
        return self._table("sequence", ids, queries, k, filters, diversity, diversify, index, kind)

    def similar_items(self, items: Any, k: int = 10) -> Any:
        """Find the items whose vectors have the greatest cosine with those of given items.

        Args:
            items: ids, or a table with a column ``item``.
            k: how many for each, at least 1.

        Returns:
            A table with the columns ``item``, ``similar``, ``score`` (the cosine) and ``rank``.

        Raises:
            UserError: an unknown item, or a model without item vectors.
        """
        check_k(k)
        ids = tables.column(items, "item", "items")
        numbers = self.catalogue.item_numbers(ids)
        refuse_unknown(ids, numbers, "items", "item", "", self.catalogue.item_numbers)
        similar, cosines = self._likeness.nearest(numbers, k)
        k = similar.shape[1]
        frame = pd.DataFrame(
            {
                "item": np.repeat(np.array(ids, dtype=object), k),
                "similar": self.catalogue.items[similar.ravel()],
                "score": cosines.ravel(),
                "rank": np.tile(np.arange(1, k + 1), len(ids)),
            }
        )
        return tables.like(frame, tables.kind_of(items))

    @cached_property
    def _likeness(self) -> Likeness:
        return Likeness(self._item_table())

    # -- vectors -----------------------------------------------------------------------

    def item_vectors(self) -> np.ndarray:
        """Vectors by which items are scored, in the order of :attr:`items`: float (n, D).

        Raises:
            UserError: the scores of the model are no inner products.
        """
        return self._item_table()[1:].cpu().numpy()

    def user_vectors(self, users: Any = None, sequences: Any = None) -> np.ndarray:
        """Query vectors: the score of an item is the greatest inner product with one of K.

        Args:
            users: as for :meth:`recommend`; each needs a history.
            sequences: as for :meth:`recommend_sequences`, in place of *users*; each needs a known item.

        Returns:
            float (B, K, D).

        Raises:
            UserError: unknown or empty users or sequences, or a model whose scores are no inner products.
        """
        if (users is None) == (sequences is None):
            raise UserError("user_vectors: got both or none of users and sequences, expected one of them")
        if users is not None:
            ids = self._user_ids(users)
            queries = self.queries_of_users(ids)
        else:
            ids, rows = tables.sequences(sequences)
            queries, unknown = self.queries_of_sequences(rows)
            warn_of_unknown(unknown)
        if bool(queries.popular.any()):
            first = ids[int(queries.popular.byte().argmax())]
            raise UserError(f"user_vectors: '{first}' has no event with a known item; leave it out")
        self._item_table()
        found = [self.vectors_of(queries.part(part)) for part in torch.arange(len(queries)).split(256)]
        return torch.cat(found).cpu().numpy() if found else np.zeros((0, 0, 0), np.float32)

    def vectors_of(self, queries: Queries) -> Tensor:
        """Query vectors of queries with a history: float (B, K, D)."""
        return self.encoder.queries(self.encoder.batch(queries.store, queries.rows, queries.users))

    def _item_table(self) -> Tensor:
        if self.encoder.table is None:
            raise UserError(
                f"{self.encoder.name} has no item vectors, for its scores are no inner products; use "
                "recommend, which works with every model"
            )
        return self.encoder.table

    # -- queries -----------------------------------------------------------------------

    def require_histories(self, wanted: bool) -> None:
        """Check that histories of users are here where they are wanted.

        Raises:
            UserError: they are not.
        """
        if wanted and self.catalogue.histories is None:
            raise UserError(
                "filter_history: this bundle holds no histories; say filter_history=False (--keep-history), "
                "or export again without --no-histories"
            )

    def _user_ids(self, users: Any) -> Any:
        everybody = isinstance(users, str) and users == "all"
        return self.users if everybody else tables.owner_ids(users, "user", "users")

    def queries_of_users(
        self, ids: Iterable[Any], unknown_users: str = "error", hint: str = "leave them out"
    ) -> Queries:
        """Make the queries of users; those without an event get popular items. *hint* ends an error."""
        if unknown_users not in UNKNOWN_USERS:
            raise UserError(f"unknown_users: got {unknown_users!r}, expected {' or '.join(UNKNOWN_USERS)}")
        self.catalogue.require_users()
        numbers = self.catalogue.user_numbers(ids)
        if unknown_users == "error":
            refuse_unknown(list(ids), numbers, "users", "user", f"; {hint}", self.catalogue.user_numbers)
        users = torch.from_numpy(numbers)
        store = self.catalogue.histories
        if store is None:
            if self.encoder.sequential:
                raise UserError(
                    "users: this bundle holds no histories; recommend for sequences of items, or export "
                    "again without --no-histories"
                )
            store = store_of(np.zeros(0, np.int64), np.zeros(0, np.int64), len(self.users) + 1)
            return Queries(store, users, users, users == 0)
        return Queries(store, users, users, store.offsets[users + 1] == store.offsets[users])

    def queries_of_sequences(self, sequences: list[list[Any]]) -> tuple[Queries, np.ndarray]:
        """Make the queries of sequences, and count the unknown items of each, int64 (B,)."""
        if not self.encoder.sequential:
            raise UserError(
                f"{self.encoder.name} knows a user by an embedding and reads no sequences; give users "
                "(--users), or train a sequential model"
            )
        store, unknown = self.catalogue.encode(sequences)
        rows = torch.arange(len(sequences))
        return Queries(store, rows, None, store.offsets[1:] == store.offsets[:-1]), unknown

    def load_index(self) -> Index:
        """Return the approximate index of a bundle, see :meth:`Source.index`; its file is read once."""
        return self.source.index(*self._item_table().shape)

    def lists(
        self,
        queries: Queries,
        k: int,
        filters: Filters,
        diversity: float = 0.0,
        diversify: str | None = None,
        index: bool = False,
    ) -> Lists:
        """Make lists of internal ids; :meth:`recommend` is this with tables."""
        check_k(k)
        check_diversity(diversity, diversify, index)
        found = self.load_index() if index else None
        return self._maker.make(queries, k, filters, float(diversity), diversify or "intentions", found)

    def _table(
        self,
        name: str,
        ids: Any,
        queries: Queries,
        k: int,
        filters: Filters,
        diversity: float,
        diversify: str | None,
        index: bool,
        kind: str,
    ) -> Any:
        lists = self.lists(queries, k, filters, diversity, diversify, index)
        row, place = np.nonzero(lists.items)
        intentions = lists.intentions[row, place]
        popular = queries.popular.numpy()[row]
        frame = pd.DataFrame(
            {
                name: tables.as_given(ids)[row],
                "item": self.catalogue.items[lists.items[row, place]],
                "score": lists.scores[row, place],
                "rank": place + 1,
                "intention": pd.array(intentions, dtype="Int64"),
                "source": np.where(popular, "popularity", "model").astype(object),
            }
        )
        frame.loc[intentions < 0, "intention"] = pd.NA
        return tables.like(frame, kind)
