"""RecBole's data sets with lean loading, lazy histories and vectorised splits."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from recbole.data.dataset import SequentialDataset
from recbole.data.interaction import Interaction, cat_interactions
from recbole.utils import FeatureSource, FeatureType
from scipy.sparse import coo_matrix
from torch import Tensor

from recbole_disent.data import splits
from recbole_disent.data.click_noise import replace_clicks
from recbole_disent.data.filtering import FilteredDataset
from recbole_disent.data.lazy_interaction import LazyInteraction
from recbole_disent.data.padded import describe_padded
from recbole_disent.data.store import SequenceStore, flatten_ranges, time_order
from recbole_disent.data.times import TimeTies, order_events
from recbole_disent.errors import UserError
from recbole_disent.recbole import patches

patches.patch_datasets()


class PartDataset(FilteredDataset):
    """What both kinds of data sets share: time order, vectorised splits.

    After :meth:`build` the parts know each other: ``part`` is train, valid or test,
    ``history`` holds users and items of all events of all parts (before any click_noise), and
    ``train_mask`` marks those of the training part.
    """

    history: tuple[np.ndarray, np.ndarray]
    train_mask: np.ndarray
    # What the times say about the order of the events; None without a time.
    time_ties: TimeTies | None
    # Time of each row and order of the events, while they are needed.
    _times: Any
    _order: Any

    part = "all"
    # Whether histories are cut to the longest of a batch.
    trim = False
    # Whether a held-out row is ranked by itself, or together with the others of its user.
    one_target_per_query = True
    # Rows of a user that leave-one-out never holds out.
    rows_kept = 1

    def training_counts(self) -> np.ndarray:
        """Number of training clicks of each item: int64 (n_items,)."""
        return np.bincount(self.training_items(), minlength=self.item_num)

    def training_items(self) -> np.ndarray:
        """Item of each training click."""
        return self.history[1][self.train_mask]

    def _change_feat_format(self) -> None:
        self._times = self._order = self.time_ties = None
        if self.time_field in self.inter_feat:
            times = _numbers(self.inter_feat[self.time_field])
            users = self.inter_feat[self.uid_field].to_numpy()
            items = self.inter_feat[self.iid_field].to_numpy()
            self._order, self.time_ties = order_events(users, times, items)
            if self.config["recbole_time"]:
                times = times.astype(np.float32)
                rounded = time_order(users, times)
                if changed := int((rounded != self._order).sum()):
                    self.note(
                        f"recbole_time: {changed} events stand in another place than by their exact time, "
                        "for "
                        "RecBole rounds times to float32"
                    )
                self._order = rounded
            self._times = times
        super()._change_feat_format()

    def _row_times(self) -> np.ndarray:
        """Time of each row, as exact as it decides the order: number (rows,)."""
        raise NotImplementedError

    def leave_one_out(self, group_by: str, leave_one_mode: str) -> list[Any]:
        """RecBole's split, vectorised."""
        keys = self.inter_feat[group_by].numpy()
        return self._take(splits.leave_one_out(keys, leave_one_mode, self.rows_kept))

    def split_by_ratio(self, ratios: list[float], group_by: str | None = None) -> list[Any]:
        """RecBole's split, vectorised."""
        shares = [ratio / sum(ratios) for ratio in ratios]
        keys = self.inter_feat[group_by].numpy() if group_by else None
        cuts = lambda size: self._calcu_split_ids(size, shares)  # noqa: E731
        return self._take(splits.by_ratio(keys, len(self.inter_feat), cuts, len(ratios)))

    def time_based_split(self, ratios: list[float], group_by: str) -> list[Any]:
        """RecBole's split, vectorised and by the exact time."""
        shares = [ratio / sum(ratios) for ratio in ratios]
        return self._take(splits.by_time(self.inter_feat[group_by].numpy(), self._row_times(), shares))

    def _take(self, parts: list[np.ndarray]) -> list[Any]:
        self._drop_unused_col()
        return [self.copy(self.inter_feat[rows]) for rows in parts]

    def build(self) -> list[Any]:
        """Split into the training, validation and test part.

        Raises:
            UserError: a part that is needed has no rows.
        """
        parts = super().build()
        self._name_parts(parts)
        return parts

    def _name_parts(self, parts: list[Any]) -> None:
        for name, dataset in zip(("train", "valid", "test"), parts, strict=True):
            dataset.part = name
        if not len(parts[0].inter_feat):
            raise UserError(
                f"dataset '{self.dataset_name}': nothing to train on; a sequence needs at least "
                "two interactions of one user after filtering, a held-out one needs three"
            )

    def _forget_times(self, parts: list[Any]) -> None:
        """Free what only the order and the split needed."""
        for dataset in (self, *parts):
            dataset._times = dataset._order = None


def _numbers(column: Any) -> np.ndarray:
    """A column of numbers, or of pairs (number, weight): float64 (n,)."""
    values = column.to_numpy()
    if values.dtype == object:  # one of numerical_features
        values = np.asarray(values.tolist(), dtype=np.float64)[:, 0]
    return values


class SequenceDataset(PartDataset, SequentialDataset):
    """RecBole's SequentialDataset whose rows are positions in a :class:`SequenceStore`.

    Same histories, targets, lengths and split, in the same order, for every field; memory
    grows with the interactions and not with interactions x maximum length.
    """

    # Per user the position behind the last training event: int64 (n_users,).
    train_end: Tensor
    takes_histories = True

    def _change_feat_format(self) -> None:
        super()._change_feat_format()  # RecBole augments here, but not pre-split files
        # Its own pre-augmented benchmark files carry their histories with them.
        if self.config["benchmark_filename"] is not None and not self._has_histories():
            self.data_augmentation()

    def _has_histories(self) -> bool:
        return self.benchmark_filename_list is not None and self.history_field in self.inter_feat

    def _benchmark_presets(self) -> None:
        """As RecBole's, which knows the histories only where the items are called item_id."""
        if not self._has_histories():
            return
        suffix = self.config["LIST_SUFFIX"]
        for name in list(self.inter_feat):
            if name + suffix in self.inter_feat:
                setattr(self, f"{name}_list_field", name + suffix)
        self.item_id_list_field = self.history_field
        length = self.item_list_length_field
        self.set_field_property(length, FeatureType.TOKEN, FeatureSource.INTERACTION, 1)
        self.inter_feat[length] = [len(history) for history in self.inter_feat[self.history_field]]

    def data_augmentation(self) -> None:
        """Sort the events once; every event but a user's first becomes a row."""
        self._check_field("uid_field", "time_field")
        events = self.inter_feat
        self._aug_presets()
        users = events[self.uid_field].numpy()
        order = self._event_order(users, events)
        fields = {name: events[name][order] for name in events if name != self.uid_field}
        store = SequenceStore(users[order], fields, self.iid_field, self.user_num)
        self.store, self.file_position = store, order
        position = torch.arange(len(store))
        rows = position[position > store.starts(position)]
        suffix = self.config["LIST_SUFFIX"]
        wanted = self.config["history_fields"]
        for field in wanted or []:
            if field not in fields:
                raise UserError(f"history_fields: got '{field}', expected one of {', '.join(fields)}")
        lists = {f + suffix: f for f in fields if wanted is None or f in {*wanted, self.iid_field}}
        self.inter_feat = LazyInteraction(
            store, rows, self.uid_field, self.item_list_length_field, lists, self.max_item_list_len
        )

    def _event_order(self, users: np.ndarray, events: Interaction) -> np.ndarray:
        if self.benchmark_filename_list is None:
            return self._order
        times = self._times
        if times is None:
            self.note(
                f"benchmark_filename: the files have no column '{self.time_field}' (TIME_FIELD) that is "
                "loaded: "
                "the interactions of a user are taken in the order of the lines"
            )
            times = np.zeros(len(users))
        # An event of a later file must never stand in the history of an earlier one's.
        part = np.repeat(np.arange(len(self.file_size_list)), self.file_size_list)
        return np.lexsort((times, part, users))

    def _row_times(self) -> np.ndarray:
        return self._times[self.file_position[self.inter_feat.rows.numpy()]]

    def sort(self, by: Any, ascending: Any = True) -> None:
        """Sort the rows; by time as exactly as the events."""
        if by == self.time_field and self._times is not None and isinstance(self.inter_feat, LazyInteraction):
            self.inter_feat._reindex(torch.from_numpy(np.argsort(self._row_times(), kind="stable")))
        else:
            super().sort(by, ascending)

    def build(self) -> list[Any]:
        """Split into the training, validation and test part (time order only)."""
        if self.benchmark_filename_list is not None and not self._has_histories():
            parts = self._build_from_files()
        else:
            parts = super().build()
        self._forget_times(parts)
        if not isinstance(parts[0].inter_feat, LazyInteraction):
            return describe_padded(parts)
        train = parts[0].inter_feat.rows
        stops = self.store.offsets[:-1] + self._keeps_first_events()
        stops = stops.scatter_reduce(0, self.store.users[train].long(), train + 1, "amax")
        history = self.store.users.numpy(), self.store.items.numpy()
        seen = np.arange(len(self.store)) < stops[self.store.users.long()].numpy()
        if self.config["click_noise"]:
            self._corrupt(seen)
        for dataset in parts:
            dataset.train_end, dataset.history, dataset.train_mask = stops, history, seen
        return parts

    def _build_from_files(self) -> list[Any]:
        self._change_feat_format()
        ends = np.cumsum(self.file_size_list)
        source = self.file_position[self.inter_feat.rows.numpy()]
        which = np.searchsorted(ends, source, side="right")
        # In file order, as the user wrote them.
        order = np.argsort(source, kind="stable")
        parts = self._take([order[which[order] == p] for p in range(len(ends))])
        self._name_parts(parts)
        return parts

    def joined_with(self, valid: SequenceDataset) -> SequenceDataset:
        """Return this training part and a validation part as one training part.

        Raises:
            UserError: the files carry their histories, which cannot be joined.
        """
        rows, others = self.inter_feat, valid.inter_feat
        if not isinstance(rows, LazyInteraction):
            raise UserError("refit: not possible for benchmark files that carry their histories")
        both = self.copy(rows.with_rows(torch.cat([rows.rows, others.rows])))
        ends = self.train_end.scatter_reduce(0, self.store.users[others.rows].long(), others.rows + 1, "amax")
        both.train_end = ends
        both.train_mask = np.arange(len(self.store)) < ends[self.store.users.long()].numpy()
        return both

    def _keeps_first_events(self) -> int:
        """1 where a user's first event is in training by the split itself, without a row.

        A split at one time for all users may put a user's only events behind it.
        """
        split, group = self.config["eval_args"]["split"], self.config["eval_args"]["group_by"]
        return int("LS" in split or ("RS" in split and group == "user"))

    def training_items(self) -> np.ndarray:
        """Item of each training click, corrupted ones as the model sees them."""
        if isinstance(self.inter_feat, LazyInteraction):
            return self.store.items.numpy()[self.train_mask]
        return super().training_items()

    def _corrupt(self, seen: np.ndarray) -> None:
        items = self.store.items.numpy().copy()
        items[seen] = replace_clicks(
            items[seen], self.item_num, self.config["click_noise"], self.config["click_noise_seed"]
        )
        self.store.fields[self.iid_field] = torch.from_numpy(items)

    def earlier(self, index: np.ndarray) -> tuple[Tensor, Tensor]:
        """Events of the user before each row: (place in *index*, item), both int64 (E,)."""
        rows = torch.from_numpy(index)
        if not isinstance(self.inter_feat, LazyInteraction):
            lists = self.inter_feat[self.item_id_list_field][rows]
            place, column = lists.nonzero(as_tuple=True)
            return place, lists[place, column]
        ends = self.inter_feat.rows[rows]
        return flatten_ranges(self.store.starts(ends), ends, self.store.items)

    def __getitem__(self, index: Any, join: bool = True) -> Interaction:
        rows = self.inter_feat
        batch = rows.gather(index, self.trim) if isinstance(rows, LazyInteraction) else rows[index]
        return self.join(batch) if join else batch

    def inter_matrix(self, form: str = "coo", value_field: str | None = None) -> Any:
        """RecBole's user x item matrix: each row's target, and each first row's first item."""
        rows = self.inter_feat
        if not isinstance(rows, LazyInteraction):
            return super().inter_matrix(form, value_field)
        first = rows.rows[rows[self.item_list_length_field] == 1] - 1
        where = torch.cat([rows.rows, first])
        values = np.ones(len(where)) if value_field is None else self.store.fields[value_field][where]
        matrix = coo_matrix(
            (values, (self.store.users[where], self.store.items[where])),
            shape=(self.user_num, self.item_num),
        )
        return matrix if form == "coo" else matrix.asformat(form)


class InteractionDataset(PartDataset):
    """RecBole's Dataset for general models, with the held-out rows of :class:`SequenceDataset`.

    A user's first interaction is never a target of a sequential model, and the second one
    must be left for training; so one more row than in RecBole is never held out.
    """

    rows_kept = 2
    one_target_per_query = False
    # Begin and end of each user's events of the earlier parts, and these events' items.
    _earlier: tuple[Tensor, Tensor, Tensor] | None = None

    def _row_times(self) -> np.ndarray:
        return self._times

    def sort(self, by: Any, ascending: Any = True) -> None:
        """Sort the rows; by time as exactly as sequences are."""
        if by == self.time_field and self._times is not None:
            order = np.argsort(self._times, kind="stable")
            self.inter_feat._reindex(torch.from_numpy(order))
            self._times = self._times[order]
        else:
            super().sort(by, ascending)

    def build(self) -> list[Any]:
        """Split into the training, validation and test part."""
        parts = super().build()
        sizes = [len(part.inter_feat) for part in parts]
        history = tuple(
            np.concatenate([part.inter_feat[field].numpy() for part in parts])
            for field in (self.uid_field, self.iid_field)
        )
        if self.benchmark_filename_list is not None and self._times is not None:
            # The order of the events within a file, as sequences have it.
            order = np.lexsort((self._times, np.repeat(np.arange(3), sizes)))
            history = tuple(side[order] for side in history)
        self._forget_times(parts)
        seen = np.arange(sum(sizes)) < sizes[0]
        if self.config["click_noise"]:
            self._corrupt(parts[0].inter_feat)
        for number, dataset in enumerate(parts):
            dataset.history, dataset.train_mask = history, seen
            dataset._earlier_parts = parts[:number]
        return parts

    def joined_with(self, valid: InteractionDataset) -> InteractionDataset:
        """Return this training part and a validation part as one training part."""
        both = self.copy(cat_interactions([self.inter_feat, valid.inter_feat]))
        both.train_mask = np.arange(len(self.train_mask)) < len(both.inter_feat)
        return both

    def earlier(self, index: np.ndarray) -> tuple[Tensor, Tensor]:
        """Events of the user in earlier parts: (place in *index*, item), both int64 (E,)."""
        if self._earlier is None:
            users = torch.cat([part.inter_feat[self.uid_field] for part in self._earlier_parts])
            items = torch.cat([part.inter_feat[self.iid_field] for part in self._earlier_parts])
            ends = users.bincount(minlength=self.user_num).cumsum(0)
            begins = torch.cat([ends.new_zeros(1), ends[:-1]])
            self._earlier = begins, ends, items[users.argsort(stable=True)]
        begins, ends, items = self._earlier
        wanted = self.inter_feat[self.uid_field][torch.from_numpy(index)]
        return flatten_ranges(begins[wanted], ends[wanted], items)

    def _corrupt(self, train: Interaction) -> None:
        """Replace the same clicks as in :class:`SequenceDataset`: users ascending, then time."""
        order = np.argsort(train[self.uid_field].numpy(), kind="stable")
        items = train[self.iid_field].numpy().copy()
        items[order] = replace_clicks(
            items[order], self.item_num, self.config["click_noise"], self.config["click_noise_seed"]
        )
        train[self.iid_field] = torch.from_numpy(items)
