"""Growth of the time and the memory of an epoch with the data and with the maximum length.

The script trains DisentS2S for whole epochs on 10 %, 30 % and 100 % of the users of a data set. Then it
trains on 10 % of the users with other maximum lengths and another limit ``loss_chunk_mb``. Each epoch has
its own process; all other keys have their defaults. The last line is
``seconds_per_interaction_100_to_10=<ratio> peak_gb=<peak of the whole data set>``.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from time import process_time

import numpy as np
import pandas as pd
import torch
from common import arguments, config, in_own_process, peak_gb, table

from recbole_disent.session import build_data, build_model


def part_of_users(args: argparse.Namespace, share: float, folder: str) -> None:
    """Write the interactions of a random share of the users to *folder*; the seed is fixed."""
    source = Path(args.data_path) / args.dataset / f"{args.dataset}.inter"
    rows = pd.read_csv(source, sep="\t", dtype=str)
    users = rows.iloc[:, 0].unique()
    chosen = np.random.default_rng(1).permutation(users)[: int(len(users) * share)]
    target = Path(folder) / args.dataset
    target.mkdir(parents=True)
    rows[rows.iloc[:, 0].isin(chosen)].to_csv(target / f"{args.dataset}.inter", sep="\t", index=False)


def epoch(args: argparse.Namespace, keys: dict[str, int]) -> tuple[float, int, float]:
    """Return CPU seconds and number of pairs of an epoch, and the peak memory of the process in GiB."""
    torch.set_num_threads(args.threads)
    data = build_data(config(args, "DisentS2S", **keys))
    net = build_model(data).train()
    optimizer = torch.optim.Adam(net.parameters(), lr=data.config["learning_rate"], fused=True)
    pairs, start = 0, process_time()
    for batch in data.loaders[0]:
        optimizer.zero_grad()
        sum(net.calculate_loss(batch)).backward()
        optimizer.step()
        pairs += len(batch)
    return process_time() - start, pairs, peak_gb()


def main() -> None:
    args = arguments(__doc__)
    rows = []
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for share in (0.1, 0.3, 1.0):
            part_of_users(args, share, f"{folder}/{share}")
        top = args.max_length
        plan = [(0.1, top, 256), (0.3, top, 256), (1.0, top, 256)]
        plan += [(0.1, top // 4, 256), (0.1, top // 2, 256), (0.1, top, 4)]
        for share, length, memory in plan:
            given = {**vars(args), "data_path": f"{folder}/{share}", "max_length": length}
            keys = {"loss_chunk_mb": memory}
            seconds, pairs, peak = in_own_process(epoch, argparse.Namespace(**given), keys)
            found[share, length, memory] = seconds / pairs, peak
            rows.append((f"{share:.0%}", length, memory, pairs, seconds, 1e6 * seconds / pairs, peak))
    print(f"{args.dataset}, {args.threads} thread(s), CPU time")
    head = (
        "users",
        "maximum length",
        "loss_chunk_mb",
        "pairs",
        "epoch, s",
        "microseconds a pair",
        "peak, GiB",
    )
    table(rows, head)
    whole, tenth = found[1.0, args.max_length, 256], found[0.1, args.max_length, 256]
    print(f"seconds_per_interaction_100_to_10={whole[0] / tenth[0]:.2f} peak_gb={whole[1]:.2f}")


if __name__ == "__main__":
    main()
