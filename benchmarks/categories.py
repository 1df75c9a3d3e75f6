"""Whether the intentions of a trained model follow the categories of items better than chance.

Each test user's target has an intention, which gives its best score, and categories. The mutual
information of both is compared with its values after random permutations of the intentions over the users.
The last line is ``excess=<information / mean of the permutations>``.

usage: python benchmarks/categories.py CHECKPOINT FIELD [--data_path DATA] [--permutations N]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from common import table

from recbole_disent.session import load_checkpoint


def intentions_of_targets(net: Any, loader: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the winning intention and the item of each test target: int64 (N,) each."""
    items, won, columns = net.item_table(), [], []
    with torch.no_grad():
        for _, queries in loader.chunks(0, 1):
            vectors = net.query_vectors(queries.batch.to(items.device))
            scores = torch.einsum("bkd,bd->bk", vectors, items[queries.positives.to(items.device)])
            won.append(scores.argmax(1).cpu())
            columns.append(queries.positives)
    return torch.cat(won).numpy(), torch.cat(columns).numpy()


def categories(data: Any, field: str) -> np.ndarray:
    """Return which items have which value of a column of the item file: bool (n_items, C)."""
    config, train = data.config, data.loaders[0]._dataset
    path = Path(config["data_path"]) / f"{config['dataset']}.item"
    frame = pd.read_csv(path, sep="\t", dtype=str, encoding=config["encoding"] or "utf-8", quoting=3)
    frame.columns = [name.partition(":")[0] for name in frame.columns]
    if field not in frame:
        raise SystemExit(f"{field}: expected a column of {path.name}: {', '.join(frame.columns)}")
    numbers = train.field2token_id[train.iid_field]
    cells = zip(frame[config["ITEM_ID_FIELD"]], frame[field].fillna(""), strict=True)
    pairs = [(numbers[token], value) for token, text in cells if token in numbers
             for value in text.split(" ") if value]  # fmt: skip
    codes, _ = pd.factorize(np.array([value for _, value in pairs]))
    found = np.zeros((train.item_num, codes.max() + 1), dtype=bool)
    found[[item for item, _ in pairs], codes] = True
    return found


def information(won: np.ndarray, has: np.ndarray, k: int) -> float:
    """Return the mutual information of intention and category, in nats: the sum over all categories."""
    total = 0.0
    joint = np.stack([has[won == n].sum(0) for n in range(k)]) / len(won)  # (K, C)
    share = np.bincount(won, minlength=k)[:, None] / len(won)
    for part, rate in ((joint, has.mean(0)), (share - joint, 1 - has.mean(0))):
        known = part > 0
        total += float((part[known] * np.log(part[known] / (share * rate)[known])).sum())
    return total


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint")
    parser.add_argument("field", help="categories of the items: a token or token_seq column of the item file")
    parser.add_argument("--data_path")
    parser.add_argument("--permutations", type=int, default=200)
    args = parser.parse_args()
    keys = {"show_progress": False, **({"data_path": args.data_path} if args.data_path else {})}
    net, data = load_checkpoint(args.checkpoint, keys)
    won, items = intentions_of_targets(net, data.loaders[2])
    has = categories(data, args.field)[items]
    has = has[:, has.sum(0) >= 20]  # the information of rare categories is mostly noise
    k, rng = net.n_intentions, np.random.default_rng(0)
    found = information(won, has, k)
    chance = np.array([information(rng.permutation(won), has, k) for _ in range(args.permutations)])
    p = (1 + (chance >= found).sum()) / (1 + len(chance))
    print(f"{len(won)} targets, K = {k}, {has.shape[1]} categories with at least 20 targets")
    head = ("information, nats", "permuted, mean", "permuted, largest", "p")
    table([(found, float(chance.mean()), float(chance.max()), float(p))], head)
    print(f"excess={found / chance.mean():.1f}")


if __name__ == "__main__":
    main()
