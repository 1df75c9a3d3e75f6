"""Loaders of windows of training sequences, for models that learn from all positions at once."""

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
from recbole_disent.data.store import narrow
from recbole_disent.errors import UserError
from recbole_disent.loaders.batch import WindowBatch, trained_pairs
from recbole_disent.loaders.sharding import local_shard, own_users
from recbole_disent.ops.memory import release_memory
from recbole_disent.parallel import process_group
from recbole_disent.registry import spec_of

# Number of batches after which the loader returns freed memory; this takes less than 1 % of their time.
_RELEASE_EVERY = 50
# An epoch with fewer steps than this changes the model so little that early stopping may end the training.
_FEW_STEPS = 10


class Windows(NamedTuple):
    """Windows of training sequences; each field is int64 (W,), or int32 (W,) after :meth:`narrowed`.

    Attributes:
        users: internal user id.
        firsts: position of the first item in the store.
        before, counts, after: number of items before the pairs, of pairs, and of items after the pairs;
            see :class:`~recbole_disent.loaders.batch.WindowBatch`.
        phase, trained: index of the first pair that is trained, and number of pairs that are trained.
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
        """Number of items of each window."""
        return self.before + self.counts + 1 + self.after

    def at(self, index: Any) -> Windows:
        """Return the windows that *index* selects, with int64 fields."""
        return Windows(*(part[index].long() for part in self))

    def narrowed(self) -> Windows:
        """Return the windows with int32 fields where the values allow it."""
        return Windows(*map(narrow, self))


class WindowLoader(TrainDataLoader):
    """Loader of whole training sequences; an epoch contains each target of the training part once.

    L is the maximum length of a history. A sequence of n pairs is one window if n <= :attr:`stride`, which
    is L by default. The pairs of a longer sequence are cut into runs of :attr:`stride` pairs, at an offset
    that is drawn at random in each epoch. Each run becomes a window. The window also contains items before
    and after the run, which extend the pasts and the futures: all items of the sequence if n <= L, else at
    most L - :attr:`stride` items on each side, so that no past and no future is longer than L items. The
    positions in a window start at 0.

    If ``passes_per_window`` is k, an epoch contains each window k times, each time with every k-th pair.
    If ``train_windows`` is ``last``, an epoch contains only the last :attr:`stride` pairs of each sequence.
    The windows are always shuffled, and the batches are made in this process; RecBole's keys ``shuffle``
    and ``worker`` have no effect.
    """

    # Each batch already is the shard of one process (loaders/sharding.py).
    shards_itself = True
    # Whether the loader can give each process the windows of its own users (key divide_users).
    divides_users = True

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
        """Maximum number of pairs of a window."""
        return self.config["targets_per_window"] or self._dataset.max_item_list_len

    @property
    def visits(self) -> int:
        """Number of times that an epoch contains a window."""
        return self.config["passes_per_window"] or 1  # some models do not have the key

    def _sizes(self) -> Tensor:
        """Return the number of pairs of each sequence, which are cut into runs: int64 (users,)."""
        return self._stops - self._begins - 1

    @property
    def _keeps_last(self) -> bool:
        return self.config["train_windows"] == "last"  # models without the key train on all windows

    def __len__(self) -> int:
        """Maximum number of batches of an epoch; there are fewer if a window has more pairs than a batch."""
        return max(1, math.ceil(int(self._sizes().sum()) / self.step))

    def __iter__(self) -> Iterator[WindowBatch]:
        windows = self._windows().narrowed()  # all windows of the epoch are in memory
        order = torch.randperm(len(windows.users), generator=self.generator)
        batch = self._batch_of(windows.trained[order])
        cuts = (batch[1:] != batch[:-1]).nonzero()[:, 0] + 1
        bounds = [0, *cuts.tolist(), len(order)]
        del batch, cuts
        for number, (begin, end) in enumerate(pairwise(bounds), start=1):
            if number % _RELEASE_EVERY == 0:
                release_memory()
            yield self._collate(windows.at(order[begin:end]))

    def _batch_of(self, pairs: Tensor) -> Tensor:
        """Return the index of each window's batch, int64 (W,), from the number of pairs of each window."""
        return (pairs.cumsum(0) - 1) // self.step  # the batch that contains the window's last pair

    def _runs(self) -> tuple[Tensor, Tensor, Tensor]:
        """Cut the sequences into the runs of an epoch.

        Returns:
            Three tensors, int64 (W,): the sequence of each run, the position in the sequence where the run
            begins, and the size of the run.
        """
        sizes, stride = self._sizes(), self.stride
        offset = torch.zeros_like(sizes)
        if not self._keeps_last:  # an offset makes the first run shorter
            drawn = torch.randint(stride, sizes.shape, generator=self.generator)
            offset = torch.where(sizes <= stride, 0, drawn)
        runs = (sizes + offset + stride - 1) // stride
        owner = torch.repeat_interleave(torch.arange(len(sizes)), runs)
        run = torch.arange(len(owner)) - (runs.cumsum(0) - runs)[owner]
        begin = run * stride - offset[owner]
        first = begin.clamp(min=0)
        return owner, first, torch.minimum(begin + stride, sizes[owner]) - first

    def _windows(self) -> Windows:
        """Return the windows of an epoch."""
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

    def _local(self, users: Tensor) -> Any:
        """Return the index of this process's windows in a batch that is sorted by length."""
        if self.config["divide_users"]:
            return own_users(self._dataset.store, users).nonzero()[:, 0]
        # Each process takes every n-th window, so that all have similar lengths.
        return slice(process_group.rank(), None, process_group.world())

    def _collate(self, windows: Windows) -> WindowBatch:
        lengths, order = windows.lengths.sort()
        windows, number = windows.at(order), None
        if process_group.active():
            ends = windows.trained.cumsum(0)
            local = self._local(windows.users)
            windows, ends, lengths = windows.at(local), ends[local], lengths[local].contiguous()
            counts = windows.trained
            owner = torch.repeat_interleave(torch.arange(len(ends)), counts)
            # The global batch lists the pairs window by window; `ends` is the index after a window's last.
            number = torch.arange(len(owner)) + (ends - counts.cumsum(0))[owner]
        # The position in the store of each window's first item, minus the index of the item in the batch.
        shift = torch.repeat_interleave(windows.firsts - (lengths.cumsum(0) - lengths), lengths)
        items = self._dataset.store.items[shift + torch.arange(len(shift))].long()
        margins = windows.before, windows.after
        return WindowBatch(items, lengths, windows.users, *margins, windows.phase, self.visits, number)


class UserLoader(WindowLoader):
    """Loader of windows without margins, with a fixed number of windows in a batch.

    Each user has one window, unless the training sequence is longer than L + 1 items.
    """

    def __len__(self) -> int:
        """Number of batches of an epoch; randomly drawn offsets can add a few batches."""
        runs = (self._sizes() + self.stride - 1) // self.stride
        return max(1, math.ceil(int(runs.sum()) / self.step))

    def _batch_of(self, pairs: Tensor) -> Tensor:
        return torch.arange(len(pairs)) // self.step


class MaskedWindowLoader(UserLoader):
    """Loader of windows of at most L items for a model that learns to predict masked items.

    A batch has a fixed number of windows. An epoch contains each item of a training sequence in one window,
    except for items in a run of length 1, because RecBole ignores a mask at the first position. A batch is
    an Interaction of RecBole with users, item lists and lengths, which are the only columns that RecBole's
    model reads. RecBole's transform masks the items.
    """

    divides_users = False  # the masks are drawn for a whole batch

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
        batch = self.transform(dataset, Interaction(columns))  # draws the same numbers in all processes
        return local_shard(batch) if process_group.active() else batch


def require_sequences(model: str, dataset: Any) -> None:
    """Check that a data set contains whole sequences, for a model that learns from whole sequences.

    Raises:
        UserError: the data set consists of pre-split files with cut histories.
    """
    if not isinstance(dataset.inter_feat, LazyInteraction):
        raise UserError(
            f"benchmark_filename: {model} learns from whole sequences, but these files contain cut "
            "histories; use files with one interaction per line"
            + (", or leave out train_mode=sequences" if None in spec_of(model).modes.values() else "")
        )


def build_window_loader(config: Any, dataset: Any, sampler: Any) -> WindowLoader:
    """Return the loader of whole sequences whose batch size is a number of pairs."""
    require_sequences(config["model"], dataset)
    return WindowLoader(config, dataset, sampler, shuffle=config["shuffle"])


def build_user_loader(config: Any, dataset: Any, sampler: Any) -> UserLoader:
    """Return the loader of whole sequences whose batch size is a number of windows."""
    require_sequences(config["model"], dataset)
    return UserLoader(config, dataset, sampler, shuffle=config["shuffle"])


def build_masked_loader(config: Any, dataset: Any, sampler: Any) -> MaskedWindowLoader:
    """Return the loader of whole sequences for a model that learns to predict masked items.

    Raises:
        UserError: the files contain no whole sequences, or a window may contain all items.
    """
    require_sequences(config["model"], dataset)
    longest = int((dataset.train_end - dataset.store.offsets[:-1]).max())
    items = dataset.item_num - 1
    if min(longest, dataset.max_item_list_len) >= items:
        raise UserError(
            f"MAX_ITEM_LIST_LENGTH: got {dataset.max_item_list_len} with train_mode=sequences, expected less "
            f"than {items}, the number of items, because RecBole draws an item that is not in the window"
        )
    loader = MaskedWindowLoader(config, dataset, sampler, shuffle=config["shuffle"])
    if len(loader) < _FEW_STEPS:
        getLogger().warning(
            f"an epoch has only {len(loader)} steps: train_batch_size={config['train_batch_size']} is a "
            "number of windows; set a smaller train_batch_size"
        )
    return loader
