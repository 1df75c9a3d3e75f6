"""The loader of held-out rows, which all models share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.utils import ModelType
from torch import Tensor

from recbole_disent.loaders.sharding import own_users
from recbole_disent.parallel import process_group

# Items of a tile that the limit on the memory of a chunk assumes.
_TILE = 1024
# Bytes that the limit assumes for a position of a padded history, and for an event that is not ranked.
_POSITION, _EVENT = 2048, 128


@dataclass
class EvalBatch:
    """A chunk of an evaluation: Q queries with E >= Q held-out items.

    Attributes:
        number: int64 (Q,), index of each query among all queries of the part.
        rows: int64 (Q,), one row of the part for each query.
        batch: batch of length Q that the model scores.
        owner: int64 (E,), index in the chunk of the query of each held-out item.
        positives: int64 (E,), the held-out items.
    """

    number: np.ndarray
    rows: np.ndarray
    batch: Interaction
    owner: Tensor
    positives: Tensor

    def split(self, size: int) -> Iterator[EvalBatch]:
        """Yield parts of at most *size* queries of a batch that has one held-out item for each query."""
        for begin in range(0, len(self.number), size):
            part = slice(begin, begin + size)
            number = self.number[part]
            owner = torch.arange(len(number))
            yield EvalBatch(number, self.rows[part], self.batch[part], owner, self.positives[part])


def filters_history(config: Any) -> bool:
    """Return whether a full ranking leaves out the items of the user's history."""
    wanted = config["filter_history"]
    return not config["repeatable"] if wanted is None else wanted


class EvalLoader:
    """Loader of the held-out rows of a part, in chunks that respect the memory limit.

    Each row is a query with one held-out item. For a general model that ranks all items, each user is a
    query with all of the user's held-out items, as in RecBole. The queries are sorted by the length of
    their histories, so that trimmed batches are short.

    RecBole's trainer uses ``dataset``, ``_dataset`` and ``len()`` of the loader, and
    ``recbole.utils.case_study`` uses ``is_sequential`` and ``uid2history_item``.

    Args:
        config: configuration; ``eval_batch_size`` and ``eval_memory_mb`` limit the size of a chunk. The limit
            on the memory counts scores, and for sequences also the positions and the events of histories.
        dataset: part of a data set.
        transform: RecBole's batch transform of the model.
        full: whether all items are ranked.

    Attributes:
        step: largest number of queries of a chunk; chunks of long histories have fewer.
        whole_rows: number of queries whose scores for all items may be in memory at a time. A chunk of a
            full ranking can be larger, because most models score a tile of the items at a time
            (``evaluation/full_ranking.py``).
    """

    def __init__(self, config: Any, dataset: Any, transform: Any, full: bool) -> None:
        self.config, self.dataset, self._dataset, self.transform = (
            config,
            dataset,
            dataset,
            transform,
        )
        self.full = full
        # Besides the scores, the memory holds copies of them for the treatment of ties, or two sorts.
        copies = 3 if dataset.one_target_per_query or not full else 7
        bytes_each = copies * (8 if config["precision"] == "double" else 4)
        limit = config["eval_memory_mb"] * 2**20 // (bytes_each * dataset.item_num)
        self.whole_rows = int(max(1, min(config["eval_batch_size"], limit)))
        self.step = self.whole_rows
        if full and dataset.one_target_per_query:
            narrow = config["eval_memory_mb"] * 2**20 // (bytes_each * min(dataset.item_num, _TILE))
            self.step = int(max(1, min(config["eval_batch_size"], narrow)))
        feat = dataset.inter_feat
        if dataset.one_target_per_query:
            keys = feat[dataset.item_list_length_field].numpy()
        else:
            keys = feat[dataset.uid_field].numpy()
        self._order = np.argsort(keys, kind="stable")
        new = np.ones(len(keys), dtype=bool)
        if full and not dataset.one_target_per_query:
            # An item that a user meets twice in the part is one held-out item, as in RecBole.
            pairs = keys.astype(np.int64) * dataset.item_num + feat[dataset.iid_field].numpy()
            self._order = self._order[np.isin(self._order, np.unique(pairs, return_index=True)[1])]
            new = np.append(True, np.diff(keys[self._order]) != 0)[: len(self._order)]
        self._bounds = np.append(np.flatnonzero(new), len(self._order))
        self._chunks = self._cut(self._order)

    def _cut(self, order: np.ndarray) -> list[int]:
        """Return the first query of each chunk, and the end of the last chunk.

        Args:
            order: int64, the held-out rows of the queries, sorted by length.
        """
        dataset, n = self.dataset, len(order)
        if not dataset.one_target_per_query:
            return [*range(0, self.n_queries, self.step), self.n_queries]
        memory = self.config["eval_memory_mb"] * 2**20
        widths = dataset.inter_feat[dataset.item_list_length_field].numpy()[order]
        if not dataset.trim:
            widths = np.full_like(widths, dataset.max_item_list_len)
        events = np.concatenate([[0], np.cumsum(dataset.history_sizes(order))])
        bounds = [0]
        while (begin := bounds[-1]) < n:
            part = widths[begin : begin + self.step]  # ascending
            positions = np.arange(1, len(part) + 1) * part
            fitting = np.searchsorted(positions, memory // _POSITION, side="right")
            unranked = np.searchsorted(events, events[begin] + memory // _EVENT, side="right") - 1 - begin
            bounds.append(begin + max(1, int(min(fitting, unranked))))
        return bounds

    @property
    def is_sequential(self) -> bool:
        """Whether the model scores a row of the part (a sequence) and not only the user of the row."""
        return self.config["MODEL_TYPE"] == ModelType.SEQUENTIAL

    @cached_property
    def uid2history_item(self) -> np.ndarray:
        """Items that each user's ranking leaves out: object array (n_users,) of int64 tensors."""
        dataset = self.dataset
        found = np.empty(dataset.user_num, dtype=object)
        found[:] = [torch.zeros(0, dtype=torch.int64)] * dataset.user_num
        if not filters_history(self.config):
            return found
        users = dataset.inter_feat[dataset.uid_field].numpy()
        order = np.argsort(users, kind="stable")
        held = dataset.inter_feat[dataset.iid_field].numpy()[order]
        users, first, counts = np.unique(users[order], return_index=True, return_counts=True)
        owner, items = (values.numpy() for values in dataset.earlier(order[first]))
        bounds = np.searchsorted(owner, np.arange(len(users) + 1))
        for number, user in enumerate(users):
            history = items[bounds[number] : bounds[number + 1]]
            targets = held[first[number] : first[number] + counts[number]]
            found[user] = torch.from_numpy(np.setdiff1d(history, targets))
        return found

    @property
    def n_queries(self) -> int:
        """Number of queries."""
        return len(self._bounds) - 1

    @property
    def several_targets(self) -> bool:
        """Whether a query of the part has several held-out items."""
        return len(self._order) > self.n_queries

    def __len__(self) -> int:
        return len(self._chunks) - 1

    def __bool__(self) -> bool:
        return self.n_queries > 0

    def __iter__(self) -> Iterator[EvalBatch]:
        return (queries for _, queries in self.chunks(0, 1))

    def chunks(self, first: int, every: int) -> Iterator[tuple[int, EvalBatch]]:
        """Yield the chunks *first*, *first* + *every*, ... of the evaluation, each with its number."""
        # A transform (BERT4Rec) draws random numbers, and all processes must draw the same ones.
        drawn = self.config["transform"] is not None
        for chunk, (begin, end) in enumerate(pairwise(self._chunks)):
            if chunk % every == first or drawn:
                batch = self._chunk(self._order, self._bounds[begin : end + 1], begin)
                if chunk % every == first:
                    yield chunk, batch

    def local_chunks(self) -> Iterator[tuple[int, EvalBatch]]:
        """Yield the chunks of this process, each with a number; the processes together have all queries.

        With the key ``divide_users``, these are the queries of this process's users.
        """
        if not self.config["divide_users"]:
            yield from self.chunks(process_group.rank(), process_group.world())
            return
        users = self.dataset.inter_feat[self.dataset.uid_field]
        order = self._order[own_users(self.dataset.store, users).numpy()[self._order]]
        for chunk, (begin, end) in enumerate(pairwise(self._cut(order))):
            yield chunk, self._chunk(order, np.arange(begin, end + 1), begin)

    def _chunk(self, order: np.ndarray, bounds: np.ndarray, begin: int) -> EvalBatch:
        """Return a chunk.

        Args:
            order: int64, held-out rows of the queries.
            bounds: int64 (Q + 1,), index in *order* of the first row of each query, and the end of the last.
            begin: number of the first query.
        """
        held = order[bounds[0] : bounds[-1]]
        owner = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
        rows = order[bounds[:-1]]
        # The number of a query breaks ties, so that it must not depend on the chunks.
        number = rows if self.dataset.one_target_per_query else np.arange(begin, begin + len(rows))
        batch = self.transform(self.dataset, self.dataset[rows])
        items = self.dataset.inter_feat[torch.from_numpy(held)][self.dataset.iid_field]
        return EvalBatch(number, rows, batch, torch.from_numpy(owner), items)
