"""The states of runs: which runs of a plan are done, and which are to be executed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from recbole_disent.errors import UserError
from recbole_disent.files import locked, write_text
from recbole_disent.leaderboard.identity import code_digest
from recbole_disent.leaderboard.inputs import contents
from recbole_disent.leaderboard.plan import Run
from recbole_disent.leaderboard.worker import RESULT


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file; after an interruption the old file is unchanged."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, default=str) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        UserError: the file is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: expected JSON ({error}); delete the file and repeat the command") from error


def alone(folder: Path) -> AbstractContextManager[None]:
    """Keep other commands from using the output folder of a plan in a ``with`` block.

    Raises:
        UserError: another command uses the folder, or the folder cannot be made.
    """
    busy = f"another compare uses '{folder}'; wait until it ends, or give another --out"
    return locked(folder / ".lock", "out", busy)


def state_of(folder: Path) -> dict[str, Any]:
    """Return the state of a run: done, broken (with its error), stopped or new."""
    if (folder / RESULT).is_file():
        return {"state": "done"}
    status = folder / "status.json"
    found = read_json(status) if status.is_file() else {"state": "new"}
    # The command that wrote "running" was killed.
    return {**found, "state": "stopped"} if found["state"] == "running" else found


def pending(out: Path, runs: Sequence[Run], retry: bool, redo: bool, say: Callable[[str], None]) -> list[Run]:
    """Return the runs to execute, each id once, and delete what earlier calls left of runs to start again.

    A run that stopped or broke while the data set had other files starts again, as does a run that other code
    began and that would continue from its checkpoint.

    Args:
        out: folder of the plan.
        runs: wanted runs.
        retry: whether to repeat broken runs.
        redo: whether to repeat runs whose results another version of the code made, or other files.
        say: function that prints a line.

    Raises:
        UserError: results were made from other files, without *redo*.
    """
    todo, other_code, other_files, again, began = [], 0, [], 0, 0
    code = code_digest()
    for run in {run.id: run for run in runs}.values():
        folder = out / "runs" / run.id
        status = state_of(folder)
        state = status["state"]
        if state == "done":
            result = read_json(folder / RESULT)
            old = result.get("code") != code
            other = _differs(result, run)
            other_code += old
            other_files += [run] if other else []
            if redo and (old or other):
                shutil.rmtree(folder)
                state = "new"
        elif _differs(status, run):
            again += 1
            shutil.rmtree(folder)
            state = "new"
        elif (state == "stopped" or (state == "broken" and retry)) and status.get("code") != code:
            began += 1
            shutil.rmtree(folder)
            state = "new"
        if state in ("new", "stopped") or (state == "broken" and retry):
            todo.append(run)
    if other_files and not redo:
        raise UserError(
            f"out: '{out}' has results, such as {other_files[0].name}, of other files than those in "
            f"'{other_files[0].data_path}' ({len(other_files)} results); repeat these runs with --redo, or "
            "give another --out"
        )
    if other_code:
        what = "these runs are repeated" if redo else "--redo repeats these runs"
        say(f"{other_code} results were made by another version of the code; {what}")
    if other_files:
        say(f"{len(other_files)} results were made from other files; these runs are repeated")
    if again:
        say(f"{again} runs that were not done began with other files; they start again")
    if began:
        say(f"{began} runs that were not done were begun by another version of the code; they start again")
    return todo


def _differs(found: dict[str, Any], run: Run) -> bool:
    """Whether the files have changed; a result of an earlier version does not say what they were."""
    return found.get("files") is not None and found["files"] != contents(run.files)
