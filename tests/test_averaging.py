"""Tests of the moving average of the weights: values, evaluation, checkpoints and resumed runs."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest
import torch

from recbole_disent.session import build_data, build_model, build_trainer, load_checkpoint
from recbole_disent.training import checkpoint
from recbole_disent.training.averaging import WeightAverage


def averages(values: list[np.ndarray], decay: float) -> np.ndarray:
    """Return the average of the initial value and the values after each step, from a float64 loop."""
    found = values[0].astype(float)
    for step, value in enumerate(values[1:], 1):
        share = min(decay, (1 + step) / (10 + step))
        found = share * found + (1 - share) * value
    return found


@pytest.mark.parametrize("decay", [0.5, 0.99])
def test_values(decay):
    net = torch.nn.Linear(3, 2).double()
    average, seen = WeightAverage(net, decay), [net.weight.detach().numpy().copy()]
    for _ in range(30):
        with torch.no_grad():
            net.weight += torch.randn(2, 3).double()
        average.update()
        seen.append(net.weight.detach().numpy().copy())
    with average.in_model():
        np.testing.assert_allclose(net.weight.detach().numpy(), averages(seen, decay), rtol=1e-12)
        assert net.weight.requires_grad
    np.testing.assert_array_equal(net.weight.detach().numpy(), seen[-1])
    with pytest.raises(KeyError), average.in_model():
        raise KeyError
    np.testing.assert_array_equal(net.weight.detach().numpy(), seen[-1])


def fitted(make_config, model: str, epochs: int, resume: str | None = None, **keys: Any) -> Any:
    """A trainer after its training, its data, and the weights before the first and after each step.

    Only every second epoch is validated, the last one among them.
    """
    data = build_data(
        make_config(model, train_batch_size=16, learning_rate=0.03, epochs=epochs, eval_step=2, **keys)
    )
    net = build_model(data)
    trainer = build_trainer(data, net)
    seen: list[dict[str, Any]] = []

    def note(*_: Any) -> None:
        seen.append({name: p.detach().numpy().copy() for name, p in net.named_parameters()})

    if resume:
        trainer.resume_checkpoint(resume)
    note()
    trainer.optimizer.register_step_post_hook(note)
    trainer.fit(data.loaders[0], data.loaders[1], saved=True)
    return trainer, data, seen


def equal(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("model", ["DisentS2S", "BPR"])
def test_training_is_the_same_and_the_average_is_kept(make_config, model):
    trainer, data, seen = fitted(make_config, model, 2, ema_decay=0.8)
    plain, _, values = fitted(make_config, model, 2, ema_decay=0)
    assert len(seen) == len(values) > 10
    assert all(map(equal, seen, values))
    state = checkpoint.load(trainer.saved_model_file)
    assert state["averaged"]["steps"] == len(seen) - 1
    assert equal({name: value.numpy() for name, value in state["averaged"]["values"].items()}, seen[-1])
    for name in seen[0]:
        expected = averages([weights[name] for weights in seen], 0.8)
        np.testing.assert_allclose(state["state_dict"][name], expected, rtol=1e-4, atol=1e-6, err_msg=name)
    assert checkpoint.load(plain.saved_model_file)["averaged"] is None

    # The score is that of the averages: in training, after it, and of the loaded checkpoint.
    best = trainer.best_valid_result
    assert best != plain.best_valid_result
    assert trainer.evaluate(data.loaders[1], load_best_model=False) == best
    net, again = load_checkpoint(trainer.saved_model_file)
    assert build_trainer(again, net).evaluate(again.loaders[1], load_best_model=False) == best
    with torch.no_grad():  # later averages, worse ones
        for parameter in trainer.model.parameters():
            parameter.copy_(torch.randn_like(parameter))
    trainer.average.update()
    assert trainer.evaluate(data.loaders[1], load_best_model=False) != best
    assert trainer.evaluate(data.loaders[1]) == best
    assert trainer.evaluate(data.loaders[1], load_best_model=False) == best


@pytest.mark.parametrize("later", [0.8, 0.0])
def test_a_resumed_run_goes_on_from_the_values(make_config, later):
    keys = {"hidden_dropout_prob": 0.3}
    whole, _, values = fitted(make_config, "DisentS2S", 4, ema_decay=later, **keys)
    half, _, first = fitted(make_config, "DisentS2S", 2, ema_decay=0.8, **keys)
    resumed, _, rest = fitted(make_config, "DisentS2S", 4, half.saved_model_file, ema_decay=later, **keys)
    assert equal(first[-1], rest[0])
    assert all(map(equal, first + rest[1:], values))
    if not later:
        assert resumed.average is None
        return
    with whole.average.in_model(), resumed.average.in_model():
        one, two = (dict(trainer.model.named_parameters()) for trainer in (whole, resumed))
        for name in values[0]:
            assert torch.equal(one[name], two[name])
            assert not np.array_equal(one[name].detach(), values[-1][name])


def test_a_resumed_run_may_begin_to_average(make_config):
    half, _, _ = fitted(make_config, "BPR", 2)
    resumed, _, rest = fitted(make_config, "BPR", 4, half.saved_model_file, ema_decay=0.8)
    with resumed.average.in_model():
        for name, found in resumed.model.named_parameters():
            expected = averages([weights[name] for weights in rest], 0.8)
            np.testing.assert_allclose(found.detach(), expected, rtol=1e-4, atol=1e-6)


def test_a_trainer_is_freed_without_the_cyclic_collector(make_config):
    for decay in (0.0, 0.8):
        trainer, *_ = fitted(make_config, "BPR", 2, ema_decay=decay)
        trainer.optimizer.zero_grad()
        gc.collect()
        gc.disable()
        try:
            seen = weakref.ref(trainer)
            del trainer
            assert seen() is None
        finally:
            gc.enable()
