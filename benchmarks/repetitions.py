"""Runs of several processes beside the same run of one, again and again.

``python repetitions.py --models=DisentS2S,SASRec --repetitions=20 --nproc=2`` trains without dropout
on the same global batches and compares all test metrics. ``--nproc`` runs are in single precision,
where a sum over processes is rounded in another order than a sum over one batch, and training
carries that on; in double precision, where it is far too small to change a rank, the metrics have
to be equal.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from common import arguments, common_keys, config, table
from recbole.utils import init_seed

from recbole_disent.errors import UserError
from recbole_disent.launcher import in_processes
from recbole_disent.quick_start import build_model, build_trainer, prepare_data, run

# Keys without random numbers that each process would draw for itself.
SAME = {
    "DisentS2S": {"hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0},
    "TSSR": {"hidden_dropout_prob": 0.0},
    "SASRecContent": {"hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0},
    "SASRec": {"hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0, "bucket_batches": True},
    "GRU4Rec": {"dropout_prob": 0.0, "bucket_batches": True},
}


def keys_of(args: argparse.Namespace, model: str, folder: str) -> dict[str, Any]:
    """Configuration keys of a run besides those of every benchmark."""
    folders = {"checkpoint_dir": folder, "result_dir": folder}
    return {"epochs": args.epochs, "metric_decimal_place": 12, **SAME[model], **folders}


def in_double(options: dict[str, Any], model: str, folder: str) -> dict[str, float]:
    """Train and test in double precision, as one of several processes or alone."""
    args = argparse.Namespace(**options)
    torch.set_num_threads(args.threads)
    given = config(args, model, **keys_of(args, model, folder))
    init_seed(given["seed"], given["reproducibility"])
    data = prepare_data(given)
    net = build_model(data).double()
    trainer = build_trainer(data, net)
    train, valid, held_out = data.loaders
    trainer.fit(train, valid, verbose=False, saved=False, show_progress=False)
    return dict(trainer.evaluate(held_out, load_best_model=False, show_progress=False))


def in_single(args: argparse.Namespace, model: str, folder: str, nproc: int) -> dict[str, float]:
    """Train and test with ``--nproc``."""
    keys = common_keys(args, **keys_of(args, model, folder), nproc=nproc)
    report = run(model, args.dataset, config_dict=keys)
    for name in ("checkpoint", "result_file"):
        Path(report[name]).unlink()
    return report["test_result"]


def difference(a: dict[str, float], b: dict[str, float]) -> float:
    """Largest difference of two runs over all metrics."""
    return max(abs(a[name] - b[name]) for name in a)


def row(args: argparse.Namespace, model: str, folder: str) -> tuple[Any, ...]:
    """Compare runs of one model."""
    one, several = (in_processes(n, in_double, vars(args), model, folder)[0] for n in (1, args.nproc))
    alone = in_single(args, model, folder, 1)
    differences, failed = [], 0
    for number in range(1, args.repetitions + 1):
        try:
            differences.append(difference(alone, in_single(args, model, folder, args.nproc)))
            print(f"{model}, {number} of {args.repetitions}: {differences[-1]:.2g}", file=sys.stderr)
        except UserError as error:
            failed += 1
            print(f"{model}, {number} of {args.repetitions}: {error}", file=sys.stderr)
    return model, args.repetitions, failed, difference(one, several), max(differences, default=math.nan)


def main() -> None:
    """Print the table."""
    args = arguments(
        __doc__ or "", models="DisentS2S,TSSR,SASRec", repetitions=20, nproc=2, epochs=1, max_length=10
    )
    os.environ["OMP_NUM_THREADS"] = str(args.threads)  # of the processes of --nproc
    with tempfile.TemporaryDirectory() as folder:
        rows = [row(args, model, folder) for model in args.models.split(",")]
    print(
        f"{args.dataset}, length {args.max_length}, epochs: {args.epochs}, processes: {args.nproc} against 1"
    )
    table(rows, ("model", "runs", "failed", "difference in double precision", "in single precision"))


if __name__ == "__main__":
    main()
