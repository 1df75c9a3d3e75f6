"""The result file of a run, in JSON. The page docs/result-file.md describes the schema."""

from __future__ import annotations

import json
import math
import os
import platform
import resource
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from recbole_disent import __version__
from recbole_disent.files import write_text
from recbole_disent.parallel import process_group
from recbole_disent.tables import cache
from recbole_disent.training.checkpoint import config_to_dict

SCHEMA = 1
_PACKAGES = ("recbole", "torch", "numpy", "pandas", "scipy", "ray")


def versions() -> dict[str, str | None]:
    """Return the versions of Python and of the packages that results depend on.

    The version of a package that is not installed is None.
    """
    # A source tree that is not installed has no metadata.
    found: dict[str, str | None] = {"python": platform.python_version(), "recbole_disent": __version__}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def git_commit() -> str | None:
    """Return the git commit of the checkout from which the package runs; None outside a checkout.

    The commit ends with ``+`` if tracked files have uncommitted changes.
    """
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    try:
        ask = ["git", "-C", str(root)]
        head = subprocess.run([*ask, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run(
            [*ask, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


def peak_memory_mb() -> dict[str, float]:
    """Return the peak memory of the process (``cpu``) and, if there is a GPU, of the GPU, in MiB."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    found = {"cpu": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)}
    if torch.cuda.is_available():
        found["gpu"] = round(torch.cuda.max_memory_allocated() / 2**20, 1)
    return found


def write(path: str, result: dict[str, Any]) -> None:
    """Write a result file; after an interruption the file is either complete or absent."""
    write_text(path, json.dumps(_finite(result), indent=2, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    """Replace inf and NaN, which JSON does not have, by texts."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def path_for(checkpoint_path: str, folder: str) -> str:
    """Return the path of the result file that belongs to a checkpoint."""
    name = os.path.basename(checkpoint_path).removesuffix(".pth")
    return os.path.join(folder, f"{name}.json")


def describe(data: Any, trainer: Any, model: Any, score: Any, best: Any, tested: Any) -> dict[str, Any]:
    """Return the content of a result file, without the paths of the checkpoint and of the file itself.

    Args:
        data: the :class:`~recbole_disent.session.RunData` of the run.
        trainer: the trainer, after training.
        model: the trained model.
        score, best: validation score and metrics of the best epoch; None without a validation part.
        tested: metrics of the test part; None if the model was not tested.
    """
    config = data.config
    return {
        "schema": SCHEMA,
        "model": config["model"],
        "dataset": config["dataset"],
        "seed": config["seed"],
        "best_valid_score": None if best is None else float(score),
        "valid_score_bigger": config["valid_metric_bigger"],
        "best_valid_result": _floats(best),
        "test_result": _floats(tested),
        "best_epoch": trainer.best_epoch,
        "epochs_run": trainer.epochs_run,
        "resumed_from": trainer.resumed_from,
        "curves": trainer.curves,
        "seconds": {
            "data": round(data.seconds, 3),
            **{k: round(v, 3) for k, v in trainer.seconds.items()},
        },
        "peak_memory_mb": peak_memory_mb(),
        "processes": process_group.world(),
        "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "data_hash": data.data_hash,
        "data": data.report,
        "table": cache.summary_of(config["data_path"]),
        "content_hash": next(
            (m.content_hash for m in model.modules() if hasattr(m, "content_hash")), data.feature_hash
        ),
        "chosen": {**(getattr(model, "chosen", None) or {}), **trainer.ranking.chosen()} or None,
        "candidate_hashes": trainer.ranking.candidate_hashes(),
        "short_candidate_rows": trainer.ranking.short_rows(),
        "rows": {
            name: len(loader._dataset.inter_feat)
            for name, loader in zip(("train", "valid", "test"), data.loaders, strict=True)
        },
        "versions": versions(),
        "git_commit": git_commit(),
        "command": [os.path.basename(sys.argv[0]), *sys.argv[1:]],
        # The path as the user gave it; the absolute path depends on the machine.
        "config": {**config_to_dict(config), "data_path": config.external_config_dict.get("data_path")},
    }


def _floats(metrics: Any) -> dict[str, float] | None:
    return None if metrics is None else {name: float(value) for name, value in metrics.items()}
