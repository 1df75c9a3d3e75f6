"""How well checkpoints rank the next item and the item after the next one, all items ranked.

The history is the training part of a user, so the next item is the validation item, and the item after the
next one is the test item. Items of the history that the model reads are left out. A loss on the future that
teaches something about later items shows at the distance 2.

usage: python benchmarks/distance.py CHECKPOINT ... [--data_path DATA]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from common import table
from torch import Tensor

from recbole_disent.leaderboard.statistics import of_ranks
from recbole_disent.session import load_checkpoint

METRICS = ("ndcg@10", "recall@10")
MODEL = Path(__file__).resolve().parent / "future" / "model.py"


def ranks(net: Any, data: Any) -> tuple[Tensor, Tensor]:
    """Return the ranks from 1 of the items at the distances 1 and 2 for users with both: int64 (N,) each."""
    users, later = [], []
    for _, queries in data.loaders[2].chunks(0, 1):
        users.append(queries.batch[net.USER_ID])
        later.append(queries.positives)
    last = torch.zeros(data.loaders[2].dataset.user_num, dtype=torch.long)
    last[torch.cat(users)] = torch.cat(later)
    found: list[tuple[Tensor, Tensor]] = []
    with torch.no_grad():
        items = net.item_table()
        for _, queries in data.loaders[1].chunks(0, 1):
            scores = (net.query_vectors(queries.batch) @ items.T).amax(1)
            scores[:, 0] = -torch.inf
            targets = torch.stack([queries.positives, last[queries.batch[net.USER_ID]]], 1)
            own = scores.gather(1, targets)
            scores.scatter_(1, queries.batch[net.ITEM_SEQ], -torch.inf)
            rank = 1 + (scores[:, None] > own[:, :, None]).sum(2)[targets[:, 1] > 0]
            found.append((rank[:, 0], rank[:, 1]))
    near, far = zip(*found, strict=True)
    return torch.cat(near), torch.cat(far)


def main() -> None:
    """Print a row for each checkpoint."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", nargs="+")
    parser.add_argument("--data_path")
    args = parser.parse_args()
    keys = {"show_progress": False, "model_file": str(MODEL)}
    if args.data_path:
        keys["data_path"] = args.data_path
    rows = []
    for path in args.checkpoint:
        net, data = load_checkpoint(path, keys)
        values = [float(of_ranks(m, rank.numpy()).mean()) for rank in ranks(net, data) for m in METRICS]
        rows.append((data.config["future_loss"], data.config["future_weight"], *values))
    columns = [f"{name} at distance {distance}" for distance in (1, 2) for name in METRICS]
    table(rows, ("loss on the future", "weight", *columns))


if __name__ == "__main__":
    main()
