"""The results of a plan as its run folders hold them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from recbole_disent.errors import UserError
from recbole_disent.leaderboard.runner import read_json, state_of
from recbole_disent.leaderboard.schema import check_plan, check_result
from recbole_disent.leaderboard.worker import CONFIG, PER_USER, RESULT

PLAN_FILE = "plan.json"
USER_ARRAYS = ("user", "rank", "history", "popularity")


@dataclass
class PlanResults:
    """All that a report needs of a plan.

    Attributes:
        plan: content of ``plan.json`` without its runs and trials.
        runs, trials: label, dataset, protocol, sweep, model, seed, id and trial of each.
        results: id -> content of its result file.
        users: id -> the arrays of ``per_user.npz``, int (n,) each.
        errors: id -> why there is no result.
        given: id -> configuration keys that the run was given.
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
        UserError: a damaged file.
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
            f"report: {path} is no configuration of a run ({' '.join(str(error).split())}); delete the run's "
            "folder and run again"
        ) from error


def read_users(path: Path) -> dict[str, np.ndarray]:
    """Read the ranks that a run has written.

    Raises:
        UserError: a damaged file.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            found = {name: stored[name].astype(np.int64, casting="safe") for name in USER_ARRAYS}
        if len({array.shape for array in found.values()}) > 1 or found["rank"].ndim != 1:
            raise ValueError(f"shapes {[array.shape for array in found.values()]}, expected (n,)")
        return found
    except Exception as error:  # the reader of damaged bytes raises whatever they lead it to
        raise UserError(f"report: {path} is no file of ranks ({error}); delete it and run again") from error
