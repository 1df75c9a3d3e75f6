"""Test result of trained models under other evaluation keys than in their runs.

Each key is read as in a configuration file. The table has a row for each checkpoint.

usage: python benchmarks/other_evaluation.py CHECKPOINT ... [--data_path DATA] [--keys KEY=VALUE ...]
"""

from __future__ import annotations

import argparse
from typing import Any

import yaml
from common import table

from recbole_disent.session import build_trainer, load_checkpoint

METRICS = ("recall@5", "ndcg@5", "recall@10", "ndcg@10")


def keys_of(words: list[str]) -> dict[str, Any]:
    """Return the keys of words such as ``filter_history=False``."""
    return {key: yaml.safe_load(value) for key, _, value in (word.partition("=") for word in words)}


def main() -> None:
    """Print a row for each checkpoint."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", nargs="+")
    parser.add_argument("--data_path")
    parser.add_argument("--keys", nargs="*", default=[], metavar="KEY=VALUE")
    args = parser.parse_args()
    keys = {**keys_of(args.keys), "show_progress": False, "state": "ERROR"}
    if args.data_path:
        keys["data_path"] = args.data_path
    rows = []
    for path in args.checkpoint:
        net, data = load_checkpoint(path, keys)
        found = build_trainer(data, net).evaluate(data.loaders[2], load_best_model=False)
        rows.append((data.config["model"], data.config["dataset"], data.config["seed"],
                     *(found[name] for name in METRICS)))  # fmt: skip
    table(rows, ("model", "data", "seed", *METRICS))


if __name__ == "__main__":
    main()
