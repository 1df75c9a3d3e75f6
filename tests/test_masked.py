"""BERT4Rec with a softmax over the masks that count: RecBole's loss, and what goes with it."""

from __future__ import annotations

import pytest
import torch

from recbole_disent.errors import UserError
from recbole_disent.model.masked import lean
from recbole_disent.model.popularity import log_share
from recbole_disent.quick_start import build_model, load_checkpoint, prepare_data, run
from tests.conftest import scored_again, write_inter


def batches_of(make_config, **keys):
    data = prepare_data(make_config("BERT4Rec", MAX_ITEM_LIST_LENGTH=24, precision="double", **keys))
    net = build_model(data).eval()  # without dropout
    torch.nn.init.normal_(net.output_bias)  # zeros at first
    return net, list(data.loaders[0]), data.loaders[0].dataset


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("limit", [10**6, 100])
def test_loss_and_gradients_are_recboles(make_config, double, limit):
    net, batches, _ = batches_of(make_config, lean_softmax=True, train_batch_size=20)
    net._score_limit = limit
    recboles = type(net).__mro__[1]
    assert recboles.__module__.startswith("recbole.model.")
    empty = 0
    for batch in batches:
        empty += int((batch["MASK_INDEX"] == 0).sum())
        losses, gradients = [], []
        for kind in (type(net), recboles):
            net.zero_grad()
            loss = kind.calculate_loss(net, batch)
            loss.backward()
            losses.append(loss)
            gradients.append({name: p.grad.clone() for name, p in net.named_parameters()})
        torch.testing.assert_close(*losses, rtol=1e-10, atol=0)
        for name, expected in gradients[1].items():
            torch.testing.assert_close(gradients[0][name], expected, rtol=1e-7, atol=1e-12, msg=name)
    assert empty > 0  # places that RecBole scores for nothing


def test_logit_adjustment_raises_scores_by_the_share_of_training_clicks(make_config, double):
    net, batches, train = batches_of(make_config, lean_softmax=True, logit_adjustment="always")
    share = log_share(train)
    for batch in batches:
        terms = []
        for row, places in enumerate(batch["MASK_INDEX"].tolist()):
            state = net.forward(batch["Mask_item_id_list"][row : row + 1])[0]
            scores = state @ net.item_embedding.weight[: net.n_items].T + net.output_bias + share
            for slot, place in enumerate(places):
                if place > 0:
                    target = batch["Pos_item_id"][row, slot]
                    terms.append(torch.logsumexp(scores[place], 0) - scores[place, target])
        torch.testing.assert_close(net.calculate_loss(batch), torch.stack(terms).mean(), rtol=1e-9, atol=0)


def test_a_batch_without_masks_that_count_teaches_nothing(make_config):
    net, batches, _ = batches_of(make_config, lean_softmax=True)
    batch = batches[0]
    batch["MASK_INDEX"] = torch.zeros_like(batch["MASK_INDEX"])
    loss = net.calculate_loss(batch)
    loss.backward()
    assert loss == 0
    assert all(not p.grad.any() for p in net.parameters())


def test_a_run_without_masks_that_count(tmp_path):
    """RecBole divides 0 by 0 where all histories have one item."""
    write_inter(tmp_path, "short", [(f"u{u}", f"i{(u + t) % 20}", 1, t) for u in range(20) for t in range(4)])
    keys = {"data_path": str(tmp_path), "topk": [3], "valid_metric": "NDCG@3", "epochs": 1}
    with pytest.raises(UserError, match="or a batch had no mask that counts: lean_softmax=True passes over"):
        run("BERT4Rec", "short", config_dict=keys)
    assert run("BERT4Rec", "short", config_dict={**keys, "lean_softmax": True})["epochs_run"] == 1


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"logit_adjustment": "auto"}, "logit_adjustment: got auto with lean_softmax=False"),
        ({"lean_softmax": True, "loss_type": "BPR"}, "loss_type: got 'BPR' with lean_softmax=True"),
        ({"train_mode": "sequences"}, "train_mode: BERT4Rec is trained in one way only"),
    ],
)
def test_keys_that_do_not_fit_are_one_sentence(make_keys, keys, message):
    with pytest.raises(UserError, match=message):
        run(config_dict=make_keys("BERT4Rec", **keys))


def test_a_run_and_its_checkpoint(make_keys):
    found = run(config_dict=make_keys("BERT4Rec", lean_softmax=True, logit_adjustment="always"))
    net, _ = load_checkpoint(found["checkpoint"])
    assert type(net) is lean(type(net).__mro__[1])
    assert scored_again(found["checkpoint"]) == found["test_result"]
