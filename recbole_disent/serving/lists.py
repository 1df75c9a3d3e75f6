"""Lists of the best items for users and sequences, in chunks of bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recbole_disent.data.store import SequenceStore
from recbole_disent.errors import UserError
from recbole_disent.serving import approximate, diversity
from recbole_disent.serving.catalogue import Catalogue
from recbole_disent.serving.encode import Encoder, pad_rows
from recbole_disent.serving.index import Index
from recbole_disent.serving.select import NEVER, refuse_nan, top_items

# Rows that are encoded and scored at once at the most: more makes nothing faster.
_ROWS = 256
# Products with a table that are in memory at once, of a model with several vectors: they stay in the cache.
_PRODUCTS = 2**19


@dataclass
class Queries:
    """Who lists are for.

    Attributes:
        store: histories.
        rows: int64 (Q,), the "user" of the store that each query is.
        users: int64 (Q,), internal user ids, 0 for a user who is not known; None for sequences.
        popular: bool (Q,), queries that get the most popular items, for the model can say nothing.
    """

    store: SequenceStore
    rows: Tensor
    users: Tensor | None
    popular: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def part(self, numbers: Tensor) -> Queries:
        """Some of the queries."""
        users = None if self.users is None else self.users[numbers]
        return Queries(self.store, self.rows[numbers], users, self.popular[numbers])


@dataclass
class Filters:
    """Which items may stand in a list.

    Attributes:
        history: whether items of the own history are left out.
        allowed: int64 (A,), ascending: these items only; None: all.
        excluded: int64 (E,): these items never.
        excluded_of, allowed_of: items of each query, as "users" of a store; None: no such rule. A query
            without an entry in *allowed_of* may have all items.
    """

    history: bool = True
    allowed: Tensor | None = None
    excluded: Tensor | None = None
    excluded_of: SequenceStore | None = None
    allowed_of: SequenceStore | None = None


@dataclass
class Lists:
    """Lists of Q queries.

    Attributes:
        items: int64 (Q, k), internal ids, 0 behind the end of a list.
        scores: float (Q, k).
        intentions: int64 (Q, k), the vector of the query that chose the item; -1 for none.
    """

    items: np.ndarray
    scores: np.ndarray
    intentions: np.ndarray


class ListMaker:
    """Makes lists with one model.

    Args:
        encoder: of the model.
        catalogue: for the popularity of items.
        memory_mb: bound of the scores that are in memory at once, MiB.
    """

    def __init__(self, encoder: Encoder, catalogue: Catalogue, memory_mb: int = 128) -> None:
        self.encoder, self.catalogue, self.memory_mb = encoder, catalogue, memory_mb
        self._all = Columns(encoder, len(catalogue.items), Filters())

    def make(
        self,
        queries: Queries,
        k: int,
        filters: Filters,
        amount: float = 0.0,
        way: str = "intentions",
        index: Index | None = None,
    ) -> Lists:
        """Make the list of each query.

        Args:
            queries: who the lists are for.
            k: length of the lists.
            filters: which items may stand in them.
            amount, way: ``diversity`` and ``diversify`` of :meth:`Recommender.recommend`.
            index: approximate index of all items that candidates come from, for *amount* 0; it is not used
                where *filters* say which items are allowed.

        Raises:
            UserError: a model that lacks what is asked for.
        """
        columns = self._all
        if filters.allowed is not None or filters.excluded is not None:
            columns = Columns(self.encoder, len(self.catalogue.items), filters)
        work = _Work(self.encoder, self.catalogue, columns, filters, k, amount, way)
        if filters.allowed is None and filters.allowed_of is None:
            work.index = index
        k = work.k
        found = Lists(
            np.zeros((len(queries), k), np.int64),
            np.full((len(queries), k), NEVER, work.dtype),
            np.full((len(queries), k), -1, np.int64),
        )
        for numbers in self._chunks(queries, work):
            places, scores, intentions = work.lists(queries.part(numbers), numbers)
            refuse_nan(bool(scores.isnan().any()))  # a NaN is the largest, so that it is in a list
            items = work.item_of[places].masked_fill_(scores == NEVER, 0)
            place = numbers.numpy()
            found.items[place] = items.cpu().numpy()
            found.scores[place] = scores.cpu().numpy()
            found.intentions[place] = intentions.masked_fill(items == 0, -1).cpu().numpy()
        return found

    def _chunks(self, queries: Queries, work: _Work) -> Iterator[Tensor]:
        """Numbers of queries: those of like length together, the popular ones apart."""
        lengths = (queries.store.offsets[queries.rows + 1] - queries.store.offsets[queries.rows]).clamp(
            max=self.encoder.max_length
        )
        order = torch.from_numpy(np.lexsort((lengths.numpy(), queries.popular.numpy())))
        bytes_each = work.numbers_each * torch.finfo(work.torch_dtype).bits // 8
        step = int(max(1, min(_ROWS, self.memory_mb * 2**20 // bytes_each)))
        split = int((~queries.popular).sum())
        for part in (order[:split], order[split:]):
            yield from part.split(step) if len(part) else ()


class Columns:
    """The items that are scored, and those among them that stand in no list.

    Args:
        encoder: gives the item table.
        n_items: items of the model, padding included.
        filters: their global part counts here.

    Attributes:
        number: how many items may stand in a list at the most.
        table: float (C, D), their vectors and rows of zeros behind them; None for a model without vectors.
        item_of: int64 (C,), item of each column.
        column_of: int64 (n_items,), column of each item, -1 for none; None where they are the same.
        never: int64, columns that stand in no list.
    """

    def __init__(self, encoder: Encoder, n_items: int, filters: Filters) -> None:
        table, allowed = encoder.padded, filters.allowed
        self.column_of: Tensor | None = None
        if allowed is None:
            self.number = n_items - 1
            self.item_of = torch.arange(n_items if table is None else len(table), device=encoder.device)
        else:
            self.number = len(allowed)
            table = None if table is None else pad_rows(table[allowed])
            more = 0 if table is None else len(table) - len(allowed)
            self.item_of = torch.nn.functional.pad(allowed.to(encoder.device), (0, more))
            self.column_of = torch.full((n_items,), -1)
            self.column_of[allowed] = torch.arange(self.number)
        self.table = table
        never = (self.item_of == 0) | (self.item_of >= n_items)
        if filters.excluded is not None:
            never |= torch.isin(self.item_of, filters.excluded.to(encoder.device))
        self.never = never.nonzero()[:, 0]


class _Work:
    """One call and its buffers."""

    def __init__(
        self,
        encoder: Encoder,
        catalogue: Catalogue,
        columns: Columns,
        filters: Filters,
        k: int,
        amount: float,
        way: str,
    ) -> None:
        self.encoder, self.filters, self.amount, self.way = encoder, filters, amount, way
        self.columns = columns
        self.table, self.item_of = columns.table, columns.item_of
        self.k = min(k, columns.number)
        self.counts = torch.from_numpy(catalogue.counts).to(encoder.device)
        self.torch_dtype = encoder.dtype if self.table is None else self.table.dtype
        self.dtype = np.float64 if self.torch_dtype == torch.float64 else np.float32
        # Numbers in memory for each query: scores and, for MMR, the vectors that it chooses from.
        self.numbers_each = (2 if self.table is not None else 3) * len(self.item_of)
        if amount and way == "mmr" and self.table is not None:
            pool = min(diversity.pool_size(self.k), len(self.item_of))
            self.numbers_each += 2 * pool * self.table.shape[1]
        self.index: Index | None = None
        self._buffer: Tensor | None = None
        if amount and self.table is None:
            raise UserError(
                f"diversity: {encoder.name} has no item vectors to tell likeness by; leave it at 0"
            )

    def lists(self, queries: Queries, numbers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Columns, scores and intentions of a chunk: (B, k) each."""
        if bool(queries.popular.any()):
            scores = self.counts[self.item_of.clamp(max=len(self.counts) - 1)].to(self.torch_dtype)
            scores = scores.expand(len(queries), -1).clone()
            values, columns = top_items(self._masked(scores, queries, numbers), self.k)
            return columns, values, torch.full_like(columns, -1)
        batch = self.encoder.batch(queries.store, queries.rows, queries.users)
        if self.table is None:
            scores = self.encoder.scores(batch)[:, self.item_of].contiguous()
            values, columns = top_items(self._masked(scores, queries, numbers), self.k)
            return columns, values, torch.full_like(columns, -1)
        vectors = self.encoder.queries(batch)
        n_vectors = vectors.shape[1]
        if self.amount and self.way == "intentions":
            if n_vectors == 1:
                raise UserError(
                    f"diversify: {self.encoder.name} has one vector for each sequence, so that there are no "
                    "intentions to choose by; use diversify='mmr'"
                )
            # One list more: of the plain scores.
            ways = [top_items(self._score(vectors, queries, numbers), self.k)]
            for i in range(n_vectors):
                ways.append(top_items(self._score(vectors[:, i : i + 1], queries, numbers), self.k))
            shares = self.encoder.shares(batch, n_vectors)
            columns, chosen = diversity.interleave(ways, diversity.weights(shares, self.amount))
            vectors_of = vectors @ self.table[columns].transpose(1, 2)
            values = vectors_of.amax(1)
            values[columns < 0] = NEVER
            best = vectors_of.argmax(1)
            return columns.clamp(min=0), values, torch.where(chosen > 0, chosen - 1, best)
        found = None if self.index is None else self._by_index(self.index, vectors, queries, numbers)
        if found is not None:
            values, columns = found
        elif self.amount:
            scores = self._score(vectors, queries, numbers)
            pool = top_items(scores, diversity.pool_size(self.k))
            refuse_nan(bool(pool[0].isnan().any()))
            values, columns = diversity.mmr(*pool, self.table, self.k, self.amount)
        else:
            values, columns = top_items(self._score(vectors, queries, numbers), self.k)
        if n_vectors == 1:
            return columns, values, torch.full_like(columns, -1)
        return columns, values, (vectors @ self.table[columns].transpose(1, 2)).argmax(1)

    def _by_index(
        self, index: Index, vectors: Tensor, queries: Queries, numbers: Tensor
    ) -> tuple[Tensor, Tensor] | None:
        """Scores and columns of the best candidates, (B, k) each; None where exact scoring is as fast."""
        assert self.table is not None
        blocked = self._blocked(index.n_items, queries, numbers)
        of_row = torch.bincount(blocked // index.n_items, minlength=1)
        # As many more as a list could lose, so that filters do not shorten it.
        count = self.k + int(of_row.max())
        if approximate.too_many(index, vectors.shape[1], count):
            return None
        best = approximate.best_of(index, self.table, vectors, self.k, count, blocked)
        for number in (best.found < self.k).nonzero()[:, 0].tolist():  # the index found too few
            row = torch.tensor([number])
            one = self._score(vectors[row], queries.part(row), numbers[row])
            best.scores[row], best.items[row] = top_items(one, self.k)
        return best.scores, best.items

    def _blocked(self, n_items: int, queries: Queries, numbers: Tensor) -> Tensor:
        """Items that may not stand in a list, as row * n_items + item, ascending: int64 (n,)."""
        filters, rows = self.filters, torch.arange(len(queries))
        keys = [rows[:0]]
        if filters.history:
            row, item = queries.store.events_of(queries.rows)
            keys.append(row * n_items + item)
        if filters.excluded_of is not None:
            row, item = filters.excluded_of.events_of(numbers)
            keys.append(row * n_items + item)
        if filters.excluded is not None:
            keys.append((rows[:, None] * n_items + filters.excluded).flatten())
        return torch.cat(keys).unique().to(self.encoder.device)

    def _score(self, vectors: Tensor, queries: Queries, numbers: Tensor) -> Tensor:
        """Best of the inner products of K vectors with each column: float (B, C)."""
        assert self.table is not None
        rows, n_vectors, _ = vectors.shape
        scores = self._scores(rows)
        if n_vectors == 1:
            torch.mm(vectors[:, 0], self.table.T, out=scores)
            return self._masked(scores, queries, numbers)
        if rows == 1:
            torch.amax(self.table @ vectors[0].T, 1, out=scores[0])
            return self._masked(scores, queries, numbers)
        # All vectors with a few items at a time: the maximum reads products that are still in the cache.
        together = vectors.flatten(0, 1)
        step = max(256, _PRODUCTS // len(together))
        memory = scores.new_empty(len(together) * step)
        for begin in range(0, len(self.table), step):
            part = self.table[begin : begin + step]
            products = memory[: len(together) * len(part)].view(len(together), len(part))
            torch.mm(together, part.T, out=products)
            torch.amax(products.view(rows, n_vectors, -1), 1, out=scores[:, begin : begin + step])
        return self._masked(scores, queries, numbers)

    def _scores(self, rows: int) -> Tensor:
        # Fresh memory of this size costs more than the products that fill it.
        if self._buffer is None or len(self._buffer) < rows:
            self._buffer = torch.empty(
                rows, len(self.item_of), dtype=self.torch_dtype, device=self.encoder.device
            )
        return self._buffer[:rows]

    def _masked(self, scores: Tensor, queries: Queries, numbers: Tensor) -> Tensor:
        filters = self.filters
        if filters.allowed_of is not None:
            has = filters.allowed_of.offsets[numbers + 1] > filters.allowed_of.offsets[numbers]
            blocked = has[:, None].to(scores.device).expand_as(scores).clone()
            row, column = self._columns(*filters.allowed_of.events_of(numbers))
            blocked[row, column] = False
            scores.masked_fill_(blocked, NEVER)
        if filters.history:
            row, column = self._columns(*queries.store.events_of(queries.rows))
            scores[row, column] = NEVER
        if filters.excluded_of is not None:
            row, column = self._columns(*filters.excluded_of.events_of(numbers))
            scores[row, column] = NEVER
        return scores.index_fill_(1, self.columns.never, NEVER)

    def _columns(self, row: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        """Pairs (row, item) as (row, column), of those items that there is a column of."""
        if self.columns.column_of is not None:
            item = self.columns.column_of[item]
            row, item = row[item >= 0], item[item >= 0]
        return row.to(self.encoder.device), item.to(self.encoder.device)
