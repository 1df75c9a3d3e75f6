"""One process of a run, which the launcher starts: ``... -m recbole_disent.parallel.child FOLDER PARENT``."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import traceback
from pathlib import Path

from recbole_disent.errors import UserError
from recbole_disent.files import write_text
from recbole_disent.session import run

# Exit code of a process that has written the sentence of its error to a file.
_TOLD = 2


def _die_with(parent: int) -> None:
    """End this process when the launcher ends for any reason (Linux only)."""
    try:
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
    except (AttributeError, OSError):
        return
    if os.getppid() != parent:
        sys.exit(1)


def main(folder: str, parent: int) -> int:
    """Run the call in this process and write the report or the sentence of the error."""
    _die_with(parent)
    call = json.loads(Path(folder, "call.json").read_text(encoding="utf-8"))
    number = os.environ["RANK"]
    try:
        report = run(**call)
    except UserError as error:
        write_text(os.path.join(folder, f"error-{number}.txt"), str(error))
        return _TOLD
    except Exception:
        # The launcher decides whether this is the cause or follows from the end of another process.
        write_text(os.path.join(folder, f"traceback-{number}.txt"), traceback.format_exc())
        return 1
    write_text(os.path.join(folder, f"report-{number}.json"), json.dumps(report))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
