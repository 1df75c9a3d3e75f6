"""`recbole-disent compact`: a plan's run folders become two files, which its report is made from."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from recbole_disent.errors import UserError
from recbole_disent.leaderboard import archive
from recbole_disent.leaderboard.runner import locked
from recbole_disent.leaderboard.stored import PLAN_FILE, read_folders


def compact(
    folder: Path, delete: bool = False, with_ranks: bool = True, say: Callable[[str], None] = print
) -> list[Path]:
    """Write ``runs.csv`` and ``ranks.npz`` from the run folders of a plan.

    Args:
        folder: of the plan.
        delete: whether the run folders, the candidates and ``plan.json`` are deleted then.
        with_ranks: whether the ranks of users are kept; a report needs them for its tests over users.
        say: prints a line.

    Returns:
        the files.

    Raises:
        UserError: no run folders, a damaged file, or a checkpoint that would be deleted.
    """
    if not (folder / PLAN_FILE).is_file():
        raise UserError(
            f"compact: '{folder}' has no {PLAN_FILE}; give the folder that compare has written runs into"
        )
    with locked(folder):
        found = read_folders(folder)
        if delete and (kept := sorted(folder.glob("runs/*/checkpoints/*"))):
            raise UserError(
                f"compact: --delete would delete the checkpoint '{kept[0]}'; move it, or leave --delete out"
            )
        files = archive.write(folder, found, with_ranks)
        # What cannot be read must not replace what can.
        archive.read(folder)
        if not with_ranks:
            (folder / archive.RANKS_FILE).unlink(missing_ok=True)  # of an earlier call
        if delete:
            # First: from now on the report is made from the new files.
            (folder / PLAN_FILE).unlink()
            for name in ("runs", "candidates"):
                shutil.rmtree(folder / name, ignore_errors=True)
    missing = len(found.errors)
    if missing:
        say(f"{missing} of {len(found.runs) + len(found.trials)} runs and trials have no result")
    size = sum(file.stat().st_size for file in files)
    say(f"compact: {len(found.results)} results in {', '.join(map(str, files))} ({size / 1024:.0f} KiB)")
    return files
