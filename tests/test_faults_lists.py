"""Tests of pre-split files that contain histories in item_id_list columns."""

from __future__ import annotations

import pytest
from recbole.data.dataset import SequentialDataset

from recbole_disent.errors import UserError
from recbole_disent.session import run
from tests.faults import KEYS, SPLIT, config, load, rows_of, small_run, write
from tests.test_dataset import assert_same_batches

HEAD = "user_id:token\titem_id_list:token_seq\titem_id:token"
ROWS = {
    "train": [("u", "a b", "c"), ("v", "c", "a"), ("u", "a b c", "d"), ("v", "b a c d e f", "b")],
    "valid": [("v", "c a", "b")],
    "test": [("u", "a b c d", "e"), ("v", "c a b", "f")],
}
TOKENS = [(user, items.split(), item) for user, items, item in ROWS["train"]]


def ready(name="aug", head=HEAD, rows=ROWS):
    for part in SPLIT:
        write(name, f"{part}.inter", rows[part], head)


def keys(**more):
    return {"benchmark_filename": SPLIT, "load_col": {"inter": ["user_id", "item_id"]}, **more}


@pytest.mark.parametrize(
    "load_col", [{}, {"load_col": None}, {"load_col": {"inter": ["user_id", "item_id", "item_id_list"]}}]
)
def test_histories_of_the_files_are_used(load_col):
    ready()
    parts = load("GRU4Rec", "aug", **keys(MAX_ITEM_LIST_LENGTH=9, **load_col))[1] if load_col != {} else load(
        "GRU4Rec", "aug", **keys(MAX_ITEM_LIST_LENGTH=9))[1]  # fmt: skip
    assert rows_of(parts[0]) == TOKENS  # 4 rows, not the 2 that targets alone would give
    assert rows_of(parts[2]) == [("u", list("abcd"), "e"), ("v", list("cab"), "f")]


def test_ids_and_rows_are_recboles_with_an_alias():
    ready()
    settings = config("GRU4Rec", "aug", **keys(
        load_col={"inter": ["user_id", "item_id", "item_id_list"]},
        alias_of_item_id=["item_id_list"]))  # fmt: skip
    from recbole_disent.data.dataset import SequenceDataset

    settings["MAX_ITEM_LIST_LENGTH"] = 9
    for ours, theirs in zip(
        SequenceDataset(settings).build(), SequentialDataset(settings).build(), strict=True
    ):
        assert_same_batches(ours, theirs)


def test_one_id_space_without_an_alias():
    ready()
    dataset, parts = load("GRU4Rec", "aug", **keys(MAX_ITEM_LIST_LENGTH=9))
    assert dataset.field2id_token["item_id_list"] is dataset.field2id_token["item_id"]
    assert dataset.item_num == 7
    assert rows_of(parts[1]) == [("v", ["c", "a"], "b")]


@pytest.mark.parametrize("model", ["SASRec", "BERT4Rec", "GRU4Rec"])
def test_long_histories_keep_their_last_items(model, caplog):
    ready()
    given = keys(MAX_ITEM_LIST_LENGTH=3, train_mode="pairs")
    if model == "BERT4Rec":
        given.update(mask_ratio=0.6, chunked_softmax=True)
    dataset, parts = load(model, "aug", **given)
    assert rows_of(parts[0])[3] == ("v", ["d", "e", "f"], "b")
    assert rows_of(parts[2])[0] == ("u", ["b", "c", "d"], "e")
    said = [text for text in dataset.reading.notes if "MAX_ITEM_LIST_LENGTH=3" in text]
    assert said == [
        "item_id_list: 2 histories are longer than MAX_ITEM_LIST_LENGTH=3: the last 3 items of each are kept"
    ]
    assert small_run(model, "aug", **given)["test_result"]


def test_renamed_columns_with_lists_work():
    ready()
    ready("named", "who:token\tp_id_seq:token_seq\tp_id:token")
    names = {"USER_ID_FIELD": "who", "ITEM_ID_FIELD": "p_id", "LIST_SUFFIX": "_seq",
             "load_col": {"inter": ["who", "p_id"]}}  # fmt: skip
    found = [small_run("GRU4Rec", name, **keys(**more)) for name, more in (("aug", {}), ("named", names))]
    assert found[0]["test_result"] == found[1]["test_result"]
    assert found[0]["data_hash"] == found[1]["data_hash"]


def test_lists_of_further_columns_share_their_ids_and_are_cut_with_the_items():
    head = HEAD + "\tshop:token\tshop_list:token_seq"
    rows = {
        part: [(*row, "s1", " ".join(["s2"] * len(row[1].split()))) for row in ROWS[part]] for part in SPLIT
    }
    ready("shops", head, rows)
    dataset, parts = load("GRU4Rec", "shops", **keys(load_col=None, MAX_ITEM_LIST_LENGTH=2))
    assert dataset.field2id_token["shop_list"] is dataset.field2id_token["shop"]
    assert parts[0].inter_feat["shop_list"].shape[1] == 2
    rows["train"][1] = ("v", "c", "a", "s1", "s1 s1")
    ready("shops", head, rows)
    with pytest.raises(
        UserError, match=r"train\.inter, line 3: shop_list has 2 entries, expected 1 as in item_id_list"
    ):
        load("GRU4Rec", "shops", **keys(load_col=None))


def test_rows_without_a_history_are_left_out_and_said(caplog):
    ready(rows={**ROWS, "valid": [("v", "", "b"), ("u", "a", "b")]})
    dataset, parts = load("GRU4Rec", "aug", **keys())
    assert rows_of(parts[1]) == [("u", ["a"], "b")]
    assert dataset.reading.dropped == {"empty history": 1}


def test_models_that_learn_from_whole_sequences_refuse_cut_histories():
    ready()
    with pytest.raises(UserError, match="learns from whole sequences, but these files contain cut histories"):
        small_run("DisentS2S", "aug", **keys())


def test_general_models_take_the_targets():
    ready()
    parts = load("BPR", "aug", **keys())[1]
    assert len(parts[0].inter_feat) == 4
    assert "item_id_list" not in parts[0].inter_feat.columns


@pytest.mark.parametrize(
    ("head", "more", "message"),
    [
        (
            HEAD.replace("token_seq", "token"),
            {},
            "line 1: got 'item_id_list:token', expected 'item_id_list:token_seq'",
        ),
        (
            HEAD,
            {"seq_len": {"item_id_list": 2}},
            "seq_len: got 'item_id_list', which is a history; set MAX_ITEM_LIST_LENGTH",
        ),
    ],
)
def test_columns_of_histories_are_sound(head, more, message):
    ready(head=head)
    with pytest.raises(UserError, match=message):
        load("GRU4Rec", "aug", **keys(**more))


def test_a_checkpoint_of_given_histories_loads():
    from recbole_disent.session import load_checkpoint

    ready()
    found = run(
        "GRU4Rec", "aug", config_dict={**KEYS, **keys(), "checkpoint_dir": "saved", "result_dir": "saved"}
    )
    assert load_checkpoint(found["checkpoint"])[1].data_hash == found["data_hash"]
