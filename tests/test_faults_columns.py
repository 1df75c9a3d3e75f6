"""Tests of RecBole's keys for columns, labels, filters and vectors."""

from __future__ import annotations

import pytest
from recbole.model.general_recommender import BPR

from recbole_disent.config.intervals import check_interval
from recbole_disent.data.loading import load_parts
from recbole_disent.errors import UserError
from recbole_disent.session import build_data
from tests.faults import HEAD, LOAD, config, hash_of, load, sequences, small_rows, small_run, write


@pytest.fixture(autouse=True)
def small():
    write("small", "inter", small_rows())


# -- columns ---------------------------------------------------------------------------


def test_separators():
    wanted = hash_of(load_col=None)
    for name, separator in (("comma", ","), ("bar", "|"), ("colons", "::"), ("dots", ".."), ("signs", "§")):
        head = HEAD.replace("\t", separator)
        write(name, "inter", [separator.join(map(str, row)) for row in small_rows()], head)
        assert hash_of("SASRec", name, load_col=None, field_separator=separator) == wanted
    write("small", "item", [(f"i{n}", f"a;b{n}") for n in range(6)], "item_id:token\ttags:token_seq")
    dataset = load(load_col=None, seq_separator=";")[0]
    assert set(dataset.field2id_token["tags"]) == {"[PAD]", "a", *(f"b{n}" for n in range(6))}


@pytest.mark.parametrize("key", ["field_separator", "seq_separator"])
@pytest.mark.parametrize("value", ["", "\n", 7])
def test_separators_are_texts_within_a_line(key, value):
    with pytest.raises(UserError, match=f"{key}: got .*, expected a text within a line"):
        config(**{key: value})


def test_renamed_columns_give_the_same_result():
    names = {"USER_ID_FIELD": "who", "ITEM_ID_FIELD": "what", "RATING_FIELD": "stars", "TIME_FIELD": "when",
             "ITEM_LIST_LENGTH_FIELD": "size", "LIST_SUFFIX": "_before", "NEG_PREFIX": "not_"}  # fmt: skip
    write("named", "inter", small_rows(), "who:token\twhat:token\tstars:float\twhen:float")
    load_col = {"inter": ["who", "what", "stars", "when"]}
    for model in ("GRU4Rec", "BPR", "DisentS2S"):
        found = [small_run(model), small_run(model, "named", **{**names, "load_col": load_col})]
        assert found[0]["test_result"] == found[1]["test_result"], model
        assert found[0]["data_hash"] == found[1]["data_hash"]
    data = build_data(
        config("SASRec", "named", loss_type="BPR", train_mode="pairs", load_col=load_col, **names)
    )
    columns = set(next(iter(data.loaders[0])).columns)
    assert {"who", "what_before", "size", "not_what"} <= columns


def test_columns_are_chosen():
    chosen = load(load_col={"inter": ["user_id", "item_id"]})[0]
    assert set(chosen.field2type) >= {"timestamp"}  # the split in time order needs it
    assert "rating" not in chosen.field2type
    left = load(load_col=None, unload_col={"inter": ["rating"]})[0]
    assert "rating" not in left.field2type
    unused = load(unused_col={"inter": ["rating"]})[1][0]
    assert "rating" not in unused.inter_feat.columns
    write("small", "vectors", [(f"k{n}", "0.5 1.5") for n in range(3)], "key:token\tvector:float_seq")
    more = load(load_col={**LOAD, "vectors": ["key", "vector"]}, additional_feat_suffix=["vectors"])[0]
    assert more.vectors_feat["vector"].shape == (3, 2)
    for key, value, message in (
        ("unload_col", {"inter": ["rating"]}, "unload_col: got columns of inter, but load_col"),
        ("load_col", {"inter": "user_id"}, "load_col: got .*, expected a dict from file suffixes"),
        ("load_col", {**LOAD, "item": ["class"]}, "expected 'item_id' among them"),
    ):
        write("small", "item", [("i0", "a")], "item_id:token\tclass:token")
        with pytest.raises(UserError, match=message):
            load(**{key: value})


def test_sequence_features_are_cut():
    write("small", "item", [(f"i{n}", "a b c d") for n in range(6)], "item_id:token\ttags:token_seq")
    dataset = load(load_col=None, seq_len={"tags": 3})[0]
    words = dataset.field2id_token["tags"][dataset.item_feat["tags"][1].numpy()]
    assert words.tolist() == ["a", "b", "c"]


def test_numbers_are_normalised_and_put_into_buckets():
    write("small", "item", [(f"i{n}", 10 * n) for n in range(6)], "item_id:token\tprice:float")
    order = sequences(load(load_col=None)[0])
    for keys in ({"normalize_field": ["price"]}, {"normalize_all": True}):
        dataset = load(load_col=None, **keys)[0]
        ids = dataset.token2id("item_id", [f"i{n}" for n in range(6)])
        assert dataset.item_feat["price"][ids].tolist() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
        assert sequences(dataset) == order
    numbers = load(load_col=None, numerical_features=["price"])[0]
    assert numbers.item_feat["price"][numbers.token2id("item_id", "i3")].tolist() == [30, 1]
    two = {"price": {"method": "ED", "bucket": 2}}
    buckets = load(load_col=None, numerical_features=["price"], discretization=two)[0]
    found = buckets.item_feat["price"][buckets.token2id("item_id", [f"i{n}" for n in range(6)])]
    assert found[:, 1].tolist() == [1, 1, 1, 2, 2, 2]


# -- labels ----------------------------------------------------------------------------


def test_threshold_makes_labels():
    keys = {"threshold": {"rating": 3}, "LABEL_FIELD": "liked"}
    part = load("BPR", **keys)[1][0]
    rating = load("BPR")[1][0].inter_feat["rating"]
    assert part.inter_feat["liked"].tolist() == (rating >= 3).float().tolist()
    assert "rating" not in part.inter_feat.columns
    for value, what in ((6, "positive"), (1, "negative")):
        with pytest.raises(
            UserError, match=rf"{value}}} leaves no {what} interaction; .*'rating', which range from 1 to 5"
        ):
            load("BPR", threshold={"rating": value})
    for bad in (3, {"rating": "4"}, {"rating": 3, "timestamp": 3}, {}):
        with pytest.raises(UserError, match=r"threshold: got .*, expected one column and its number such as"):
            config("BPR", threshold=bad)
    with pytest.raises(UserError, match="threshold: got 'stars', which is not a loaded column"):
        load("BPR", threshold={"stars": 3})


def test_labels_do_not_rank_and_it_is_said(caplog):
    with_labels = small_run("BPR", threshold={"rating": 3})
    assert with_labels["rows"] == small_run("BPR")["rows"]
    assert "threshold: labels are used by value metrics such as AUC; ranking metrics treat" in caplog.text


# -- filters ---------------------------------------------------------------------------


def test_filters_leave_out_what_they_say_and_count_it(caplog):
    rows = [*small_rows(), ("u0", "i0", 5, 70), ("u0", "i0", 4, 80), ("w", "i1", 3, 1), ("w", "rare", 3, 2)]
    write("more", "inter", rows)
    write("more", "user", [(f"u{n}", 20 + n) for n in range(8)], "user_id:token\tage:float")

    def kept(**keys):
        dataset = load("Pop", "more", **keys)[0]
        return len(dataset.inter_feat), dataset.reading.dropped

    assert kept() == (52, {})
    assert kept(rm_dup_inter="first") == (50, {"rm_dup_inter": 2})
    last = load("SASRec", "more", rm_dup_inter="last")[0]
    assert sequences(last)["u0"] == ["i1", "i2", "i3", "i4", "i5", "i0"]
    few = sum(not 2 <= row[2] < 5 for row in rows)
    assert kept(val_interval={"rating": "[2,5)"}) == (52 - few, {"val_interval": few})
    assert kept(val_interval={"rating": "[1,2];[5,5]"})[0] == sum(row[2] in (1, 2, 5) for row in rows)
    two = {"val_interval": {"item_id": ["i0", "i1"]}, "topk": [1], "valid_metric": "NDCG@1"}
    assert kept(**two)[0] == sum(row[1] in ("i0", "i1") for row in rows)
    with_users = {"load_col": {**LOAD, "user": ["user_id", "age"]}}
    assert kept(**with_users) == (50, {"filter_inter_by_user_or_item": 2})
    assert kept(filter_inter_by_user_or_item=False, **with_users) == (52, {})
    rule = "user_inter_num_interval, item_inter_num_interval"
    assert kept(user_inter_num_interval="[3,inf)") == (50, {rule: 2})
    assert kept(item_inter_num_interval="[2,inf)") == (51, {rule: 1})
    assert kept(user_inter_num_interval=[6, 6])[0] == 42  # as the command line gives [6,6]
    assert "interactions were left out" in caplog.text
    for key in ("user_inter_num_interval", "item_inter_num_interval"):
        with pytest.raises(UserError, match="no interaction is left of 52; loosen the filter"):
            kept(**{key: "[100,inf)"})


@pytest.mark.parametrize(
    "value", [10, "10", ">=4", "[4,3]", "(3,3)", "[3,4", "[a,b]", "", "[1,2];", "[nan,2]", [1]]
)
def test_intervals_that_do_not_parse_are_refused(value):
    grammar = r"expected an interval such as \[3,inf\) or \(1,2.5\]"
    for key in ("user_inter_num_interval", "item_inter_num_interval"):
        with pytest.raises(UserError, match=f"{key}: got .*, {grammar}"):
            config("BPR", **{key: value})
    with pytest.raises(UserError, match=f"val_interval: rating: got .*, {grammar}"):
        load("BPR", val_interval={"rating": value})


@pytest.mark.parametrize(
    "value", ["[3,inf)", "(-inf,2.5]", "[1,1]", "[1,2];(3,4]", " [ 1 , 2 ] ", "[1e3,.5e4)", [1, 7], (1, 7)]
)
def test_intervals_that_parse(value):
    check_interval("key", value)


def test_filters_by_values_need_a_loaded_column_and_values_of_its_type():
    for value, message in (
        ({"stars": "[3,4]"}, "val_interval: got 'stars', which is not a loaded column; add it to load_col"),
        ({"item_id": "[3,4]"}, "val_interval: item_id: got .*, expected a list of tokens"),
        ("[3,4]", "val_interval: got .*, expected a dict such as"),
    ):
        with pytest.raises(UserError, match=message):
            load("BPR", val_interval=value)
    with pytest.raises(UserError, match="rm_dup_inter: got 'middle', expected first, last or null"):
        config("BPR", rm_dup_inter="middle")


# -- vectors ---------------------------------------------------------------------------


class WithVectors(BPR):
    """A model of a user that reads pre-trained vectors."""

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.vectors = dataset.get_preload_weight("key")


def test_preload_weight_is_refused_where_no_model_reads_it():
    write("small", "ent", [("k1", "0.5 1.5"), ("k2", "2.5 3.5")], "key:token\tvector:float_seq")
    given = {"preload_weight": {"key": "vector"}, "additional_feat_suffix": ["ent"],
             "load_col": {**LOAD, "ent": ["key", "vector"]}}  # fmt: skip
    for model in ("SASRec", "BPR", "DisentS2S"):
        with pytest.raises(UserError, match=f"preload_weight: {model} reads no such vectors; leave"):
            config(model, **given)
    settings = config(WithVectors, embedding_size=4, **given)
    parts = load_parts(settings)[1]
    assert WithVectors(settings, parts[0]).vectors.tolist() == [[0, 0], [0.5, 1.5], [2.5, 3.5]]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"load_col": {**LOAD, "items": ["item_id"]}},
            "load_col: got the file suffix 'items', .*mean 'item'",
        ),
        ({"load_col": {**LOAD, "item": ["item_id"]}}, "load_col: got columns of item, but there is no file"),
        ({"load_col": None, "unload_col": {"inter": ["ratng"]}}, "unload_col: got 'ratng' .*mean 'rating'"),
        ({"load_col": None, "unload_col": {"intr": ["rating"]}}, "unload_col: got the file suffix 'intr'"),
        ({"unused_col": {"intr": ["rating"]}}, "unused_col: got the file suffix 'intr'"),
        ({"seq_len": 5}, "seq_len: got 5, expected columns and their lengths"),
        ({"seq_len": {"tags": "a"}}, "seq_len: got .*, expected columns and their lengths"),
        ({"seq_len": {"tags": -1}}, "seq_len: got .*, expected columns and their lengths"),
        ({"ITEM_LIST_LENGTH_FIELD": "item_id"}, "ITEM_LIST_LENGTH_FIELD: got 'item_id', which is a column"),
        ({"ITEM_LIST_LENGTH_FIELD": "rating"}, "ITEM_LIST_LENGTH_FIELD: got 'rating', which is a column"),
    ],
)
def test_columns_that_are_not_there_are_named(keys, message):
    with pytest.raises(UserError, match=message):
        load(**keys)


def test_a_length_without_a_sequence_is_said():
    notes = load(seq_len={"tgs": 3})[0].reading.notes
    assert "seq_len: 'tgs' has no effect, because no sequence of this name is loaded" in notes
