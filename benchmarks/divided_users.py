"""Memory of each process of a training with and without the key ``divide_users``.

One process prepares a synthetic data set. Then one process and ``--nproc`` processes map the prepared data,
make every batch of an epoch of DisentS2S and of an evaluation, and train ``--steps`` of the batches. The
table has the figures of the process with the largest memory. The peak is counted from the start of the
work, so that it leaves out the libraries of Python. The last line is ``mapped_divided_to_whole=<ratio>
peak_divided_to_whole=<ratio>``, of the resident memory of the prepared data and of the peak, for ``--nproc``
processes with ``divide_users`` and one process. ``--folder`` keeps the file of interactions, as in scale.py.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any

import scale
import torch
from common import arguments, config, in_own_process, peak_gb, table

from recbole_disent.parallel import process_group
from recbole_disent.session import build_data, build_model, build_trainer
from recbole_disent.testing.processes import in_processes


def mapped_mb(folder: str) -> float:
    """Return the resident memory of this process that belongs to files below *folder*, in MiB (Linux)."""
    kib, ours = 0, False
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            ours = folder in line
        elif ours and line.startswith("Rss:"):
            kib += int(line.split()[1])
    return kib / 2**10


def status_mb(name: str) -> float:
    """Return a value of ``/proc/self/status``, such as the peak ``VmHWM``, in MiB (Linux)."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split(f"{name}:")[1].split()[0]) / 2**10


def start_peak() -> float:
    """Let the peak begin at the memory of this moment, which is returned in MiB (Linux)."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    return status_mb("VmRSS")


def settings(args: argparse.Namespace, divide: bool) -> Any:
    """Return the configuration of a run."""
    keys = {"train_batch_size": args.batch, "divide_users": divide, "checkpoint_dir": args.data_path}
    return config(args, "DisentS2S", history_fields=["item_id"], **keys)


def prepare(args: argparse.Namespace) -> tuple[int, float]:
    """Prepare and store the data; return the number of events and the peak memory in GiB."""
    return build_data(settings(args, False)).report["interactions"], peak_gb()


def measure(options: dict[str, Any], divide: bool) -> dict[str, float]:
    """Make the batches of this process and return its memory."""
    args = argparse.Namespace(**options)
    torch.set_num_threads(1)
    before, begin = start_peak(), process_time()
    data = build_data(settings(args, divide))
    net = build_model(data).train()
    trainer = build_trainer(data, net)
    loss_of = net.calculate_loss
    if process_group.active():
        loss_of = process_group.loss_of_all(net, loss_of, trainer._rows_of, trainer._row_parameters)
    events = 0
    for number, batch in enumerate(data.loaders[0]):
        events += len(batch.items)
        if number < args.steps:
            trainer.optimizer.zero_grad()
            sum(loss_of(batch)).backward()
            trainer.optimizer.step()
    queries = sum(len(chunk.number) for _, chunk in data.loaders[1].local_chunks())
    found = {"events": events, "queries": queries, "mapped": mapped_mb(args.data_path)}
    peak = status_mb("VmHWM") - before
    return {**found, "anonymous": status_mb("RssAnon"), "peak": peak, "cpu": process_time() - begin}


def main() -> None:
    """Print the table and the ratio."""
    sizes = {"interactions": 20_000_000, "users": 1_000_000, "items": 27_000}
    args = arguments(__doc__ or "", nproc=2, steps=5, batch=4096, folder="", **sizes)
    rows = []
    with TemporaryDirectory() as temporary:
        args.dataset, args.data_path = "synthetic", scale.folder_of(args, temporary)
        events, peak = in_own_process(prepare, args)
        for divide, n in ((False, 1), (False, args.nproc), (True, args.nproc), (True, 2 * args.nproc)):
            found = in_processes(n, measure, vars(args), divide)
            most = max(found, key=lambda each: each["mapped"])
            names = ("events", "queries", "mapped", "anonymous", "peak")
            rows.append((n, divide, *(most[name] for name in names)))
    print(f"DisentS2S, {events} interactions, {args.items} items, length {args.max_length}")
    print(f"peak of the process that prepares the data: {peak:.2f} GiB")
    print()
    table(rows, ("processes", "divide_users", "items in batches", "queries", "prepared data, MiB",
                 "anonymous, MiB", "peak, MiB"))  # fmt: skip
    mapped, peaks = (rows[2][column] / rows[0][column] for column in (4, 6))
    print(f"mapped_divided_to_whole={mapped:.2f} peak_divided_to_whole={peaks:.2f}")


if __name__ == "__main__":
    main()
