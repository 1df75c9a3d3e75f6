"""This package against RecTools and RecBole: cost of an epoch, quality after the same time, speed of lists.

Every program has its own environment (``benchmarks/environments.py`` makes them in ``--environments``)
and one thread. All train the same network as far as each project allows: 2 blocks, 2 heads, width 64
(also inside the feed-forward net of SASRec), the same dropout, a softmax over all items, Adam with a
learning rate of 0.001, the last ``--max_length`` targets of a user, and batches of 128 sequences (a batch
of RecBole has 2,048 pairs). This package trains for ``--epochs`` epochs, and the others train for the
same CPU time. The time of an epoch is the mean time of the trained batches, multiplied by the number of
batches of an epoch.

The last event of a user is the test item, and the last but one is not trained. The lists of the ``--k``
best items come from the history without the test item, and leave out the items of that history. This
program computes the metrics of all lists.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterable
from math import log2
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from common import arguments, table
from environments import FOLDER, driver, python_of

# Name -> environment, program, model.
PEERS = {
    "ours-SASRec": ("ours", "ours.py", "SASRec"),
    "RecTools-SASRec": ("RecTools", "rectools_models.py", "SASRec"),
    "RecTools-BERT4Rec": ("RecTools", "rectools_models.py", "BERT4Rec"),
    "RecBole-SASRec": ("RecBole", "recbole_sasrec.py", "SASRec"),
}
OURS, CUT = "ours-SASRec", 10


def read_events(path: Path) -> pd.DataFrame:
    """Read an atomic file: user, item, place in the user's history from 1, and part, in the order of time.

    Users with fewer than three events are left out.
    """
    events = pd.read_csv(path, sep="\t", dtype=str)
    events.columns = [name.partition(":")[0] for name in events.columns]
    events["time"] = events["timestamp"].astype(float)
    events = events.sort_values("time", kind="stable")
    groups = events.groupby("user_id", sort=False)["item_id"]
    place, size = groups.cumcount() + 1, groups.transform("size")
    part = np.select([place == size, place == size - 1], ["test", "valid"], "train")
    columns = {"user": events["user_id"], "item": events["item_id"], "place": place, "part": part}
    return pd.DataFrame(columns)[size >= 3].reset_index(drop=True)


def write_atomic(events: pd.DataFrame, folder: Path, name: str) -> None:
    """Write ``folder/name/name.inter``, in which the time of an event is its place."""
    columns = {"user": "user_id:token", "item": "item_id:token", "place": "timestamp:float"}
    (folder / name).mkdir()
    file = folder / name / f"{name}.inter"
    events[list(columns)].rename(columns=columns).to_csv(file, sep="\t", index=False)


def metrics(lists: dict[str, list[str]], targets: dict[str, str], cut: int) -> tuple[float, float]:
    """NDCG and recall of the first *cut* items; a user without a list counts as a miss."""
    gains = []
    for user, target in targets.items():
        best = lists.get(user, [])[:cut]
        gains.append(1 / log2(best.index(target) + 2) if target in best else 0.0)
    return float(np.mean(gains)), float(np.mean([gain > 0 for gain in gains]))


def pairs_of_a_batch(events: pd.DataFrame, max_length: int) -> int:
    """Training pairs of 128 sequences, on average."""
    lengths = (events["part"] == "train").groupby(events["user"]).sum()
    return round(128 * float((lengths - 1).clip(0, max_length).mean()))


def rows_of(results: dict[str, dict[str, Any]], targets: dict[str, str]) -> Iterable[tuple[Any, ...]]:
    """Yield the rows of the table."""
    for name, found in results.items():
        quality = metrics(found["lists"], targets, CUT)
        rate = found["users"] / found["rank_seconds"]
        yield (name, found["epoch_seconds"], found["peak_gib"], found["epochs"], *quality, rate)


def main() -> None:
    args = arguments(
        __doc__ or "",
        epochs=4,
        dropout=0.2,
        k=20,
        seed=1,
        peers=",".join(PEERS),
        environments=FOLDER,
    )
    if unknown := set(args.peers.split(",")) - set(PEERS):
        sys.exit(f"--peers: got {', '.join(sorted(unknown))}, expected some of {', '.join(PEERS)}")
    names = [name for name in PEERS if name == OURS or name in args.peers.split(",")]
    pythons = {name: python_of(PEERS[name][0], args.environments) for name in names}
    events = read_events(Path(args.data_path) / args.dataset / f"{args.dataset}.inter")
    test = events["part"] == "test"
    targets = dict(zip(events["user"][test], events["item"][test], strict=True))
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        write_atomic(events, Path(folder), args.dataset)
        events.to_csv(Path(folder) / "events.csv", index=False)
        given: dict[str, Any] = {
            "dataset": args.dataset,
            "data_path": folder,
            "events": str(Path(folder) / "events.csv"),
            "max_length": args.max_length,
            "dropout": args.dropout,
            "k": args.k,
            "seed": args.seed,
            "width": 64,
            "train_batch_size": pairs_of_a_batch(events, args.max_length),
            "epochs": args.epochs,
            "seconds": None,
        }
        for name in names:
            _, program, model = PEERS[name]
            more: dict[str, Any] = {"model": model}
            if program.startswith("recbole"):
                more["histories"] = events[~test].groupby("user")["item"].agg(list).to_dict()
            results[name] = driver(program, pythons[name], given | more, args.threads)
            given |= {"epochs": None, "seconds": results[OURS]["train_seconds"]}
            facts = {key: value for key, value in results[name].items() if key != "lists"}
            print(name, json.dumps(facts), file=sys.stderr)
    budget = results[OURS]["train_seconds"]
    print(f"{args.dataset}, length {args.max_length}, dropout {args.dropout}, {args.threads} thread(s)")
    size = f"{len(targets)} users, {events['item'].nunique()} items"
    print(f"{size}; {budget:.0f} CPU seconds of training each")
    print()
    head = ("CPU s an epoch", "peak GiB", "epochs trained", f"NDCG@{CUT}", f"Recall@{CUT}", "users ranked/s")
    table(list(rows_of(results, targets)), ("", *head))
    print()
    ours = results[OURS]
    for name in names[1:]:
        found = results[name]
        epoch = found["epoch_seconds"] / ours["epoch_seconds"]
        rate = ours["users"] / ours["rank_seconds"] / (found["users"] / found["rank_seconds"])
        print(f"* against {name}: epoch={epoch:.1f} ranking={rate:.1f}")


if __name__ == "__main__":
    main()
