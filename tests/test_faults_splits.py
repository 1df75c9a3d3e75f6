"""Tests of splits: pre-split files, empty parts, invalid arguments, and the data hash."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from recbole.data.dataset import Dataset, SequentialDataset

from recbole_disent.data.dataset import SequenceDataset
from recbole_disent.data.interactions import InteractionDataset
from recbole_disent.data.report import describe
from recbole_disent.errors import UserError
from recbole_disent.session import load_checkpoint, run
from tests.faults import (
    HEAD,
    KEYS,
    SPLIT,
    config,
    hash_of,
    load,
    rows_of,
    sequences,
    small_rows,
    small_run,
    write,
)

NO_TIME = "user_id:token\titem_id:token"


def cut(name="cut", head=HEAD, shuffled=True, parts=SPLIT):
    """Write pre-split files that hold out the last two of six events of each user, not in time order."""
    rows = small_rows()
    wanted = {"train": range(4), "valid": [4], "test": [5]}
    for part in parts:
        own = [r for n, r in enumerate(rows) if n % 6 in wanted[part]]
        if shuffled:
            own = [own[i] for i in np.random.default_rng(1).permutation(len(own))]
        write(name, f"{part}.inter", [r[: head.count("\t") + 1] for r in own], head)


# -- pre-split files -------------------------------------------------------------------


@pytest.mark.parametrize(
    "load_col", [{}, {"load_col": {"inter": ["user_id", "item_id"]}}, {"load_col": None}]
)
def test_pre_split_files_are_in_time_order(load_col):
    cut()
    keys = {**load_col} or {"load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]}}
    dataset, parts = load("SASRec", "cut", benchmark_filename=SPLIT, **keys)
    for n in range(8):
        assert sequences(dataset)[f"u{n}"] == [f"i{(n + step) % 6}" for step in range(6)]
    assert ("u0", ["i0", "i1", "i2", "i3", "i4"], "i5") in rows_of(parts[2])
    assert dataset.reading.notes == []


def test_the_example_of_the_kind():
    for part, rows in {"train": [("u1", "c", 3), ("u1", "a", 1), ("u1", "b", 2)], "valid": [("u1", "d", 4)],
                       "test": [("u1", "e", 5)]}.items():  # fmt: skip
        write("cut", f"{part}.inter", rows, NO_TIME + "\ttimestamp:float")
    keys = {"load_col": {"inter": ["user_id", "item_id"]}, "topk": [1], "valid_metric": "NDCG@1"}
    assert sequences(load("SASRec", "cut", benchmark_filename=SPLIT, **keys)[0]) == {"u1": list("abcde")}


def test_without_a_time_lines_are_the_order_and_it_is_said(caplog):
    cut(head=NO_TIME, shuffled=False)
    keys = {"benchmark_filename": SPLIT, "load_col": None}
    dataset = load("SASRec", "cut", **keys)[0]
    assert sequences(dataset)["u3"] == ["i3", "i4", "i5", "i0", "i1", "i2"]
    assert (
        "no column 'timestamp' (TIME_FIELD) is loaded from the files: the interactions of a user"
        in caplog.text
    )
    caplog.clear()
    cut("timed")
    dataset = load(
        "SASRec", "timed", benchmark_filename=SPLIT, load_col=None, unload_col={"inter": ["timestamp"]}
    )[0]
    assert "taken in the order of the lines" in caplog.text


def test_pre_split_files_are_the_same_data_for_every_kind_of_model():
    cut()
    for load_col in (None, {"inter": ["user_id", "item_id"]}):
        keys = {"benchmark_filename": SPLIT, "load_col": load_col}
        assert hash_of("SASRec", "cut", **keys) == hash_of("BPR", "cut", **keys)


@pytest.mark.parametrize("model", ["SASRec", "Pop"])
def test_pre_split_files_have_the_same_columns(model):
    cut()
    rows = [r[:2] for r in small_rows() if r[3] == 50]
    write("cut", "test.inter", rows, NO_TIME)
    message = (
        r"test\.inter, line 1: got the columns item_id, user_id, expected item_id, timestamp, user_id as"
    )
    with pytest.raises(UserError, match=message):
        load(model, "cut", benchmark_filename=SPLIT, load_col={"inter": ["user_id", "item_id"]})


@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize("model", ["GRU4Rec", "BPR", "DisentS2S", "ItemKNN"])
def test_without_validation_data_the_last_epoch_is_kept_and_it_is_said(model, empty, caplog):
    cut(parts=["train", "test"])
    if empty:
        write("cut", "valid.inter", [])
    names = SPLIT if empty else ["train", "test"]
    found = small_run(model, "cut", benchmark_filename=names, epochs=2)
    assert found["rows"]["valid"] == 0
    assert found["best_valid_result"] is None
    assert found["epochs_run"] == (1 if model == "ItemKNN" else 2)
    assert found["rows"]["test"] == 8
    assert set(found["test_result"]) > {"ndcg@3"}
    assert (
        "there is no validation part: training runs through all its epochs without early stopping"
        in caplog.text
    )


def test_no_target_is_in_its_history_without_validation_data():
    cut(parts=["train", "test"])
    parts = load("SASRec", "cut", benchmark_filename=["train", "test"])[1]
    assert sorted(rows_of(parts[2])) == sorted(
        (f"u{n}", [f"i{(n + step) % 6}" for step in range(4)], f"i{(n + 5) % 6}") for n in range(8)
    )


def test_first_events_that_are_held_out_are_counted():
    cut()
    path = Path("cut/cut.test.inter")
    path.write_text(path.read_text() + "new\ti1\t1\t1\nother\ti2\t1\t1\nother\ti3\t1\t2\n")
    dataset, parts = load("SASRec", "cut", benchmark_filename=SPLIT)
    assert [len(part.inter_feat) for part in parts[1:]] == [8, 9]
    told = "2 test events are the first events of their users"
    assert any(note.startswith(told) for note in describe(dataset, parts)["warnings"])
    late = [("new", "i1", 1, 1000), ("other", "i2", 1, 1000), ("other", "i3", 1, 1001)]
    write("small", "inter", [*small_rows(), *late])
    ratios = {"split": {"TS": [0.8, 0.1, 0.1]}}
    dataset, parts = load("SASRec", eval_args=ratios)
    assert len([n for n in dataset.reading.notes if n.startswith(told)]) == 1
    general = load("BPR", eval_args=ratios)[1]
    assert len(general[2].inter_feat) == len(parts[2].inter_feat) + 2
    for keys in ({}, {"eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "group_by": "user"}}):
        assert not [n for n in load("SASRec", **keys)[0].reading.notes if "first events" in n]


def test_only_the_validation_file_may_be_empty():
    cut()
    for part in ("train", "test"):
        write("cut", f"{part}.inter", [])
        with pytest.raises(UserError, match=rf"cut\.{part}\.inter: no line after the header"):
            load("SASRec", "cut", benchmark_filename=SPLIT)
        cut()


@pytest.mark.parametrize("value", [["train"], "train", ["a", "b", "c", "d"]])
def test_names_of_parts_are_two_or_three(value):
    with pytest.raises(UserError, match=r"benchmark_filename: got .*, or the two parts \[train, test\]"):
        config(benchmark_filename=value)


@pytest.mark.parametrize(
    "key",
    [
        {"val_interval": {"rating": "[2,5]"}},
        {"user_inter_num_interval": "[2,inf)"},
        {"rm_dup_inter": "first"},
    ],
)
def test_filters_without_effect_on_pre_split_files_are_refused(key):
    with pytest.raises(
        UserError, match=rf"{next(iter(key))}: no effect on pre-split files \(benchmark_filename\)"
    ):
        config(benchmark_filename=SPLIT, **key)


# -- arguments -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"split": {"RS": [0.8, -0.1, 0.3]}}, r"split: got RS \[0.8, -0.1, 0.3\], expected three ratios"),
        ({"split": {"RS": [0, 0, 0]}}, "expected three ratios"),
        ({"split": {"RS": ["a", "b", "c"]}}, "expected three ratios"),
        ({"split": {"RS": "0.8,0.1,0.1"}}, "expected three ratios"),
        ({"split": {"RS": [0.8, 0.1, float("nan")]}}, "expected three ratios"),
        ({"split": {"RS": [True, True, True]}}, "expected three ratios"),
        ({"split": {"TS": [0.8, 0.2]}}, "split: got TS .*expected three ratios"),
        (
            {"split": {"RS": [0.8, 0.1, 0.1], "LS": "valid_only"}},
            r"split: got .*, expected \{'LS': 'valid_and_test'\}",
        ),
        ({"split": "RS"}, r"split: got 'RS', expected \{'LS'"),
        ({"split": None}, "split: got None, expected"),
        ({"split": {}}, "split: got {}, expected"),
        ({"split": {"XS": [1]}}, "split: got .*expected"),
        (
            {"split": {"LS": "both"}},
            "split: got LS 'both', expected one of valid_and_test, valid_only, test_only",
        ),
        ({"group_by": "xx"}, "group_by: got 'xx', expected user or none"),
        ({"order": "XX"}, "order: got 'XX', expected TO"),
        ({"order": "RO"}, "order: got RO, expected TO: SASRec learns from sequences in time order"),
        (
            {"order": "RO", "split": {"TS": [0.8, 0.1, 0.1]}},
            "order: got RO with the split TS, expected TO",
        ),
        ({"mode": {"vald": "full"}}, "mode: got the part 'vald', expected valid and test"),
        ({"mode": {"valid": "ful"}}, "mode: got 'ful', expected full"),
    ],
)
def test_split_arguments_get_one_sentence(args, message):
    with pytest.raises(UserError, match=f"eval_args {message}|{message}"):
        config(eval_args=args)


@pytest.mark.parametrize(
    ("split", "sizes"),
    [
        ({"split": {"LS": "valid_and_test"}}, [24, 8, 8]),
        ({"split": {"LS": "valid_only"}}, [32, 8, 0]),
        ({"split": {"LS": "test_only"}}, [32, 0, 8]),
        ({"split": {"RS": [8, 1, 1]}, "group_by": "user"}, [24, 8, 8]),
        ({"split": {"RS": [0.8, 0.1, 0.1]}, "group_by": "none"}, [32, 4, 4]),
        ({"split": {"RS": [1, 0, 1]}, "group_by": None}, [20, 0, 20]),
        ({"split": {"TS": [0.6, 0.2, 0.2]}}, [16, 16, 8]),
    ],
)
def test_splits_hold_out_what_they_say(split, sizes):
    write("small", "inter", small_rows())
    parts = load(eval_args=split)[1]
    assert [len(part.inter_feat) for part in parts] == sizes
    for part, other in zip(parts, SequentialDataset(config(eval_args=split)).build(), strict=True):
        assert len(part.inter_feat) == len(other.inter_feat)


@pytest.mark.parametrize("ratios", [[0.6, 0.2, 0.2], [0.5, 0.0, 0.5], [8, 1, 1], [1, 0, 0]])
def test_a_split_at_a_time_is_recboles(ratios):
    rng = np.random.default_rng(0)
    rows = [(f"u{rng.integers(8)}", f"i{rng.integers(6)}", 1, int(rng.integers(30))) for _ in range(120)]
    write("small", "inter", rows)
    for model, ours, theirs in (
        ("SASRec", SequenceDataset, SequentialDataset),
        ("BPR", InteractionDataset, Dataset),
    ):
        settings = config(model, eval_args={"split": {"TS": ratios}})
        for a, b in zip(ours(settings).build(), theirs(settings).build(), strict=True):
            for name in ("user_id", "item_id", "timestamp"):
                assert a.inter_feat[name].tolist() == b.inter_feat[name].tolist()


def test_a_split_at_a_time_is_exact():
    base = 1_600_000_000  # one float32 for all times
    rows = [(f"u{n}", f"i{step}", 1, base + step) for n in range(8) for step in range(6)]
    write("small", "inter", rows)
    parts = load("BPR", eval_args={"split": {"TS": [0.5, 0.25, 0.25]}})[1]
    held = parts[2].inter_feat["item_id"].numpy()
    assert {str(t) for t in parts[2].id2token("item_id", held)} == {"i5"} or {
        str(t) for t in parts[2].id2token("item_id", held)
    } == {"i4", "i5"}


# -- identity --------------------------------------------------------------------------


def test_the_hash_covers_the_order_of_the_training_events():
    write("small", "inter", small_rows())
    changed = small_rows()
    (u, a, r, t), (_, b, _, later) = changed[0], changed[1]
    changed[0], changed[1] = (u, b, r, t), (u, a, r, later)  # two training events in the other order
    changed = sorted(
        changed, key=lambda row: (row[0], row[1] != "i0")
    )  # lines in another order, ids as before
    first = sorted({row[1] for row in changed})
    known = [("first", item, 1, n) for n, item in enumerate(first)]
    hashes = set()
    for name, rows in (("one", small_rows()), ("two", changed)):
        write(name, "inter", known + rows)
        hashes |= {hash_of("SASRec", name), hash_of("BPR", name)}
    assert len(hashes) == 2  # one for each data set, the same for both kinds of model


def test_a_checkpoint_does_not_load_on_events_in_another_order():
    write("small", "inter", small_rows())
    found = run("GRU4Rec", "small", config_dict={**KEYS, "checkpoint_dir": "saved", "result_dir": "saved"})
    load_checkpoint(found["checkpoint"])
    rows = small_rows()
    rows[1], rows[2] = (
        (*rows[1][:3], rows[2][3]),
        (*rows[2][:3], rows[1][3]),
    )  # the times of two training events
    write("small", "inter", rows)
    with pytest.raises(UserError, match="was trained on other data or another split"):
        load_checkpoint(found["checkpoint"])


def test_other_users_are_other_data():
    write("small", "inter", small_rows())
    write("other", "inter", [(u.replace("u", "v"), i, r, t) for u, i, r, t in small_rows()])
    assert hash_of() != hash_of("SASRec", "other")


# -- comparisons -----------------------------------------------------------------------


def test_compare_works_where_users_have_several_test_items(tmp_path, capsys):
    from recbole_disent.cli import main

    write("small", "inter", small_rows())
    words = ["compare", "--models=Pop,BPR", "--datasets=small", f"--data_path={tmp_path}", "--out=out",
             "--epochs=1", "--seeds=1", "--eval_args={'split': {'RS': [0.2, 0.4, 0.4]}}", "--topk=[1,2]",
             "--valid_metric=NDCG@2"]  # fmt: skip
    assert main(words) == 0, capsys.readouterr()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"metrics": ["AUC"], "valid_metric": "AUC"},
            r"metrics: got \['AUC'\], which measure single scores, with eval_args",
        ),
        (
            {"metrics": ["AUC", "Recall"]},
            r"metrics of a ranking \(Recall\) and of single scores \(AUC\)",
        ),
        ({"metrics": ["Recal"]}, "there is no metric named 'Recal'; did you mean 'recall'"),
        ({"eval_mode": "labeled"}, "labeled has no candidates to rank"),
        (
            {"per_user_file": "a.npz", "eval_args": {"split": {"RS": [0.2, 0.4, 0.4]}}},
            "per_user_file: got a test part",
        ),
    ],
)
def test_metrics_that_do_not_suit_the_split_are_named(keys, message):
    write("small", "inter", small_rows())
    with pytest.raises(UserError, match=message):
        small_run("BPR", **keys)
