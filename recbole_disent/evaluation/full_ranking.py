"""Ranks and lists among all items for models whose scores are inner products, in tiles of bounded memory.

There are R queries with K vectors each and N items; vectors have the width D. A tile holds the scores of the
R queries for some consecutive items. The scores of all items are never in memory at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from recbole_disent.evaluation.scoring import checked

# Products of a tile: on a CPU a tile is read several times, which is fastest within the cache.
_CPU_TILE, _GPU_TILE = 2**19, 2**26
# Fewest columns of a tile, for the matrix products.
_COLUMNS = 256
NEVER = float("-inf")


@dataclass
class Ranked:
    """Result for R queries with one held-out item each.

    Attributes:
        greater: int64 (R,), number of items with better scores than the held-out item.
        equal: int64 (R,), number of items with its score, the held-out item included.
        ranked: int64 (R,), number of ranked items.
        best: int64 (R, k), the best items; None if no lists were asked for.
        full: bool (R,), whether the list has k ranked items; None without lists.
    """

    greater: Tensor
    equal: Tensor
    ranked: Tensor
    best: Tensor | None = None
    full: Tensor | None = None


class _Tiles:
    """Scores of some queries, tile by tile. All tiles have the same shape, as equal scores must stay equal.

    Args:
        table: float (N, D).
        queries: float (R, K, D).
    """

    def __init__(self, table: Tensor, queries: Tensor) -> None:
        self.table = table
        self.rows, self.vectors, _ = queries.shape
        self._queries = queries.transpose(0, 1).flatten(0, 1).to(table.dtype).contiguous()
        size = _CPU_TILE if table.device.type == "cpu" else _GPU_TILE
        width = max(_COLUMNS, size // max(1, len(self._queries)))
        # The matrix product can treat columns behind the last multiple of a vector register in another way.
        self.width = min(len(table), width // _COLUMNS * _COLUMNS)
        self._products = table.new_empty(len(self._queries), self.width)

    def scores(self, items: Tensor) -> Tensor:
        """Best of the K products with each of C = ``width`` vectors: (C, D) -> (R, C).

        The result is valid until the next call.
        """
        torch.mm(self._queries, items.T, out=self._products)
        if self.vectors == 1:
            return self._products
        parts = self._products.view(self.vectors, self.rows, self.width)
        best = parts[0]
        for other in parts[1:]:
            torch.maximum(best, other, out=best)
        return best

    def __iter__(self) -> Iterator[tuple[int, int, Tensor]]:
        """Yield the first new item, the item of the first column and the scores of each tile.

        The last tile repeats items of the tile before, so that it is as wide as the others.
        """
        for begin in range(0, len(self.table), self.width):
            first = min(begin, len(self.table) - self.width)
            yield begin, first, self.scores(self.table[first : first + self.width])

    def bounds(self, items: Tensor) -> list[int]:
        """Index of the first item of each tile in which it is new, for items in ascending order."""
        begins = torch.arange(0, len(self.table), self.width)
        return [*torch.searchsorted(items, begins).tolist(), len(items)]

    def own_scores(self, targets: Tensor) -> Tensor:
        """Score of one item of each query, from products of the same shape: int64 (R,) -> float (R, 1)."""
        own = self.table.new_empty(self.rows)
        for begin in range(0, self.rows, self.width):
            part = targets[begin : begin + self.width]
            items = torch.nn.functional.pad(part, (0, self.width - len(part)))
            number = torch.arange(len(part), device=part.device)
            own[begin : begin + self.width] = self.scores(self.table[items])[begin + number, number]
        return own[:, None]


class _Mask:
    """Pairs (query, item) that are not ranked, in the order of the items.

    Args:
        tiles: the tiles that the mask changes.
        row, item: int64 (M,) on the CPU; a pair may occur several times.
        targets: int64 (R,) on the CPU, items that are ranked in any case.
    """

    def __init__(self, tiles: _Tiles, row: Tensor, item: Tensor, targets: Tensor) -> None:
        other = item != targets[row]
        keys = (item[other] * len(targets) + row[other]).unique()
        items, rows = keys // len(targets), keys % len(targets)
        self.counts = rows.bincount(minlength=len(targets))
        self._bounds = tiles.bounds(items)
        device = tiles.table.device
        self._row, self._item = rows.to(device), items.to(device)

    def apply(self, scores: Tensor, number: int, begin: int, first: int) -> None:
        """Mask tile *number*: pairs, the padding item, and the items before *begin* of an earlier tile."""
        low, high = self._bounds[number], self._bounds[number + 1]
        if low < high:
            scores[self._row[low:high], self._item[low:high] - first] = NEVER
        if not number or first < begin:
            scores[:, : max(begin - first, 1)] = NEVER

    def apply_to_rows(self, scores: Tensor, rows: Tensor) -> None:
        """Mask the scores of the queries *rows*, int64 (R',), for all items: float (R', N)."""
        place = torch.full((len(self.counts),), -1, device=scores.device)
        place[rows] = torch.arange(len(rows), device=scores.device)
        place = place[self._row]
        scores[place[place >= 0], self._item[place >= 0]] = NEVER
        scores[:, 0] = NEVER


class _Places:
    """Tile of the held-out item of each query: int64 (R,) on the CPU."""

    def __init__(self, tiles: _Tiles, targets: Tensor) -> None:
        items, order = targets.sort()
        self._bounds = tiles.bounds(items)
        self._items, self._order = items.to(tiles.table.device), order.to(tiles.table.device)

    def of(self, scores: Tensor, number: int, first: int) -> tuple[Tensor, Tensor]:
        """Queries whose item is new in tile *number*, int64 (m,), and the scores of these items, (m,)."""
        part = slice(self._bounds[number], self._bounds[number + 1])
        rows = self._order[part]
        return rows, scores.take(rows * scores.shape[1] + self._items[part] - first)


class _Lists:
    """The k + 1 best items of each query among the tiles so far."""

    def __init__(self, like: Tensor, k: int) -> None:
        self.values = like.new_full((len(like), k + 1), NEVER)
        self.items = torch.zeros(len(like), k + 1, dtype=torch.long, device=like.device)

    def update(self, scores: Tensor, largest: Tensor, first: int) -> None:
        """Add a tile; *largest* is the best score of each query in it."""
        rows = (largest > self.values[:, -1]).nonzero()[:, 0]
        if not len(rows):
            return
        size = min(self.values.shape[1], scores.shape[1])
        values, columns = scores[rows].topk(size, dim=1)
        values = torch.cat([self.values[rows], values], 1)
        items = torch.cat([self.items[rows], columns + first], 1)
        values, place = values.topk(self.values.shape[1], dim=1)
        self.values[rows], self.items[rows] = values, items.gather(1, place)


@torch.no_grad()
def rank_among_all(
    table: Tensor,
    queries: Tensor,
    targets: Tensor,
    row: Tensor,
    item: Tensor,
    k: int = 0,
    permutation: Tensor | None = None,
    whole_rows: int = 1,
    largest: Tensor | None = None,
    keep: bool = True,
) -> Ranked:
    """Rank one held-out item of each query among all items.

    Args:
        table: float (N, D), row 0 belongs to the padding item, which is not ranked.
        queries: float (R, K, D); an item's score is the best of the K inner products.
        targets: int64 (R,) on the CPU, the held-out items.
        row, item: int64 (M,) on the CPU, pairs of a query and an item that is not ranked.
        k: length of the lists of the best items; 0: no lists.
        permutation: int64 (N,), order of equal scores in lists, as in :func:`.ranks.top_columns`.
        whole_rows: number of queries whose scores for all items may be in memory at a time. Only queries
            with equal scores in their lists need them.
        largest: float (), result of :func:`largest_entry` for the table; None: it is computed.
        keep: whether held-out items are ranked in any case. Otherwise the lists do not hold those that
            *row* and *item* name, while the counts still compare their scores.

    Returns:
        The ranks and the lists.

    Raises:
        UserError: a score is not a number.
    """
    tiles = _Tiles(table, queries)
    mask = _Mask(tiles, row, item, targets if keep else torch.zeros_like(targets))
    own = tiles.own_scores(targets.to(table.device))
    # Sums of D products below this bound are numbers, so that the scores need no check.
    entries = largest_entry(table) if largest is None else largest
    bound = entries.double() * largest_entry(queries) * table.shape[1]
    numbers = bool(bound < torch.finfo(table.dtype).max / 2)
    found = _count(tiles, mask, targets, own, k, numbers)
    if found is None:
        # The products of this machine depend on the place in a tile: take the targets from the tiles.
        places = _Places(tiles, targets)
        for number, (_, first, scores) in enumerate(tiles):
            rows, values = places.of(scores, number, first)
            own[rows, 0] = values
        found = _count(tiles, mask, targets, own, k, numbers)
        assert found is not None
    greater, equal, lists = found
    ranked = Ranked(greater, equal, len(table) - 1 - mask.counts)
    if lists is not None:
        assert permutation is not None
        ranked.full = lists.values[:, k - 1] > NEVER
        ranked.best = lists.items[:, :k]
        tied = (lists.values[:, 1:] == lists.values[:, :-1]).any(1) & ranked.full
        for rows in tied.nonzero()[:, 0].split(whole_rows):
            again = _whole(table, queries[rows], rows, mask)[:, permutation]
            ranked.best[rows] = permutation[again.topk(k, dim=1).indices]
    return ranked


def largest_entry(values: Tensor) -> Tensor:
    """Return the greatest absolute value, float (); NaN if there is a NaN, 0 for an empty tensor."""
    return torch.linalg.vector_norm(values, float("inf")) if values.numel() else values.new_zeros(())


def _count(
    tiles: _Tiles, mask: _Mask, targets: Tensor, own: Tensor, k: int, numbers: bool
) -> tuple[Tensor, Tensor, _Lists | None] | None:
    """Count better and equal scores; None if a target has another score in its tile than in *own*.

    Args:
        numbers: whether all scores are known to be numbers.
    """
    lists = _Lists(own, min(k, len(tiles.table) - 1)) if k else None
    # Sums of floats are much faster than sums of bools on a CPU, and exact below 2^24 columns.
    holds = torch.empty(tiles.rows, tiles.width, device=own.device)
    greater, equal, largest, same = [], [], [own[:, 0]], []
    places = _Places(tiles, targets)
    for number, (begin, first, scores) in enumerate(tiles):
        rows, values = places.of(scores, number, first)
        same.append((values == own[rows, 0]).all())
        mask.apply(scores, number, begin, first)
        greater.append(torch.gt(scores, own, out=holds).sum(1))
        if lists is not None or not numbers:
            largest.append(scores.amax(1))
        if lists is not None:
            lists.update(scores, largest[-1], first)
        # In place, because the scores have done their work. A sum of bfloat16 is not exact above 256.
        equal.append(torch.eq(scores, own, out=scores).sum(1, dtype=holds.dtype))
    checked(torch.stack(largest))
    if not bool(torch.stack(same).all()):
        return None
    return _total(greater), _total(equal), lists


def _total(parts: list[Tensor]) -> Tensor:
    """Sum of the counts of all tiles: float (R,) each -> int64 (R,)."""
    return torch.stack(parts).long().sum(0)


def _whole(table: Tensor, queries: Tensor, rows: Tensor, mask: _Mask) -> Tensor:
    """Masked scores of some queries for all items: float (R', N)."""
    scores = (queries.to(table.dtype) @ table.T).amax(1)
    mask.apply_to_rows(scores, rows)
    return scores
