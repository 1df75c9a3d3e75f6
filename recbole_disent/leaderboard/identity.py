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

from recbole_disent import __version__
from recbole_disent.config import key_rules
from recbole_disent.config.config import Config
from recbole_disent.data.loading import require_data
from recbole_disent.training.checkpoint import config_to_dict

# Coordinates of a run, which stand beside the digest of its keys.
_COORDINATES = {"seed", "model", "dataset"}


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
    keys = {
        key: value
        for key, value in config_to_dict(config).items()
        if key not in _COORDINATES and key_rules.decides_result(model, key)
    }
    text = json.dumps([__version__, model, dataset, keys], sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Resolved(digest, max(1, config["epochs"]), _metrics(config))


def _metrics(config: Config) -> frozenset[str]:
    names = [metric.lower() for metric in config["metrics"]]
    plain = {n for n in names if n == "gauc" or config["eval_type"] == EvaluatorType.VALUE}
    return frozenset(plain | {f"{n}@{k}" for n in names if n not in plain for k in config["topk"]})


def config_of(model: str, dataset: str, given: dict[str, Any]) -> Config:
    """Return the configuration of a run. RecBole's choice of a GPU is not left in the environment."""
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
        if not name.startswith(("leaderboard/", "testing/")) and name != "cli.py":
            found.update(name.encode() + file.read_bytes())
    return found.hexdigest()[:16]
