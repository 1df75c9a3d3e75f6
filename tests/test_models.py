"""The contract for each model of the package, and learning on planted intentions."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import torch

from recbole_disent.quick_start import run
from tests.conftest import write_inter
from tests.contract import ModelContract


class TestDisentS2SSequences(ModelContract):
    model = "DisentS2S"


class TestDisentS2SPairs(ModelContract):
    model = "DisentS2S"
    keys: ClassVar = {"train_mode": "pairs", "train_batch_size": 32}


class TestDisentS2SAllItems(ModelContract):
    model = "DisentS2S"
    keys: ClassVar = {"seq2seq_variant": "all_items"}


def planted(folder, users=500, length=14, seed=0):
    """Two intentions of 5 tastes with 4 items each; a user has one taste of either.

    A coin toss says which intention acts, the item is then any of the taste's four: the best
    eight of 40 items are certain to contain it, and popularity says nothing.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        taste = rng.integers(5, size=2)
        for time in range(length):
            side = int(rng.integers(2))
            rows.append((user, f"{'ab'[side]}{taste[side]}{rng.integers(4)}", 1, time))
    write_inter(folder, "planted", rows)


@pytest.mark.slow
def test_learns_two_planted_intentions(tmp_path):
    planted(tmp_path / "data")
    keys = {
        "data_path": str(tmp_path / "data"), "MAX_ITEM_LIST_LENGTH": 13, "topk": [8],
        "show_progress": False,
    }  # fmt: skip
    popular = run("Pop", "planted", config_dict=dict(keys))
    ours = {
        "n_intentions": 2, "hidden_size": 32, "n_layers": 1, "hidden_dropout_prob": 0.1,
        "learning_rate": 0.005, "epochs": 15, "train_batch_size": 512,
    }  # fmt: skip
    found = run("DisentS2S", "planted", config_dict={**keys, **ours})
    assert popular["test_result"]["recall@8"] < 0.3  # eight of forty: 0.2 by chance
    assert found["test_result"]["recall@8"] > 0.8
    assert cluster_separation(found["checkpoint"]) > 0.9


def cluster_separation(path):
    """Chance that an item of one planted intention has the larger p(1|i) than one of the other."""
    from recbole_disent.quick_start import load_checkpoint

    model, data = load_checkpoint(path)
    tokens = data.dataset.field2id_token["item_id"][1:]
    items = torch.arange(1, len(tokens) + 1)[:, None]
    with torch.no_grad():
        share = model.disentanglement.cluster(model.encoder(items))[:, 0, 0].numpy()
    side = np.array([token[0] == "b" for token in tokens])
    larger = (share[side][:, None] > share[~side][None]).mean()
    return max(larger, 1 - larger)


def test_intention_vectors_have_their_public_shape(make_config):
    from recbole_disent.quick_start import build_model, prepare_data

    data = prepare_data(make_config(n_intentions=5, hidden_size=8))
    net = build_model(data).eval()
    batch = data.loaders[2].dataset[np.arange(3)]
    phi = net.intentions(batch["item_id_list"], batch["item_length"])
    assert phi.shape == (3, 5, 8)
