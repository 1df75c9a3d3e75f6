"""Test result of trained models under other evaluation keys than in their runs, a row for each checkpoint.

usage: python benchmarks/other_evaluation.py CHECKPOINT ... [--KEY=VALUE ...]
"""

from __future__ import annotations

import argparse

from common import table

from recbole_disent.config.literals import key_values
from recbole_disent.session import build_trainer, load_checkpoint

METRICS = ("recall@5", "ndcg@5", "recall@10", "ndcg@10")


def main() -> None:
    """Print a row for each checkpoint."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", nargs="+")
    args, words = parser.parse_known_args()
    keys = {**key_values(words), "show_progress": False, "state": "ERROR"}
    rows = []
    for path in args.checkpoint:
        net, data = load_checkpoint(path, keys)
        found = build_trainer(data, net).evaluate(data.loaders[2], load_best_model=False)
        rows.append((data.config["model"], data.config["dataset"], data.config["seed"],
                     *(found[name] for name in METRICS)))  # fmt: skip
    table(rows, ("model", "data", "seed", *METRICS))


if __name__ == "__main__":
    main()
