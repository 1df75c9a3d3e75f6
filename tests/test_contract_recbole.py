"""Tests that item tables and query vectors give the scores of RecBole's models with inner products."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recbole_disent.recbole import sasrec
from recbole_disent.registry import resolve
from recbole_disent.session import build_data, build_model, build_trainer
from recbole_disent.specs import SPECS
from tests.conftest import feature_keys
from tests.model_lists import WITH_VECTORS


def test_the_models_with_vectors_are_these():
    assert WITH_VECTORS == ["BERT4Rec", "BPR", "Caser", "FDSA", "GRU4Rec", "GRU4RecF", "NARM", "SASRec",
                            "SASRecF", "STAMP"]  # fmt: skip


WAYS = [(name, {"train_mode": mode}) for name in WITH_VECTORS for mode in SPECS[name].modes]
WAYS += [(name, {}) for name in WITH_VECTORS if not SPECS[name].modes]


@pytest.mark.parametrize(("model", "ways"), WAYS, ids=str)
def test_inner_products_are_the_scores(make_config, model, ways):
    data = build_data(make_config(model, **feature_keys(model), **ways))
    net = build_model(data)
    trainer = build_trainer(data, net)
    trainer.fit(data.loaders[0], None, saved=False, verbose=False)  # biases are 0 in a fresh model
    net.eval()
    dataset = data.loaders[2].dataset
    batch = dataset[np.arange(min(6, len(dataset.inter_feat)))]
    with torch.no_grad():
        table, queries_of = resolve(SPECS[model].vectors)(net)
        queries = queries_of(batch)
        scores = net.full_sort_predict(batch).view(len(batch), -1)
    assert table.shape[0] == data.dataset.item_num
    assert queries.shape == (len(batch), 1, table.shape[1])
    products = torch.einsum("bkd,nd->bkn", queries, table).amax(1)
    torch.testing.assert_close(products, scores, atol=1e-5, rtol=1e-5)
    assert scores.std(1).min() > 0


@pytest.mark.parametrize("act", ["gelu", "relu", "swish"])
@pytest.mark.parametrize("layers", [1, 3])
def test_vectors_of_sasrec_are_the_states_of_its_forward(make_config, layers, act):
    net = build_model(build_data(make_config("SASRec", n_layers=layers, hidden_act=act))).eval()
    for values in net.parameters():  # biases are 0 in a fresh model
        torch.nn.init.normal_(values, std=0.3)
    lengths = torch.tensor([1, 4, 7])
    items = torch.randint(1, net.n_items, (3, 7)) * (torch.arange(7) < lengths[:, None])
    batch = {net.ITEM_SEQ: items, net.ITEM_SEQ_LEN: lengths}
    with torch.no_grad():
        found = sasrec.last_state(net)[1](batch)[:, 0]
        torch.testing.assert_close(found, net(items, lengths), atol=1e-5, rtol=1e-5)


def test_a_sasrec_with_its_own_forward_keeps_it(make_config):
    net = build_model(build_data(make_config("SASRec"))).eval()

    class Other(type(net)):
        def forward(self, item_seq, item_seq_len):
            return super().forward(item_seq, item_seq_len) + 1

    lengths = torch.tensor([2])
    batch = {net.ITEM_SEQ: torch.tensor([[1, 2]]), net.ITEM_SEQ_LEN: lengths}
    with torch.no_grad():
        plain = sasrec.last_state(net)[1](batch)
        net.__class__ = Other
        torch.testing.assert_close(sasrec.last_state(net)[1](batch), plain + 1)
