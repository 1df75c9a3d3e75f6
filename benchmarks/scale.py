"""Time and memory of loading, preparing and training on a synthetic data set of any size.

Lengths and popularity follow power laws. One process loads the file, prepares and stores the data and
trains ``--batches`` batches of ``--model``, which is DisentS2S or a model that learns from whole sequences.
A second process maps the prepared data and trains as well. The
last line is ``peak_gb=... cpu_seconds=... again_peak_gb=... again_prepare=...``, with the peak memory and
the CPU time of the first process, and the peak memory and the preparation of the second. ``--folder`` keeps
the file of interactions, and a later call with the same numbers uses it again.

``--ratio_items=1000000`` measures training steps instead, with ``--items`` and with ``--ratio_items`` items
in turn, and prints the ratio of their medians. Every item then has a click. Further keys are
``--item_optimizer``, one value or two such as ``dense,sparse``, and ``--ema_decay``; the softmax is sampled.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path
from time import process_time
from typing import Any

import common
import numpy as np
import torch

from recbole_disent.config.config import Config
from recbole_disent.session import build_data, build_model, build_trainer


def write(folder: Path, interactions: int, users: int, items: int, every_item: bool = False) -> None:
    """Write ``folder/synthetic/synthetic.inter``; the times of the events are random.

    With *every_item*, random interactions are replaced, so that every item has one at least.
    """
    rng = np.random.default_rng(0)
    weight = (np.arange(1, users + 1) ** -0.6)[rng.permutation(users)]
    lengths = np.maximum(20, np.round(interactions * weight / weight.sum())).astype(np.int64)
    user = np.repeat(np.arange(users), lengths)[:interactions]
    rank = items ** rng.random(len(user))  # density 1 / rank
    item = np.minimum(rank.astype(np.int64), items - 1)
    if every_item:
        item[rng.permutation(len(item))[:items]] = np.arange(items)
    time = rng.integers(0, 10**6, len(user))
    (folder / "synthetic").mkdir()
    with open(folder / "synthetic" / "synthetic.inter", "w", encoding="utf-8") as file:
        file.write("user_id:token\titem_id:token\ttimestamp:float\n")
        for begin in range(0, len(user), 10**6):
            part = slice(begin, begin + 10**6)
            lines = zip(user[part].tolist(), item[part].tolist(), time[part].tolist(), strict=True)
            file.write("".join(f"{u}\t{i}\t{t}\n" for u, i, t in lines))


def folder_of(args: argparse.Namespace, temporary: str) -> str:
    """Return a folder with the data set, below ``args.folder`` or *temporary*, without prepared data."""
    folder = Path(args.folder or temporary, f"{args.interactions}-{args.users}-{args.items}")
    if not folder.is_dir():
        folder.mkdir(parents=True)
        write(folder, args.interactions, args.users, args.items)
    shutil.rmtree(folder / "prepared", ignore_errors=True)
    return str(folder)


def config(args: argparse.Namespace, folder: Path | str, **keys: Any) -> Config:
    """Return the configuration of ``args.model``, which learns from whole sequences."""
    if args.model != "DisentS2S":
        keys |= {"train_mode": "sequences", "train_batch_size": 512}
    return common.config(args, args.model, history_fields=["item_id"], checkpoint_dir=str(folder), **keys)


class Steps:
    """Training steps of ``args.model`` on a synthetic data set with a number of items."""

    def __init__(self, args: argparse.Namespace, items: int, item_optimizer: str, folder: Path) -> None:
        folder.mkdir()
        write(folder, args.interactions, args.users, items, every_item=True)
        args = argparse.Namespace(**{**vars(args), "dataset": "synthetic", "data_path": str(folder)})
        keys = {"item_optimizer": item_optimizer, "ema_decay": args.ema_decay, "negatives": "sampled"}
        data = build_data(config(args, folder, **keys))
        self.net = build_model(data).train()
        self.trainer = build_trainer(data, self.net)
        self.batches = iter(data.loaders[0])
        self.items = data.dataset.item_num - 1
        self.kind = "sparse" if self.trainer._row_parameters else "dense"
        self.times: list[float] = []

    def step(self) -> None:
        now = common.clock()
        begin = now()
        batch = next(self.batches)
        common.train_step(self.net, self.trainer.optimizer, batch)
        self.times.append(now() - begin)


def compare_steps(args: argparse.Namespace) -> None:
    """Print the time of a step for both numbers of items, and the ratio of the times."""
    warm, kinds = 5, (args.item_optimizer.split(",") * 2)[:2]
    with tempfile.TemporaryDirectory() as folder:
        both = [
            Steps(args, items, kind, Path(folder) / str(number))
            for number, (items, kind) in enumerate(zip((args.items, args.ratio_items), kinds, strict=True))
        ]
        for _ in range(warm + args.batches):
            for each in both:
                each.step()
    rows = [(e.items, e.kind, float(np.median(e.times[warm:])) * 1e3) for e in both]
    print(f"{args.batches} steps of {args.model}, {args.interactions} interactions, {args.threads} thread(s)")
    common.table(rows, ("items", "item_optimizer", "CPU ms a step"))
    print(f"ratio={rows[1][2] / rows[0][2]:.2f}")


def measure(args: argparse.Namespace, folder: str) -> dict[str, float]:
    """Return step -> seconds, and the peak memory in GiB and the number of training rows."""
    torch.set_num_threads(args.threads)
    args.dataset, args.data_path = "synthetic", folder
    found = {}
    cfg = config(args, folder)
    begin = process_time()
    found["load and prepare"], data = common.seconds(lambda: build_data(cfg))
    found["load and prepare, CPU"] = process_time() - begin
    found["peak of load and prepare"] = common.peak_gb()
    net = build_model(data).train()
    optimizer = build_trainer(data, net).optimizer

    def train() -> None:
        for number, batch in enumerate(data.loaders[0]):
            if number == args.batches:
                break
            common.train_step(net, optimizer, batch)

    begin = process_time()
    found[f"{args.batches} training batches"], _ = common.seconds(train)
    found[f"{args.batches} training batches, CPU"] = process_time() - begin
    found["peak"] = common.peak_gb()
    found["rows"] = len(data.loaders[0]._dataset.inter_feat)
    return found


def main() -> None:
    ratio = {"ratio_items": 0, "item_optimizer": "auto", "ema_decay": 0.0, "model": "DisentS2S"}
    args = common.arguments(
        __doc__, interactions=20_000_000, users=138_493, items=26_744, batches=200, folder="", **ratio
    )
    if args.ratio_items:
        compare_steps(args)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = folder_of(args, temporary)
        first, again = (common.in_own_process(measure, args, folder) for _ in range(2))
    rows = first.pop("rows")
    print(f"{args.interactions} interactions, length {args.max_length}, {args.threads} thread(s)")
    names = {name: f"{name}, GiB" if "peak" in name else f"{name}, s" for name in first}
    table = [(shown, first[name], again[name]) for name, shown in names.items()]
    common.table(table, ("", "from the file", "from the prepared data"))
    # Two copies of a row, each with 12 bytes per position for item and time histories, and 28 further bytes.
    theirs = 2 * rows * (12 * args.max_length + 28) / 2**30
    print(f"RecBole's padded tensors for the {rows} training rows alone: {theirs:.1f} GiB (computed)")
    sum_ = first["load and prepare, CPU"] + first[f"{args.batches} training batches, CPU"]
    print(
        f"peak_gb={first['peak']:.2f} cpu_seconds={sum_:.0f} again_peak_gb={again['peak']:.2f} "
        f"again_prepare={again['load and prepare']:.1f}"
    )


if __name__ == "__main__":
    main()
