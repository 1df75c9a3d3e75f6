"""The identity of a run: the digest of its configuration keys and the digest of the code."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from recbole_disent import __version__
from recbole_disent.config import key_rules
from recbole_disent.config.checks import metric_names
from recbole_disent.config.config import Config
from recbole_disent.config.measures import measured
from recbole_disent.data.loading import require_data
from recbole_disent.hashing import file_digest
from recbole_disent.leaderboard.inputs import files_of
from recbole_disent.training.checkpoint import config_to_dict

# Coordinates of a run, which enter its identity beside the digest of the other keys.
_COORDINATES = {"seed", "model", "dataset"}


@dataclass(frozen=True)
class Resolved:
    """What is known about a run before it is executed.

    Attributes:
        digest: digest of the version of the package and of all keys that decide the result, with defaults.
        epochs: largest number of epochs.
        metrics: names of the metrics that the test result will have.
        data_path: absolute path of the folder that holds the folder of the data set.
        files: see :func:`~recbole_disent.leaderboard.inputs.files_of`.
        without_effect: key -> sentence; see :func:`~recbole_disent.config.key_rules.without_effect`.
        final: all configuration keys, as plain values.
        measured: see :func:`~recbole_disent.config.measures.measured`.
    """

    digest: str
    epochs: int
    metrics: frozenset[str]
    data_path: str
    files: dict[str, str]
    without_effect: dict[str, str]
    final: dict[str, Any]
    measured: dict[str, str]


@cache
def resolved(model: str, dataset: str, given: str, folder: str = "") -> Resolved:
    """Return what is known about a run.

    Args:
        model, dataset: their names.
        given: JSON of the configuration keys.
        folder: the working directory, which relative paths of this call begin at.
    """
    config = config_of(model, dataset, json.loads(given))
    require_data(config)
    final = config_to_dict(config)
    keys = {
        key: value
        for key, value in final.items()
        if key not in _COORDINATES and key_rules.decides_result(model, key)
    }
    if config["model_file"]:  # the path says nothing of the model
        keys["model_file"] = file_digest(config["model_file"])
    text = json.dumps([__version__, model, dataset, keys], sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode()).hexdigest()
    data_path = os.path.dirname(os.path.abspath(config["data_path"]))
    epochs, metrics = max(1, config["epochs"]), metric_names(config)
    files, without_effect = files_of(config), config.without_effect
    return Resolved(digest, epochs, metrics, data_path, files, without_effect, final, measured(final))


def config_of(model: str, dataset: str, given: dict[str, Any]) -> Config:
    """Return the configuration of a run, and undo RecBole's change of ``CUDA_VISIBLE_DEVICES``."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    try:
        return Config(model, dataset, config_dict=dict(given))
    finally:
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)
        if visible is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = visible


def code_digest() -> str:
    """Return the digest of the source files and presets that a result depends on, as they are now."""
    root = Path(__file__).resolve().parent.parent
    found = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        name = file.relative_to(root).as_posix()
        if not name.startswith(("leaderboard/", "testing/")) and name != "cli.py":
            found.update(name.encode() + file.read_bytes())
    # A run whose preset the data choose names no key of the preset.
    presets = key_rules.folder("properties") / "presets"
    for file in sorted(presets.rglob("*.yaml")):
        found.update(file.relative_to(presets).as_posix().encode() + file.read_bytes())
    return found.hexdigest()[:16]
