"""The loader of held-out rows, the same for every model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.utils import ModelType
from torch import Tensor


@dataclass
class EvalBatch:
    """A chunk of rankings to make: Q queries, E >= Q held-out items.

    Attributes:
        number: int64 (Q,), number of each query among all of the part.
        rows: int64 (Q,), a row of the part that stands for each query.
        batch: what the model scores, of length Q.
        owner: int64 (E,), query of each held-out item.
        positives: int64 (E,), the held-out items.
    """

    number: np.ndarray
    rows: np.ndarray
    batch: Interaction
    owner: Tensor
    positives: Tensor


def filters_history(config: Any) -> bool:
    """Whether the items of a user's history are left out of a full ranking."""
    wanted = config["filter_history"]
    return not config["repeatable"] if wanted is None else wanted


class EvalLoader:
    """The held-out rows of a part as queries, in chunks that keep the memory limit.

    Each row is a query with one held-out item; a general model that ranks all items has one
    query per user with all the user's held-out items, as in RecBole. Queries come sorted by
    the length of their history, so that trimmed batches are short.

    RecBole's trainer finds ``dataset``, ``_dataset`` and ``len()`` as on its own loaders, and
    ``recbole.utils.case_study`` finds ``is_sequential`` and ``uid2history_item``.

    Args:
        config: ``eval_batch_size`` and ``eval_memory_mb`` bound a chunk.
        dataset: a part.
        transform: RecBole's batch transform of the model.
        full: whether all items are ranked.
    """

    def __init__(self, config: Any, dataset: Any, transform: Any, full: bool) -> None:
        self.config, self.dataset, self._dataset, self.transform = (
            config,
            dataset,
            dataset,
            transform,
        )
        self.full = full
        # Scores and a copy of those with ties live at the same time, or scores and two sorts of them.
        copies = 3 if dataset.one_target_per_query or not full else 7
        bytes_each = copies * (8 if config["precision"] == "double" else 4)
        limit = config["eval_memory_mb"] * 2**20 // (bytes_each * dataset.item_num)
        self.step = int(max(1, min(config["eval_batch_size"], limit)))
        feat = dataset.inter_feat
        if dataset.one_target_per_query:
            keys = feat[dataset.item_list_length_field].numpy()
        else:
            keys = feat[dataset.uid_field].numpy()
        self._order = np.argsort(keys, kind="stable")
        new = np.ones(len(keys), dtype=bool)
        if full and not dataset.one_target_per_query:
            new[1:] = np.diff(keys[self._order]) != 0
        self._bounds = np.append(np.flatnonzero(new), len(keys))

    @property
    def is_sequential(self) -> bool:
        """Whether a row of the part, not its user alone, is what the model scores."""
        return self.config["MODEL_TYPE"] == ModelType.SEQUENTIAL

    @cached_property
    def uid2history_item(self) -> np.ndarray:
        """User -> items that are left out of the user's ranking: object (n_users,) of int64 tensors."""
        dataset = self.dataset
        found = np.empty(dataset.user_num, dtype=object)
        found[:] = [torch.zeros(0, dtype=torch.int64)] * dataset.user_num
        if not filters_history(self.config):
            return found
        users = dataset.inter_feat[dataset.uid_field].numpy()
        order = np.argsort(users, kind="stable")
        held = dataset.inter_feat[dataset.iid_field].numpy()[order]
        users, first, counts = np.unique(users[order], return_index=True, return_counts=True)
        place, items = (values.numpy() for values in dataset.earlier(order[first]))
        bounds = np.searchsorted(place, np.arange(len(users) + 1))
        for number, user in enumerate(users):
            met = items[bounds[number] : bounds[number + 1]]
            own = held[first[number] : first[number] + counts[number]]
            found[user] = torch.from_numpy(np.setdiff1d(met, own))
        return found

    @property
    def n_queries(self) -> int:
        """Number of queries."""
        return len(self._bounds) - 1

    def __len__(self) -> int:
        return math.ceil(self.n_queries / self.step)

    def __bool__(self) -> bool:
        return self.n_queries > 0

    def __iter__(self) -> Iterator[EvalBatch]:
        return (queries for _, queries in self.chunks(0, 1))

    def chunks(self, first: int, every: int) -> Iterator[tuple[int, EvalBatch]]:
        """Yield the chunks number *first*, *first* + *every*, ... with their numbers."""
        items = self.dataset.inter_feat[self.dataset.iid_field]
        # A transform draws from generators that must stay the same in every process (BERT4Rec).
        drawn = self.config["transform"] is not None
        for chunk in range(len(self)):
            if chunk % every != first and not drawn:
                continue
            begin = chunk * self.step
            bounds = self._bounds[begin : begin + self.step + 1]
            held = self._order[bounds[0] : bounds[-1]]
            owner = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
            rows = self._order[bounds[:-1]]
            # Ties are broken by query number, which must not depend on the chunks.
            number = rows if self.dataset.one_target_per_query else np.arange(begin, begin + len(rows))
            batch = self.transform(self.dataset, self.dataset[rows])
            held_items = items[torch.from_numpy(held)]
            if chunk % every == first:
                yield chunk, EvalBatch(number, rows, batch, torch.from_numpy(owner), held_items)
