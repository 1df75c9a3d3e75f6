"""Tests of Caser with a softmax in slices, against RecBole's loss."""

from __future__ import annotations

import pytest
import torch

from recbole_disent.errors import UserError
from recbole_disent.models.popularity import log_popularity
from recbole_disent.recbole.caser import chunked
from recbole_disent.session import build_data, build_model, load_checkpoint, run
from tests.conftest import require_recboles_loss, scored_again


def batches_of(make_config, **keys):
    keys = {"chunked_softmax": True, "precision": "double", "train_batch_size": 20, "reg_weight": 0.1, **keys}
    data = build_data(make_config("Caser", **keys))
    return build_model(data).eval(), list(data.loaders[0]), data.loaders[0].dataset  # without dropout


@pytest.mark.parametrize("limit", [10**6, 100])
def test_loss_and_gradients_are_recboles(make_config, double, limit):
    net, batches, _ = batches_of(make_config)
    net._item_loss.limit = limit
    require_recboles_loss(net, batches)


def test_logit_adjustment_raises_scores_by_the_share_of_training_clicks(make_config, double):
    net, batches, train = batches_of(make_config, softmax_learns="lift", reg_weight=0.0)
    for batch in batches:
        scores = net.full_sort_predict(batch) + log_popularity(train)
        expected = torch.nn.functional.cross_entropy(scores, batch["item_id"])
        torch.testing.assert_close(net.calculate_loss(batch), expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"softmax_learns": "auto"}, "softmax_learns: got auto with chunked_softmax=False"),
        ({"chunked_softmax": True, "loss_type": "BPR"}, "loss_type: got 'BPR' with chunked_softmax=True"),
    ],
)
def test_keys_that_do_not_fit_are_one_sentence(make_keys, keys, message):
    with pytest.raises(UserError, match=message):
        run(config_dict=make_keys("Caser", **keys))


def test_a_run_and_its_checkpoint(make_keys):
    found = run(config_dict=make_keys("Caser", chunked_softmax=True, softmax_learns="lift"))
    net, _ = load_checkpoint(found["checkpoint"])
    assert type(net) is chunked(type(net).__bases__[-1])
    assert scored_again(found["checkpoint"]) == found["test_result"]
