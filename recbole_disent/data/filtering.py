"""RecBole's ids and filters; dropped interactions are counted, and a column and its lists share their ids."""

from __future__ import annotations

from typing import Any

import numpy as np
from recbole.utils import EvaluatorType, FeatureType

from recbole_disent.config.intervals import check_interval
from recbole_disent.data.ids import Counted, TokenIds, shared_ids
from recbole_disent.data.reading import AtomicDataset
from recbole_disent.errors import UserError


class FilteredDataset(AtomicDataset):
    """A data set whose filters log and count the interactions that they drop."""

    # -- ids ---------------------------------------------------------------------------

    def _get_preset(self) -> None:
        super()._get_preset()
        self.field2token_id = TokenIds(self.field2id_token)

    def _remap(self, remap_list: list[tuple[Any, str, FeatureType]]) -> None:
        """Do what RecBole does, without a Python object for each row of a column of categories."""
        if not remap_list or any(kind != FeatureType.TOKEN for _, _, kind in remap_list):
            super()._remap(remap_list)
            return
        ids, tokens = shared_ids([feat[field] for feat, field, _ in remap_list])
        for (feat, field, _), numbers in zip(remap_list, ids, strict=True):
            feat[field] = numbers
            self.field2id_token.setdefault(field, tokens)

    def _set_alias(self, alias_name: str, default_value: list[str]) -> None:
        given = self.config[f"alias_of_{alias_name}"] or []
        if not isinstance(given, list):
            raise UserError(f"alias_of_{alias_name}: got {given!r}, expected a list of columns")
        for name in given:
            if name not in self._token_fields():
                raise UserError(
                    f"alias_of_{alias_name}: got '{name}', which is not a loaded column of tokens; expected "
                    f"some of {', '.join(self._token_fields())}"
                )
        super()._set_alias(alias_name, default_value)

    def _token_fields(self) -> list[str]:
        """Return the columns of tokens, including columns of additional files, which RecBole's list lacks."""
        tokens = (FeatureType.TOKEN, FeatureType.TOKEN_SEQ)
        return [name for name, kind in self.field2type.items() if kind in tokens]

    def _init_alias(self) -> None:
        """Do what RecBole does, and let a column and the column of its lists (item_id_list) share ids."""
        super()._init_alias()
        suffix, tokens = self.config["LIST_SUFFIX"], self._token_fields()
        aliased = {str(name) for names in self.alias.values() for name in names}
        for name in tokens:
            base = name.removesuffix(suffix)
            if name in aliased or not name.endswith(suffix) or base not in tokens:
                continue
            group = next((key for key, names in self.alias.items() if base in names), base)
            self.alias[group] = np.append(self.alias.get(group, np.array([base])), name)
        aliased = {str(name) for names in self.alias.values() for name in names}
        self._rest_fields = np.array([name for name in tokens if name not in aliased], dtype=object)

    # -- statistics --------------------------------------------------------------------

    @property
    def avg_actions_of_users(self) -> float:
        """Mean number of rows of the users that have rows, as in RecBole."""
        return self._mean_count(self.uid_field)

    @property
    def avg_actions_of_items(self) -> float:
        """Mean number of rows of the items that have rows, as in RecBole."""
        return self._mean_count(self.iid_field)

    def _mean_count(self, field: str) -> float:
        counts = np.bincount(np.asarray(self.inter_feat[field]))
        return float(np.mean(counts[counts > 0]))

    # -- filters -----------------------------------------------------------------------

    def _data_filtering(self) -> None:
        for rule, step in (
            ("rm_dup_inter", self._remove_duplication),
            ("val_interval", self._filter_by_field_value),
            ("filter_inter_by_user_or_item", self._filter_inter_by_user_or_item),
            ("user_inter_num_interval, item_inter_num_interval", self._filter_by_inter_num),
        ):
            events = len(self.inter_feat)
            step()
            dropped = events - len(self.inter_feat)
            if not dropped:
                continue
            self.reading.drop(rule, dropped)
            text = f"{rule}: {dropped} of {events} interactions were left out"
            if rule == "filter_inter_by_user_or_item":
                text += (
                    " because the .user or .item file has no line for them; complete the file, or set "
                    "filter_inter_by_user_or_item=False"
                )
            self.note(text)
            if dropped == events:
                raise UserError(
                    f"{rule}: no interaction is left of {events}; loosen the filter"
                    + (" or set filter_inter_by_user_or_item=False" if "filter_inter" in rule else "")
                )
        self._reset_index()

    def _remove_duplication(self) -> None:
        """Do what RecBole does, but with a stable sort, which keeps equal times in the order of the file."""
        if (
            self.config["rm_dup_inter"]
            and not self.config["recbole_time"]
            and self.time_field in self.inter_feat
        ):
            self.inter_feat.sort_values(by=self.time_field, kind="stable", inplace=True)
            self.inter_feat.drop_duplicates(
                subset=[self.uid_field, self.iid_field], keep=self.config["rm_dup_inter"], inplace=True
            )
        else:
            super()._remove_duplication()

    def _filter_inter_by_user_or_item(self) -> None:
        """Do what RecBole does, which copies the interactions even if there is nothing to compare with."""
        if self.user_feat is not None or self.item_feat is not None:
            super()._filter_inter_by_user_or_item()

    def _filter_by_inter_num(self) -> None:
        """Do what RecBole does, with arrays of counts: drop users and items until all counts are allowed."""
        fields = {"user": self.uid_field, "item": self.iid_field}
        intervals = {
            kind: self._parse_intervals_str(self.config[f"{kind}_inter_num_interval"]) for kind in fields
        }
        if all(map(_allows_all, intervals.values())):
            return
        counted = {
            kind: Counted(self.inter_feat[field], getattr(self, f"{kind}_feat"), field)
            for kind, field in fields.items()
        }
        kept = np.ones(len(self.inter_feat), dtype=bool)
        while True:
            banned = {kind: self._banned(counted[kind], intervals[kind], kept) for kind in fields}
            if not any(ids.any() for ids in banned.values()):
                break
            for kind, ids in banned.items():
                kept &= ~ids[counted[kind].codes]
                setattr(self, f"{kind}_feat", counted[kind].without(ids))
        if not kept.all():
            self.inter_feat = self.inter_feat[kept]

    def _banned(self, counted: Counted, intervals: Any, kept: np.ndarray) -> np.ndarray:
        """Return whether the number of interactions of each id is not allowed: bool (ids,)."""
        counts = np.bincount(counted.codes[kept], minlength=counted.n_ids)
        if not intervals:
            return np.zeros(counted.n_ids, dtype=bool)
        banned = (counts > 0) & ~np.asarray(self._within_intervals(counts, intervals), dtype=bool)
        # RecBole compares the rows of features with the first lower bound only.
        banned[counted.rows] |= counts[counted.rows] < intervals[0][1]
        return banned

    def _filter_by_field_value(self) -> None:
        for name, wanted in (self.config["val_interval"] or {}).items():
            if name not in self.field2type:
                raise UserError(
                    f"val_interval: got '{name}', which is not a loaded column; add it to load_col (loaded: "
                    f"{', '.join(self.field2type)})"
                )
            if self.field2type[name] == FeatureType.FLOAT:
                check_interval(f"val_interval: {name}", wanted)
            elif self.field2type[name] != FeatureType.TOKEN or not isinstance(wanted, list):
                raise UserError(
                    f"val_interval: {name}: got {wanted!r}, expected a list of tokens such as ['a', 'b'] for "
                    f"a token column, or an interval for a float column; '{name}' has the type "
                    f"{self.field2type[name].value}"
                )
        super()._filter_by_field_value()

    def _set_label_by_threshold(self) -> None:
        """Do what RecBole does, and raise an error if all labels are equal."""
        threshold = self.config["threshold"]
        if not threshold:
            return
        name, value = next(iter(threshold.items()))
        if name not in self.inter_feat:
            raise UserError(
                f"threshold: got '{name}', which is not a loaded column of the interactions; add it to "
                f"load_col (loaded: {', '.join(self.inter_feat)})"
            )
        values = self.inter_feat[name]
        positive = float((values >= value).mean())
        if positive in (0.0, 1.0):
            raise UserError(
                f"threshold: {{'{name}': {value}}} leaves no {'positive' if positive == 0 else 'negative'} "
                f"interaction; choose a threshold within the values of '{name}', which range from "
                f"{values.min():g} to {values.max():g}"
            )
        if self.config["eval_type"] == EvaluatorType.RANKING:
            self.note(
                "threshold: labels are used by value metrics such as AUC; ranking metrics treat every "
                "interaction as positive, whatever its label (val_interval leaves interactions out)"
            )
        super()._set_label_by_threshold()


def _allows_all(intervals: Any) -> bool:
    """Return whether no number of interactions is outside RecBole's parsed intervals."""
    return not intervals or any(low <= 0 and high == np.inf for _, low, high, _ in intervals[:1])
