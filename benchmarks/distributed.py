"""Training steps of one and of several processes, and what they send each other.

``python distributed.py --dataset=ml-100k --nproc=2`` times the same global batches of
DisentS2S, or of ``--model``, on one thread a process, and counts the bytes of each collective.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
import torch.distributed as dist
from common import arguments, config, table
from recbole.utils import init_seed

from recbole_disent import distributed
from recbole_disent.launcher import in_processes
from recbole_disent.quick_start import build_model, build_trainer, prepare_data

_WARM = 3


def counted() -> dict[str, int]:
    """Count the payload of every collective of torch.distributed from now on, by its name."""
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
    """Time the steps of this process's share of each batch."""
    import argparse

    args = argparse.Namespace(**options)
    torch.set_num_threads(1)
    settings = config(args, args.model, checkpoint_dir=folder, **keys)
    data = prepare_data(settings)
    net = build_model(data)
    trainer = build_trainer(data, net)
    init_seed(1, True)
    net.train()
    loss_of = net.calculate_loss
    if distributed.active():
        loss_of = distributed.loss_of_all(net, loss_of, trainer._rows_of)
    sent, times, begin = counted(), [], 0.0
    for number, batch in enumerate(data.loaders[0]):
        if number == _WARM:
            for name in sent:
                sent[name] = 0
        begin = perf_counter()
        trainer.optimizer.zero_grad()
        loss = loss_of(batch)
        (sum(loss) if isinstance(loss, tuple) else loss).backward()
        trainer.optimizer.step()
        times.append(perf_counter() - begin)
        if number == _WARM + args.steps - 1:
            break
    timed = sorted(times[_WARM:])
    return {
        "seconds": timed[len(timed) // 2],
        "sent": {name: total / len(timed) for name, total in sent.items()},
        "weights": sum(p.numel() for p in net.parameters()) * 4,
    }


def main() -> None:
    """Print the table and the ratio."""
    args = arguments(__doc__ or "", model="DisentS2S", nproc=2, steps=15, batch=0, hidden_size=64)
    keys: dict[str, Any] = {"hidden_size": args.hidden_size}
    if args.batch:
        keys["train_batch_size"] = args.batch
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        args.data_path = str(Path(args.data_path).resolve()) if args.dataset != "ml-100k" else args.data_path
        for n in (1, args.nproc):
            found = in_processes(n, steps, vars(args), keys, folder)
            slowest = max(f["seconds"] for f in found)
            sent = found[0]["sent"]
            rows.append(
                (n, slowest * 1e3, *(sent[name] / 2**20 for name in sent), found[0]["weights"] / 2**20)
            )
    print(f"{args.model}, {args.dataset}, length {args.max_length}, {args.steps} steps, one thread a process")
    head = ("processes", "ms a step (median)", "MiB gathered", "MiB reduced", "MiB broadcast", "MiB weights")
    table(rows, head)
    print(f"speed_up={rows[0][1] / rows[1][1]:.2f}")


if __name__ == "__main__":
    main()
