"""Concurrent requests as batches: what waits while a batch is computed is the next batch."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from logging import getLogger
from typing import Any

import numpy as np

from recbole_disent.errors import UserError
from recbole_disent.serving.catalogue import store_of
from recbole_disent.serving.lists import Filters

# The end of the sentence on an unknown user.
_UNKNOWN = 'give another user, or add "unknown_users": "popularity"'
# Turns of the event loop from the arrival of a request to its place in the queue, about.
_TURNS = 8


class Busy(Exception):
    """More requests wait than may; the caller should try again later."""


@dataclass(frozen=True)
class Ask:
    """One list that is asked for.

    Attributes:
        user: external id, or None where there is a sequence.
        sequence: external item ids, oldest first.
        k, filter_history, unknown_users, diversity, diversify: as for ``Recommender.recommend``.
        allowed, excluded: external item ids; None: no such rule.
    """

    user: str | None
    sequence: tuple[str, ...] = ()
    k: int = 10
    filter_history: bool = True
    unknown_users: str = "error"
    diversity: float = 0.0
    diversify: str | None = None
    allowed: tuple[str, ...] | None = None
    excluded: tuple[str, ...] = ()

    @property
    def group(self) -> Hashable:
        """Asks of one group are computed together.

        With diversity the length decides the list. Asks that name allowed items are apart, because they use
        no index.
        """
        length = self.k if self.diversity else 0
        rules = self.filter_history, self.allowed is None
        return self.user is None, *rules, self.diversity, self.diversify, length


@dataclass
class Answer:
    """A list.

    Attributes:
        items, scores, intentions: of each place; an intention is None for a model with one vector.
        source: ``model`` or ``popularity``.
        unknown_items, unknown_allowed, unknown_excluded: ids of the sequence, of the allowed items and of
            the excluded items that the model does not know.
        made_by: the recommender of the list, which may have been replaced since.
    """

    items: list[str]
    scores: list[float]
    intentions: list[int | None]
    source: str
    unknown_items: int
    unknown_allowed: int
    unknown_excluded: int
    made_by: Any = field(repr=False, compare=False)


def answer(recommender: Any, asks: list[Ask], index: bool = False) -> list[Answer | UserError]:
    """Make the lists of asks of one group; the fault of one ask is its own.

    Args:
        recommender: a :class:`~recbole_disent.recommender.Recommender`.
        asks: of the same group.
        index: whether candidates come from the index of the bundle. With diversity or allowed items all
            scores are computed.
    """
    found: dict[int, Answer | UserError] = {}
    good: list[int] = []
    users = recommender.catalogue.user_numbers([ask.user for ask in asks])
    for number, ask in enumerate(asks):
        try:
            if not users[number] and ask.user is not None and ask.unknown_users == "error":
                recommender.queries_of_users([ask.user], "error", _UNKNOWN)  # says so
            if ask.allowed is not None and not recommender.catalogue.item_numbers(ask.allowed).any():
                raise UserError(
                    "items_allowed: none of these items is known; expected ids of the model's items"
                )
            good.append(number)
        except UserError as error:
            found[number] = error
    if good:
        try:
            found.update(zip(good, _together(recommender, [asks[n] for n in good], index), strict=True))
        except UserError as error:
            found.update(dict.fromkeys(good, error))
    return [found[number] for number in range(len(asks))]


def _together(recommender: Any, asks: list[Ask], index: bool) -> list[Answer]:
    first, catalogue = asks[0], recommender.catalogue
    unknown = np.zeros(len(asks), dtype=np.int64)
    if first.user is None:
        queries, unknown = recommender.queries_of_sequences([list(ask.sequence) for ask in asks])
    else:
        queries = recommender.queries_of_users([ask.user for ask in asks], "popularity")
    recommender.require_histories(first.filter_history and first.user is not None)
    filters = Filters(first.filter_history)
    for name, lists in (
        ("allowed_of", [ask.allowed or () for ask in asks]),
        ("excluded_of", [ask.excluded for ask in asks]),
    ):
        if any(lists):
            numbers = catalogue.item_numbers([item for own in lists for item in own])
            owner = np.repeat(np.arange(len(asks)), [len(own) for own in lists])
            setattr(filters, name, store_of(owner[numbers > 0], numbers[numbers > 0], len(asks)))
    index = index and not first.diversity and first.allowed is None
    longest = max(ask.k for ask in asks)
    lists = recommender.lists(queries, longest, filters, first.diversity, first.diversify, index)
    answers = []
    for row, ask in enumerate(asks):
        unknown_allowed, unknown_excluded = (
            int((catalogue.item_numbers(ids or ()) == 0).sum()) for ids in (ask.allowed, ask.excluded)
        )
        numbers = lists.items[row, : ask.k]
        numbers = numbers[numbers > 0]
        end = len(numbers)
        answers.append(
            Answer(
                catalogue.items[numbers].tolist(),
                lists.scores[row, :end].tolist(),
                [None if i < 0 else i for i in lists.intentions[row, :end].tolist()],
                "popularity" if queries.popular[row] else "model",
                int(unknown[row]),
                unknown_allowed,
                unknown_excluded,
                recommender,
            )
        )
    return answers


@dataclass
class Batcher:
    """Computes asks one batch at a time, in a thread of its own.

    Attributes:
        recommender: may be replaced at any time; a batch keeps the one that it began with.
        index: whether candidates come from the index of the bundle, see :func:`answer`.
        largest: asks of a batch at the most.
        most_waiting: asks and other calls that may wait; more are refused with :class:`Busy`.
        batches, asks: how many were computed.
    """

    recommender: Any
    index: bool = False
    largest: int = 64
    most_waiting: int = 1024
    batches: int = 0
    asks: int = 0
    _waiting: list[tuple[Ask, asyncio.Future[Answer]]] = field(default_factory=list)
    _calls: int = 0
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))

    @property
    def waiting(self) -> int:
        """Number of asks and other calls that wait; a call that has begun counts until it ends."""
        return len(self._waiting) + self._calls

    def ask(self, ask: Ask) -> asyncio.Future[Answer]:
        """Put an ask into the queue.

        Returns:
            Its list, or the :class:`UserError` of what cannot be done. Cancelled, it leaves the queue.

        Raises:
            Busy: too many wait.
        """
        self._make_room()
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((ask, future))
        self._wake.set()
        return future

    def call(self, function: Any, *args: Any) -> asyncio.Future[Any]:
        """Run something else in the thread of the batches.

        Raises:
            Busy: too many wait.
        """
        self._make_room()
        future = self._run(function, *args)
        self._calls += 1
        future.add_done_callback(self._end_call)
        return future

    def _run(self, function: Any, *args: Any) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().run_in_executor(self._thread, function, *args)

    def _end_call(self, _: asyncio.Future[Any]) -> None:
        self._calls -= 1

    def _make_room(self) -> None:
        if self.waiting >= self.most_waiting:
            self._forget_finished()
        if self.waiting >= self.most_waiting:
            raise Busy

    async def work(self) -> None:
        """Compute batches until cancelled."""
        while True:
            await self._wake.wait()
            await self._gather()
            self._forget_finished()
            batch, self._waiting = self._waiting[: self.largest], self._waiting[self.largest :]
            if not self._waiting:
                self._wake.clear()
            groups: dict[Hashable, list[tuple[Ask, asyncio.Future[Answer]]]] = defaultdict(list)
            for pair in batch:
                groups[pair[0].group].append(pair)
            for pairs in groups.values():
                await self._compute(pairs)

    async def _gather(self) -> None:
        """Let requests that have arrived reach the queue, as long as some do: a larger batch costs less."""
        seen = 0
        while seen < len(self._waiting) < self.largest:
            seen = len(self._waiting)
            for _ in range(_TURNS):
                await asyncio.sleep(0)

    def _forget_finished(self) -> None:
        """Drop the asks of those who have given up, after a time-out or with a closed connection."""
        self._waiting = [pair for pair in self._waiting if not pair[1].done()]

    async def _compute(self, pairs: list[tuple[Ask, asyncio.Future[Answer]]]) -> None:
        self.batches += 1
        self.asks += len(pairs)
        try:
            found = await self._run(answer, self.recommender, [ask for ask, _ in pairs], self.index)
        except Exception as error:  # a fault of ours must not stop the server
            getLogger().exception("serve: a batch failed")
            found = [error] * len(pairs)
        for (_, future), result in zip(pairs, found, strict=True):
            if future.done():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
