"""Seconds of training steps with different threads and ways to wait, alone and beside a busy process.

Each figure is the median over ``--rounds`` rounds, which interleave the settings. The last line is
``idle=<passive / default> busy=<passive / default>`` with all threads.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
from itertools import product
from time import perf_counter

SETTINGS = {
    "one thread": {"OMP_NUM_THREADS": "1"},
    "default threads": {},
    "passive waiting": {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"},
}
_OWN = {"OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}


def steps(args: argparse.Namespace) -> None:
    """Print the seconds of ``--batches`` training steps after five steps of warm-up."""
    import common
    import torch

    from recbole_disent.session import build_data, build_model

    cfg = common.config(args, "DisentS2S", prepared_dir=args.prepared)
    data = build_data(cfg)
    net = build_model(data)
    optimizer = torch.optim.Adam(net.parameters())
    start, number = 0.0, 0
    while True:
        for batch in data.loaders[0]:
            if number == 5:
                start = perf_counter()
            if number == 5 + args.batches:
                print(perf_counter() - start)
                return
            common.train_step(net, optimizer, batch)
            number += 1


def _busy() -> None:
    while True:
        pass


def _seconds(setting: dict[str, str], neighbours: int, prepared: str) -> float:
    environment = {key: value for key, value in os.environ.items() if key not in _OWN} | setting
    others = [multiprocessing.Process(target=_busy, daemon=True) for _ in range(neighbours)]
    for other in others:
        other.start()
    try:
        command = [sys.executable, __file__, *sys.argv[1:], f"--prepared={prepared}"]
        found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return float(found.stdout.split()[-1])
    finally:
        for other in others:
            other.kill()
            other.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    defaults = {"dataset": "ml-100k", "data_path": "dataset/", "max_length": 50, "batches": 40, "rounds": 3,
                "prepared": ""}  # fmt: skip
    for name, value in defaults.items():
        parser.add_argument(f"--{name}", default=value, type=type(value))
    args = parser.parse_args()
    if args.prepared:  # a child of this program
        steps(args)
        return
    found: dict[tuple[str, int], list[float]] = {}
    with tempfile.TemporaryDirectory() as prepared:
        for _, neighbours, name in product(range(args.rounds), (0, 1), SETTINGS):
            seconds = _seconds(SETTINGS[name], neighbours, prepared)
            found.setdefault((name, neighbours), []).append(seconds)
    median = {key: statistics.median(values) for key, values in found.items()}
    print(f"{args.dataset}, {args.batches} steps, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print("| setting | alone, s | beside a busy process, s |\n| --- | --- | --- |")
    for name in SETTINGS:
        print(f"| {name} | {median[name, 0]:.3g} | {median[name, 1]:.3g} |")
    ratios = [median["passive waiting", n] / median["default threads", n] for n in (0, 1)]
    print(f"idle={ratios[0]:.2f} busy={ratios[1]:.2f}")


if __name__ == "__main__":
    main()
