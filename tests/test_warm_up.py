"""Tests of the key learning_rate_warmup: the rates of each step, in a whole run and in a resumed one."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch

from recbole_disent.config.config import Config
from recbole_disent.session import build_data, build_model, build_trainer, run
from recbole_disent.training.row_adam import RowAdam
from recbole_disent.training.warm_up import WarmUp

BATCH = {"negatives": "batch", "train_batch_size": 16, "ema_decay": 0.0}


def rates(make_config, resume: str | None = None, **keys: Any) -> tuple[list[list[float]], int, Any]:
    """The learning rates of all groups in each step of a training, the steps of an epoch, and the trainer."""
    data = build_data(make_config(eval_step=1, **keys))
    trainer, seen = build_trainer(data, build_model(data)), []
    if resume:
        trainer.resume_checkpoint(resume)
    trainer.optimizer.register_step_post_hook(
        lambda optimizer, *_: seen.append([group["lr"] for group in optimizer.param_groups])
    )
    trainer.fit(data.loaders[0], data.loaders[1], saved=True)
    return seen, len(data.loaders[0]), trainer


@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize(("steps", "least"), [(3, 3), (10_000, 0)])
def test_the_rates_rise_linearly_and_at_most_for_an_epoch(make_config, kind, steps, least):
    keys = {"learning_rate": 0.01, "item_lr_multiplier": 3.0, "item_optimizer": kind, **BATCH}
    seen, epoch, trainer = rates(make_config, epochs=2, learning_rate_warmup=steps, **keys)
    assert isinstance(trainer.optimizer, RowAdam) == (kind == "sparse")
    end = least or epoch
    assert 3 < epoch < len(seen) == 2 * epoch
    for step, found in enumerate(seen, 1):
        share = min(1.0, step / end)
        assert sorted({round(rate, 12) for rate in found}) == pytest.approx([0.01 * share, 0.03 * share])


def test_a_step_moves_the_weights_by_its_rate():
    layer = torch.nn.Linear(1, 1, bias=False)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    WarmUp(optimizer, 4)
    places = [layer.weight.item()]
    for _ in range(6):
        layer.weight.grad = torch.ones(1, 1)
        optimizer.step()
        places.append(layer.weight.item())
    moves = [a - b for a, b in pairwise(places)]
    assert moves == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1, 0.1], rel=1e-4)


def test_a_resumed_run_does_not_warm_up_again(make_config):
    keys = {"learning_rate_warmup": 10_000, "item_lr_multiplier": 1.0, "learning_rate": 0.01, **BATCH}
    _, epoch, trainer = rates(make_config, epochs=1, **keys)
    rest, _, _ = rates(make_config, trainer.saved_model_file, epochs=2, **keys)
    assert len(rest) == epoch
    assert {rate for step in rest for rate in step} == {0.01}


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"negatives": "batch"}, 500),
        ({"negatives": "all"}, 0),
        ({"negatives": "sampled", "sampled_negatives": 5}, 0),
        ({"negatives": "all", "learning_rate_warmup": 7}, 7),
        ({"negatives": "batch", "learning_rate_warmup": 0}, 0),
    ],
)
def test_null_follows_the_negatives_and_is_in_the_result(make_keys, keys, expected):
    result = run(config_dict=make_keys(epochs=1, **keys))
    assert result["chosen"]["learning_rate_warmup"] == expected


def test_other_models_have_it_too_and_by_default_none(make_config):
    for keys, first in (({}, 0.01), ({"learning_rate_warmup": 2}, 0.005)):
        seen, _, _ = rates(make_config, model="BPR", epochs=1, learning_rate=0.01, train_batch_size=8, **keys)
        assert seen[0] == pytest.approx([first])
        assert seen[1] == pytest.approx([0.01])


def test_the_method_of_the_paper_has_none():
    assert Config("DisentS2S", "ml-100k", config_dict={"preset": "paper"})["learning_rate_warmup"] == 0
