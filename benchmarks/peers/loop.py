"""What the programs of this folder share: arguments, a training loop for RecBole's models, the result."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import Any


def main(work: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Call *work* with the arguments in the file that the first word names; write what it returns."""
    given, result = sys.argv[1:]
    del sys.argv[1:]  # RecBole reads them
    arguments = json.loads(Path(given).read_text(encoding="utf-8"))
    import torch

    torch.set_num_threads(arguments["threads"])
    Path(result).write_text(json.dumps(work(arguments)), encoding="utf-8")


class Clock:
    """CPU time of a training, which ends after some epochs or after some seconds.

    Args:
        epochs: number of epochs; None: as many as there is time for.
        seconds: CPU seconds; None: as many as the epochs take.
    """

    def __init__(self, epochs: int | None, seconds: float | None) -> None:
        self.epochs, self.seconds = epochs, seconds
        self.batches, self.start = 0, process_time()

    def restart(self) -> None:
        """Start the time now."""
        self.start = process_time()

    def is_over(self) -> bool:
        """Count a batch, and return whether it was the last one by the time."""
        self.batches += 1
        return self.seconds is not None and process_time() - self.start >= self.seconds

    def facts(self, per_epoch: float) -> dict[str, float]:
        """Times of the training so far; an epoch has *per_epoch* batches."""
        time = process_time() - self.start
        return {
            "train_seconds": time,
            "epoch_seconds": time / self.batches * per_epoch,
            "epochs": self.batches / per_epoch,
            "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        }


def train(net: Any, loader: Any, optimizer: Any, clock: Clock) -> dict[str, float]:
    """Train a model of RecBole's interface and return the facts of the clock."""
    net.train()
    epoch, per_epoch, over = 0, float(len(loader)), False
    clock.restart()
    while not over and epoch != clock.epochs:
        before = clock.batches
        for batch in loader:
            optimizer.zero_grad()
            net.calculate_loss(batch).backward()
            optimizer.step()
            over = clock.is_over()
            if over:
                break
        else:
            per_epoch = float(clock.batches - before)
        epoch += 1
    net.eval()
    return clock.facts(per_epoch)


def recbole_keys(arguments: dict[str, Any]) -> dict[str, Any]:
    """Configuration keys of SASRec for RecBole's interface."""
    names = ("data_path", "seed", "train_batch_size")
    width, dropout = arguments["width"], arguments["dropout"]
    return {name: arguments[name] for name in names} | {
        "MAX_ITEM_LIST_LENGTH": arguments["max_length"],
        "hidden_size": width,
        "inner_size": width,
        "n_layers": 2,
        "n_heads": 2,
        "hidden_dropout_prob": dropout,
        "attn_dropout_prob": dropout,
        "learning_rate": 1e-3,
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
        "train_neg_sample_args": None,
        "show_progress": False,
        "state": "ERROR",
    }
