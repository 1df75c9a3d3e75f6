"""Tests of loaders: targets of an epoch, futures that end in the training part, and batching."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from recbole.data.transform import construct_transform
from recbole.utils import init_seed

from recbole_disent.data.dataset import SequenceDataset
from recbole_disent.data.store import SequenceStore
from recbole_disent.errors import UserError
from recbole_disent.loaders.prefixes import BucketedTrainDataLoader, PairLoader
from recbole_disent.loaders.windows import WindowLoader
from recbole_disent.registry import get_model
from recbole_disent.session import build_data, run
from tests.conftest import feature_keys, write_inter
from tests.model_lists import TRIMMABLE

NO_DROPOUT = {
    "hidden_dropout_prob", "attn_dropout_prob", "dropout_prob", "sess_dropout", "item_dropout",
}  # fmt: skip


def train_part(config):
    return SequenceDataset(config).build()[0]


# -- the store -------------------------------------------------------------------------


def test_windows_and_futures_equal_slices():
    users = np.array([1, 1, 1, 1, 1, 2, 3, 3])
    items = torch.tensor([5, 6, 7, 8, 9, 1, 2, 3])
    store = SequenceStore(users, {"item": items}, "item", 4)
    ends = torch.tensor([4, 1, 7])
    lengths = store.history_lengths(ends, 3)
    assert lengths.tolist() == [3, 1, 1]
    assert store.histories("item", ends, lengths, 3).tolist() == [[6, 7, 8], [5, 0, 0], [2, 0, 0]]
    future, length = store.futures("item", torch.tensor([1, 3, 7]), torch.tensor([5, 4, 8]), 3)
    # Of four events 6 7 8 9 the three nearest stay; the latest comes first.
    assert future.tolist() == [[8, 7, 6], [8, 0, 0], [3, 0, 0]]
    assert length.tolist() == [3, 1, 1]
    assert store.items.dtype == torch.int32
    assert future.dtype == torch.int64


# -- pairs and windows -----------------------------------------------------------------


@pytest.mark.parametrize("length", [3, 7, 50])
def test_pairs_have_the_rest_of_the_training_sequence_as_future(make_config, length):
    config = make_config(MAX_ITEM_LIST_LENGTH=length, train_mode="pairs")
    train = train_part(config)
    seen = 0
    for batch in PairLoader(config, train, None, shuffle=True):
        for row in range(len(batch)):
            user = int(batch["user_id"][row])
            begin, stop = int(train.store.offsets[user]), int(train.train_end[user])
            whole = train.store.items[begin:stop].tolist()
            n = int(batch["item_length"][row])
            past = batch["item_id_list"][row, :n].tolist()
            m = int(batch["future_item_length"][row])
            future = batch["future_item_id_list"][row, :m].tolist()[::-1]
            assert future[0] == int(batch["item_id"][row])
            places = [t for t in range(1, len(whole))
                      if whole[max(0, t - length):t] == past and whole[t:t + length] == future]  # fmt: skip
            assert places
            seen += 1
    assert seen == len(train.inter_feat)


@pytest.mark.parametrize("visits", [1, 2, 5])
@pytest.mark.parametrize(
    ("length", "stride"),
    [(1, None), (2, None), (5, None), (7, None), (50, None), (5, 1), (7, 4), (7, 7), (50, 3), (50, 1)],
)
def test_windows_hold_each_pair_once_an_epoch(make_config, length, stride, visits):
    visits = min(visits, stride or length)
    keys = {"targets_per_window": stride, "passes_per_window": visits}
    config = make_config(MAX_ITEM_LIST_LENGTH=length, train_batch_size=20, **keys)
    train = train_part(config)
    train.store.fields["item_id"] = torch.arange(len(train.store), dtype=torch.int32) + 1
    loader = WindowLoader(config, train, None)
    shortest = length - (stride or length) + 1
    epochs = []
    for _ in range(2):
        targets, sizes, layout = [], [], []
        for batch in loader:
            sizes.append(len(batch))
            assert int(batch.counts.max()) <= (stride or length)
            assert int(batch.trained.min()) >= 1
            assert int(batch.trained.max()) <= -(-(stride or length) // visits)
            lengths = batch.lengths.tolist()
            assert lengths == sorted(lengths)
            if stride in (None, length):
                assert not batch.before.any()
                assert not batch.after.any()
            events = [(row - 1).tolist() for row in batch.items.split(lengths)]
            for window, user in zip(events, batch.users, strict=True):
                assert window == list(range(window[0], window[0] + len(window)))  # consecutive
                assert window[0] >= train.store.offsets[user]
                assert window[-1] < train.train_end[user]
            pairs = [t.tolist() for t in batch.pairs()]
            furthest = dict(zip(*pairs[:2], strict=True))
            assert batch.furthest().tolist() == list(furthest.values())
            for number, _, last in zip(*pairs, strict=True):
                window, user = events[number], batch.users[number]
                target = int(batch.items[last + 1]) - 1
                past, future = target - window[0], window[-1] + 1 - target
                n_before = target - int(train.store.offsets[user])
                n_after = int(train.train_end[user]) - target
                if n_before + n_after - 1 <= length:
                    assert (past, future) == (n_before, n_after)
                else:  # as one by one, but for less than a stride
                    assert min(n_before, shortest) <= past <= length
                    assert min(n_after, shortest) <= future <= length
                targets.append(target)
                layout.append((past, target))
        assert sorted(targets) == sorted(train.inter_feat.rows.tolist())
        assert len(sizes) <= len(loader)
        assert max(sizes) < 20 + length
        epochs.append(layout)
    assert epochs[0] != epochs[1]
    if length < 20 and (stride or length) > 1:
        assert set(epochs[0]) != set(epochs[1])  # long sequences are cut elsewhere


def test_a_stride_above_the_maximum_length_is_refused(make_config):
    with pytest.raises(UserError, match="targets_per_window: got 8, expected at most MAX_ITEM_LIST_LE"):
        make_config(targets_per_window=8, MAX_ITEM_LIST_LENGTH=7)


@pytest.mark.parametrize("keys", [{}, {"targets_per_window": 7, "MAX_ITEM_LIST_LENGTH": 9}])
def test_more_visits_than_pairs_are_refused(make_config, keys):
    with pytest.raises(
        UserError,
        match="passes_per_window: got 8, expected at most 7, the largest number of pairs",
    ):
        make_config(passes_per_window=8, **keys)


# -- trimmed and bucketed batches ------------------------------------------------------


def loss_and_gradients(config, train, trim, state):
    random.seed(3)
    init_seed(3, True)
    transform = construct_transform(config)  # tells the model the names of its fields
    model = get_model(config["model"])(config, train)
    if state:
        model.load_state_dict(state)
    train.trim = trim
    lengths = train.inter_feat["item_length"].numpy()
    rows = np.argsort(lengths, kind="stable")[: len(lengths) // 2]
    batch = transform(train, train[rows])
    if config["train_neg_sample_args"]["distribution"] != "none":
        batch["neg_item_id"] = batch["item_id"] % (train.item_num - 1) + 1
    width = batch["item_id_list"].shape[1]
    loss = model.calculate_loss(batch)
    loss.backward()
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return width, loss, gradients, model.state_dict()


@pytest.mark.parametrize("name", TRIMMABLE)
def test_trimming_changes_neither_loss_nor_gradients(make_config, name):
    config = make_config(name, MAX_ITEM_LIST_LENGTH=20, **feature_keys(name))
    for key in NO_DROPOUT & set(config.final_config_dict):
        config[key] = 0.0
    if "dropout_probs" in config:
        config["dropout_probs"] = [0.0, 0.0]
    train = train_part(config)
    full, loss, gradients, state = loss_and_gradients(config, train, False, None)
    short, trimmed, found, _ = loss_and_gradients(config, train, True, state)
    assert short < full == 20
    torch.testing.assert_close(trimmed, loss, atol=1e-5, rtol=1e-5)
    assert set(found) == set(gradients)
    for key, value in gradients.items():
        torch.testing.assert_close(found[key], value, atol=1e-5, rtol=1e-4, msg=key)


@pytest.mark.parametrize("name", ["Caser", "LightSANs"])
def test_models_that_need_the_full_width_keep_it(make_config, name):
    from recbole_disent.session import build_data

    data = build_data(make_config(name, bucket_batches=True))
    for batch in data.loaders[0]:
        assert batch["item_id_list"].shape[1] == 7
    for queries in data.loaders[2]:
        assert queries.batch["item_id_list"].shape[1] == 7


def test_masked_models_are_not_bucketed(tmp_path):
    """RecBole counts no mask at the first position, so the loss of a batch of one-item histories is 0 / 0."""
    rows = [(f"u{u}", f"i{(u + t) % 20}", 1, t) for u in range(60) for t in range(4 if u % 2 else 12)]
    write_inter(tmp_path / "data", "short", rows)
    keys = {"data_path": str(tmp_path / "data"), "MAX_ITEM_LIST_LENGTH": 10, "topk": [3], "epochs": 2,
            "valid_metric": "NDCG@3", "train_batch_size": 32, "bucket_batches": True}  # fmt: skip
    found = run("BERT4Rec", "short", config_dict=keys)
    assert found["epochs_run"] == 2


def test_buckets_see_every_row_once_and_are_drawn_anew(make_config):
    config = make_config("SASRec", train_batch_size=6)
    train = train_part(config)
    train.trim = True
    loader = BucketedTrainDataLoader(config, train, None, shuffle=True)
    epochs = [loader._epoch() for _ in range(2)]
    for batches in epochs:
        assert sorted(np.concatenate(batches)) == list(range(len(train.inter_feat)))
    assert {tuple(sorted(b)) for b in epochs[0]} != {tuple(sorted(b)) for b in epochs[1]}
    widths = [batch["item_id_list"].shape[1] for batch in loader]
    assert np.mean(widths) < 7
    again = BucketedTrainDataLoader(config, train, None, shuffle=True)
    assert all(np.array_equal(a, b) for a, b in zip(again._epoch(), epochs[0], strict=True))


# -- held-out rows ---------------------------------------------------------------------


@pytest.mark.parametrize(("precision", "width"), [("single", 4), ("double", 8)])
def test_a_chunk_of_scores_keeps_to_the_memory(make_config, precision, width):
    """Memory holds three arrays of the size of the scores: the scores and two arrays of the ranking."""
    for memory in (1, 2):
        config = make_config("SASRec", precision=precision, eval_batch_size=2**20, eval_memory_mb=memory)
        loader = build_data(config).loaders[2]
        row = 3 * width * loader.dataset.item_num
        assert memory * 2**20 - row < loader.step * row <= memory * 2**20
