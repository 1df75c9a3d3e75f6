"""Reads the results of a plan from its run folders."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from recbole_disent.errors import UserError
from recbole_disent.leaderboard.schema import check_plan, check_result
from recbole_disent.leaderboard.states import read_json, state_of
from recbole_disent.leaderboard.worker import CONFIG, PER_USER, RESULT

PLAN_FILE = "plan.json"
USER_ARRAYS = ("user", "rank", "history", "popularity")


@dataclass
class PlanResults:
    """The results of a plan, as a report needs them.

    Attributes:
        plan: content of ``plan.json`` without runs and trials.
        runs, trials: label, dataset, protocol, sweep, model, seed, id and trial of each run and trial.
        results: id -> content of the result file.
        users: id -> arrays of ``per_user.npz``, int (n,) each.
        errors: id -> reason why there is no result.
        given: id -> configuration keys of the run.
    """

    plan: dict[str, Any]
    runs: list[dict[str, Any]]
    trials: list[dict[str, Any]]
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    users: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    given: dict[str, dict[str, Any]] = field(default_factory=dict)


def read_folders(folder: Path) -> PlanResults:
    """Read ``plan.json`` and the run folders of a plan.

    Raises:
        UserError: a file is damaged.
    """
    plan = read_json(folder / PLAN_FILE)
    check_plan(folder / PLAN_FILE, plan)
    found = PlanResults(plan, plan.pop("runs"), plan.pop("trials"))
    for entry in [*found.runs, *found.trials]:
        place = folder / "runs" / entry["id"]
        if (place / CONFIG).is_file():
            found.given[entry["id"]] = _read_given(place / CONFIG)
        if not (place / RESULT).is_file():
            found.errors[entry["id"]] = state_of(place).get("error", "not run yet")
            continue
        found.results[entry["id"]] = read_json(place / RESULT)
        check_result(place / RESULT, found.results[entry["id"]])
        if (place / PER_USER).is_file():
            found.users[entry["id"]] = read_users(place / PER_USER)
    return found


def _read_given(path: Path) -> dict[str, Any]:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))["config"]
    except (yaml.YAMLError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(
            f"report: {path}: expected the configuration of a run ({' '.join(str(error).split())}); "
            "delete the folder of the run and repeat compare"
        ) from error


def read_users(path: Path) -> dict[str, np.ndarray]:
    """Read the ranks of users from the file that a run wrote.

    Raises:
        UserError: a file is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            found = {name: stored[name].astype(np.int64, casting="safe") for name in USER_ARRAYS}
        if len({array.shape for array in found.values()}) > 1 or found["rank"].ndim != 1:
            raise ValueError(f"shapes {[array.shape for array in found.values()]}, expected (n,)")
        return found
    except Exception as error:  # damaged bytes can raise any exception
        raise UserError(
            f"report: {path}: expected a file of ranks ({error}); delete the folder of the run and repeat "
            "compare"
        ) from error
