"""`recbole-disent compare` runs the searches and the runs of a plan, and writes the report."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from typing import Any

from recbole_disent.config import search_space
from recbole_disent.errors import UserError
from recbole_disent.leaderboard import report
from recbole_disent.leaderboard.archive import RUNS_FILE
from recbole_disent.leaderboard.plan import Plan, Run, make_plan, read_plan
from recbole_disent.leaderboard.runner import Runner, Stopped
from recbole_disent.leaderboard.states import alone, read_json, state_of, write_json
from recbole_disent.leaderboard.stored import PLAN_FILE
from recbole_disent.leaderboard.worker import RESULT


def compare_plan(plan: dict[str, Any] | str | os.PathLike[str], **keys: Any) -> int:
    """Execute the runs of a plan that are not done yet, and write the report.

    The package exports this function as :func:`recbole_disent.compare`.

    Args:
        plan: keys of a plan (docs/compare.md), or the path of a YAML file with these keys.
        keys: keys that replace those of the plan.

    Returns:
        0; 1 if a run is broken; 130 if the command was stopped.

    Raises:
        UserError: the plan is wrong.

    Example:
        >>> compare({"models": ["Pop", "BPR"], "datasets": ["ml-100k"], "out": "first"})  # doctest: +SKIP
    """
    given = plan if isinstance(plan, dict) else read_plan(os.fspath(plan))
    return execute({**given, **keys}, ["recbole_disent.compare"])


def execute(
    given: dict[str, Any],
    command: list[str],
    retry: bool = False,
    redo: bool = False,
    dry_run: bool = False,
    say: Callable[[str], None] = print,
) -> int:
    """Execute the runs of a plan that are not done yet, and write the report.

    Args:
        given: keys of ``properties/leaderboard.yaml``.
        command: command line, which the result files record.
        retry: whether to repeat broken runs.
        redo: whether to repeat runs whose results were made by other code or from other files.
        dry_run: whether to list the runs only.
        say: function that prints a line.

    Returns:
        0; 1 if a run is broken; 130 if the command was stopped.

    Raises:
        UserError: the plan is wrong, or results were made from other files.
    """
    plan = make_plan(given)
    runner = Runner(plan, command, say)
    trials, runs = plan.trials(), plan.runs()
    for sentence in _idle_keys([*trials, *runs]):
        say(sentence)
    if dry_run:
        for run in [*trials, *runs]:
            searched = run.trial is None and _entry_trials(plan, run) > 1
            what = f"{run.id}  {state_of(runner.folder(run))['state']:8}"
            say(f"{'to be searched first' if searched else what:26}  {run.name}")
        return 0
    if (runner.out / RUNS_FILE).is_file() and not (runner.out / PLAN_FILE).is_file():
        raise UserError(
            f"out: '{runner.out}' has the compacted results of a plan ({RUNS_FILE}), and a report of new "
            f"runs would not show them; give another --out, or delete {RUNS_FILE}"
        )
    with alone(runner.out):
        try:
            later = list({run.id: run for run in runs}.values())
            if trials:
                say(f"search: {len(trials)} trials, then {len(later)} runs")
                runner.execute(trials, later, retry, redo)
            chosen, searches = _choose(plan, runner, trials)
            runs = [run for run in plan.runs(chosen) if _key(run) not in searches or _key(run) in chosen]
            write_json(runner.out / PLAN_FILE, _described(plan, command, trials, runs, searches))
            runner.execute(runs, retry=retry, redo=redo)
        except Stopped as error:
            say(f"stopped by {error}; repeat the command to continue")
            return 130
        broken = [(run, state) for run in [*trials, *runs]
                  if (state := state_of(runner.folder(run)))["state"] == "broken"]  # fmt: skip
        for run, state in broken:
            say(f"broken: {run.name}: {state['error']} (log: {runner.folder(run) / 'log.txt'})")
        if broken:
            say(f"{len(broken)} runs are broken; --retry repeats them")
        report.write(runner.out, say=say)
    return 1 if broken else 0


def _idle_keys(runs: list[Run]) -> list[str]:
    """Return a sentence for each given key that has an effect in none of the runs and trials of a row."""
    rows: dict[Any, list[Run]] = {}
    for run in runs:
        rows.setdefault(_key(run), []).append(run)
    found: dict[str, str] = {}
    for row, members in rows.items():
        for key, sentence in members[-1].idle.items():  # a run that is reported, whose keys are all given
            if all(key in run.idle for run in members):
                found.setdefault(key, f"plan, {', '.join(row)}: {sentence}")
    return list(found.values())


def _key(run: Run) -> tuple[str, str, str]:
    return run.cell.label, run.cell.dataset, run.cell.protocol


def _entry_trials(plan: Plan, run: Run) -> int:
    return next(entry.trials for entry in plan.entries if entry.label == run.cell.label)


def _choose(plan: Plan, runner: Runner, trials: list[Run]) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Pick the best trial of each search by its validation score.

    Returns:
        two dictionaries from (label, data set, protocol): to the keys of the best trial, and to the
        description of the search.
    """
    chosen: dict[Any, dict[str, Any]] = {}
    searches: dict[Any, dict[str, Any]] = {}
    entries = {entry.label: entry for entry in plan.entries}
    number = Counter(map(_key, trials))
    best: dict[Any, float] = {}
    data: dict[Any, dict[str, str]] = {}  # search -> data hash -> name of a trial
    for run in trials:
        key, entry = _key(run), entries[run.cell.label]
        told = searches.setdefault(key, {
            "label": key[0], "dataset": key[1], "protocol": key[2], "trials": number[key],
            "broken": 0, "epochs": run.given.get("epochs"), "chosen": None,
            "space": _describe(plan.space(entry, *key[1:])),
        })  # fmt: skip
        if state_of(runner.folder(run))["state"] != "done":
            told["broken"] += 1
            continue
        found = read_json(runner.folder(run) / RESULT)
        told["epochs"] = found["config"]["epochs"]
        if found["best_valid_score"] is None:
            raise UserError(
                f"plan, {', '.join(key)}: a search needs a validation part, and eval_args has none; add a "
                "validation part, or set trials: 1"
            )
        hashes = data.setdefault(key, {})
        hashes.setdefault(found["data_hash"], run.name)
        if len(hashes) > 1:
            one, two = hashes.items()
            raise UserError(
                f"plan, {', '.join(key)}: the trials were made from different data ({one[1]}: {one[0]}; "
                f"{two[1]}: {two[0]}); --redo repeats them"
            )
        score = found["best_valid_score"] * (1 if found["valid_score_bigger"] else -1)
        if key not in best or score > best[key]:
            best[key] = score
            chosen[key] = run.drawn
            told["chosen"] = {"trial": run.trial, "keys": chosen[key], "valid": found["best_valid_score"]}
    return chosen, searches


def _describe(space: dict[str, search_space.Distribution]) -> dict[str, str]:
    """Return a description of the values of each key."""
    found = {}
    for key, d in space.items():
        if isinstance(d, search_space.Choice):
            found[key] = " | ".join(map(str, d.values))
        elif isinstance(d, search_space.LogUniform):
            found[key] = f"e^{d.low:g} to e^{d.high:g}, uniform in the logarithm"
        elif isinstance(d, search_space.QUniform):
            found[key] = f"{d.low:g} to {d.high:g} in steps of {d.step:g}"
        elif isinstance(d, search_space.Uniform):
            found[key] = f"{d.low:g} to {d.high:g}"
    return found


def _described(
    plan: Plan, command: list[str], trials: list[Run], runs: list[Run], searches: dict[Any, Any]
) -> dict[str, Any]:
    """Return the content of ``plan.json``, which a report needs in addition to the result files."""

    def row(run: Run) -> dict[str, Any]:
        return {"label": run.cell.label, "dataset": run.cell.dataset, "protocol": run.cell.protocol,
                "sweep": run.cell.sweep, "model": run.model, "seed": run.seed, "id": run.id,
                "trial": run.trial}  # fmt: skip

    return {
        "schema": 1,
        "command": command,
        "options": plan.options,
        "labels": [entry.label for entry in plan.entries],
        "sweep": plan.sweep[0],
        "searches": list(searches.values()),
        "runs": [row(run) for run in runs],
        "trials": [row(run) for run in trials],
    }
