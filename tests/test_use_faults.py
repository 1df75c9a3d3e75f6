"""Tests of the use of a model: what was ignored, rounded or ended in a traceback is right or refused."""

from __future__ import annotations

import errno
import json

import numpy as np
import pandas as pd
import pytest
import torch

from recbole_disent import load
from recbole_disent.cli import main
from recbole_disent.errors import UserError
from recbole_disent.serving import input_files, stream
from recbole_disent.serving.arguments import check_device
from recbole_disent.serving.catalogue import Catalogue
from recbole_disent.serving.index import Index
from recbole_disent.serving.inspect import describe
from recbole_disent.session import run


@pytest.fixture
def checkpoint(make_keys):
    return run(config_dict=make_keys("SASRec", epochs=1))["checkpoint"]


@pytest.fixture
def rec(checkpoint):
    return load(checkpoint)


def test_a_model_in_double_precision_is_used_in_double_precision(make_keys):
    path = run(config_dict=make_keys("RepeatNet", epochs=1, precision="double", joint_train=False))
    rec = load(path["checkpoint"])
    rows = rec.catalogue.histories.offsets.diff().nonzero()[:1, 0]
    scores = rec.encoder.scores(rec.encoder.batch(rec.catalogue.histories, rows, rows))[0]
    found = rec.recommend([rec.catalogue.users[int(rows)]], k=3, filter_history=False)
    assert found["score"].tolist() == scores[1:].topk(3).values.tolist()
    assert found["score"].dtype == np.float64


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_small_scores_keep_their_digits_in_json(tmp_path, kind):
    scores = [3.25e-11, 1.5e-12]
    frame = pd.DataFrame(
        {"user": ["ü", "b"], "item": ["1", "2"], "score": np.array(scores, kind), "rank": [1, 2],
         "intention": pd.array([0, None], dtype="Int64"), "source": ["model", "popularity"]}
    )  # fmt: skip
    stream._write_part(tmp_path / "x.jsonl", frame, "user")
    first, second = (tmp_path / "x.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(first) == {
        "user": "ü", "item": "1", "score": scores[0], "rank": 1, "intention": 0, "source": "model"
    }  # fmt: skip
    assert "ü" in first
    assert (json.loads(second)["score"], json.loads(second)["intention"]) == (scores[1], None)
    stream._write_part(tmp_path / "x.csv", frame, "user")
    assert [float(line.split(",")[2]) for line in (tmp_path / "x.csv").read_text().splitlines()] == scores


def test_a_way_of_diversity_without_diversity_is_refused(rec, checkpoint, tmp_path, capsys):
    with pytest.raises(UserError, match="diversify: got 'mmr' with diversity=0, which makes no difference"):
        rec.recommend(k=2, diversify="mmr")
    assert main(["recommend", checkpoint, "--users", "all", "--diversify", "mmr", "--out", "x.csv"]) == 2
    assert "--diversify: got 'mmr' without --diversity" in capsys.readouterr().err
    exact = rec.recommend(k=2, diversity=np.float32(0.5), diversify="mmr")
    pd.testing.assert_frame_equal(exact, rec.recommend(k=2, diversity=0.5, diversify="mmr"))


def test_a_place_that_cannot_be_written_is_one_sentence(checkpoint, tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    for words in (
        ["export", checkpoint, "--out", str(tmp_path / "file" / "b")],
        ["inspect", checkpoint, "--out", str(tmp_path / "file" / "x.html")],
        ["plot", checkpoint.removesuffix(".pth") + ".json", "--out", str(tmp_path / "file" / "x.svg")],
    ):
        assert main(words) == 2
        error = capsys.readouterr().err
        assert "cannot be written" in error
        assert "give another name, in a folder that you may write to" in error
    (tmp_path / "page.html").mkdir()
    assert main(["inspect", checkpoint, "--out", str(tmp_path / "page.html")]) == 2
    assert "is a folder, expected the name of a file" in capsys.readouterr().err
    assert not (tmp_path / "page.json").exists()


def test_rules_may_be_iterators(rec):
    user, some = rec.users[0], list(rec.items[:3])
    options = {"k": 5, "filter_history": False}
    found = rec.recommend([user], items_allowed={user: (item for item in some)}, **options)
    pd.testing.assert_frame_equal(found, rec.recommend([user], items_allowed={user: some}, **options))


def test_a_device_without_numbers_and_an_empty_file_are_one_sentence(checkpoint, tmp_path, capsys):
    with pytest.raises(UserError, match="device: got 'meta', expected a device that PyTorch has here"):
        check_device("meta", bundle=True)
    (tmp_path / "empty.csv").write_text("")
    words = ["--users", str(tmp_path / "empty.csv"), "--out", str(tmp_path / "x.csv")]
    assert main(["recommend", checkpoint, *words]) == 2
    assert "empty.csv: the file is empty, expected a header with a column 'user'" in capsys.readouterr().err


def test_a_list_that_failed_leaves_nothing_behind(checkpoint, tmp_path, capsys):
    (tmp_path / "users.csv").write_text("user\nnobody\n")
    words = ["recommend", checkpoint, "--users=users.csv", "--out=recs.csv", "--quiet"]
    before = {path.name for path in tmp_path.iterdir()}
    assert main(words) == 2
    assert "the user 'nobody' is not known" in capsys.readouterr().err
    left = {path.name for path in tmp_path.iterdir()} - before
    assert ".recs.csv.parts" not in left
    assert "recs.csv" not in left


def test_empty_lines_of_texts_are_left_out_and_counted(tmp_path, caplog):
    (tmp_path / "s.txt").write_text("i1 i2\n\ni3\n \n")
    assert [*input_files.sequences(tmp_path / "s.txt")] == [("0", ["i1", "i2"]), ("2", ["i3"])]
    assert "s.txt: 2 lines hold no item and are left out" in caplog.text


def test_a_full_disk_is_one_sentence(rec, tmp_path, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(stream.pd.DataFrame, "to_csv", full)
    with pytest.raises(UserError, match=r"' cannot be written \(No space left on device\)"):
        stream.write_lists(rec, stream.Request(users="all", k=1), tmp_path / "recs.csv", progress=False)


def test_a_bundle_without_users_says_so_before_it_asks_for_histories(checkpoint, tmp_path):
    pytest.importorskip("safetensors")
    rec = load(load(checkpoint).save(tmp_path / "b", histories=False))
    with pytest.raises(UserError, match="this bundle knows no users, because it was exported without"):
        describe(rec, ["u1"], [])
    with pytest.raises(UserError, match="this bundle knows no users, because it was exported without"):
        stream.write_lists(rec, stream.Request(users="all"), tmp_path / "out" / "r.csv", progress=False)
    assert not [*(tmp_path / "out").iterdir()]


def test_an_id_with_the_name_of_the_padding_is_an_id():
    ids = np.array(["[PAD]", "a", "[PAD]"], dtype=object)
    catalogue = Catalogue(ids, np.zeros(3, np.int64), ids)
    assert catalogue.item_numbers(["[PAD]", "a", "b"]).tolist() == [2, 1, 0]
    assert catalogue.user_numbers(["[PAD]"]).tolist() == [2]
    assert Catalogue(ids[:2], np.zeros(2, np.int64)).item_numbers(["[PAD]"]).tolist() == [0]


def test_what_is_no_list_of_ids_is_refused(rec):
    user, item = rec.users[0], rec.items[0]
    options = {"k": 1, "unknown_users": "popularity"}
    twice = pd.DataFrame([[user, user]], columns=["user", "user"])
    with pytest.raises(UserError, match="users: the table has the columns user, user, expected one 'user'"):
        rec.recommend(twice, **options)
    pairs = pd.DataFrame([[user, item, item]], columns=["user", "item", "item"])
    with pytest.raises(UserError, match="items_allowed: the table has the columns user, item, item"):
        rec.recommend([user], items_allowed=pairs)
    for users in (np.array(user), np.array([[user]]), {"user": [user]}):
        with pytest.raises(UserError, match=r"users: got .*, expected a list of ids or a table"):
            rec.recommend(users, **options)


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA, pd.NaT])
def test_a_missing_id_is_refused_in_tables_as_in_files(rec, missing):
    user, item = rec.users[0], rec.items[0]
    with pytest.raises(
        UserError, match=r"users: the user number 2 of 2 is missing \(got .*\), expected an id"
    ):
        rec.recommend([user, missing], k=1, unknown_users="popularity")
    frame = pd.DataFrame({"sequence": ["s", missing], "item": [item, item]}, dtype=object)
    with pytest.raises(UserError, match="sequences: the sequence number 2 of 2 is missing"):
        rec.recommend_sequences(frame, k=1)
    rule = frame.rename(columns={"sequence": "user"})
    with pytest.raises(UserError, match="items_excluded: the user number 2 of 2 is missing"):
        rec.recommend([user], k=1, items_excluded=rule)


def test_ids_of_several_types_come_back_as_they_were_given(rec):
    found = rec.recommend_sequences({1: [], 2.5: [], 2**60 + 1: []}, k=1)["sequence"]
    assert [*map(repr, found)] == ["1", "2.5", str(2**60 + 1)]
    assert rec.recommend_sequences({1: [], 2: []}, k=1)["sequence"].dtype == np.int64


def test_no_way_to_a_list_hides_a_diverged_model(checkpoint):
    state = torch.load(checkpoint, weights_only=True)
    state["state_dict"]["item_embedding.weight"][5] = float("nan")
    torch.save(state, checkpoint)
    rec = load(checkpoint)
    for ask in (
        lambda: rec.recommend(k=3),
        lambda: rec.recommend(k=3, diversity=0.5, diversify="mmr"),
        lambda: rec.similar_items(rec.items[:1], k=3),
        lambda: Index.build("faiss", rec.encoder.table),
    ):
        with pytest.raises(UserError, match=r"not numbers \(NaN\): its training diverged"):
            ask()


@pytest.mark.parametrize("content", ["[]", '{"model": "SASRec", "test_result": 5}'])
def test_a_result_file_of_something_else_is_no_result(checkpoint, content):
    with open(checkpoint.removesuffix(".pth") + ".json", "w") as file:
        file.write(content)
    assert load(checkpoint).about["test_result"] is None


def test_a_checkpoint_that_was_copied_in_part_is_damaged(checkpoint, tmp_path):
    with open(checkpoint, "rb") as file:
        whole = file.read()
    for size in (100, 5_000, len(whole) - 100):
        (tmp_path / "part.pth").write_bytes(whole[:size])
        with pytest.raises(
            UserError, match=r"part\.pth' is not a checkpoint of this package \(it is damaged"
        ):
            load(tmp_path / "part.pth")
