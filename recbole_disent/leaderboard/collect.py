"""Reads result files into rows of tables, and checks that the rows of a table can be compared."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from recbole_disent.config import key_rules
from recbole_disent.config.measures import filters_history
from recbole_disent.errors import UserError, nearest
from recbole_disent.leaderboard import archive
from recbole_disent.leaderboard.schema import check_result
from recbole_disent.leaderboard.states import read_json
from recbole_disent.leaderboard.stored import PLAN_FILE, PlanResults, read_folders, read_users


@dataclass
class Row:
    """A row of a table: a model, a variant or a value of the swept key, with one result for each seed.

    Attributes:
        label: name of the model or variant.
        sweep: value of the swept key, or None.
        results: contents of the result files, in ascending order of seeds.
        users: for each seed the arrays of ``per_user.npz``; empty if there are none.
        search: description of the search, or None without a search.
        errors: seed -> reason why the run is broken or missing.
    """

    label: str
    sweep: Any = None
    results: list[dict[str, Any]] = field(default_factory=list)
    users: list[dict[str, np.ndarray]] = field(default_factory=list)
    search: dict[str, Any] | None = None
    errors: dict[int, str] = field(default_factory=dict)

    @property
    def seeds(self) -> list[int]:
        """Seeds that have a result."""
        return [r["seed"] for r in self.results]

    def values(self, metric: str) -> np.ndarray:
        """Return the test value of each seed, float64 (seeds,); NaN if a run lacks the metric."""
        return np.array([float(r["test_result"].get(metric, math.nan)) for r in self.results])

    @property
    def valid_score(self) -> float:
        """Mean validation score; larger is better."""
        scores = [float(r["best_valid_score"]) * (1 if r["valid_score_bigger"] else -1) for r in self.results
                  if r["best_valid_score"] is not None]  # fmt: skip
        return sum(scores) / len(scores) if scores else -math.inf


@dataclass
class ResultGroup:
    """The rows of one data set under one protocol, which can be compared.

    Attributes:
        sweep: the swept key, or None.
    """

    dataset: str
    protocol: str
    sweep: str | None
    rows: list[Row]

    @property
    def name(self) -> str:
        """Name of the group in titles of tables."""
        return f"{self.dataset}, {self.protocol}"

    @property
    def filled(self) -> list[Row]:
        """Rows that have a result."""
        return [row for row in self.rows if row.results]


@dataclass
class Collection:
    """Everything that a report is made from."""

    groups: list[ResultGroup]
    options: dict[str, Any]
    command: list[str] | None
    trials: list[dict[str, Any]] = field(default_factory=list)


def collect(folder: Path, by: list[str] | None = None) -> Collection:
    """Read the results of a plan's folder, or all result files of any folder.

    Args:
        folder: folder with ``plan.json`` and run folders, with ``runs.csv``, or with result files ``*.json``.
        by: configuration keys whose values are part of the name of a row, for a folder without a plan.

    Raises:
        UserError: the folder has no results, or results that cannot be compared.
    """
    if (folder / PLAN_FILE).is_file():
        found = _of_plan(read_folders(folder))
    elif (folder / archive.RUNS_FILE).is_file():
        return collect_archive(folder)
    elif folder.is_dir():
        found = _of_files(folder, by or [])
    else:
        raise UserError(
            f"report: got '{folder}', expected a folder with the runs of a plan or with result files"
        )
    return _checked(folder, found)


def collect_archive(folder: Path) -> Collection:
    """Read the results of a plan from ``runs.csv``, even if the folder has the run folders, too.

    Raises:
        UserError: a file is damaged, or the results cannot be compared.
    """
    stored = archive.read(folder)
    for result in stored.results.values():
        check_result(folder / archive.RUNS_FILE, result)
    return _checked(folder, _of_plan(stored))


def _checked(folder: Path, found: Collection) -> Collection:
    for group in found.groups:
        _check_alike(folder, group)
    return found


def _of_plan(stored: PlanResults) -> Collection:
    plan = stored.plan
    groups: dict[Any, ResultGroup] = {}
    rows: dict[Any, Row] = {}
    searches = {(s["label"], s["dataset"], s["protocol"]): s for s in plan["searches"]}
    for entry in stored.runs:
        key = entry["dataset"], entry["protocol"]
        group = groups.setdefault(key, ResultGroup(*key, plan["sweep"], []))
        row_key = (*key, entry["label"], json.dumps(entry["sweep"]))
        if row_key not in rows:
            rows[row_key] = Row(entry["label"], entry["sweep"], search=searches.get((entry["label"], *key)))
            group.rows.append(rows[row_key])
        row, result = rows[row_key], stored.results.get(entry["id"])
        if result is None:
            row.errors[entry["seed"]] = stored.errors[entry["id"]]
        elif result["test_result"] is None:
            row.errors[entry["seed"]] = "the result file has no test result; --redo repeats the run"
        else:
            row.results.append(result)
            if entry["id"] in stored.users:
                row.users.append(stored.users[entry["id"]])
    for (label, dataset, protocol), search in searches.items():
        if search["chosen"] is None:
            group = groups.setdefault((dataset, protocol), ResultGroup(dataset, protocol, plan["sweep"], []))
            why = f"all {search['trials']} trials of its search are broken"
            errors = dict.fromkeys(plan["options"]["seeds"], why)
            group.rows.append(Row(label, search=search, errors=errors))
    trials = [stored.results[entry["id"]] for entry in stored.trials if entry["id"] in stored.results]
    return Collection(list(groups.values()), plan["options"], plan["command"], trials)


def _of_files(folder: Path, by: list[str]) -> Collection:
    groups: dict[Any, ResultGroup] = {}
    rows: dict[Any, Row] = {}
    files: dict[Any, Path] = {}
    for file in sorted(folder.glob("*.json")):
        result = read_json(file)
        # The folder may also hold trials of a search and files of other programs.
        if not isinstance(result, dict) or not {"schema", "config"} <= result.keys():
            continue
        if result.get("test_result") is None:
            continue
        check_result(file, result)
        config = result["config"]
        mode = config["eval_args"]["mode"]
        key = result["dataset"], mode["test"] if isinstance(mode, dict) else mode
        group = groups.setdefault(key, ResultGroup(*key, None, []))
        marks = [f"{k}={config[k]}" for k in by if config.get(k) is not None]
        label = " ".join([result["model"], *marks])
        if (*key, label) not in rows:
            rows[(*key, label)] = Row(label)
            group.rows.append(rows[(*key, label)])
        row = rows[(*key, label)]
        place = (*key, label, result["seed"])
        if place in files:
            other = next(r for r in row.results if r["seed"] == result["seed"])
            raise UserError(
                f"report: '{files[place]}' and '{file}' are both results of {label}, seed {result['seed']}; "
                f"{_way_out([other, result])}"
            )
        files[place] = file
        row.results.append(result)
        users = file.with_suffix(".npz")
        if users.is_file():
            row.users.append(read_users(users))
    if not groups:
        raise UserError(
            f"report: got '{folder}', expected a folder with result files (*.json), {PLAN_FILE} or "
            f"{archive.RUNS_FILE}"
        )
    known = {name for row in rows.values() for result in row.results for name in result["config"]}
    for name in by:
        if name not in known:
            raise UserError(f"report: --by: no result has the key '{name}'{nearest(name, known)}")
    for row in rows.values():
        _check_settings(folder, row)
        order = np.argsort(row.seeds, kind="stable")
        row.results = [row.results[i] for i in order]
        if len(row.users) == len(order):
            row.users = [row.users[i] for i in order]
    return Collection(list(groups.values()), {}, None)


# What tells the seeds of a row apart, and what does not change the model.
_ANY = {"seed", "metrics", "topk"}


def _differing(results: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Return the settings in which results of a model differ, with their values as JSON."""
    configs = [result["config"] for result in results]
    found = {}
    for key in sorted(set.intersection(*map(set, configs)) - _ANY):  # a later version has more keys
        values = sorted({json.dumps(config[key], sort_keys=True) for config in configs})
        if len(values) > 1 and key_rules.decides_result(results[0]["model"], key):
            found[key] = values
    return found


def _way_out(results: list[dict[str, Any]]) -> str:
    """Return what to do about two results of the same model and seed."""
    keys = list(_differing(results))
    if not keys:
        return "their settings are the same, so remove one of the two files"
    return f"they differ in {', '.join(keys)}; name the keys that distinguish rows, such as --by {keys[0]}"


def _check_settings(folder: Path, row: Row) -> None:
    """Check that the results of a row have the same settings, so that their spread is one over seeds."""
    for key, values in _differing(row.results).items():
        raise UserError(
            f"report: {folder}: the results of {row.label} differ in {key} ({', '.join(values)}); name the "
            f"keys that distinguish rows, such as --by {key}"
        )


def _check_alike(folder: Path, group: ResultGroup) -> None:
    """Check that all rows were measured on the same data with the same candidates."""
    results = [result for row in group.rows for result in row.results]
    for what in ("data_hash", "candidate_hashes"):
        found = defaultdict(list)
        for row in group.rows:
            for result in row.results:
                found[json.dumps(result[what], sort_keys=True)].append(row.label)
        if len(found) > 1:
            told = "; ".join(f"{key}: {', '.join(sorted(set(labels)))}" for key, labels in found.items())
            raise UserError(
                f"report: {folder}, {group.name}: the runs differ in {what} and cannot be compared ({told})"
            )
    for row in group.rows:
        content = {result.get("content_hash") for result in row.results}
        if len(content) > 1:
            raise UserError(
                f"report: {folder}, {group.name}: the runs of {row.label} differ in content_hash: the item "
                "content was changed between the runs; --redo repeats the runs"
            )
    refits = {bool(r.get("refit")) for r in results}
    if len(refits) > 1:
        raise UserError(
            f"report: {folder}, {group.name}: some runs were refitted with the validation part and others "
            "were not; give refit to all models of a plan or to none"
        )
    ways = {
        "filter_history": {str(filters_history(r["config"])) for r in results},
        # A file without one of these keys is older than the key or than its column: the default counts.
        "repeat_gate": {str(r["config"].get("repeat_gate") or False) for r in results},
        "score_dtype": {r["config"].get("score_dtype") or "float32" for r in results},
    }
    for key, values in ways.items():
        if len(values) > 1:
            raise UserError(
                f"report: {folder}, {group.name}: the runs differ in {key} ({', '.join(sorted(values))}) "
                "and cannot be compared"
            )
