"""Growth of the time and the memory of a run with the data, the lengths of histories and the maximum length.

The script prepares data, trains DisentS2S for an epoch, or for at most ``--pairs`` pairs of the epoch, and
evaluates it, on 10 %, 30 % and 100 % of the users of a data set. Then it does the same on 10 % of the users
with other maximum lengths and another limit ``loss_chunk_mb``. Each row has its own process; all other keys
have their defaults, except that the evaluation leaves out the items of the histories.

``--events=10000`` measures a synthetic data set instead, with ``--users`` users of that many events each
and ``--items`` items. Two more rows have the number of interactions of the 10 % in ten times and in a
hundred times as many users, whose histories are as much shorter.

The last line is ``seconds_per_interaction_100_to_10=<ratio> peak_gb=<peak of the whole data set>``, and
also ``seconds_per_interaction_long_to_short=<ratio>`` for synthetic data.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from time import process_time
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from common import arguments, config, in_own_process, peak_gb, table, train_step

from recbole_disent.session import build_data, build_model, build_trainer


class Measured(NamedTuple):
    """CPU seconds of each step of a row, peak memory of its process in GiB, and numbers of its data."""

    prepare: float
    training: float
    evaluation: float
    prepare_peak: float
    peak: float
    events: int
    pairs: int


def part_of_users(args: argparse.Namespace, share: float, folder: str) -> None:
    """Write the interactions of a random share of the users to *folder*; the seed is fixed."""
    source = Path(args.data_path) / args.dataset / f"{args.dataset}.inter"
    rows = pd.read_csv(source, sep="\t", dtype=str)
    users = rows.iloc[:, 0].unique()
    chosen = np.random.default_rng(1).permutation(users)[: int(len(users) * share)]
    write(folder, args.dataset, rows[rows.iloc[:, 0].isin(chosen)])


def synthetic(args: argparse.Namespace, users: int, events: int, folder: str) -> None:
    """Write *users* users with *events* events each; the popularity of the items follows a power law."""
    rng = np.random.default_rng(0)
    count = users * events
    item = np.minimum(args.items ** rng.random(count), args.items - 1).astype(np.int64)
    frame = {
        "user_id:token": np.repeat(np.arange(users), events),
        "item_id:token": item,
        "timestamp:float": rng.integers(0, 10**6, count),
    }
    write(folder, args.dataset, pd.DataFrame(frame))


def write(folder: str, name: str, rows: pd.DataFrame) -> None:
    """Write the interactions of a data set."""
    target = Path(folder) / name
    target.mkdir(parents=True)
    rows.to_csv(target / f"{name}.inter", sep="\t", index=False)


def measure(args: argparse.Namespace, keys: dict[str, int]) -> Measured:
    """Prepare the data, train and rank the validation part."""
    torch.set_num_threads(args.threads)
    times = [process_time()]
    cfg = config(args, "DisentS2S", filter_history=True, prepared_limit_gb=0, **keys)
    data = build_data(cfg)
    times.append(process_time())
    prepare_peak = peak_gb()
    net = build_model(data).train()
    trainer = build_trainer(data, net)
    pairs = 0
    for batch in data.loaders[0]:
        train_step(net, trainer.optimizer, batch)
        pairs += len(batch)
        if 0 < args.pairs <= pairs:
            break
    times.append(process_time())
    trainer.ranking.evaluate(net.eval(), data.loaders[1])
    times.append(process_time())
    return Measured(*np.diff(times).tolist(), prepare_peak, peak_gb(), data.report["interactions"], pairs)


def main() -> None:
    args = arguments(__doc__, pairs=0, events=0, users=200, items=20_000)
    top, memory = args.max_length, 256
    with tempfile.TemporaryDirectory() as folder:
        plan = []
        for share in (0.1, 0.3, 1.0):
            place = f"{folder}/{share}"
            if args.events:
                synthetic(args, round(share * args.users), args.events, place)
            else:
                part_of_users(args, share, place)
            plan.append((f"{share:.0%}", place, top, memory))
        tenth = plan[0]
        if args.events:
            for times in (10, 100):
                place = f"{folder}/{times}"
                synthetic(args, args.users * times // 10, args.events // times, place)
                plan.append((f"10%, histories 1/{times}", place, top, memory))
            lengths = (top * 5,)
        else:
            lengths = (top // 4, top // 2)
        plan += [(tenth[0], tenth[1], length, memory) for length in lengths]
        plan.append((tenth[0], tenth[1], top, 4))
        found = []
        for _, place, length, memory in plan:
            given = {**vars(args), "data_path": place, "max_length": length}
            keys = {"loss_chunk_mb": memory, "checkpoint_dir": place}
            found.append(in_own_process(measure, argparse.Namespace(**given), keys))
    what = f"synthetic, {args.events} events a user" if args.events else args.dataset
    print(f"{what}, {args.threads} thread(s), CPU time")
    head = ("users", "maximum length", "loss_chunk_mb", "interactions", "prepare, s", "peak of prepare, GiB",
            "pairs", "training, s", "microseconds a pair", "evaluation, s", "peak, GiB")  # fmt: skip
    rows = []
    for (users, _, length, memory), row in zip(plan, found, strict=True):
        data = row.events, row.prepare, row.prepare_peak
        each = 1e6 * row.training / row.pairs
        rows.append((users, length, memory, *data, row.pairs, row.training, each, row.evaluation, row.peak))
    table(rows, head)
    cost = [row.training / row.pairs for row in found]
    last = f"seconds_per_interaction_100_to_10={cost[2] / cost[0]:.2f} peak_gb={found[2].peak:.2f}"
    if args.events:
        last += f" seconds_per_interaction_long_to_short={cost[0] / cost[4]:.2f}"
    print(last)


if __name__ == "__main__":
    main()
