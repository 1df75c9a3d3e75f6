"""Tests that the causal attention equals the plain formula, with its gradients and its dropout."""

from __future__ import annotations

import math

import pytest
import torch

from recbole_disent.ops import causal_attention as module
from recbole_disent.ops.causal_attention import causal_attention
from recbole_disent.recbole import sasrec
from recbole_disent.session import build_data, build_model

DRAWS = 3000


def parts(batch, heads, length, width, dtype=torch.float64):
    torch.manual_seed(0)
    return [torch.randn(batch, heads, length, width, dtype=dtype, requires_grad=True) for _ in range(3)]


def plain(query, key, value):
    """One position at a time."""
    rows = []
    for i in range(query.shape[2]):
        scores = (key[:, :, : i + 1] @ query[:, :, i, :, None])[..., 0] / math.sqrt(query.shape[3])
        rows.append((scores.softmax(2)[..., None] * value[:, :, : i + 1]).sum(2))
    return torch.stack(rows, 2)


@pytest.fixture(params=[1, 40, 2**17])
def in_small_slices(monkeypatch, request):
    monkeypatch.setattr(module, "_SHORT", 0)
    monkeypatch.setattr(module, "_CHUNK", 4)
    monkeypatch.setattr(module, "_SLICE", request.param)


@pytest.mark.parametrize("length", [1, 4, 11])
def test_values_and_gradients_without_dropout(in_small_slices, length):
    inputs = parts(3, 2, length, 5)
    found, expected = causal_attention(*inputs, 0.0, True), plain(*inputs)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    weight = torch.randn_like(found)
    for a, b in zip(
        torch.autograd.grad((found * weight).sum(), inputs),
        torch.autograd.grad((expected * weight).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


def test_large_scores_do_not_overflow(in_small_slices):
    query, key, value = parts(2, 1, 9, 3, torch.float32)
    found = causal_attention(query * 100, key * 100, value, 0.0, True)
    torch.testing.assert_close(found, plain(query * 100, key * 100, value))
    assert torch.isfinite(torch.autograd.grad(found.sum(), query)[0]).all()


def test_gradients_are_those_of_the_drawn_dropout(in_small_slices):
    def drawn_alike(*inputs):
        torch.manual_seed(7)
        return causal_attention(*inputs, 0.4, True)

    inputs = parts(2, 2, 9, 3)
    assert not torch.allclose(drawn_alike(*inputs), causal_attention(*inputs, 0.0, True))
    assert torch.autograd.gradcheck(drawn_alike, inputs)


@pytest.mark.parametrize("short", [0, 128])
def test_dropout_drops_its_share_of_the_weights_and_keeps_the_mean(monkeypatch, short):
    """The value of an item is a unit vector, so that the result shows the weights themselves."""
    monkeypatch.setattr(module, "_SHORT", short)
    monkeypatch.setattr(module, "_CHUNK", 4)
    length, p = 10, 0.25
    query, key, _ = parts(1, 1, length, length, torch.float32)
    value = torch.eye(length).expand(DRAWS, 1, length, length)
    torch.manual_seed(1)
    weights = causal_attention(
        query.expand_as(value), key.expand_as(value), value.clone().requires_grad_(), p, True
    )
    kept = causal_attention(query, key, value[:1], 0.0, False)[0, 0]
    below = torch.ones(length, length, dtype=torch.bool).tril()
    assert (weights[..., ~below] == 0).all()
    share = (weights[:, 0] == 0).float().mean(0)[below]
    assert (share - p).abs().max() < 5 * math.sqrt(p * (1 - p) / DRAWS)
    torch.testing.assert_close(weights.mean((0, 1))[below], kept[below], rtol=0.1, atol=0)
    survivors = weights[:, 0][:, below]
    expected = (kept[below] / (1 - p)).expand_as(survivors)
    torch.testing.assert_close(
        torch.where(survivors == 0, expected, survivors), expected, rtol=1e-4, atol=1e-6
    )


def test_the_same_seed_gives_the_same_dropout_and_no_dropout_without_training(in_small_slices):
    inputs = parts(2, 1, 9, 4, torch.float32)
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(causal_attention(*inputs, 0.5, True))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    torch.testing.assert_close(causal_attention(*inputs, 0.5, False), plain(*inputs))


@pytest.mark.parametrize("act", ["gelu", "relu"])
def test_states_of_sasrec_in_training_are_those_of_each_prefix(monkeypatch, make_config, act):
    """RecBole's own forward, without dropout, against the attention in chunks."""
    monkeypatch.setattr(module, "_SHORT", 2)
    monkeypatch.setattr(module, "_CHUNK", 2)
    rates = {"hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0}
    config = make_config("SASRec", train_mode="sequences", hidden_act=act, precision="double", **rates)
    net = build_model(build_data(config)).train()
    for values in net.parameters():  # biases are 0 in a fresh model
        torch.nn.init.normal_(values, std=0.3)
    lengths = torch.tensor([1, 4, 7])
    items = torch.randint(1, net.n_items, (12,))
    found = sasrec.states_of_sequences(net, items, sasrec.JaggedBatch(lengths))
    torch.set_default_dtype(torch.float64)
    try:
        expected = [
            net.forward(sequence[None, :t], torch.tensor([t]))[0]
            for sequence in items.split(lengths.tolist())
            for t in range(1, len(sequence) + 1)
        ]
    finally:
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-11, atol=1e-12)


def test_states_of_sasrec_in_training_have_all_its_dropouts(make_config):
    """Each dropout layer of RecBole's model is applied once; the attention has its own."""
    net = build_model(
        build_data(
            make_config(
                "SASRec",
                train_mode="sequences",
                hidden_dropout_prob=0.5,
                attn_dropout_prob=0.5,
            )
        )
    ).train()
    layers = [m for m in net.modules() if type(m).__name__ == "Dropout"]
    called: list[torch.nn.Module] = []
    for layer in layers:
        layer.register_forward_hook(lambda module, _, __: called.append(module))
    attention = [layer.multi_head_attention.attn_dropout for layer in net.trm_encoder.layer]
    rates = []
    original = sasrec.causal_attention

    def counted(query, key, value, rate, training):
        rates.append((rate, training))
        return original(query, key, value, rate, training)

    lengths = torch.tensor([2, 5, 5])
    jagged = sasrec.JaggedBatch(lengths)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sasrec, "causal_attention", counted)
        sasrec.states_of_sequences(net, torch.randint(1, net.n_items, (12,)), jagged)
    assert set(called) == set(layers) - set(attention)
    assert len(called) == len(set(called))
    assert rates == [(0.5, True)] * len(rates)
    assert len(rates) == len(attention) * len(jagged.sizes)
