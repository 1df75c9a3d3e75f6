"""One run of a plan in its own process: ``python -m recbole_disent.leaderboard.worker FOLDER JSON``.

The runner has written ``config.yaml`` to the folder, which becomes the working directory. The worker
writes ``per_user.npz``, if each user has one test item, and last ``result.json``. A worker that is killed
before leaves a checkpoint, and the next call continues from this checkpoint.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any

import yaml

CHECKPOINTS, RESULT, PER_USER, CONFIG = "checkpoints", "result.json", "per_user.npz", "config.yaml"


def _end_with(parent: int) -> None:
    """End this process as soon as its parent process has ended for any reason."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _checkpoint() -> str | None:
    """Return the newest checkpoint of an earlier call, and delete checkpoints that cannot be read.

    The checkpoint of a refit cannot be resumed; the first training of the run can.
    """
    from recbole_disent.errors import UserError
    from recbole_disent.refit import REFIT
    from recbole_disent.training import checkpoint

    files = [file for file in Path(CHECKPOINTS).glob("*.pth") if not file.name.endswith(REFIT)]
    for file in sorted(files, key=lambda f: f.stat().st_mtime, reverse=True):
        try:
            checkpoint.load(str(file))
            return str(file)
        except UserError:
            file.unlink()
    return None


def work(spec: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Train, test (unless it is a trial) and write the result of the run in the working directory.

    Args:
        spec: content of ``config.yaml``: model, dataset, seed, trial, config.
        options: paths (keys whose value is a file or folder, as absolute paths), candidate_dir, threads,
            gpu, keep_checkpoints, command, files and code (digests of the files that the run reads and of the
            code, when it began).

    Returns:
        the content of ``result.json``.
    """
    import torch

    from recbole_disent import result_file
    from recbole_disent.registry import spec_of
    from recbole_disent.session import run

    torch.set_num_threads(options["threads"])
    given = {
        **spec["config"],
        **options["paths"],
        "candidate_dir": options["candidate_dir"],
        "seed": spec["seed"],
        "checkpoint_dir": CHECKPOINTS,
        "result_dir": CHECKPOINTS,
        "resume_file": _checkpoint() if spec_of(spec["model"]).resumable else None,
        **({} if options["gpu"] is None else {"gpu_id": options["gpu"]}),
    }
    # The validation part decides between trials, so a trial makes no test result.
    trial = spec["trial"] is not None
    found = run(spec["model"], spec["dataset"], config_dict=given, test=not trial, ranks_file=PER_USER)
    # The result file holds the paths as they were given, because absolute paths differ by machine.
    found["config"].update({key: spec["config"].get(key) for key in options["paths"]})
    found["command"] = options["command"]
    found["threads"] = options["threads"]
    found["code"], found["files"] = options["code"], options["files"]
    kept = options["keep_checkpoints"] and not trial
    if not kept:
        found["checkpoint"] = None
    found["result_file"] = RESULT
    result_file.write(RESULT, found)
    for folder in ("log", "log_tensorboard", *([] if kept else [CHECKPOINTS])):
        shutil.rmtree(folder, ignore_errors=True)
    return found


def main(argv: list[str]) -> int:
    """Execute the run of a folder; return 0, or 2 for an error that the user can correct."""
    os.chdir(argv[0])
    options = json.loads(argv[1])
    _end_with(options["parent"])
    with open(".lock", "wb") as lock:
        # A worker whose parent has just died may hold the lock for another moment.
        fcntl.flock(lock, fcntl.LOCK_EX)
        from recbole_disent.errors import UserError

        try:
            work(yaml.safe_load(Path(CONFIG).read_text(encoding="utf-8")), options)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
