"""Tests of BERT4Rec with a softmax at the masks that count, against RecBole's loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recbole_disent.config.config import Config
from recbole_disent.errors import UserError
from recbole_disent.loaders.sharding import ROW_IN_BATCH
from recbole_disent.models.popularity import log_popularity
from recbole_disent.parallel import process_group
from recbole_disent.recbole.bert4rec import chunked
from recbole_disent.session import build_data, build_model, load_checkpoint, run
from tests.conftest import require_recboles_loss, scored_again, write_inter


def batches_of(make_config, **keys):
    data = build_data(make_config("BERT4Rec", MAX_ITEM_LIST_LENGTH=24, precision="double", **keys))
    net = build_model(data).eval()  # without dropout
    torch.nn.init.normal_(net.output_bias)  # zeros at first
    return net, list(data.loaders[0]), data.loaders[0].dataset


@pytest.mark.parametrize("limit", [10**6, 100])
def test_loss_and_gradients_are_recboles(make_config, double, limit):
    net, batches, _ = batches_of(make_config, chunked_softmax=True, train_batch_size=20)
    net._item_loss.limit = limit
    require_recboles_loss(net, batches)
    # There are places that RecBole scores for nothing.
    assert sum(int((batch["MASK_INDEX"] == 0).sum()) for batch in batches) > 0


def test_logit_adjustment_raises_scores_by_the_share_of_training_clicks(make_config, double):
    net, batches, train = batches_of(make_config, chunked_softmax=True, softmax_learns="lift")
    share = log_popularity(train)
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
    net, batches, _ = batches_of(make_config, chunked_softmax=True)
    batch = batches[0]
    batch["MASK_INDEX"] = torch.zeros_like(batch["MASK_INDEX"])
    loss = net.calculate_loss(batch)
    loss.backward()
    assert loss == 0
    assert all(not p.grad.any() for p in net.parameters())


def test_a_run_without_masks_that_count(tmp_path):
    """RecBole divides 0 by 0 if all histories have one item."""
    write_inter(tmp_path, "short", [(f"u{u}", f"i{(u + t) % 20}", 1, t) for u in range(20) for t in range(4)])
    keys = {"data_path": str(tmp_path), "topk": [3], "valid_metric": "NDCG@3", "epochs": 1}
    with pytest.raises(UserError, match="a batch may have had no mask that counts: chunked_softmax=True"):
        run("BERT4Rec", "short", config_dict=keys)
    assert run("BERT4Rec", "short", config_dict={**keys, "chunked_softmax": True})["epochs_run"] == 1


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"softmax_learns": "auto"}, "softmax_learns: got auto with chunked_softmax=False"),
        ({"chunked_softmax": True, "loss_type": "BPR"}, "loss_type: got 'BPR' with chunked_softmax=True"),
        ({"MAX_ITEM_LIST_LENGTH": 4}, "mask_ratio: got 0.2 with MAX_ITEM_LIST_LENGTH=4, expected at least"),
        ({"MAX_ITEM_LIST_LENGTH": 1, "mask_ratio": 1.0}, "mask_ratio: got 1.0 with MAX_ITEM_LIST_LENGTH=1"),
        ({"train_mode": "windows"}, "train_mode: got 'windows', expected one of sequences, pairs"),
    ],
)
def test_keys_that_do_not_fit_are_one_sentence(make_keys, keys, message):
    with pytest.raises(UserError, match=message):
        run(config_dict=make_keys("BERT4Rec", **keys))


@pytest.mark.parametrize("mode", ["pairs", "sequences"])
def test_a_run_and_its_checkpoint(make_keys, mode):
    keys = {"chunked_softmax": True, "softmax_learns": "lift", "train_mode": mode}
    found = run(config_dict=make_keys("BERT4Rec", **keys))
    net, _ = load_checkpoint(found["checkpoint"])
    assert type(net) is chunked(type(net).__bases__[-1])
    assert scored_again(found["checkpoint"]) == found["test_result"]


@pytest.fixture
def counting(tmp_path):
    """Return sequences of 3 to 32 items in ascending order."""
    rows = [(f"u{n}", f"i{t}", 1, t) for n in (3, 4, 5, 9, 12, 20, 32) for t in range(n)]
    write_inter(tmp_path, "counting", rows)
    return {"data_path": str(tmp_path), "model": "BERT4Rec", "dataset": "counting", "topk": [1],
            "valid_metric": "NDCG@1", "train_mode": "sequences"}  # fmt: skip


@pytest.mark.parametrize("length", [2, 5, 50])
def test_windows_hold_each_training_item_once(counting, length):
    """Windows contain all training items and no held-out item, with other cuts in each epoch."""
    keys = {**counting, "train_batch_size": 3, "MAX_ITEM_LIST_LENGTH": length, "mask_ratio": 0.5}
    loader = build_data(Config(config_dict=keys)).loaders[0]
    loader.transform = lambda dataset, batch: batch  # nothing is masked
    train = loader.dataset
    users, items = (column[train.train_mask] for column in train.history)
    of_user = {user: items[users == user].tolist() for user in np.unique(users).tolist()}
    cuts = set()
    for _ in range(4):
        found = {user: [] for user in of_user}
        batches = list(loader)
        assert [len(batch) for batch in batches[:-1]] == [3] * (len(batches) - 1)
        for batch in batches:
            assert set(batch.interaction) == {"user_id", "item_id_list", "item_length"}
            assert batch["item_id_list"].shape == (len(batch), int(batch["item_length"].max()))
            for user, row, size in zip(
                *(column.tolist() for column in batch.interaction.values()), strict=True
            ):
                assert 2 <= size <= length
                assert not any(row[size:])
                found[user].append((of_user[user].index(row[0]), row[:size]))
        for user, sequence in of_user.items():
            windows = sorted(found[user])
            assert all(row == sequence[first : first + len(row)] for first, row in windows)
            seen = [item for _, row in windows for item in row]
            if len(sequence) <= length:
                assert seen == sequence
            else:  # a run of one item, at either end, teaches nothing
                assert seen in (sequence, sequence[1:], sequence[:-1], sequence[1:-1])
        cuts.add(str({user: sorted(first for first, _ in rows) for user, rows in found.items()}))
    assert (len(cuts) > 1) == (length < 30)


def test_a_sequence_of_all_items_is_refused(tmp_path, counting):
    """RecBole would search in an endless loop for an item outside the window."""
    write_inter(tmp_path, "full", [(f"u{u}", f"i{t % 8}", 1, t) for u in range(9) for t in range(10)])
    with pytest.raises(
        UserError, match=r"MAX_ITEM_LIST_LENGTH: got 50 with .*, expected less than 8, the number"
    ):
        run(config_dict={**counting, "dataset": "full"})
    assert run(config_dict={**counting, "dataset": "full", "MAX_ITEM_LIST_LENGTH": 7, "epochs": 1})


def test_items_may_have_another_name(tmp_path, counting, caplog):
    header = "user_id:token\tproduct:token\ttimestamp:float"
    write_inter(tmp_path, "named", [(f"u{u}", f"i{u + t}", t) for u in range(9) for t in range(8)], header)
    keys = {**counting, "dataset": "named", "ITEM_ID_FIELD": "product", "MAX_ITEM_LIST_LENGTH": 5,
            "epochs": 1, "load_col": {"inter": ["user_id", "product", "timestamp"]}}  # fmt: skip
    with caplog.at_level("WARNING"):
        assert run(config_dict=keys)["epochs_run"] == 1
    assert "an epoch has only 1 steps: train_batch_size=2048 is a number of windows" in caplog.text


def test_processes_share_the_windows_of_a_batch(counting, monkeypatch):
    loader = build_data(Config(config_dict={**counting, "MAX_ITEM_LIST_LENGTH": 5})).loaders[0]
    loader.transform = lambda dataset, batch: batch
    windows = loader._windows()
    whole = loader._collate(windows)["item_id_list"]
    shares, numbers = [], []
    for rank in range(3):
        for name, value in (("active", True), ("world", 3), ("rank", rank)):
            monkeypatch.setattr(process_group, name, lambda value=value: value)
        share = loader._collate(windows)
        assert abs(len(share) - len(whole) / 3) < 1
        shares.append(share["item_id_list"])
        numbers.append(share[ROW_IN_BATCH])
    assert torch.equal(torch.cat(shares), whole)
    assert torch.cat(numbers).tolist() == list(range(len(whole)))


def test_a_window_trains_its_masks_alone(counting):
    """A masked item changes only its own term of the loss, and the model does not read it."""
    data = build_data(Config(config_dict={**counting, "chunked_softmax": True, "MAX_ITEM_LIST_LENGTH": 10}))
    net = build_model(data).eval()
    for batch in data.loaders[0]:
        before = net.calculate_loss(batch)
        rows, slots = (batch["MASK_INDEX"] > 0).nonzero(as_tuple=True)
        places = batch["MASK_INDEX"][rows, slots]
        masked = batch["Mask_item_id_list"][rows, places]
        assert (masked == net.n_items).all()
        assert (batch["Pos_item_id"][rows, slots] == batch["item_id_list"][rows, places]).all()
        batch["item_id_list"].zero_()  # the items behind the masks stand here
        torch.testing.assert_close(net.calculate_loss(batch), before, rtol=0, atol=0)


@pytest.mark.slow
def test_windows_learn(tmp_path):
    """The next item is the item number after the last item, which the model learns in some epochs."""
    rows = [(f"u{u}", f"i{(u + t) % 12}", 1, t) for u in range(60) for t in range(20)]
    write_inter(tmp_path, "ring", rows)
    keys = {"data_path": str(tmp_path), "train_mode": "sequences", "MAX_ITEM_LIST_LENGTH": 6,
            "mask_ratio": 0.4, "epochs": 60, "stopping_step": 60, "learning_rate": 0.001, "topk": [1, 10],
            "train_batch_size": 16, "hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0,
            "show_progress": False}  # fmt: skip
    assert run("BERT4Rec", "ring", config_dict=keys)["test_result"]["recall@1"] > 0.9
