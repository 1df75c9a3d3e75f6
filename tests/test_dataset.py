"""Tests that the lazy data sets equal RecBole's data sets and leak no held-out items."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from recbole.data.dataset import Dataset, SequentialDataset
from recbole.data.interaction import Interaction

from recbole_disent.config.config import Config
from recbole_disent.data import store
from recbole_disent.data.dataset import SequenceDataset
from recbole_disent.data.interactions import InteractionDataset
from recbole_disent.data.loading import data_hash
from recbole_disent.errors import UserError
from recbole_disent.loaders.build import make_loaders
from recbole_disent.loaders.prefixes import PairLoader, build_pair_loader
from recbole_disent.loaders.windows import WindowLoader, build_window_loader
from tests.conftest import hostile_rows, write_inter

SPLITS = [
    {"split": {"LS": "valid_and_test"}},
    {"split": {"LS": "valid_only"}},
    {"split": {"LS": "test_only"}},
    {"split": {"RS": [0.8, 0.1, 0.1]}},
    {"split": {"RS": [0.5, 0.3, 0.2]}, "group_by": None},
    {"split": {"TS": [0.6, 0.2, 0.2]}},
]


def assert_same(ours, theirs):
    """Compare all columns of all rows, in the same order."""
    assert len(ours.inter_feat) == len(theirs.inter_feat)
    assert sorted(ours.inter_feat.columns) == sorted(theirs.inter_feat.columns)
    if not len(theirs.inter_feat):
        return
    found = ours[np.arange(len(ours.inter_feat))]
    for name in theirs.inter_feat.columns:
        expected = theirs.inter_feat[name]
        assert found[name].dtype == expected.dtype, name
        assert torch.equal(found[name], expected), name
        assert torch.equal(ours.inter_feat[name], expected), name


@pytest.mark.parametrize("eval_args", SPLITS)
def test_rows_equal_recbole_on_hostile_data(make_config, eval_args):
    config = make_config("SASRec", eval_args=eval_args)
    ours, theirs = SequenceDataset(config).build(), SequentialDataset(config).build()
    for our_part, their_part in zip(ours, theirs, strict=True):
        assert_same(our_part, their_part)
        if not len(their_part.inter_feat):
            continue
        for value in (None, "rating"):
            a = our_part.inter_matrix("csr", value).toarray()
            assert np.array_equal(a, their_part.inter_matrix("csr", value).toarray())
        assert our_part.item_counter == their_part.item_counter
        assert our_part.avg_actions_of_users == their_part.avg_actions_of_users


def test_rows_equal_recbole_on_ml_100k():
    config = Config("SASRec", "ml-100k", config_dict={"recbole_time": True})
    for ours, theirs in zip(SequenceDataset(config).build(), SequentialDataset(config).build(), strict=True):
        assert_same(ours, theirs)


def test_fields_with_sequences_and_features(tmp_path):
    rng = np.random.default_rng(1)
    rows = [
        (u, i, " ".join(f"t{x}" for x in rng.integers(5, size=rng.integers(0, 4))), "0.5 1.5", t)
        for u, i, _, t in hostile_rows(3)
    ]
    head = "user_id:token\titem_id:token\ttags:token_seq\tsizes:float_seq\ttimestamp:float"
    write_inter(tmp_path, "multi", rows, head)
    items = "\n".join(f"i{i}\tc{i % 4}\t{i / 7}" for i in range(30))
    (tmp_path / "multi" / "multi.item").write_text("item_id:token\tkind:token\tprice:float\n" + items)
    given = {
        "data_path": str(tmp_path), "MAX_ITEM_LIST_LENGTH": 5, "topk": [1, 5, 10],
        "load_col": None, "numerical_features": ["price"],
    }  # fmt: skip
    config = Config("SASRec", "multi", config_dict=given)
    ours, theirs = SequenceDataset(config).build(), SequentialDataset(config).build()
    for our_part, their_part in zip(ours, theirs, strict=True):
        assert_same_batches(our_part, their_part)


def assert_same_batches(ours, theirs):
    index = np.arange(len(theirs.inter_feat))
    found, expected = ours[index], theirs[index]
    assert sorted(found.columns) == sorted(expected.columns)
    for name in expected.columns:
        assert torch.equal(found[name], expected[name]), name


@pytest.mark.parametrize("model", ["BPR", "Pop"])
def test_general_models_hold_out_the_rows_of_sequential_ones(make_config, model):
    config = make_config(model)
    general, sequential = InteractionDataset(config).build(), SequenceDataset(make_config()).build()
    for a, b in zip(general[1:], sequential[1:], strict=True):
        rows = [sorted(zip(p.inter_feat["user_id"].tolist(), p.inter_feat["item_id"].tolist(), strict=True))
                for p in (a, b)]  # fmt: skip
        assert rows[0] == rows[1]
    assert data_hash(general) == data_hash(sequential)
    assert np.array_equal(general[0].training_counts(), sequential[0].training_counts())


def test_general_split_is_recboles_for_users_with_enough_events(tmp_path):
    rows = [r for r in hostile_rows(5) if sum(q[0] == r[0] for q in hostile_rows(5)) >= 4]
    write_inter(tmp_path, "long", rows)
    config = Config("BPR", "long", config_dict={"data_path": str(tmp_path), "topk": [1, 5, 10]})
    for a, b in zip(InteractionDataset(config).build(), Dataset(config).build(), strict=True):
        for name in b.inter_feat.columns:
            assert torch.equal(a.inter_feat[name], b.inter_feat[name])


def test_memory_grows_with_interactions_only(make_config):
    for length in (5, 500):
        dataset = SequenceDataset(make_config(MAX_ITEM_LIST_LENGTH=length))
        dataset.build()
        assert dataset.store.nbytes < 40 * len(dataset.store) + 1000


def test_equal_times_keep_file_order_and_the_order_is_exact(tmp_path):
    base = 1_500_000_000  # float32 has steps of 128 s here
    rows = [("u", f"i{n}", 1, base + t) for n, t in enumerate([30, 20, 10, 10, 0])]
    rows += [("v", f"i{n}", 1, n) for n in range(5)]
    write_inter(tmp_path, "times", rows)
    orders = {}
    for exact in (False, True):
        keys = {
            "data_path": str(tmp_path),
            "topk": 2,
            "valid_metric": "NDCG@2",
            "recbole_time": not exact,
        }
        dataset = SequenceDataset(Config("DisentS2S", "times", config_dict=keys))
        dataset.build()
        u = dataset.token2id("user_id", "u")
        events = dataset.store.items[dataset.store.offsets[u] : dataset.store.offsets[u + 1]]
        orders[exact] = list(dataset.id2token("item_id", events.long()))
    assert orders[False] == ["i0", "i1", "i2", "i3", "i4"]
    assert orders[True] == ["i4", "i2", "i3", "i1", "i0"]


def test_pre_split_files_keep_later_files_out_of_earlier_histories(tmp_path):
    head = "user_id:token\titem_id:token\ttimestamp:float"
    folder = tmp_path / "cut"
    folder.mkdir()
    parts = {
        "train": [("u", "a", 1), ("u", "b", 9), ("v", "c", 1), ("v", "a", 2)],
        "valid": [("u", "d", 5), ("v", "d", 3)],
        "test": [("u", "e", 2), ("v", "b", 4)],
    }
    for name, rows in parts.items():
        text = "\n".join([head, *("\t".join(map(str, r)) for r in rows)])
        (folder / f"cut.{name}.inter").write_text(text + "\n")
    keys = {"data_path": str(tmp_path), "benchmark_filename": list(parts), "load_col": None,
            "topk": 2, "valid_metric": "NDCG@2", "MAX_ITEM_LIST_LENGTH": 4}  # fmt: skip
    train, valid, test = SequenceDataset(Config("SASRec", "cut", config_dict=keys)).build()

    def token(part, row):
        batch = part[[row]]
        return [list(part.id2token("item_id", batch["item_id_list"][0])),
                part.id2token("item_id", batch["item_id"])[0]]  # fmt: skip

    pad = "[PAD]"
    assert token(train, 0) == [["a", pad, pad, pad], "b"]
    assert token(valid, 0) == [["a", "b", pad, pad], "d"]  # by time d would come before b
    assert token(test, 0) == [["a", "b", "d", pad], "e"]
    assert [len(p.inter_feat) for p in (train, valid, test)] == [2, 2, 2]


def test_benchmark_files_with_histories_work_as_in_recbole(tmp_path):
    head = "user_id:token\titem_id_list:token_seq\titem_id:token"
    folder = tmp_path / "ready"
    folder.mkdir()
    for name in ("train", "valid", "test"):
        (folder / f"ready.{name}.inter").write_text(f"{head}\nu\ta b\tc\nv\tc\ta\nv\tc a\tb\n")
    keys = {"data_path": str(tmp_path), "benchmark_filename": ["train", "valid", "test"],
            "load_col": None, "alias_of_item_id": ["item_id_list"], "topk": 2,
            "valid_metric": "NDCG@2"}  # fmt: skip
    config = Config("GRU4Rec", "ready", config_dict=keys)
    ours, theirs = SequenceDataset(config).build(), SequentialDataset(config).build()
    for a, b in zip(ours, theirs, strict=True):
        assert_same_batches(a, b)
    with pytest.raises(UserError, match="learns from whole sequences, but these files contain cut histories"):
        build_pair_loader(config, ours[0], None)
    with pytest.raises(UserError, match="one interaction per line, or leave out train_mode=sequences"):
        build_window_loader(config, ours[0], None)
    row, item = ours[2].earlier(np.array([2, 0]))
    assert row.tolist() == [0, 0, 1, 1]
    assert list(ours[2].id2token("item_id", item)) == ["c", "a", "a", "b"]


# -- leakage ---------------------------------------------------------------------------


def training_tensors(config):
    """Return everything that training steps and training statistics can read."""
    dataset = SequenceDataset(config)
    train = dataset.build()[0]
    seen = [train.training_counts(), train.inter_matrix("csr").toarray()]
    for loader in (PairLoader(config, train, None), WindowLoader(config, train, None)):
        for batch in loader:
            if isinstance(batch, Interaction):
                seen += [batch[name].numpy() for name in sorted(batch.columns)]
            else:
                seen += [t.numpy() for t in (batch.items, batch.lengths, batch.users)]
    return seen


@pytest.mark.parametrize("length", [7, 50])
def test_changing_every_held_out_item_changes_no_training_tensor(tmp_path, length):
    rows = sorted(hostile_rows(7), key=lambda r: (r[0], r[3]))
    rows = [(u, i, 1, n) for n, (u, i, _, _) in enumerate(rows)]
    changed = list(rows)
    for user in {r[0] for r in rows}:
        own = [n for n, r in enumerate(rows) if r[0] == user]
        held = own[-2:] if len(own) >= 4 else own[-1:] if len(own) == 3 else []
        for n in held:
            changed[n] = (user, "i3" if rows[n][1] != "i3" else "i4", 5, rows[n][3])
    # The same items in the same order of first appearance, so that ids do not move.
    known = [("first", f"i{n}", 1, -1) for n in range(30)]
    found = []
    for name, content in (("before", known + rows), ("after", known + changed)):
        write_inter(tmp_path, name, content)
        keys = {"data_path": str(tmp_path), "MAX_ITEM_LIST_LENGTH": length,
                "load_col": {"inter": ["user_id", "item_id", "timestamp"]}}  # fmt: skip
        found.append(training_tensors(Config("DisentS2S", name, config_dict=keys)))
    assert changed != rows
    assert len(found[0]) == len(found[1])
    for before, after in zip(*found, strict=True):
        assert np.array_equal(before, after)


def test_negative_sampling_counts_training_clicks_only(make_config):
    keys = {"distribution": "popularity", "sample_num": 1, "alpha": 1.0}
    for model, kind in (("BPR", InteractionDataset), ("SASRec", SequenceDataset)):
        extra = {"loss_type": "BPR"} if model == "SASRec" else {}
        config = make_config(model, train_neg_sample_args=keys, **extra)
        loader = make_loaders(config, kind(config).build())[0]
        train = loader._dataset.inter_feat["item_id"].numpy()
        assert set(loader._sampler.prob) == set(train.tolist())


def test_a_first_event_in_the_test_period_is_no_training_click(tmp_path):
    rows = [(f"u{n}", f"i{n % 5}", 1, t) for n in range(6) for t in (1, 2, 3)]
    rows += [("late", "i9", 1, 90), ("late", "i1", 1, 91), ("late", "i2", 1, 92)]
    write_inter(tmp_path, "late", rows)
    keys = {"data_path": str(tmp_path), "eval_args": {"split": {"RS": [0.6, 0.2, 0.2]}, "group_by": None}}
    train = SequenceDataset(Config("DisentS2S", "late", config_dict=keys)).build()[0]
    assert train.training_counts()[train.token2id("item_id", "i9")] == 0


# -- click_noise ------------------------------------------------------------------------


def test_corruption_is_the_same_for_both_kinds_and_spares_held_out_items(make_config):
    clean = SequenceDataset(make_config()).build()
    noisy = SequenceDataset(make_config(click_noise=0.3)).build()
    general = InteractionDataset(make_config("BPR", click_noise=0.3)).build()
    before, after = clean[0].store.items, noisy[0].store.items
    seen = clean[0].train_mask
    assert torch.equal(before[~torch.from_numpy(seen)], after[~torch.from_numpy(seen)])
    assert int((before != after).sum()) == round(0.3 * seen.sum())
    assert np.array_equal(general[0].inter_feat["item_id"].bincount(minlength=31).numpy()[:31],
                          np.bincount(after.numpy()[seen], minlength=31)[:31])  # fmt: skip
    # Candidates are drawn from the clean history, so that they do not depend on the noise.
    assert np.array_equal(noisy[0].history[1], clean[0].history[1])
    again = SequenceDataset(make_config(click_noise=0.3)).build()
    assert torch.equal(again[0].store.items, after)


# -- errors ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"e\.inter, line 1: the file is empty; expected a header"),
        ("1\t2\t3\n", r"line 1: got '1', expected a header 'name:type'"),
        ("user_id:token\titem_id:word\n", r"line 1: got 'item_id:word', expected"),
        ("user_id:token\titem_id:token\n1\t2\n", r"got the columns .*, expected 'timestamp'.*TIME_FIELD"),
        ("user_id:token\titem_id:token\ttimestamp:float\n", "no line after the header"),
        ("user_id:token\titem_id:token\ttimestamp:float\n1\t2\t3\n1\t2\tx\n",
         r"line 3: timestamp: got 'x', expected a number"),
        ("user_id:token\titem_id:token\ttimestamp:float\n1\t2\t3\t4\n1\t2\t3\n",
         r"line 2: got 4 cells, expected 3"),
        ("user_id:token\titem_id:token\ttimestamp:float\n1\t2\t3\n2\t3\t4\n", "the training part is empty"),
    ],
)  # fmt: skip
def test_faulty_files_get_one_sentence(tmp_path, text, message):
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "e.inter").write_text(text)
    keys = {"data_path": str(tmp_path), "load_col": {"inter": ["user_id", "item_id", "timestamp"]}}
    with pytest.raises(UserError, match=message):
        SequenceDataset(Config("DisentS2S", "e", config_dict=keys)).build()


def test_columns_that_the_user_names_have_to_be_there(tmp_path):
    write_inter(tmp_path, "e", hostile_rows())
    keys = {"data_path": str(tmp_path), "load_col": {"inter": ["user_id", "item_id", "ratin"]}}
    message = r"load_col: got 'ratin' for inter, but .*e\.inter has no such column; did you mean 'rating'"
    with pytest.raises(UserError, match=message):
        SequenceDataset(Config("DisentS2S", "e", config_dict=keys))


def test_lines_without_user_or_item_are_left_out(tmp_path):
    rows = hostile_rows(2)
    write_inter(tmp_path, "whole", rows)
    write_inter(tmp_path, "gaps", [("", "i1", 1, 3), *rows, ("u1", "", 1, 3)])
    whole, gaps = (
        SequenceDataset(Config("SASRec", name, config_dict={"data_path": str(tmp_path)})).build()
        for name in ("whole", "gaps")
    )
    for a, b in zip(whole, gaps, strict=True):
        assert_same(a, b)


def test_loading_equals_recboles_reader(tmp_path):
    write_inter(tmp_path, "read", hostile_rows(4))
    config = Config("SASRec", "read", config_dict={"data_path": str(tmp_path), "load_col": None})
    ours, theirs = SequenceDataset(config), SequentialDataset(config)
    assert list(ours.field2id_token["item_id"]) == list(theirs.field2id_token["item_id"])
    for field in theirs.inter_feat:
        assert np.array_equal(ours.inter_feat[field], theirs.inter_feat[field])
        assert ours.inter_feat[field].dtype == theirs.inter_feat[field].dtype


def test_users_and_counts_of_a_store_do_not_depend_on_how_they_are_computed(monkeypatch):
    rng = np.random.default_rng(0)
    users = np.sort(rng.choice([1, 2, 4, 5, 9], 200))
    items = rng.integers(1, 7, 200)
    made = store.SequenceStore(users, {"item": torch.from_numpy(items)}, "item", 11)
    few, many = torch.tensor([0, 57, 199]), torch.arange(200)
    assert made.users_of(many).tolist() == users.tolist()
    assert made.users_of(few).tolist() == users[[0, 57, 199]].tolist()
    first = np.flatnonzero(np.diff(users, prepend=0))
    assert made.later_events().tolist() == np.setdiff1d(np.arange(200), first).tolist()
    mask = rng.random(200) < 0.5
    monkeypatch.setattr(store, "_PART", 7)
    assert made.item_counts(8, mask).tolist() == np.bincount(items[mask], minlength=8).tolist()


@pytest.mark.parametrize("parts", [1, 2, 3, 20])
def test_user_bounds_cut_the_events_into_nearly_equal_parts(parts):
    users = np.repeat(np.arange(1, 101), np.random.default_rng(0).integers(0, 9, 100))
    made = store.SequenceStore(users, {"item": torch.ones(len(users), dtype=torch.long)}, "item", 101)
    bounds = made.user_bounds(parts)
    assert len(bounds) == parts + 1
    assert (bounds[0], bounds[-1]) == (0, 101)
    sizes = np.diff(made.offsets.numpy()[bounds])
    assert sizes.sum() == len(users)
    assert np.abs(sizes - len(users) / parts).max() <= 8


@pytest.mark.parametrize("split", SPLITS)
def test_users_with_training_rows_are_counted_without_the_rows(make_config, split):
    parts = SequenceDataset(make_config("SASRec", eval_args={"order": "TO", **split})).build()
    for part in parts:
        assert part.count_row_users() == len(part.inter_feat[part.uid_field].unique())
