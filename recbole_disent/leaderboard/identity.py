"""What tells a run from others: the digest of its keys, and of the code that makes its result."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from recbole.utils import EvaluatorType

from recbole_disent import __version__, registry, settings
from recbole_disent.config import Config
from recbole_disent.data.preparation import require_data
from recbole_disent.evaluation.metrics import register_metrics
from recbole_disent.trainer import plain_config

# Keys that say where and how a run works and not what comes out.
_NOT_HASHED = {
    "data_path", "checkpoint_dir", "result_dir", "candidate_dir", "per_user_file", "resume_file",
    "show_progress", "state", "worker", "gpu_id", "use_gpu", "device", "local_rank", "single_spec",
    "eval_memory_mb", "log_wandb", "wandb_project", "seed", "model", "dataset",
}  # fmt: skip


@dataclass(frozen=True)
class Resolved:
    """What is known of a run before it is made.

    Attributes:
        digest: of every key that it would have, defaults included, and of the code's version.
        epochs: the most it may take.
        metrics: names of the values that its test result will have.
    """

    digest: str
    epochs: int
    metrics: frozenset[str]


@cache
def resolved(model: str, dataset: str, given: str) -> Resolved:
    """Return what a run would be; *given* is JSON of its configuration keys."""
    config = config_of(model, dataset, json.loads(given))
    require_data(config)
    plain, neutral = plain_config(config).items(), _neutral(model).items()
    keys = {k: v for k, v in plain if k not in _NOT_HASHED and (k, v) not in neutral}
    text = json.dumps([__version__, model, dataset, keys], sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Resolved(digest, max(1, config["epochs"]), _metrics(config))


def _metrics(config: Config) -> frozenset[str]:
    names = [metric.lower() for metric in config["metrics"]]
    plain = {n for n in names if n == "gauc" or config["eval_type"] == EvaluatorType.VALUE}
    return frozenset(plain | {f"{n}@{k}" for n in names if n not in plain for k in config["topk"]})


def _neutral(model: str) -> dict[str, Any]:
    """Keys younger than stored results, with values that change nothing, so that runs keep their names."""
    # By default RecBole's models are as RecBole has them.
    keys = {} if model in registry.MODELS else settings.of_model(model)
    young = {"precision": "single", "ema_decay": 0.0, "window_visits": 1}
    return {**young, **settings.defaults(keys)}


def config_of(model: str, dataset: str, given: dict[str, Any]) -> Config:
    """Return the configuration of a run. RecBole's choice of a GPU is not left in the environment."""
    register_metrics()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    try:
        return Config(model, dataset, config_dict=dict(given))
    finally:
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)
        if visible is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = visible


@cache
def code_digest() -> str:
    """Digest of the sources that a result depends on."""
    root = Path(__file__).resolve().parent.parent
    found = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        name = file.relative_to(root).as_posix()
        if not name.startswith("leaderboard/") and name != "cli.py":
            found.update(name.encode() + file.read_bytes())
    return found.hexdigest()[:16]
