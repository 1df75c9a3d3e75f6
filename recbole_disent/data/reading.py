"""RecBole's data set with this package's reading of files, which reports every fault.

Everything that the reading leaves out or changes is counted in :class:`ReadingLog` and logged.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from recbole.data.dataset import Dataset
from recbole.utils import FeatureSource, FeatureType

from recbole_disent.data.atomic_files import (
    AtomicFile,
    Columns,
    check_header,
    read_file,
    require_columns,
)
from recbole_disent.data.download import download
from recbole_disent.data.times import parse_times
from recbole_disent.errors import UserError

_FIELDS = ("USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD")
_SEQUENCES = (FeatureType.TOKEN_SEQ, FeatureType.FLOAT_SEQ)


@dataclass
class ReadingLog:
    """Counts of the lines that were read, left out or changed.

    Attributes:
        lines: number of lines of each file, without the header and empty lines.
        dropped: number of interactions that each rule left out.
        missing: number of cells without a value in each column of a file; such cells are filled.
        times: first and last time in the files; None without a time column.
        notes: sentences about everything that was left out or changed or that is unusual.
        files: names of the files that were opened.
    """

    lines: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=dict)
    times: tuple[float, float] | None = None
    notes: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)

    def drop(self, rule: str, count: int) -> None:
        """Count interactions that a rule left out."""
        if count:
            self.dropped[rule] = self.dropped.get(rule, 0) + count


class AtomicDataset(Dataset):
    """RecBole's Dataset with this package's reading of files."""

    inter_feat: Any
    reading: ReadingLog

    # Number of cut histories in pre-split files.
    _cut = 0
    # Path and requested columns of the first pre-split file.
    _first_file: tuple[str, set[str]] | None = None
    # Whether the histories in pre-split files are read, as sequential models need them.
    takes_histories = False

    def note(self, text: str) -> None:
        """Log a sentence about the data as a warning, and add it to the data report."""
        self.logger.warning(text)
        self.reading.notes.append(text)

    @property
    def history_field(self) -> str:
        """Name of the column that contains the histories in pre-split files."""
        return self.iid_field + self.config["LIST_SUFFIX"]

    # -- files -------------------------------------------------------------------------

    def _get_preset(self) -> None:
        super()._get_preset()
        self.reading = ReadingLog()

    def _load_inter_feat(self, token: str, dataset_path: str) -> None:
        self._cut, self._first_file = 0, None
        super()._load_inter_feat(token, dataset_path)
        if self._cut:
            limit = self.config["MAX_ITEM_LIST_LENGTH"]
            self.note(
                f"{self.history_field}: {self._cut} histories are longer than MAX_ITEM_LIST_LENGTH={limit}: "
                f"the last {limit} items of each are kept"
            )
        if self.benchmark_filename_list is not None and len(self.file_size_list) == 2:
            self.file_size_list.insert(1, 0)  # with only two files, the validation part is empty

    def _load_user_or_item_feat(self, token: str, folder: str, source: Any, field_name: str) -> Any:
        suffix = source.value
        path = os.path.join(folder, f"{token}.{suffix}")
        given = "load_col" in self.config.external_config_dict
        if given and (self.config["load_col"] or {}).get(suffix) and not os.path.isfile(path):
            raise UserError(
                f"load_col: got columns of {suffix}, but there is no file {path}; leave {suffix} out, or add "
                "the file"
            )
        return super()._load_user_or_item_feat(token, folder, source, field_name)

    def _load_data(self, token: str, folder: str) -> None:
        super()._load_data(token, folder)
        if "seq_len" in self.config.external_config_dict:
            for name in self.config["seq_len"] or {}:
                if self.field2type.get(name) not in _SEQUENCES:
                    self.note(f"seq_len: '{name}' has no effect, because no sequence of this name is loaded")

    def _load_feat(self, filepath: str, source: Any) -> Any:
        separator, encoding = self.config["field_separator"], self.config["encoding"]
        suffix = getattr(source, "value", source)  # the source of an additional file is a plain string
        load, unload = self._get_load_and_unload_col(source)
        if load == set():  # no column is requested, so that the file is not checked
            return None
        self.reading.files.append(os.path.basename(filepath))
        header = check_header(filepath, separator, encoding)
        found = dict(header)
        interactions = source == FeatureSource.INTERACTION
        if interactions:
            self._require_fields(filepath, found)
            load = None if load is None else load | self._columns_that_decide(found)
        wanted = [
            (name, kind)
            for name, kind in header
            if (load is None or name in load) and (not unload or name not in unload)
        ]
        if "load_col" in self.config.external_config_dict:
            requested = (load or set()) - {self.config[key] for key in _FIELDS}
            require_columns("load_col", filepath, suffix, requested, set(found))
        if "unload_col" in self.config.external_config_dict:
            require_columns("unload_col", filepath, suffix, unload or set(), set(found))
        if not wanted:
            self.note(f"{filepath}: load_col and unload_col select no column of the file")
            return None
        if interactions:
            self._require_alike(filepath, {name for name, _ in wanted})
            wanted = [(name, self._kind_of(filepath, name, kind)) for name, kind in wanted]
        read = [(name, found[name]) for name, _ in wanted]
        sequences = self.config["seq_separator"]
        file = read_file(filepath, header, read, separator, sequences, encoding, interactions)
        self.reading.lines[os.path.basename(filepath)] = len(file.frame)
        if interactions:
            self._clean_interactions(file)
        else:
            self._clean_features(file, source)
        self._count_missing(file, wanted)
        self._set_properties(source, wanted, file.frame)
        return file.frame

    def _columns_that_decide(self, found: dict[str, FeatureType]) -> set[str]:
        """Return the columns of a pre-split file that are read even if ``load_col`` does not name them.

        These are the histories, or the times, which decide the order of the events.
        """
        if self.benchmark_filename_list is None:
            return set()
        given = self.takes_histories and self.history_field in found
        return {self.history_field if given else self.time_field} & set(found)

    def _require_fields(self, filepath: str, found: dict[str, FeatureType]) -> None:
        for key in _FIELDS:
            name = self.config[key]
            if not name:
                continue
            if name in (self.config["unload_col"] or {}).get("inter", []) and (
                key != "TIME_FIELD" or self._needs_time()
            ):
                raise UserError(
                    f"unload_col: got '{name}' for inter, which every run needs ({key}); remove '{name}' "
                    "from unload_col"
                )
            if name not in found:
                if key != "TIME_FIELD" or self._needs_time():
                    raise UserError(
                        f"{filepath}, line 1: got the columns {', '.join(sorted(found))}, expected '{name}' "
                        f"among them; rename a column, or set {key}"
                    )
            elif key != "TIME_FIELD" and found[name] != FeatureType.TOKEN:
                raise UserError(
                    f"{filepath}, line 1: got '{name}:{found[name].value}', expected '{name}:token', because "
                    "ids are compared as texts"
                )
            elif key == "TIME_FIELD" and found[name] in _SEQUENCES:
                raise UserError(
                    f"{filepath}, line 1: got '{name}:{found[name].value}', expected '{name}:float'"
                )

    def _require_alike(self, filepath: str, names: set[str]) -> None:
        """Check that all pre-split files have the same columns; RecBole would fill missing columns."""
        path, expected = self._first_file or (filepath, names)
        self._first_file = path, expected
        if names != expected:
            raise UserError(
                f"{filepath}, line 1: got the columns {', '.join(sorted(names))}, expected "
                f"{', '.join(sorted(expected))} as in {path}"
            )

    def _needs_time(self) -> bool:
        return self.config["eval_args"]["order"] == "TO" and not self.benchmark_filename_list

    def _kind_of(self, filepath: str, name: str, kind: FeatureType) -> FeatureType:
        """Return the type of a column after reading; a time is a number even if the header says token."""
        if name == self.time_field:
            return FeatureType.FLOAT
        if name == self.history_field and self.takes_histories and kind != FeatureType.TOKEN_SEQ:
            raise UserError(f"{filepath}, line 1: got '{name}:{kind.value}', expected '{name}:token_seq'")
        return kind

    def _set_properties(self, source: Any, wanted: Columns, frame: pd.DataFrame) -> None:
        """Set type, source and length of each column, as RecBole does; ``seq_len`` cuts sequences."""
        limits = self.config["seq_len"] or {}
        for name, kind in wanted:
            if kind in _SEQUENCES and name in limits:
                frame[name] = [values[: limits[name]] for values in frame[name]]
            if source == "link":
                continue
            self.field2source[name] = source
            self.field2type[name] = kind
            self.field2seqlen[name] = max(map(len, frame[name]), default=0) if kind in _SEQUENCES else 1
            if kind in (FeatureType.FLOAT, FeatureType.FLOAT_SEQ):
                self.field2bucketnum[name] = 2

    # -- lines -------------------------------------------------------------------------

    def _clean_interactions(self, file: AtomicFile) -> None:
        part, count = self._part_of(file.path), len(file.frame)
        if not count and part != "valid":
            raise UserError(f"{file.path}: no line after the header, expected one interaction per line")
        timed = self.time_field in file.frame
        self._parse_times(file)
        missing = (
            ~np.isfinite(file.frame[self.time_field].to_numpy()) if timed else np.zeros(len(file.lines), bool)
        )
        drop = self.config["missing_time"] == "drop"
        for row in np.flatnonzero(file.short & ~(missing & drop))[:1]:
            raise UserError(
                f"{file.path}, line {file.lines[row]}: got {file.cells[row]} cells, expected "
                f"{len(file.header)} separated by {self.config['field_separator']!r} (field_separator); "
                "complete or delete the line"
            )
        if missing.any() and not drop:
            row = int(np.flatnonzero(missing)[0])
            raise UserError(
                f"{file.path}, line {file.lines[row]}: {self.time_field}: no time; complete or delete the "
                f"{int(missing.sum())} such lines, or set missing_time=drop to leave them out"
            )
        self._leave_out(file, missing, "missing_time", f"{self.time_field} is missing")
        for name in (self.uid_field, self.iid_field):
            if name in file.frame:
                self._leave_out(
                    file, file.frame[name].isnull().to_numpy(), "missing id", f"{name} is missing"
                )
        if self.takes_histories and self.history_field in file.frame:
            self._clean_histories(file)
        if not len(file.frame) and part != "valid":
            raise UserError(
                f"{file.path}: no interaction is left of the {count} lines; complete their users, items, "
                "times and histories"
            )
        if timed and len(file.frame):
            times = file.frame[self.time_field].to_numpy()
            first, last = self.reading.times or (np.inf, -np.inf)
            self.reading.times = min(first, float(times.min())), max(last, float(times.max()))

    def _clean_histories(self, file: AtomicFile) -> None:
        """Cut the lists of a pre-split file to their last items, and leave out rows without a history."""
        frame, suffix = file.frame, self.config["LIST_SUFFIX"]
        lengths = np.array([len(history) for history in frame[self.history_field]], dtype=np.int64)
        self._leave_out(file, lengths == 0, "empty history", f"{self.history_field} is empty")
        frame, lengths = file.frame, lengths[lengths > 0]
        kinds, limit = dict(file.header), self.config["MAX_ITEM_LIST_LENGTH"]
        for name in frame:
            if (
                kinds[name] not in _SEQUENCES
                or name.removesuffix(suffix) not in frame
                or not name.endswith(suffix)
            ):
                continue
            if name in (self.config["seq_len"] or {}):
                raise UserError(
                    f"seq_len: got '{name}', which is a history; set MAX_ITEM_LIST_LENGTH to cut histories"
                )
            for row in np.flatnonzero([len(v) for v in frame[name]] != lengths)[:1]:
                raise UserError(
                    f"{file.path}, line {file.lines[row]}: {name} has {len(frame[name][row])} entries, "
                    f"expected {lengths[row]} as in {self.history_field}"
                )
            frame[name] = [values[-limit:] for values in frame[name]]
        self._cut += int((lengths > limit).sum())

    def _part_of(self, path: str) -> str | None:
        names = self.benchmark_filename_list or []
        if len(names) == 3 and os.path.basename(path) == f"{self.dataset_name}.{names[1]}.inter":
            return "valid"
        return None

    def _parse_times(self, file: AtomicFile) -> None:
        """Convert a time column of the type token, with numbers or ISO dates, to seconds since 1970."""
        if dict(file.header).get(self.time_field) != FeatureType.TOKEN or self.time_field not in file.frame:
            return
        texts = file.frame[self.time_field]
        codes, distinct = pd.factorize(texts)
        times = np.append(parse_times(pd.Series(distinct, dtype=object)), np.nan)[codes]
        for row in np.flatnonzero(np.isnan(times) & texts.notnull().to_numpy())[:1]:
            raise UserError(
                f"{file.path}, line {file.lines[row]}: {self.time_field}: got {texts.iloc[row]!r}, expected "
                "a number or an ISO date such as 2021-05-31 or 2021-05-31T18:00:00"
            )
        file.frame[self.time_field] = times

    def _leave_out(self, file: AtomicFile, rows: np.ndarray, rule: str, why: str) -> None:
        if rows.any():
            count = int(rows.sum())
            self.note(f"{file.path}: {why} in {file.told(rows)}: {count} interactions were left out")
            self.reading.drop(rule, count)
            file.keep(~rows)

    def _clean_features(self, file: AtomicFile, source: Any) -> None:
        if file.short.any():
            self.note(
                f"{file.path}: fewer than {len(file.header)} cells in {file.told(file.short)}: the other "
                "cells are missing values"
            )
        name = {FeatureSource.USER: self.uid_field, FeatureSource.ITEM: self.iid_field}.get(source)
        if name is None:
            return
        if name not in file.frame:
            raise UserError(
                f"load_col: got {', '.join(file.frame)} for {source.value}, expected '{name}' among them; "
                f"add the column, which identifies the rows of {file.path}"
            )
        if dict(file.header)[name] != FeatureType.TOKEN:
            kind = dict(file.header)[name].value
            raise UserError(f"{file.path}, line 1: got '{name}:{kind}', expected '{name}:token'")
        for why in ("is missing", "is a duplicate"):
            ids = file.frame[name]
            rows = (ids.isnull() if why == "is missing" else ids.duplicated()).to_numpy()
            if rows.any():
                self.note(f"{file.path}: {name} {why} in {file.told(rows)}: the line was left out")
                file.keep(~rows)

    def _count_missing(self, file: AtomicFile, wanted: Columns) -> None:
        for name, kind in wanted:
            count = int(file.frame[name].isnull().sum()) if kind not in _SEQUENCES else 0
            if count:
                filling = "the mean of the column" if kind == FeatureType.FLOAT else "the padding value"
                where = f"{os.path.basename(file.path)}:{name}"
                self.reading.missing[where] = self.reading.missing.get(where, 0) + count
                rows = file.frame[name].isnull().to_numpy()
                self.note(f"{file.path}: {name} is missing in {file.told(rows)}: filled with {filling}")

    def _filter_nan_user_or_item(self) -> None:
        """Do nothing, because the reading has already left out lines without a user or an item."""

    def _download(self) -> None:
        """Download the data set; RecBole's method waits for other processes and never ends with one."""
        url = self._get_download_url("url")
        self.logger.info(f"Prepare to download dataset [{self.dataset_name}] from [{url}].")
        download(url, self.dataset_name, self.dataset_path)
