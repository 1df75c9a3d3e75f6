"""Wall time of the command line from its start to the validation of the first epoch.

The benchmark starts ``recbole-disent run --epochs=1`` in an empty folder and notes when the lines of its log
arrive. The last line is ``first_result=<seconds>``, the median over the repeats. The first repeat after
an installation reads all packages from the disk, and later ones find them in memory.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

ROOT = Path(__file__).resolve().parent.parent
# Part of the run -> text of the log line with which the part ends.
PARTS = {
    "import": "General Hyper Parameters",
    "data": "The number of users",
    "model": "Trainable parameters",
    "training": "epoch 0 training",
    "evaluation": "epoch 0 evaluating",
}


def measure(model: str, dataset: str, more: list[str]) -> dict[str, float]:
    """Return the seconds of each part of a run."""
    command = [sys.executable, "-m", "recbole_disent.cli", "run", f"--model={model}", f"--dataset={dataset}",
               "--epochs=1", "--show_progress=False", *more]  # fmt: skip
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    ends: dict[str, float] = {}
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        start = perf_counter()
        with subprocess.Popen(
            command,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": path},
        ) as process:
            for line in process.stdout or ():
                lines.append(line)
                for part, text in PARTS.items():
                    if part not in ends and text in line:
                        ends[part] = perf_counter() - start
    if process.returncode or len(ends) < len(PARTS):
        sys.exit(
            "".join(lines) + f"\nthe run ended with code {process.returncode} and the parts {list(ends)}"
        )
    begins = [0.0, *ends.values()]
    return {part: end - begin for (part, end), begin in zip(ends.items(), begins, strict=False)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, epilog="Further --KEY=VALUE are keys of the run.")
    parser.add_argument("--model", default="DisentS2S")
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument("--repeats", type=int, default=1)
    args, more = parser.parse_known_args()
    found = [measure(args.model, args.dataset, more) for _ in range(args.repeats)]
    whole = statistics.median(sum(one.values()) for one in found)
    print(f"{args.model} on {args.dataset}, first epoch, median of {args.repeats}")
    print(f"{'part':20}{'seconds':>10}{'share':>8}")
    for part in PARTS:
        seconds = statistics.median(one[part] for one in found)
        print(f"{part:20}{seconds:10.2f}{seconds / whole:8.0%}")
    print(f"first_result={whole:.2f}")


if __name__ == "__main__":
    main()
