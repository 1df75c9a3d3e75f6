"""Reads result files into rows of tables; checks that they can stand in one."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from recbole_disent.errors import UserError
from recbole_disent.leaderboard import archive
from recbole_disent.leaderboard.runner import read_json
from recbole_disent.leaderboard.schema import check_result
from recbole_disent.leaderboard.stored import PLAN_FILE, PlanResults, read_folders, read_users


@dataclass
class Row:
    """A model (or variant, or value of the swept key) of a table: one result a seed.

    Attributes:
        label: name of the model or variant.
        sweep: value of the swept key, or None.
        results: contents of result files, seeds ascending.
        users: per seed the arrays of ``per_user.npz``, where there are any.
        search: what is told of the search, or None where there was none.
        errors: seed -> why a run is broken or missing.
    """

    label: str
    sweep: Any = None
    results: list[dict[str, Any]] = field(default_factory=list)
    users: list[dict[str, np.ndarray]] = field(default_factory=list)
    search: dict[str, Any] | None = None
    errors: dict[int, str] = field(default_factory=dict)

    @property
    def seeds(self) -> list[int]:
        """Seeds with a result."""
        return [r["seed"] for r in self.results]

    def values(self, metric: str) -> np.ndarray:
        """Test value of each seed: float64 (seeds,); NaN where a run lacks the metric."""
        return np.array([float(r["test_result"].get(metric, math.nan)) for r in self.results])

    @property
    def valid_score(self) -> float:
        """Mean validation score; larger is better."""
        scores = [r["best_valid_score"] * (1 if r["valid_score_bigger"] else -1) for r in self.results
                  if r["best_valid_score"] is not None]  # fmt: skip
        return sum(scores) / len(scores) if scores else -math.inf


@dataclass
class ResultGroup:
    """One data set under one protocol: the rows that can be compared.

    Attributes:
        sweep: the swept key, or None.
    """

    dataset: str
    protocol: str
    sweep: str | None
    rows: list[Row]

    @property
    def name(self) -> str:
        """Title of its tables."""
        return f"{self.dataset}, {self.protocol}"

    @property
    def filled(self) -> list[Row]:
        """Rows with a result."""
        return [row for row in self.rows if row.results]


@dataclass
class Collection:
    """All that a report is made from."""

    settings: list[ResultGroup]
    options: dict[str, Any]
    command: list[str] | None
    trials: list[dict[str, Any]] = field(default_factory=list)


def collect(folder: Path, by: list[str] | None = None) -> Collection:
    """Read the results of a plan's folder, or all result files of any folder.

    Args:
        folder: with ``plan.json`` and run folders, with ``runs.csv``, or with result files ``*.json``.
        by: configuration keys that name a row together with the model, for a folder without plan.

    Raises:
        UserError: nothing to report, or results that cannot be compared.
    """
    if (folder / PLAN_FILE).is_file():
        found = _of_plan(read_folders(folder))
    elif (folder / archive.RUNS_FILE).is_file():
        found = _of_plan(archive.read(folder))
    elif folder.is_dir():
        found = _of_files(folder, by or [])
    else:
        raise UserError(f"report: '{folder}' is no folder; give one with a plan's runs or with result files")
    for setting in found.settings:
        _check_alike(folder, setting)
    return found


def _of_plan(stored: PlanResults) -> Collection:
    plan = stored.plan
    settings: dict[Any, ResultGroup] = {}
    rows: dict[Any, Row] = {}
    searches = {(s["label"], s["dataset"], s["protocol"]): s for s in plan["searches"]}
    for entry in stored.runs:
        key = entry["dataset"], entry["protocol"]
        setting = settings.setdefault(key, ResultGroup(*key, plan["sweep"], []))
        row_key = (*key, entry["label"], json.dumps(entry["sweep"]))
        if row_key not in rows:
            rows[row_key] = Row(entry["label"], entry["sweep"], search=searches.get((entry["label"], *key)))
            setting.rows.append(rows[row_key])
        row, result = rows[row_key], stored.results.get(entry["id"])
        if result is None:
            row.errors[entry["seed"]] = stored.errors[entry["id"]]
        elif result["test_result"] is None:
            row.errors[entry["seed"]] = "its result has no test result; --redo makes it again"
        else:
            row.results.append(result)
            if entry["id"] in stored.users:
                row.users.append(stored.users[entry["id"]])
    for (label, dataset, protocol), search in searches.items():
        if search["chosen"] is None:
            setting = settings.setdefault(
                (dataset, protocol), ResultGroup(dataset, protocol, plan["sweep"], [])
            )
            why = f"all {search['trials']} trials of its search are broken"
            errors = dict.fromkeys(plan["options"]["seeds"], why)
            setting.rows.append(Row(label, search=search, errors=errors))
    trials = [stored.results[entry["id"]] for entry in stored.trials if entry["id"] in stored.results]
    return Collection(list(settings.values()), plan["options"], plan["command"], trials)


def _of_files(folder: Path, by: list[str]) -> Collection:
    settings: dict[Any, ResultGroup] = {}
    rows: dict[Any, Row] = {}
    for file in sorted(folder.glob("*.json")):
        result = read_json(file)
        # Such a folder may hold trials of a search, too, and files of other programs.
        if not isinstance(result, dict) or not {"schema", "config"} <= result.keys():
            continue
        if result.get("test_result") is None:
            continue
        check_result(file, result)
        config = result["config"]
        mode = config["eval_args"]["mode"]
        key = result["dataset"], mode["test"] if isinstance(mode, dict) else mode
        setting = settings.setdefault(key, ResultGroup(*key, None, []))
        marks = [f"{k}={config[k]}" for k in by if config.get(k) is not None]
        label = " ".join([result["model"], *marks])
        if (*key, label) not in rows:
            rows[(*key, label)] = Row(label)
            setting.rows.append(rows[(*key, label)])
        row = rows[(*key, label)]
        if result["seed"] in row.seeds:
            raise UserError(
                f"report: {file}: a second result of {label}, seed {result['seed']}; name the configuration "
                "keys that tell them apart with --by"
            )
        row.results.append(result)
        users = file.with_suffix(".npz")
        if users.is_file():
            row.users.append(read_users(users))
    if not settings:
        raise UserError(
            f"report: no result file (*.json), no {PLAN_FILE} and no {archive.RUNS_FILE} in '{folder}'"
        )
    for row in rows.values():
        order = np.argsort(row.seeds, kind="stable")
        row.results = [row.results[i] for i in order]
        if len(row.users) == len(order):
            row.users = [row.users[i] for i in order]
    return Collection(list(settings.values()), {}, None)


def _filters_history(config: dict[str, Any]) -> bool | None:
    """Whether a run left a user's history out of the ranking; None where sampled items were ranked."""
    mode = config["eval_args"]["mode"]
    if (mode["test"] if isinstance(mode, dict) else mode) != "full":
        return None
    wanted = config.get("filter_history")
    repeatable = config.get("repeatable", config["MODEL_TYPE"] == "SEQUENTIAL")
    return not repeatable if wanted is None else wanted


def _check_alike(folder: Path, setting: ResultGroup) -> None:
    """Rows of one table were measured on the same data with the same candidates."""
    results = [result for row in setting.rows for result in row.results]
    for what in ("data_hash", "candidate_hashes"):
        found = defaultdict(list)
        for row in setting.rows:
            for result in row.results:
                found[json.dumps(result[what], sort_keys=True)].append(row.label)
        if len(found) > 1:
            told = "; ".join(f"{key}: {', '.join(sorted(set(labels)))}" for key, labels in found.items())
            raise UserError(
                f"report: {folder}, {setting.name}: the runs differ in {what} and cannot be compared ({told})"
            )
    for row in setting.rows:
        content = {result.get("content_hash") for result in row.results}
        if len(content) > 1:
            raise UserError(
                f"report: {folder}, {setting.name}: the runs of {row.label} differ in content_hash: the item "
                "content was changed in between; --redo makes them again"
            )
    refits = {bool(r.get("refit")) for r in results}
    if len(refits) > 1:
        raise UserError(
            f"report: {folder}, {setting.name}: some runs were refitted with the validation part and others "
            "were not; give refit to all models of a plan or to none"
        )
    filters = {str(_filters_history(r["config"])) for r in results}
    if len(filters) > 1:
        raise UserError(
            f"report: {folder}, {setting.name}: the runs differ in filter_history "
            f"({', '.join(sorted(filters))}) and cannot be compared"
        )
