"""Tests of the weight that the last item of a history gets in the intention vectors of DisentS2S."""

from __future__ import annotations

import pytest
import torch

from recbole_disent.errors import UserError
from recbole_disent.training import checkpoint
from tests.test_disents2s import build


def test_weights_from_before_the_last_item_counted_more_are_refused(make_config):
    model = build(make_config)
    weights = model.state_dict()
    del weights["disentanglement.last_item_weight"]
    with pytest.raises(UserError, match="other names or shapes"):
        checkpoint.load_into(model, {"state_dict": weights}, "cpu")


def test_the_last_item_counts_more(make_config):
    """Weight w moves the sum towards p(k|t) z_t, and the weights of a history sum to 1 in any case."""
    plain, more = (build(make_config, last_item_weight=w).double() for w in (0.0, 2.0))
    items, lengths = torch.tensor([[1, 2, 3, 0], [4, 5, 6, 7]]), torch.tensor([3, 4])
    z = plain.encoder(items)
    difference = more.disentanglement.weights(z, lengths) - plain.disentanglement.weights(z, lengths)
    torch.testing.assert_close(difference, torch.tensor([[0, 0, 2, 0], [0, 0, 0, 2]]).double())
    batch = {more.ITEM_SEQ: items, more.ITEM_SEQ_LEN: lengths}
    torch.testing.assert_close(more.intention_weights(batch)[1].sum(1), torch.ones(2).double())
