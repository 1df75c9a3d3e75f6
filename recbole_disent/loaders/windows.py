"""Whole training sequences as windows, for models that learn from all positions at once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from logging import getLogger
from typing import Any, NamedTuple

import torch
from recbole.data.dataloader import TrainDataLoader
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_disent.data.lazy_interaction import LazyInteraction
from recbole_disent.errors import UserError
from recbole_disent.loaders.batch import WindowBatch, trained_pairs
from recbole_disent.loaders.sharding import local_shard
from recbole_disent.ops.memory import release_memory
from recbole_disent.parallel import process_group
from recbole_disent.registry import spec_of

# Batches after which freed memory is given back: well under one percent of their time.
_RELEASE_EVERY = 50
# An epoch of fewer steps teaches next to nothing, and ten such without gain are an early stop.
_FEW_STEPS = 10


class Windows(NamedTuple):
    """Windows of training sequences, int64 (W,) each.

    Attributes:
        users: internal user id.
        firsts: position of the first item in the store.
        before, counts, after: items before the pairs, pairs, items after them; see
            :class:`~recbole_disent.loaders.batch.WindowBatch`.
        phase, trained: number of the first pair that is trained, and how many are.
    """

    users: Tensor
    firsts: Tensor
    before: Tensor
    counts: Tensor
    after: Tensor
    phase: Tensor
    trained: Tensor

    @property
    def lengths(self) -> Tensor:
        """Items of each window."""
        return self.before + self.counts + 1 + self.after

    def at(self, index: Any) -> Windows:
        """Return some of them."""
        return Windows(*(part[index] for part in self))


class WindowLoader(TrainDataLoader):
    """Whole training sequences: each target of the training part once an epoch.

    A sequence of n pairs is one window if n <= :attr:`stride`, which is L by default. The pairs of
    a longer one are cut into runs of :attr:`stride`, at an offset that is drawn again in each epoch. Each run
    is a window, with items before and after it for pasts and futures: all there are if n <= L,
    else up to L - :attr:`stride` on either side, so that a whole run's longest past and future have
    L items where there are so many. Positions of a window start at 0.
    With ``passes_per_window`` of n a window comes n times an epoch, each time with every n-th of its pairs.
    With ``train_windows: last`` only the last :attr:`stride` pairs of a sequence are there.
    Windows are always shuffled, and batches made in this process (they are a few gathers):
    RecBole's ``shuffle`` and ``worker`` are not used.
    """

    # A batch is one process's share already (loaders/sharding.py).
    shards_itself = True

    def _init_batch_size_and_step(self) -> None:
        super()._init_batch_size_and_step()
        stops = self._dataset.train_end
        begins = self._dataset.store.offsets[:-1]
        users = (stops - begins >= 2).nonzero()[:, 0]
        self._users, self._begins, self._stops = users, begins[users], stops[users]
        if self._keeps_last:
            self._begins = torch.maximum(self._begins, self._stops - 1 - self.stride)

    @property
    def stride(self) -> int:
        """Most pairs of a window."""
        return self.config["targets_per_window"] or self._dataset.max_item_list_len

    @property
    def visits(self) -> int:
        """How often an epoch comes to a window."""
        return self.config["passes_per_window"] or 1  # models without that key have one

    def _sizes(self) -> Tensor:
        """What is cut into runs of :attr:`stride`: the pairs of each sequence, int64 (users,)."""
        return self._stops - self._begins - 1

    @property
    def _keeps_last(self) -> bool:
        return self.config["train_windows"] == "last"  # models without that key keep all

    def __len__(self) -> int:
        """Most batches of an epoch; there are fewer where a window has more pairs than a batch."""
        return max(1, math.ceil(int(self._sizes().sum()) / self.step))

    def __iter__(self) -> Iterator[WindowBatch]:
        windows = self._windows()
        order = torch.randperm(len(windows.users), generator=self.generator)
        windows = windows.at(order)
        batch = self._batch_of(windows.trained)
        cuts = (batch[1:] != batch[:-1]).nonzero()[:, 0] + 1
        bounds = [0, *cuts.tolist(), len(order)]
        for number, (begin, end) in enumerate(pairwise(bounds), start=1):
            if number % _RELEASE_EVERY == 0:
                release_memory()
            yield self._collate(windows.at(slice(begin, end)))

    def _batch_of(self, pairs: Tensor) -> Tensor:
        """Number of the batch of each window, int64 (W,), from the windows' numbers of pairs."""
        return (pairs.cumsum(0) - 1) // self.step  # of the window's last pair

    def _runs(self) -> tuple[Tensor, Tensor, Tensor]:
        """Cut the sequences of an epoch: int64 (W,) each, sequence, begin in it and size of each run."""
        sizes, stride = self._sizes(), self.stride
        offset = torch.zeros_like(sizes)
        if not self._keeps_last:  # with an offset the first run is shorter
            drawn = torch.randint(stride, sizes.shape, generator=self.generator)
            offset = torch.where(sizes <= stride, 0, drawn)
        runs = (sizes + offset + stride - 1) // stride
        owner = torch.repeat_interleave(torch.arange(len(sizes)), runs)
        place = torch.arange(len(owner)) - (runs.cumsum(0) - runs)[owner]
        begin = place * stride - offset[owner]
        first = begin.clamp(min=0)
        return owner, first, torch.minimum(begin + stride, sizes[owner]) - first

    def _windows(self) -> Windows:
        """The windows of an epoch."""
        length = self._dataset.max_item_list_len
        owner, first, counts = self._runs()
        pairs = self._sizes()[owner]
        margin = torch.where(pairs <= length, length, length - self.stride)
        before = torch.minimum(first, margin)
        after = torch.minimum(pairs - first - counts, margin)
        begins = self._begins[owner] + first - before
        visit, window = (torch.arange(self.visits)[:, None] < counts).nonzero(as_tuple=True)
        trained = trained_pairs(counts[window], visit, self.visits)
        windows = Windows(self._users[owner], begins, before, counts, after, owner, counts)
        return windows.at(window)._replace(phase=visit, trained=trained)

    def _collate(self, windows: Windows) -> WindowBatch:
        lengths, order = windows.lengths.sort()
        windows, number = windows.at(order), None
        if process_group.active():
            # Every n-th window of the sorted ones: like lengths for all.
            ends = windows.trained.cumsum(0)
            mine = slice(process_group.rank(), None, process_group.world())
            windows, ends, lengths = windows.at(mine), ends[mine], lengths[mine].contiguous()
            counts = windows.trained
            owner = torch.repeat_interleave(torch.arange(len(ends)), counts)
            # Pairs stand in the global batch window after window: `ends` is behind a window's last.
            number = torch.arange(len(owner)) + (ends - counts.cumsum(0))[owner]
        # Position of the first item of each window, less the number of items before it.
        shift = torch.repeat_interleave(windows.firsts - (lengths.cumsum(0) - lengths), lengths)
        items = self._dataset.store.items[shift + torch.arange(len(shift))].long()
        margins = windows.before, windows.after
        return WindowBatch(items, lengths, windows.users, *margins, windows.phase, self.visits, number)


class UserLoader(WindowLoader):
    """Windows without margins, a fixed number of them in a batch.

    A user has one window, unless the training sequence is longer than L + 1 items.
    """

    def __len__(self) -> int:
        """Batches of an epoch; with windows at drawn offsets it may have a few more."""
        runs = (self._sizes() + self.stride - 1) // self.stride
        return max(1, math.ceil(int(runs.sum()) / self.step))

    def _batch_of(self, pairs: Tensor) -> Tensor:
        return torch.arange(len(pairs)) // self.step


class MaskedWindowLoader(UserLoader):
    """Windows of at most L items for a model that learns masked ones, a fixed number in a batch.

    Each item of a training sequence is in one window an epoch, but where a run would be a single
    item: RecBole counts no mask at the first place. Batches are RecBole's Interactions of users,
    item lists and lengths, which is all that RecBole's model reads, masked by its transform.
    """

    def _sizes(self) -> Tensor:
        return self._stops - self._begins

    def _windows(self) -> Windows:
        owner, first, items = self._runs()
        longer = items > 1
        owner, first, items = owner[longer], first[longer], items[longer]
        none = torch.zeros_like(owner)
        begins = self._begins[owner] + first
        return Windows(self._users[owner], begins, none, items - 1, none, none, items - 1)

    def _collate(self, windows: Windows) -> Interaction:
        dataset, lengths = self._dataset, windows.lengths
        width = int(lengths.max()) if dataset.trim else dataset.max_item_list_len
        lists = dataset.store.histories(dataset.iid_field, windows.firsts + lengths, lengths, width)
        columns = {
            dataset.uid_field: windows.users,
            dataset.iid_field + self.config["LIST_SUFFIX"]: lists,
            dataset.item_list_length_field: lengths,
        }
        batch = self.transform(dataset, Interaction(columns))  # of all processes: it draws
        return local_shard(batch) if process_group.active() else batch


def require_sequences(model: str, dataset: Any) -> None:
    """Check that a data set has the sequences of its users, for a model that learns from them.

    Raises:
        UserError: it is of pre-split files that carry cut histories.
    """
    if not isinstance(dataset.inter_feat, LazyInteraction):
        raise UserError(
            f"benchmark_filename: {model} is to learn from whole sequences, and these files hold cut "
            "histories; give files with one interaction a line"
            + (", or leave out train_mode=sequences" if None in spec_of(model).modes.values() else "")
        )


def build_window_loader(config: Any, dataset: Any, sampler: Any) -> WindowLoader:
    """Return the loader of whole sequences whose batches have a number of pairs."""
    require_sequences(config["model"], dataset)
    return WindowLoader(config, dataset, sampler, shuffle=config["shuffle"])


def build_user_loader(config: Any, dataset: Any, sampler: Any) -> UserLoader:
    """Return the loader of whole sequences whose batches have a number of users."""
    require_sequences(config["model"], dataset)
    return UserLoader(config, dataset, sampler, shuffle=config["shuffle"])


def build_masked_loader(config: Any, dataset: Any, sampler: Any) -> MaskedWindowLoader:
    """Return the loader of whole sequences for a model that learns masked items.

    Raises:
        UserError: files without sequences, or a training sequence that leaves no item over.
    """
    require_sequences(config["model"], dataset)
    longest = int((dataset.train_end - dataset.store.offsets[:-1]).max())
    items = dataset.item_num - 1
    if min(longest, dataset.max_item_list_len) >= items:
        raise UserError(
            f"MAX_ITEM_LIST_LENGTH: got {dataset.max_item_list_len} with train_mode=sequences, expected less "
            f"than {items}, the number of items: RecBole draws an item that is not in the window"
        )
    loader = MaskedWindowLoader(config, dataset, sampler, shuffle=config["shuffle"])
    if len(loader) < _FEW_STEPS:
        getLogger().warning(
            f"epoch of {len(loader)} steps; train_batch_size, {config['train_batch_size']}, counts windows"
        )
    return loader
