"""Functions that the benchmarks share: arguments, configurations, measurements and tables."""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import resource
from collections.abc import Callable
from time import perf_counter, process_time
from typing import Any

import torch

from recbole_disent.config.config import Config
from recbole_disent.evaluation.metrics import register_metrics

register_metrics()


def arguments(description: str, **defaults: Any) -> argparse.Namespace:
    """Parse --dataset, --data_path, --max_length, --threads and the arguments in *defaults*."""
    parser = argparse.ArgumentParser(description=description)
    common = {"dataset": "ml-100k", "data_path": "dataset/", "max_length": 50, "threads": 1}
    for name, value in {**common, **defaults}.items():
        parser.add_argument(f"--{name}", default=value, type=type(value))
    found = parser.parse_args()
    torch.set_num_threads(found.threads)
    return found


def common_keys(args: argparse.Namespace, **keys: Any) -> dict[str, Any]:
    """Return the configuration keys of every run, updated by *keys*."""
    return {
        "data_path": args.data_path,
        "MAX_ITEM_LIST_LENGTH": args.max_length,
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "show_progress": False,
        "state": "ERROR",
        **keys,
    }


def config(args: argparse.Namespace, model: str, **keys: Any) -> Config:
    """Return the configuration of a model."""
    return Config(model, args.dataset, config_dict=common_keys(args, **keys))


def seconds(work: Callable[[], Any], now: Callable[[], float] = perf_counter) -> tuple[float, Any]:
    """Return the time of *work* in seconds by the clock *now*, and its result."""
    gc.collect()
    start = now()
    result = work()
    return now() - start, result


def clock() -> Callable[[], float]:
    """Return a clock: CPU time with one thread, because other programs change it least, or wall time."""
    return process_time if torch.get_num_threads() == 1 else perf_counter


def train_step(net: Any, optimizer: Any, batch: Any) -> None:
    """Train *net* on a batch; its loss is one tensor or a tuple of tensors that are added."""
    optimizer.zero_grad()
    loss = net.calculate_loss(batch)
    (sum(loss) if isinstance(loss, tuple) else loss).backward()
    optimizer.step()


def seconds_of_a_target(net: Any, optimizer: Any, loader: Any, limit: float) -> tuple[float, int]:
    """Train for about *limit* seconds after two batches of warm-up, timed by :func:`clock`.

    Returns:
        seconds per target (per pair, for DisentS2S), and the number of targets that were timed.
    """
    now = clock()
    net.train()
    targets, start, number = 0, 0.0, 0
    while True:
        for batch in loader:
            if number == 2:
                targets, start = 0, now()
            train_step(net, optimizer, batch)
            targets += len(batch)
            number += 1
            if number > 4 and now() - start > limit:
                return (now() - start) / targets, targets


def peak_gb() -> float:
    """Return the peak resident memory of this process in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def in_own_process(work: Callable[..., Any], *args: Any) -> Any:
    """Run *work* in a new process, so that its peak memory can be measured."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, args)


def table(rows: list[tuple[Any, ...]], head: tuple[str, ...]) -> None:
    """Print a Markdown table."""
    print("| " + " | ".join(head) + " |")
    print("| " + " | ".join("---" for _ in head) + " |")
    for row in rows:
        print("| " + " | ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row) + " |")
