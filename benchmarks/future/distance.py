"""How well checkpoints rank the next item and the item after the next one, all items ranked.

The history is the training part of a user, so the next item is the validation item, and the item after the
next one is the test item. Items of the history that the model reads are left out. A loss on the future that
teaches something about later items shows at the distance 2.

usage: python benchmarks/future/distance.py CHECKPOINT ... [--data_path DATA]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from common import table

from recbole_disent.session import load_checkpoint

MODEL = Path(__file__).resolve().with_name("model.py")


def ranks(net: Any, data: Any) -> tuple[Tensor, Tensor]:
    """Return the ranks of the items at the distances 1 and 2 for every user with both: int64 (N,) each."""
    users, later = [], []
    for _, queries in data.loaders[2].chunks(0, 1):
        users.append(queries.batch[net.USER_ID])
        later.append(queries.positives)
    last = torch.zeros(data.loaders[2].dataset.user_num, dtype=torch.long).index_copy_(
        0, torch.cat(users), torch.cat(later)
    )
    found: list[tuple[Tensor, Tensor]] = []
    with torch.no_grad():
        items = net.item_table()
        for _, queries in data.loaders[1].chunks(0, 1):
            scores = (net.query_vectors(queries.batch) @ items.T).amax(1)
            scores[:, 0] = -torch.inf
            targets = torch.stack([queries.positives, last[queries.batch[net.USER_ID]]], 1)
            own = scores.gather(1, targets)
            scores.scatter_(1, queries.batch[net.ITEM_SEQ], -torch.inf)
            rank = (scores[:, None] > own[:, :, None]).sum(2)[targets[:, 1] > 0]
            found.append((rank[:, 0], rank[:, 1]))
    near, far = zip(*found, strict=True)
    return torch.cat(near), torch.cat(far)


def metrics(rank: Tensor) -> tuple[float, float]:
    """Return NDCG@10 and Recall@10 of ranks that start at 0."""
    hits = rank < 10
    gains = 1 / torch.log2(rank.double() + 2)
    return float((gains * hits).mean()), float(hits.double().mean())


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
        near, far = ranks(net, data)
        config = data.config
        rows.append((config["future_loss"], config["future_weight"], *metrics(near), *metrics(far)))
    head = (
        "loss on the future",
        "weight",
        "NDCG@10, next",
        "Recall@10, next",
        "NDCG@10, after it",
        "Recall@10, after it",
    )
    table(rows, head)


if __name__ == "__main__":
    main()
