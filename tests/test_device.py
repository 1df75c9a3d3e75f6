"""Tests of training and scoring on another device than the CPU, without a GPU (tests/other_device.py)."""

from __future__ import annotations

import copy

import pytest
import torch

from recbole_disent.evaluation.evaluator import RankingEvaluator
from recbole_disent.session import build_data, build_model
from tests.conftest import feature_keys
from tests.other_device import DEVICE, FarTensor, move, other_device

MODELS = {
    "DisentS2S": {},
    "DisentS2S latent": {"seq2seq_variant": "latent"},
    "DisentS2S pairs": {"train_mode": "pairs", "seq2seq_variant": "latent"},
    "DisentS2S all items": {"seq2seq_variant": "all_items"},
    "DisentS2S all items, pairs": {"seq2seq_variant": "all_items", "train_mode": "pairs"},
    "DisentS2S content": {"content": True, "softmax_learns": "probability"},
    "DisentS2S few": {
        "seq2seq_variant": "latent",
        "seq2seq_samples": 5,
        "targets_per_window": 3,
        "intention_pooling": "logsumexp",
    },
    "TSSR": {},
    "TSSR small slices": {"loss_chunk_mb": 1},
    "TSSR id": {"streams": "id", "output": "id"},
    "TSSR content": {"streams": "content", "output": "linear"},
    "TSSR both": {"output": "both", "score_by_content": 2, "gate": "concat", "n_cross_layers": 0},
    "SASRecContent": {"score_by_content": 2},
    "SASRecContent id": {"content": False},
    "SASRec": {"train_mode": "sequences"},
    "BERT4Rec": {"chunked_softmax": True},
    "BERT4Rec sequences": {"chunked_softmax": True, "train_mode": "sequences"},
    "Caser": {"chunked_softmax": True},
}
# RecBole's FDSA and SASRecF move the features of items when they are built; its GRU transposes in
# place, which the other device of this test cannot do.

# Where a training step reads values, for which a GPU is waited for.
_WARM_UP = {"_local_scalar_dense"}  # the number of steps, until the warm-up is over
_FUTURES = {"nonzero"}  # pairs one by one: which items of the padded futures are items
_POSITIONS = {"bincount", "tolist", "index", "index_put"}  # positions with equally many windows
_MASKS = {"nonzero"}  # the masks that count
READS = {
    "DisentS2S latent": _WARM_UP,
    "DisentS2S pairs": _WARM_UP | _FUTURES,
    "DisentS2S all items": _WARM_UP,
    "DisentS2S all items, pairs": _WARM_UP | _FUTURES,
    "DisentS2S few": _WARM_UP,
    "TSSR": _POSITIONS,
    "TSSR small slices": _POSITIONS,
    "TSSR both": _POSITIONS,
    "BERT4Rec": _MASKS,
    "BERT4Rec sequences": _MASKS,
}


def summed(loss):
    return sum(loss) if isinstance(loss, tuple) else loss


def prepare(make_config, kind, **more):
    """Return data and model on the CPU."""
    name = kind.partition(" ")[0]
    data = build_data(make_config(name, **{**feature_keys(name), **MODELS[kind], **more}))
    return data, build_model(data)


@pytest.mark.parametrize("kind", MODELS)
def test_a_training_step(make_config, kind):
    """Loss and gradients equal those on the CPU; only the operations in READS wait for the device."""
    data, net = prepare(make_config, kind)
    batch = next(iter(data.loaders[0]))
    net.eval()  # dropout draws other numbers on each device
    far_net = copy.deepcopy(net)
    torch.manual_seed(0)
    expected = summed(net.calculate_loss(batch))
    expected.backward()
    with other_device() as mode:
        move(far_net)
        far_batch = batch.to(DEVICE)
        torch.manual_seed(0)
        loss = summed(far_net.calculate_loss(far_batch))
        loss.backward()
        gradients = {name: p.grad for name, p in far_net.named_parameters()}
        far_net.zero_grad()
        far_net.train()
        trained = summed(far_net.calculate_loss(far_batch))
        trained.backward()
        reads = set(mode.reads)
    assert trained.near.isfinite()
    assert isinstance(loss, FarTensor)
    torch.testing.assert_close(loss.near, expected.detach(), rtol=1e-5, atol=1e-6)
    for name, parameter in net.named_parameters():
        far = gradients[name]
        if parameter.grad is None:
            assert far is None, name
        else:
            assert isinstance(far, FarTensor), name
            torch.testing.assert_close(far.near, parameter.grad, rtol=1e-4, atol=1e-6, msg=name)
    assert reads == READS.get(kind, set())


@pytest.mark.parametrize("protocol", ["full", "uni8"])
@pytest.mark.parametrize("kind", MODELS)
def test_scoring_and_ranking(make_config, kind, protocol):
    """Metrics from scores of all items and of candidates equal those on the CPU."""
    # Metrics that need lists of items, means over ties, and the history of users.
    keys = {"eval_mode": protocol, "metrics": ["Recall", "NDCG", "ItemCoverage"], "valid_metric": "NDCG@5",
            "topk": [1, 5], "filter_history": True}  # fmt: skip
    data, net = prepare(make_config, kind, **keys)
    net.eval()
    evaluator = RankingEvaluator(data.config, data.loaders[0]._dataset)
    with torch.no_grad():
        expected = evaluator.evaluate(net, data.loaders[2])
        with other_device():
            data.config["device"] = DEVICE
            found = evaluator.evaluate(move(net), data.loaders[2])
    assert found == expected


# -- the device itself -----------------------------------------------------------------


def test_tensors_of_two_devices_do_not_mix():
    near = torch.ones(3, 3)
    with other_device() as mode:
        far = near.to(DEVICE)
        assert far.device == DEVICE
        wrong = [
            lambda: near @ far,
            lambda: far + near,
            lambda: far.index_select(0, torch.tensor([0])),
            lambda: torch.cat([far, near]),
            lambda: near[torch.tensor([0], device=DEVICE)],
            lambda: torch.nn.functional.embedding(torch.tensor([0]), far),
        ]
        for each in wrong:
            with pytest.raises(RuntimeError, match="tensors of two devices"):
                each()
        assert mode.reads == set()
        # Numbers, indices on the CPU, and copies are for any device.
        right = (far * torch.tensor(2.0) + 1)[torch.tensor([0, 2])].cpu()
        assert type(right) is torch.Tensor
        assert torch.equal(right, torch.full((2, 3), 3.0))
        assert far.sum().item() == 9
        assert mode.reads == {"_local_scalar_dense"}


@pytest.mark.parametrize("kind", ["DisentS2S", "TSSR", "SASRecContent"])
def test_a_tensor_that_a_model_makes_on_the_wrong_device_is_found(make_config, monkeypatch, kind):
    """Simulate a model without ``device=``, whose results of ``torch.arange`` stay on the CPU."""
    data, net = prepare(make_config, kind)
    batch = next(iter(data.loaders[0]))
    encoder = type(net.encoder)
    packed = "packed" if hasattr(encoder, "packed") else "forward"
    original = getattr(encoder, packed)

    def forgetful(self, *given):
        found = original(self, *given)
        state = found if isinstance(found, torch.Tensor) else found.joined
        wrong = state * torch.arange(state.shape[-1])
        return wrong if found is state else found._replace(joined=wrong)

    monkeypatch.setattr(encoder, packed, forgetful)
    net.calculate_loss(batch)  # on the CPU nobody sees it
    with other_device(), pytest.raises(RuntimeError, match="tensors of two devices"):
        move(net).calculate_loss(batch.to(DEVICE))
