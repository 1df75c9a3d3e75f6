"""RecBole's data sets with exact time order, lazy histories and vectorised splits."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from recbole.data.dataset import SequentialDataset
from recbole.data.interaction import Interaction
from recbole.utils import FeatureSource, FeatureType
from scipy.sparse import coo_matrix
from torch import Tensor

from recbole_disent.data import splits
from recbole_disent.data.click_noise import replace_clicks
from recbole_disent.data.filtering import FilteredDataset
from recbole_disent.data.lazy_interaction import LazyInteraction
from recbole_disent.data.ordering import time_order, value_order
from recbole_disent.data.padded import describe_padded
from recbole_disent.data.store import SequenceStore, flatten_ranges, narrow
from recbole_disent.data.times import TimeTies, numbers_of, order_events
from recbole_disent.errors import UserError
from recbole_disent.recbole import patches

patches.patch_datasets()


class PartDataset(FilteredDataset):
    """Base class of both kinds of data sets, with time order and vectorised splits.

    :meth:`build` sets attributes of each part. ``part`` is train, valid or test. ``history`` contains the
    users and the items of all events of all parts (before any click_noise), and ``train_mask`` marks the
    events of the training part.
    """

    history: tuple[np.ndarray, np.ndarray]
    train_mask: np.ndarray
    sizes: dict[str, int]  # numbers of users, items and interactions before the split
    # Counts of equal times among the events; None without a time column.
    time_ties: TimeTies | None
    # The time of each row and the order of the events. They are None when they are no longer needed.
    _times: Any
    _order: Any
    file_position: Any = None  # the row in the file of each event of a sequence

    part = "all"
    # Whether histories are cut to the longest history of a batch.
    trim = False
    # Whether each held-out row has its own ranking, or all held-out rows of a user share one ranking.
    one_target_per_query = True
    # Number of rows of a user that leave-one-out never holds out.
    rows_kept = 1

    def training_counts(self) -> np.ndarray:
        """Return the number of training clicks of each item: int64 (n_items,)."""
        return np.bincount(self.training_items(), minlength=self.item_num)

    def training_items(self) -> np.ndarray:
        """Return the item of each training click: int (n,)."""
        return self.history[1][self.train_mask]

    def count_row_users(self) -> int:
        """Return the number of users that have a row in this part."""
        return int(self.inter_feat[self.uid_field].bincount().count_nonzero())

    def _change_feat_format(self) -> None:
        self._times = self._order = self.time_ties = None
        if self.time_field in self.inter_feat:
            times = numbers_of(self.inter_feat[self.time_field])
            users = self.inter_feat[self.uid_field].to_numpy()
            items = self.inter_feat[self.iid_field].to_numpy()
            self._order, self.time_ties = order_events(users, times, items)
            if self.config["recbole_time"]:
                times = times.astype(np.float32)
                rounded = time_order(users, times)
                if changed := int((rounded != self._order).sum()):
                    self.note(
                        f"recbole_time: the positions of {changed} events differ from the exact time order, "
                        "because RecBole rounds times to float32"
                    )
                self._order = rounded
            self._times = times
        super()._change_feat_format()

    def _row_times(self) -> np.ndarray:
        """Return the time of each row, in the precision that decides the order: number (rows,)."""
        raise NotImplementedError

    def leave_one_out(self, group_by: str, leave_one_mode: str) -> list[Any]:
        """Split by leave-one-out, as RecBole does, with vectorised code."""
        keys = self.inter_feat[group_by].numpy()
        return self._take(splits.leave_one_out(keys, leave_one_mode, self.rows_kept))

    def split_by_ratio(self, ratios: list[float], group_by: str | None = None) -> list[Any]:
        """Split by ratios, as RecBole does, with vectorised code."""
        shares = [ratio / sum(ratios) for ratio in ratios]
        keys = self.inter_feat[group_by].numpy() if group_by else None
        cuts = lambda size: self._calcu_split_ids(size, shares)  # noqa: E731
        return self._take(splits.by_ratio(keys, len(self.inter_feat), cuts, len(ratios)))

    def time_based_split(self, ratios: list[float], group_by: str) -> list[Any]:
        """Split at one time for all users, as RecBole does, with vectorised code and by the exact time."""
        shares = [ratio / sum(ratios) for ratio in ratios]
        return self._take(splits.by_time(self.inter_feat[group_by].numpy(), self._row_times(), shares))

    def _take(self, parts: list[np.ndarray]) -> list[Any]:
        self._drop_unused_col()
        return [self.copy(self.inter_feat[rows]) for rows in parts]

    def build(self) -> list[Any]:
        """Split into the training, validation and test part.

        Raises:
            UserError: the training part has no rows.
        """
        parts = super().build()
        self._name_parts(parts)
        return parts

    def _name_parts(self, parts: list[Any]) -> None:
        for name, dataset in zip(("train", "valid", "test"), parts, strict=True):
            dataset.part = name
        if not len(parts[0].inter_feat):
            raise UserError(
                f"dataset '{self.dataset_name}': the training part is empty; a user needs at least two "
                "interactions after filtering, and three with a held-out interaction; loosen the filters or "
                "add data"
            )

    def _forget_times(self, parts: list[Any]) -> None:
        """Free the arrays that only the order and the split needed."""
        for dataset in (self, *parts):
            dataset._times = dataset._order = dataset.file_position = None


class SequenceDataset(PartDataset, SequentialDataset):
    """RecBole's SequentialDataset, whose rows are positions in a :class:`SequenceStore`.

    The histories, targets, lengths and splits are the same as RecBole's, in the same order and for every
    field. The memory is proportional to the number of interactions, and not to interactions x maximum length.
    """

    # The position after the last training event of each user: int64 (n_users,).
    train_end: Tensor
    # The number of training clicks of each item: int64 (n_items,); None for pre-split histories.
    _training_counts: np.ndarray | None = None
    takes_histories = True

    def _change_feat_format(self) -> None:
        super()._change_feat_format()  # RecBole augments the data here, except for pre-split files
        # RecBole's pre-augmented benchmark files already contain the histories.
        if self.config["benchmark_filename"] is not None and not self._has_histories():
            self.data_augmentation()

    def _has_histories(self) -> bool:
        return self.benchmark_filename_list is not None and self.history_field in self.inter_feat

    def _benchmark_presets(self) -> None:
        """Do what RecBole does, also for item columns that are not named item_id."""
        if not self._has_histories():
            return
        suffix = self.config["LIST_SUFFIX"]
        for name in list(self.inter_feat):
            if name + suffix in self.inter_feat:
                setattr(self, f"{name}_list_field", name + suffix)
        self.item_id_list_field = self.history_field
        length = self.item_list_length_field
        self._check_length_field({self.uid_field, self.iid_field, self.time_field})
        self.set_field_property(length, FeatureType.TOKEN, FeatureSource.INTERACTION, 1)
        self.inter_feat[length] = [len(history) for history in self.inter_feat[self.history_field]]

    def _check_length_field(self, columns: set[str]) -> None:
        """Refuse a name with which the lengths of the histories would replace a column."""
        if (length := self.item_list_length_field) in columns:
            raise UserError(
                f"ITEM_LIST_LENGTH_FIELD: got '{length}', which is a column of the data, expected another "
                "name, such as item_length"
            )

    def data_augmentation(self) -> None:
        """Sort the events once, and make a row of every event except the first of each user."""
        self._check_field("uid_field", "time_field")
        events = self.inter_feat
        self._check_length_field(set(events))
        self._aug_presets()
        users = events[self.uid_field].numpy()
        order = self._event_order(users, events)
        fields = {name: narrow(events[name][order]) for name in events if name != self.uid_field}
        self.store = store = SequenceStore(users[order], fields, self.iid_field, self.user_num)
        self.file_position = order
        rows = store.later_events()
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
                f"benchmark_filename: no column '{self.time_field}' (TIME_FIELD) is loaded from the files: "
                "the interactions of a user are taken in the order of the lines"
            )
            times = np.zeros(len(users))
        # The history of an event must not contain an event of a later file.
        part = np.repeat(np.arange(len(self.file_size_list)), self.file_size_list)
        return np.lexsort((times, part, users))

    def _row_times(self) -> np.ndarray:
        return self._times[self.file_position[self.inter_feat.rows.numpy()]]

    def sort(self, by: Any, ascending: Any = True) -> None:
        """Sort the rows; a sort by time uses the same precision as the order of the events."""
        if by == self.time_field and self._times is not None and isinstance(self.inter_feat, LazyInteraction):
            self.inter_feat._reindex(torch.from_numpy(value_order(self._row_times())))
        else:
            super().sort(by, ascending)

    def build(self) -> list[Any]:
        """Split into the training, validation and test part (time order only)."""
        if self.benchmark_filename_list is not None and not self._has_histories():
            parts = self._build_from_files()
        else:
            parts = super().build()
        if isinstance(parts[0].inter_feat, LazyInteraction):
            self._note_first_events(parts)
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
        counts = self.store.item_counts(self.item_num, seen)
        for dataset in parts:
            dataset.train_end, dataset.history, dataset.train_mask = stops, history, seen
            dataset._training_counts = counts
        return parts

    def _note_first_events(self, parts: list[Any]) -> None:
        """Say how many held-out events have no row, because they are the first events of their users."""
        if self.benchmark_filename_list is None and self._keeps_first_events():
            return
        first = self.store.offsets[:-1][self.store.offsets.diff() > 0].numpy()
        position = self.file_position[first]
        if self.benchmark_filename_list is not None:
            part = np.searchsorted(np.cumsum(self.file_size_list), position, side="right")
            counts = {parts[n].part: int((part == n).sum()) for n in (1, 2)}
        else:  # split at one time for all users
            latest = max(part._row_times().max(initial=-np.inf) for part in parts[:2])
            late = int((self._times[position] > latest).sum())
            counts = {"test": late if len(parts[2].inter_feat) else 0}
        if told := [f"{count} {part}" for part, count in counts.items() if count]:
            self.note(
                f"{' and '.join(told)} events are the first events of their users: there is no history to "
                "rank them by, so that they are left out (general models rank them)"
            )

    def _build_from_files(self) -> list[Any]:
        self._change_feat_format()
        ends = np.cumsum(self.file_size_list)
        source = self.file_position[self.inter_feat.rows.numpy()]
        which = np.searchsorted(ends, source, side="right")
        # The rows of each part are in the order of the file.
        order = np.argsort(source, kind="stable")
        parts = self._take([order[which[order] == p] for p in range(len(ends))])
        self._name_parts(parts)
        return parts

    def joined_with(self, valid: SequenceDataset) -> SequenceDataset:
        """Return this training part and a validation part as one training part.

        Raises:
            UserError: the files contain histories, which cannot be joined.
        """
        rows, others = self.inter_feat, valid.inter_feat
        if not isinstance(rows, LazyInteraction):
            raise UserError(
                "refit: got True with benchmark files that contain histories, expected files with one "
                "interaction per line; leave refit out"
            )
        both = self.copy(rows.with_rows(torch.cat([rows.rows, others.rows])))
        ends = self.train_end.scatter_reduce(0, self.store.users[others.rows].long(), others.rows + 1, "amax")
        both.train_end = ends
        both.train_mask = np.arange(len(self.store)) < ends[self.store.users.long()].numpy()
        both._training_counts = self.store.item_counts(self.item_num, both.train_mask)
        return both

    def _keeps_first_events(self) -> int:
        """Return 1 if the split always puts a user's first event, which has no row, in the training part.

        With a split at one time for all users, all events of a user may be after that time.
        """
        split, group = self.config["eval_args"]["split"], self.config["eval_args"]["group_by"]
        return int("LS" in split or ("RS" in split and group == "user"))

    def count_row_users(self) -> int:
        """Return the number of users that have a row in this part."""
        if self.part == "train" and isinstance(self.inter_feat, LazyInteraction):
            # The first event of a user has no row. The rows themselves are as many as the events.
            return int((self.train_end - self.store.offsets[:-1] > 1).sum())
        return super().count_row_users()

    def training_counts(self) -> np.ndarray:
        """Return the number of training clicks of each item, after click_noise: int64 (n_items,)."""
        return super().training_counts() if self._training_counts is None else self._training_counts.copy()

    def training_items(self) -> np.ndarray:
        """Return the item of each training click, after click_noise: int (n,)."""
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
        """Return the events of the user before each row.

        Args:
            index: int (n,), rows of the part.

        Returns:
            The position in *index* and the item of each event, both int64 (E,).
        """
        rows = torch.from_numpy(index)
        if not isinstance(self.inter_feat, LazyInteraction):
            lists = self.inter_feat[self.item_id_list_field][rows]
            row, column = lists.nonzero(as_tuple=True)
            return row, lists[row, column]
        ends = self.inter_feat.rows[rows]
        return flatten_ranges(self.store.starts(ends), ends, self.store.items)

    def history_sizes(self, index: np.ndarray) -> np.ndarray:
        """Return the number of events of the user before each row, without a maximum: int64 (n,)."""
        rows = torch.from_numpy(index)
        if not isinstance(self.inter_feat, LazyInteraction):
            return self.inter_feat[self.item_list_length_field][rows].numpy()
        ends = self.inter_feat.rows[rows]
        return (ends - self.store.starts(ends)).numpy()

    def __getitem__(self, index: Any, join: bool = True) -> Interaction:
        rows = self.inter_feat
        batch = rows.gather(index, self.trim) if isinstance(rows, LazyInteraction) else rows[index]
        return self.join(batch) if join else batch

    def inter_matrix(self, form: str = "coo", value_field: str | None = None) -> Any:
        """Return RecBole's user x item matrix of the targets and of the first item of each sequence."""
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
