"""Differences between repeated runs with several processes and the same run with one process.

``python repetitions.py --models=DisentS2S,SASRec --repetitions=20 --nproc=2`` trains without dropout on
the same global batches and compares all test metrics. ``--keys`` adds configuration keys as YAML. In
single precision, a sum over processes and a sum over one batch are rounded differently, and training
amplifies the difference. In double precision the metrics are equal, unless training amplifies rounding
errors of 1e-16 until a rank changes.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import arguments, common_keys, table

from recbole_disent.config import key_rules
from recbole_disent.errors import UserError
from recbole_disent.session import run

# Keys that turn off random numbers which differ between processes.
SAME = {
    "DisentS2S": {"hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0},
    "TSSR": {"hidden_dropout_prob": 0.0},
    "SASRecContent": {"hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0},
    "SASRec": {"hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0, "bucket_batches": True},
    "GRU4Rec": {"dropout_prob": 0.0, "bucket_batches": True},
}


def tested(args: argparse.Namespace, model: str, folder: str, nproc: int, precision: str) -> dict[str, float]:
    """Train and test a model, and return its test metrics."""
    keys = common_keys(
        args,
        epochs=args.epochs,
        metric_decimal_place=12,
        checkpoint_dir=folder,
        result_dir=folder,
        nproc=nproc,
        precision=precision,
        **SAME[model],
        **key_rules.load_yaml(args.keys),
    )
    report = run(model, args.dataset, config_dict=keys)
    for name in ("checkpoint", "result_file"):
        Path(report[name]).unlink()
    return report["test_result"]


def difference(a: dict[str, float], b: dict[str, float]) -> float:
    """Return the largest difference between two runs over all metrics."""
    return max(abs(a[name] - b[name]) for name in a)


def row(args: argparse.Namespace, model: str, folder: str, precision: str) -> tuple[Any, ...]:
    """Return the row of the table for a model and a precision."""
    alone = tested(args, model, folder, 1, precision)
    differences, failed = [], 0
    for number in range(1, args.repetitions + 1):
        said = f"{model}, {precision}, {number} of {args.repetitions}"
        try:
            differences.append(difference(alone, tested(args, model, folder, args.nproc, precision)))
            print(f"{said}: {differences[-1]:.2g}", file=sys.stderr)
        except UserError as error:
            failed += 1
            print(f"{said}: {error}", file=sys.stderr)
    return model, precision, args.repetitions, failed, max(differences, default=math.nan)


def main() -> None:
    """Print the table."""
    args = arguments(
        __doc__ or "",
        models="DisentS2S,TSSR,SASRec",
        precisions="single,double",
        keys="{}",
        repetitions=20,
        nproc=2,
        epochs=1,
        max_length=10,
    )
    os.environ["OMP_NUM_THREADS"] = str(args.threads)  # threads of the child processes
    with tempfile.TemporaryDirectory() as folder:
        models, kinds = args.models.split(","), args.precisions.split(",")
        rows = [row(args, model, folder, kind) for model in models for kind in kinds]
    print(
        f"{args.dataset}, length {args.max_length}, epochs: {args.epochs}, processes: {args.nproc} against 1"
    )
    table(rows, ("model", "precision", "runs", "failed", "difference"))


if __name__ == "__main__":
    main()
