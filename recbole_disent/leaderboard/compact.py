"""`recbole-disent compact` replaces the run folders of a plan by two files that a report is made from."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from recbole_disent.errors import UserError
from recbole_disent.leaderboard import archive
from recbole_disent.leaderboard.collect import collect_archive
from recbole_disent.leaderboard.states import alone
from recbole_disent.leaderboard.stored import PLAN_FILE, PlanResults, read_folders
from recbole_disent.leaderboard.worker import RESULT


def compact(
    folder: Path, delete: bool = False, with_ranks: bool = True, say: Callable[[str], None] = print
) -> list[Path]:
    """Write ``runs.csv`` and ``ranks.npz`` from the run folders of a plan.

    Args:
        folder: folder of the plan.
        delete: whether to delete the run folders, the candidates, the prepared data and ``plan.json``
            afterwards.
        with_ranks: whether to keep the ranks of users, which a report needs for tests over users.
        say: function that prints a line.

    Returns:
        the paths of the two files.

    Raises:
        UserError: there are no run folders, or a file is damaged. With *delete*, also: a checkpoint or a
            result that is not in the two files would be deleted, or the results cannot be compared, so that
            there is no report of them.
    """
    if not (folder / PLAN_FILE).is_file():
        raise UserError(
            f"compact: '{folder}' has no {PLAN_FILE}; give the folder that compare wrote the runs to"
        )
    with alone(folder):
        found = read_folders(folder)
        if delete:
            _refuse_loss(folder, found)
        files = archive.write(folder, found, with_ranks)
        # Check that the new files can be read, and that they give a report if the old files are deleted.
        collect_archive(folder) if delete else archive.read(folder)
        if not with_ranks:
            (folder / archive.RANKS_FILE).unlink(missing_ok=True)  # written by an earlier call
        if delete:
            # Delete the plan first: without it, the report is made from the new files.
            (folder / PLAN_FILE).unlink()
            for name in ("runs", "candidates", "prepared"):
                shutil.rmtree(folder / name, ignore_errors=True)
    missing = len(found.errors)
    if missing:
        say(f"{missing} of {len(found.runs) + len(found.trials)} runs and trials have no result")
    size = sum(file.stat().st_size for file in files)
    say(f"compact: {len(found.results)} results in {', '.join(map(str, files))} ({size / 1024:.0f} KiB)")
    return files


def _refuse_loss(folder: Path, found: PlanResults) -> None:
    """Raise UserError if the run folders hold something that the two files do not hold."""
    if kept := sorted(folder.glob("runs/*/checkpoints/*")):
        raise UserError(
            f"compact: --delete would delete the checkpoint '{kept[0]}'; move it, or leave --delete out"
        )
    others = [
        file for file in sorted(folder.glob(f"runs/*/{RESULT}")) if file.parent.name not in found.results
    ]
    if others:
        raise UserError(
            f"compact: --delete would delete {len(others)} results that are not in the plan of the last "
            f"compare, such as '{others[0]}'; repeat compare with all models, move them, or leave --delete "
            "out"
        )
