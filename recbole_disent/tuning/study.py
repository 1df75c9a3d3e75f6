"""A search as a folder with one JSON file for each trial, so that the search can be stopped at any time.

``study.json`` describes the search. ``<id>.json`` is a finished trial; its id is a digest of its values.
``running/<id>/`` holds the checkpoint of an unfinished trial. ``trials.csv``, ``trials.md``,
``trials.svg`` and ``best.yaml`` are made from the files of the trials only.
"""

from __future__ import annotations

import csv
import glob
import hashlib
import io
import json
import os
import shutil
from dataclasses import asdict
from logging import getLogger
from typing import Any

import yaml

from recbole_disent.config import key_rules
from recbole_disent.config.search_space import Distribution
from recbole_disent.errors import UserError
from recbole_disent.files import write_text
from recbole_disent.registry import spec_of

SCHEMA = 1


def trial_id(values: dict[str, Any]) -> str:
    """Return the id of a trial: 12 hexadecimal digits that depend on its values but not on their order."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


class Study:
    """The trials of one search.

    Args:
        folder: folder of the search; it is made if it does not exist.
        model, dataset: names of the model and of the data set.
        given: configuration keys that all trials share.
        space: distribution of each searched key.
        search: tool, algorithm and seed.

    Raises:
        UserError: the folder holds another search, of which a trial is finished or has a checkpoint.
    """

    def __init__(
        self,
        folder: str,
        model: str,
        dataset: str,
        given: dict[str, Any],
        space: dict[str, Distribution],
        search: dict[str, Any],
    ) -> None:
        self.folder, self.model, self.dataset, self.space = folder, model, dataset, space
        fixed = {"model", "dataset", *space, *key_rules.flagged(model, "own"), "show_progress"}
        self.given = {key: value for key, value in given.items() if key not in fixed}
        described = {key: {"kind": type(d).__name__, **asdict(d)} for key, d in space.items()}
        for one in described.values():
            del one["where"], one["key"]
        self.about = _as_json(
            {"schema": SCHEMA, "model": model, "dataset": dataset, "given": self.given,
             "space": described, **search}
        )  # fmt: skip
        self._open()
        self.trials: dict[str, dict[str, Any]] = {}
        for path in self._files_of_trials():
            trial = _read(path, _TRIAL)
            self.trials[trial["id"]] = trial

    def _open(self) -> None:
        path = os.path.join(self.folder, "study.json")
        if not os.path.exists(path):
            _write_json(path, self.about)
            return
        found = _read(path, {"schema"})
        for key in sorted({*found, *self.about}):
            if found.get(key) != self.about.get(key):
                if self._has_nothing_to_lose():
                    self._start_again(path)
                    return
                raise UserError(
                    f"output '{self.folder}' holds another search: got {key} {self.about.get(key)!r}, "
                    f"expected {found.get(key)!r}; repeat the command of that search, or give another "
                    "--output"
                )

    def _files_of_trials(self) -> list[str]:
        found = sorted(glob.glob(os.path.join(glob.escape(self.folder), "*.json")))
        return [path for path in found if os.path.basename(path) != "study.json"]

    def _has_nothing_to_lose(self) -> bool:
        """Return whether no trial has a result or a checkpoint, as after a fault in the search space."""
        running = os.path.join(glob.escape(self.folder), "running", "*", "*.pth")
        failed = all(_read(path, _TRIAL)["status"] == "failed" for path in self._files_of_trials())
        return failed and not glob.glob(running)

    def _start_again(self, path: str) -> None:
        failed = self._files_of_trials()
        for file in failed:
            os.remove(file)
        _write_json(path, self.about)
        getLogger().warning(
            f"output '{self.folder}': another search without a finished trial was there; its files of "
            f"{len(failed)} failed trials are removed"
        )

    def config_of(self, values: dict[str, Any], folder: str | None = None) -> dict[str, Any]:
        """Return the configuration of a trial.

        A trial that was stopped continues from its checkpoint.

        Args:
            values: values of the searched keys.
            folder: folder for checkpoints; None takes a folder inside the folder of the search.
        """
        folder = folder or os.path.join(self.folder, "running", trial_id(values))
        stored = sorted(glob.glob(os.path.join(glob.escape(folder), "*.pth")), key=os.path.getmtime)
        return {
            **self.given,
            **values,
            "refit": False,  # only the best configuration may be refitted
            "model": self.model,
            "dataset": self.dataset,
            "checkpoint_dir": folder,
            "prepared_dir": self.given.get("prepared_dir") or os.path.join(self.folder, "prepared"),
            "result_dir": folder,
            "show_progress": False,
            "resume_file": stored[-1] if stored and spec_of(self.model).resumable else None,
        }

    def add(self, number: int, values: dict[str, Any], **found: Any) -> dict[str, Any]:
        """Write the file of a finished trial and return its content.

        A failure does not replace a result, which another process may have written in the meantime.

        Args:
            number: number of the trial, from 0 on.
            values: values of the searched keys.
            found: ``status`` (done, stopped or failed), ``score`` and further results.

        Raises:
            UserError: an earlier trial was made from other data.
        """
        ours = found.get("data_hash")
        for other in self.trials.values():
            if None not in (ours, other.get("data_hash")) and other["data_hash"] != ours:
                raise UserError(
                    f"output '{self.folder}' has trials of other data (data hash {other['data_hash']}, here "
                    f"{ours}), whose scores cannot be compared; give another --output"
                )
        name = trial_id(values)
        trial = _as_json({"id": name, "number": number, "values": values, **found})
        path = os.path.join(self.folder, f"{name}.json")
        stored = _read(path, _TRIAL) if os.path.exists(path) else None
        if stored is not None and stored["status"] != "failed" and trial["status"] == "failed":
            trial = stored
        else:
            _write_json(path, trial)
        self.trials[name] = trial
        shutil.rmtree(os.path.join(self.folder, "running", name), ignore_errors=True)
        return trial

    def ranked(self) -> list[dict[str, Any]]:
        """Return the trials, from the best to the worst; failed trials are last."""

        def key(trial: dict[str, Any]) -> tuple[bool, float, int]:
            score = trial["score"]
            if score is None:
                return True, 0.0, trial["number"]
            return False, -score if trial["bigger"] else score, trial["number"]

        return sorted(self.trials.values(), key=key)

    @property
    def best(self) -> dict[str, Any]:
        """The best trial.

        Raises:
            UserError: there is no successful trial; the message quotes the error of the first trial.
        """
        ranked = self.ranked()
        if not ranked:
            raise UserError(f"output '{self.folder}' has no trial")
        if ranked[0]["score"] is None:
            raise UserError(f"all {len(ranked)} trials failed, the first with: {ranked[0]['error']}")
        return ranked[0]

    def report(self) -> None:
        """Write the table of trials as CSV and Markdown, and the best configuration as YAML."""
        metrics = sorted({name for t in self.trials.values() for name in t.get("test_result") or {}})
        head = ["rank", "trial", "number", "status", "valid score", *self.space,
                "epochs", "seconds", *(f"test {name}" for name in metrics)]  # fmt: skip
        rows = []
        for rank, trial in enumerate(self.ranked(), start=1):
            tested = trial.get("test_result") or {}
            rows.append(
                [rank, trial["id"], trial["number"], trial["status"], trial["score"]]
                + [trial["values"][key] for key in self.space]
                + [trial.get("epochs"), trial.get("seconds"), *(tested.get(name) for name in metrics)]
            )
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([head, *rows])
        self._write("trials.csv", text.getvalue())
        lines = [head, ["---"] * len(head), *([_cell(v) for v in row] for row in rows)]
        self._write("trials.md", "".join(f"| {' | '.join(line)} |\n" for line in lines))
        best = {**self.about["given"], **self.best["values"], "model": self.model, "dataset": self.dataset}
        self._write("best.yaml", yaml.safe_dump(best, sort_keys=True, allow_unicode=True))

    def _write(self, name: str, text: str) -> None:
        write_text(os.path.join(self.folder, name), text)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "\\|")


def _as_json(value: Any) -> Any:
    """Return a value as it is after writing and reading JSON, so that the two can be compared."""
    return json.loads(json.dumps(value))


def _write_json(path: str, content: dict[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=1) + "\n")


# What every trial says about itself.
_TRIAL = {"id", "number", "values", "status", "score", "bigger"}


def _read(path: str, keys: set[str]) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
        if not isinstance(found, dict):
            raise ValueError("no dictionary")
        if lacking := sorted(keys - found.keys()):
            raise ValueError(f"the key '{lacking[0]}' is missing")
        return found
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: expected a trial of this search ({error}); remove the file, or give another --output"
        ) from error
