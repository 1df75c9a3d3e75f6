"""Training steps of one process and of several processes, and the data that processes exchange.

``python distributed.py --dataset=ml-100k --nproc=2`` times the same global batches of DisentS2S, or of
``--model``, with one thread per process, and counts the bytes of each collective operation. With
``--items=1000000`` the data are synthetic, and ``--item_optimizer=dense,sparse`` measures both optimisers.

``--sharded=2,8,64`` trains nothing. It counts the rows of the item table that each process reads in a step,
for these numbers of processes with 512 pairs each, and computes the bytes of two designs: every process has
the whole table, or each row of the table has one process.
"""

from __future__ import annotations

import argparse
import tempfile
from itertools import islice, product
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from common import arguments, config, table
from recbole.utils import init_seed
from scale import write

from recbole_disent.parallel import process_group
from recbole_disent.session import build_data, build_model, build_trainer
from recbole_disent.testing.processes import in_processes

_WARM = 3
# Pairs of a process in a step, for a comparison of designs.
_PAIRS = 512


def counted() -> dict[str, int]:
    """Return name -> bytes of the collective operations of torch.distributed from this call on."""
    sent = {"all_gather": 0, "all_reduce": 0, "broadcast": 0}

    def wrap(name: str) -> None:
        real = getattr(dist, name)

        def call(*values: Any, **options: Any) -> Any:
            tensor = values[1] if name == "all_gather" else values[0]
            sent[name] += tensor.numel() * tensor.element_size()
            return real(*values, **options)

        setattr(dist, name, call)

    for name in sent:
        wrap(name)
    return sent


def steps(options: dict[str, Any], keys: dict[str, Any], folder: str) -> dict[str, Any]:
    """Time the training steps of this process on its share of each batch."""
    args = argparse.Namespace(**options)
    torch.set_num_threads(1)
    settings = config(args, args.model, checkpoint_dir=folder, **keys)
    data = build_data(settings)
    net = build_model(data)
    trainer = build_trainer(data, net)
    init_seed(1, True)
    net.train()
    loss_of = net.calculate_loss
    if process_group.active():
        loss_of = process_group.loss_of_all(net, loss_of, trainer._rows_of, trainer._row_parameters)
    sent, times, cpu = counted(), [], []
    for number, batch in enumerate(data.loaders[0]):
        if number == _WARM:
            for name in sent:
                sent[name] = 0
        begin, begin_cpu = perf_counter(), process_time()
        trainer.optimizer.zero_grad()
        loss = loss_of(batch)
        (sum(loss) if isinstance(loss, tuple) else loss).backward()
        trainer.optimizer.step()
        times.append(perf_counter() - begin)
        cpu.append(process_time() - begin_cpu)
        if number == _WARM + args.steps - 1:
            break
    timed = times[_WARM:]
    return {
        "seconds": float(np.median(timed)),
        "cpu": float(np.median(cpu[_WARM:])),
        "sent": {name: total / len(timed) for name, total in sent.items()},
        "weights": sum(p.numel() for p in net.parameters()) * 4,
    }


def rows_read(options: dict[str, Any], keys: dict[str, Any], processes: int) -> tuple[float, int]:
    """Return the mean number of distinct items in the windows of a process, and the number of negatives."""
    args = argparse.Namespace(**options)
    data = build_data(config(args, "DisentS2S", **keys, train_batch_size=_PAIRS * processes))
    counts = []
    for batch in islice(data.loaders[0], args.steps):
        process = torch.repeat_interleave(torch.arange(len(batch.lengths)), batch.lengths) % processes
        counts.append(len(torch.unique(process * data.dataset.item_num + batch.items)) / processes)
    return float(np.mean(counts)), data.config["sampled_negatives"]


def compare_designs(args: argparse.Namespace, keys: dict[str, Any]) -> None:
    """Print the computed bytes of a step with a table in every process and with a sharded table."""
    rows, width = [], 4 * args.hidden_size
    for processes in map(int, args.sharded.split(",")):
        own, negatives = rows_read(vars(args), keys, processes)
        read = own + negatives
        # A row of the table has two moments and the number of its last step.
        memory = (args.items + 1) * (3 * width + 8)
        whole = (processes - 1) * read * (8 + width)
        sharded = (1 - 1 / processes) * read * (8 + 2 * width)
        sizes = (size / 2**20 for size in (whole, sharded, memory, memory / processes))
        rows.append((processes, own, negatives, *sizes))
    print(f"DisentS2S, {args.items} items, length {args.max_length}, {_PAIRS} pairs a process; MiB a process")
    table(rows, ("processes", "distinct rows of windows", "rows of negatives", "whole table: received",
                 "sharded: sent", "whole table: memory", "sharded: memory"))  # fmt: skip


def main() -> None:
    """Print the table and the ratios."""
    more = {"items": 0, "item_optimizer": "auto", "sharded": ""}
    args = arguments(__doc__ or "", model="DisentS2S", nproc=2, steps=15, batch=0, hidden_size=64, **more)
    keys: dict[str, Any] = {"hidden_size": args.hidden_size}
    if args.batch:
        keys["train_batch_size"] = args.batch
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        args.data_path = str(Path(args.data_path).resolve()) if args.dataset != "ml-100k" else args.data_path
        if args.items:
            write(Path(folder), args.items * 11 // 10, args.items // 20, args.items, every_item=True)
            args.dataset, args.data_path = "synthetic", folder
        if args.sharded:
            compare_designs(args, {**keys, "checkpoint_dir": folder})
            return
        for kind, n in product(args.item_optimizer.split(","), (1, args.nproc)):
            found = in_processes(n, steps, vars(args), {**keys, "item_optimizer": kind}, folder)
            slowest, busiest = (max(f[key] for f in found) * 1e3 for key in ("seconds", "cpu"))
            volume = [found[0]["sent"][name] / 2**20 for name in ("all_gather", "all_reduce", "broadcast")]
            rows.append((kind, n, slowest, busiest, *volume, found[0]["weights"] / 2**20))
    print(f"{args.model}, {args.dataset}, length {args.max_length}, {args.steps} steps, one thread a process")
    head = (
        "item_optimizer",
        "processes",
        "ms a step",
        "CPU ms a step",
        "MiB gathered",
        "MiB reduced",
        "MiB broadcast",
        "MiB weights",
    )
    table(rows, head)
    print(f"speed_up={rows[0][2] / rows[1][2]:.2f} speed_up_of_cpu_time={rows[0][3] / rows[1][3]:.2f}")
    if len(rows) == 4:
        sent = [sum(row[4:7]) for row in rows]
        print(f"bytes of {rows[2][0]} / bytes of {rows[0][0]}: {sent[3] / sent[1]:.4f}")


if __name__ == "__main__":
    main()
