"""Fixtures: a small data set with unusual content, and runs inside a temporary folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from recbole_disent.config.config import Config
from recbole_disent.evaluation.metrics import register_metrics
from recbole_disent.session import build_trainer, load_checkpoint
from recbole_disent.testing.small_data import (  # noqa: F401  (tests take them from here)
    hostile_items,
    hostile_keys,
    hostile_rows,
    write_hostile,
    write_inter,
    write_items,
)

register_metrics()

# The tests compare numbers to the last digit and build models beside their data, so that they need the CPU.
torch.cuda.is_available = lambda: False


@pytest.fixture(autouse=True)
def in_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RecBole writes logs and checkpoints into the working directory."""
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)


def feature_keys(model: str) -> dict[str, Any]:
    """Return the keys that a RecBole model with item features needs on ``hostile``; none for other models."""
    if model not in ("SASRecF", "FDSA", "GRU4RecF"):
        return {}
    load = {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "tags", "title"]}
    return {"selected_features": ["tags", "title"], "load_col": load}


def scored_again(path: str) -> dict[str, float]:
    """Load a checkpoint and return its test result."""
    net, data = load_checkpoint(path)
    found = build_trainer(data, net).evaluate(data.loaders[2], load_best_model=False)
    return {key: float(value) for key, value in found.items()}


def require_recboles_loss(net: Any, batches: list[Any]) -> None:
    """Check that loss and gradients of a subclass equal those of RecBole's class, in float64."""
    recboles = type(net).__bases__[-1]
    assert recboles.__module__.startswith("recbole.model.")
    for batch in batches:
        losses, gradients = [], []
        for kind in (type(net), recboles):
            net.zero_grad()
            losses.append(kind.calculate_loss(net, batch))
            losses[-1].backward()
            gradients.append({name: p.grad.clone() for name, p in net.named_parameters()})
        torch.testing.assert_close(*losses, rtol=1e-10, atol=0)
        for name, expected in gradients[1].items():
            torch.testing.assert_close(gradients[0][name], expected, rtol=1e-7, atol=1e-12, msg=name)


@pytest.fixture
def double() -> Iterator[None]:
    """Make float64 the default type."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """Folder with the data set ``hostile``."""
    return write_hostile(tmp_path / "data")


@pytest.fixture
def make_config(hostile: Path) -> Any:
    """Return a function (model, **keys) -> Config on the data set ``hostile``."""

    def make(model: str = "DisentS2S", **keys: Any) -> Config:
        given = {**hostile_keys(hostile), **keys}
        return Config(model, "hostile", config_dict=given)

    return make


@pytest.fixture
def make_keys(make_config: Any) -> Any:
    """Return a function (model, **keys) -> the keys of that configuration, as :func:`run` takes them."""

    def make(model: str = "DisentS2S", **keys: Any) -> dict[str, Any]:
        config = make_config(model, **keys)
        return {**config.external_config_dict, "model": model, "dataset": "hostile"}

    return make


@pytest.fixture
def run_keys(hostile: Path) -> dict[str, Any]:
    """Return the configuration keys of a run on the data set ``hostile``, as plain values."""
    return {"data_path": str(hostile), "MAX_ITEM_LIST_LENGTH": 7, "topk": [1, 5, 10], "epochs": 2,
            "show_progress": False}  # fmt: skip
