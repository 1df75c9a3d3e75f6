"""Make a table from stored result files: mean and spread over seeds, with the budget of each model.

    python results/table.py results/ml-100k --metrics recall@10 ndcg@10

Runs that differ in more than the seed are told apart by the keys given with ``--by``.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any


def value(values: list[float]) -> str:
    """Mean and sample standard deviation."""
    mean = statistics.mean(values)
    return f"{mean:.4f} ± {statistics.stdev(values):.4f}" if len(values) > 1 else f"{mean:.4f}"


def row(runs: list[dict[str, Any]], name: str, metrics: list[str]) -> list[str]:
    """One line of the table."""
    config = runs[0]["config"]
    stopped = sum(r["epochs_run"] < config["epochs"] for r in runs)
    return [
        name,
        *(value([r["test_result"][m] for r in runs]) for m in metrics),
        ", ".join(str(r["seed"]) for r in runs),
        f"{statistics.mean([r['epochs_run'] for r in runs]):.0f} of {config['epochs']}, "
        f"{stopped} stopped early",
        f"{statistics.mean([r['seconds']['train'] for r in runs]):.0f}",
        str(runs[0]["parameters"]),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--metrics", nargs="+", default=["recall@10", "ndcg@10"])
    parser.add_argument("--by", nargs="*", default=[], help="configuration keys that name a row")
    args = parser.parse_args()
    groups: dict[str, list[dict[str, Any]]] = {}
    everything = [json.loads(file.read_text()) for file in sorted(args.folder.glob("*.json"))]
    for run in everything:
        marks = [f"{k}={run['config'][k]}" for k in args.by if run["config"].get(k) is not None]
        groups.setdefault(" ".join([run["model"], *marks]), []).append(run)
    for what in ("data_hash", "candidate_hashes"):
        if len({json.dumps(run[what], sort_keys=True) for run in everything}) != 1:
            raise SystemExit(f"{args.folder}: the runs differ in {what} and cannot be compared")
    head = ["model", *args.metrics, "seeds", "epochs", "training, s", "parameters"]
    print("| " + " | ".join(head) + " |\n| " + " | ".join("---" for _ in head) + " |")
    for name, runs in sorted(groups.items(), key=lambda g: -g[1][0]["test_result"][args.metrics[-1]]):
        print("| " + " | ".join(row(sorted(runs, key=lambda r: r["seed"]), name, args.metrics)) + " |")
    first = everything[0]
    versions = ", ".join(f"{k} {v}" for k, v in first["versions"].items() if v)
    print(f"\nTest part, mean ± standard deviation over seeds. Data {first['data_hash']}, candidates "
          f"{first['candidate_hashes'] or 'all items'}; {versions}.")  # fmt: skip


if __name__ == "__main__":
    main()
