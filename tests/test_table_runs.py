"""Tests of a table of events instead of a data set: on the command line, in a plan and in Python."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import recbole_disent
from recbole_disent.cli import main
from recbole_disent.config.config import Config
from recbole_disent.errors import UserError
from recbole_disent.parallel import launcher
from recbole_disent.session import build_data, load_checkpoint
from tests.conftest import scored_again

KEYS = {"epochs": 1, "topk": [1, 5], "valid_metric": "NDCG@5", "show_progress": False,
        "MAX_ITEM_LIST_LENGTH": 7}  # fmt: skip


@pytest.fixture
def frame():
    rng = np.random.default_rng(0)
    rows = [
        (f"user {u}", f"00{rng.integers(12)}", t) for u in range(30) for t in range(int(rng.integers(3, 9)))
    ]
    return pd.DataFrame(rows, columns=["customer_id", "product", "when"]).sample(frac=1, random_state=1)


def test_a_file_and_a_frame_are_the_same_run(frame, tmp_path):
    frame.to_csv(tmp_path / "events.csv", index=False)
    columns = {"item": "product", "time": "when"}
    from_file = recbole_disent.run("BPR", data=tmp_path / "events.csv", config_dict={**KEYS, **columns})
    from_frame = recbole_disent.run("BPR", data=frame, config_dict={**KEYS, **columns})
    assert from_file["data_hash"] == from_frame["data_hash"]
    assert from_file["test_result"] == from_frame["test_result"]
    notes = Config("BPR", None, config_dict={**KEYS, **columns, "data": "events.csv"}).notes
    assert "data: columns guessed from their names: user=customer_id" in notes


def test_the_result_file_says_what_became_of_the_table(frame):
    columns = {"item": "product", "time": "when", "min_user": 6, "nproc": 1}
    found = recbole_disent.run("Pop", data=frame, config_dict={**KEYS, **columns})
    table = json.loads(Path(found["result_file"]).read_text())["table"]
    sizes = frame.groupby("customer_id").size()
    assert table["dropped"]["too_few"] == sizes[sizes < 6].sum() > 0
    assert table["columns"] == {"user": "customer_id", "item": "product", "time": "when"}
    assert table["guessed"] == ["user"]
    assert recbole_disent.run("Pop", "ml-100k", config_dict=KEYS)["table"] is None


def test_the_command_line_takes_a_table_with_content(frame, tmp_path):
    frame.to_csv(tmp_path / "events.csv", index=False)
    names = sorted(frame["product"].unique())
    pd.DataFrame({"product": names, "title": [f"word{n} thing" for n in names]}).to_csv(
        tmp_path / "catalogue.csv", index=False
    )
    words = [f"--{key}={value}" for key, value in KEYS.items()]
    code = main(["run", "--model=TSSR", "--data=events.csv", "--item=product", "--time=when",
                 "--items=catalogue.csv", "--min_user=4", *words])  # fmt: skip
    assert code == 0


@pytest.mark.parametrize("renewed", ["events.csv", "items.csv"])
def test_a_table_that_changed_after_the_training_is_said(frame, tmp_path, caplog, renewed):
    """The lists come from the events of the training, so nobody may take them for lists of the new events."""
    frame.to_csv(tmp_path / "events.csv", index=False)
    pd.DataFrame({"product": sorted(frame["product"].unique())}).assign(title="thing").to_csv(
        tmp_path / "items.csv", index=False
    )
    keys = {**KEYS, "item": "product", "time": "when", "items": "items.csv", "encoding": "latin-1"}
    found = recbole_disent.run("BPR", data="events.csv", config_dict=keys)
    before = load_checkpoint(found["checkpoint"])[1].dataset
    assert "changed after the training" not in caplog.text
    with open(renewed, "a", encoding="utf-8") as file:
        file.write("user 1,000,99\n" if renewed == "events.csv" else "000,thing\n")
    after = load_checkpoint(found["checkpoint"])[1].dataset
    assert "the table 'events.csv' or its items changed after the training" in caplog.text
    assert len(after.inter_feat) == len(before.inter_feat)
    caplog.clear()
    Path(renewed).unlink()
    load_checkpoint(found["checkpoint"])
    assert "changed after the training" not in caplog.text  # a table that is gone says nothing of the other
    other = "items.csv" if renewed == "events.csv" else "events.csv"
    Path(other).write_text("product,title\n000,other\n", encoding="utf-8")
    load_checkpoint(found["checkpoint"])
    assert "changed after the training" in caplog.text


def test_what_becomes_of_the_items_is_said(frame, tmp_path, capsys):
    names = sorted(frame["product"].unique())[:-2]
    rows = pd.DataFrame({"sku": names, "title": "a\tb", "empty": ""})
    pd.concat([rows, rows[:1]]).to_csv(tmp_path / "items.csv", index=False)
    frame.to_csv(tmp_path / "events.csv", index=False)
    notes = [
        "items: the item ids are in column 'sku', guessed from its name",
        "items: column 'empty' is empty and is left out",
        "items: 1 rows are identical to an earlier row and are left out",
        f"items: 2 of {len(names) + 2} items of the events have no row in the table of items",
        f"items: spaces replace tabs, line breaks and invalid characters in {len(names)} texts",
    ]
    assert main(["convert", "events.csv", "shop", "--items=items.csv", "--item=product", "--time=when"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("items: ")] == notes
    files = Path("shop", "shop.inter"), Path("shop", "shop.item")
    assert lines[-1] == f"{len(frame)} events are in {files[0]}, and {len(names)} items in {files[1]}"
    assert main(["convert", "shop", "back.csv"]) == 0
    expected = f"{len(frame)} events are in back.csv, and {len(names)} items in back-items.csv\n"
    assert capsys.readouterr().out.endswith(expected)
    keys = {**KEYS, "item": "product", "time": "when", "data": "events.csv", "items": "items.csv"}
    for _ in range(2):  # the second time, the data set is there
        assert [n for n in Config("BPR", None, config_dict=keys).notes if n.startswith("items: ")] == notes


def test_keys_of_a_table_that_do_not_fit(frame, tmp_path):
    frame.to_csv(tmp_path / "events.csv", index=False)
    for keys, message in (
        ({"min_user": 5}, r"min_user: got 5 without data"),
        ({"data": "events.csv", "data_path": "x"}, r"data_path: got 'x' with data='events.csv'"),
        ({"data": "events.csv", "min_user": -1}, r"min_user: got -1, expected int in \[0, inf\)"),
        ({"data": "nothing.csv"}, r"nothing\.csv"),
    ):
        with pytest.raises(UserError, match=message):
            Config("BPR", None, config_dict={**KEYS, **keys})
    with pytest.raises(UserError, match="dataset: got 'ml-100k' with data='events"):
        Config("BPR", "ml-100k", config_dict={**KEYS, "data": "events.csv"})


def test_the_keys_of_a_frame_come_from_all_sources(frame, tmp_path):
    renamed = frame.rename(columns={"customer_id": "who"})
    (tmp_path / "keys.yaml").write_text("item: product\ntime: when\n")
    words = ["--user=who", "--min_user=4"]
    found = recbole_disent.run("Pop", data=renamed, config_file_list=["keys.yaml"], cmd_args=words,
                               config_dict=KEYS)  # fmt: skip
    kept = frame[frame.groupby("customer_id")["when"].transform("size") >= 4]
    assert found["data"]["interactions"] == len(kept)
    assert scored_again(found["checkpoint"]) == pytest.approx(found["test_result"])


def test_other_processes_read_the_data_set_of_a_frame(frame, monkeypatch):
    monkeypatch.setattr(launcher, "launch", lambda config, call: json.loads(json.dumps(call)))
    words = ["--item=product", "--time=when", "--model=Pop", "--nproc=2"]
    call = recbole_disent.run("BPR", data=frame, config_dict=KEYS, cmd_args=words)
    call["config_dict"]["nproc"] = 1
    one = recbole_disent.run("Pop", data=frame, config_dict=KEYS, cmd_args=words[:2])
    found = recbole_disent.run(**call)
    assert (found["model"], found["data_hash"]) == ("Pop", one["data_hash"])


def test_a_frame_of_items_joins_a_file_of_events(frame, tmp_path):
    frame.to_csv(tmp_path / "events.csv", index=False)
    items = pd.DataFrame({"product": sorted(frame["product"].unique()), "title": "a b"})
    keys = {**KEYS, "item": "product", "time": "when", "data": "events.csv"}
    config = Config("Pop", None, config_dict=keys, items=items)
    assert Path(config["data_path"], f"{config['dataset']}.item").is_file()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"dataset": "ml-100k", "data": "frame"}, r"dataset: got 'ml-100k' with data=a table in memory"),
        ({"dataset": "ml-100k", "items": "frame"}, r"items: got a table in memory without data"),
        ({"items": "frame"}, r"items: got a table in memory without data"),
        ({"data": "frame", "config_dict": {"data_path": "x"}}, r"data_path: got 'x' with data=a table"),
        ({"data": "frame", "config_dict": {"dataset": "x"}}, r"dataset: got 'x' with data=a table"),
        ({"data": "frame", "cmd_args": ["--dataset=x"]}, r"dataset: got 'x' with data=a table"),
        (
            {"data": "frame", "config_dict": {"data": "x.csv"}},
            r"data: got 'x.csv', but the argument is a table",
        ),
        (
            {"data": "y.csv", "config_dict": {"data": "x.csv"}},
            r"data: got 'x.csv', but the argument is 'y.csv'",
        ),
        (
            {"dataset": "ml-100k", "config_dict": {"dataset": "x"}},
            r"dataset: got 'x', but the argument is 'ml-1",
        ),
        (
            {"dataset": "ml-100k", "config_dict": {"model": "BPR"}},
            r"model: got 'BPR', but the argument is 'Pop'",
        ),
    ],
)
def test_arguments_that_contradict_each_other(frame, call, message):
    call = {key: frame if value == "frame" else value for key, value in call.items()}
    with pytest.raises(UserError, match=message):
        recbole_disent.run("Pop", **call)


def test_the_command_line_overrides_the_arguments(frame, tmp_path):
    frame.to_csv(tmp_path / "events.csv", index=False)
    assert main(["convert", "events.csv", "at/shop", "--item=product", "--time=when"]) == 0
    words = ["--dataset=shop", "--data_path=at", "--model=BPR"]
    config = Config("Pop", "ml-100k", None, {"model": "Pop"}, words)
    assert (config["model"], config["dataset"], config["data_path"]) == ("BPR", "shop", "at/shop")


def test_the_command_convert_goes_both_ways(frame, tmp_path, capsys):
    frame.to_csv(tmp_path / "events.csv", index=False)
    words = ["--item=product", "--time=when"]
    assert main(["convert", "events.csv", "data/shop", *words]) == 0
    assert f"{len(frame)} events are in {Path('data/shop/shop.inter')}\n" in capsys.readouterr().out
    frame.rename(columns={"when": "Ordered At"}).to_csv(tmp_path / "named.csv", index=False)
    words = ["--time=Ordered At", "named.csv", "--item=product", "data/named"]  # in any order
    assert main(["convert", *words]) == 0
    assert f"{len(frame)} events are in {Path('data/named/named.inter')}\n" in capsys.readouterr().out
    assert main(["convert", "data/shop", "shop.csv"]) == 0
    back = pd.read_csv(tmp_path / "shop.csv", dtype=str)
    assert back["item_id"].tolist() == frame["product"].tolist()
    assert main(["convert", "events.csv", "data/shop", "--itm=product"]) == 2
    assert "the option 'itm' is not known; did you mean 'item'?" in capsys.readouterr().err
    assert main(["convert", "events.csv", "data/shop", "user=customer_id"]) == 2
    assert "expected --key=value; did you mean '--user=customer_id'?\n" in capsys.readouterr().err


def test_a_checkpoint_of_a_table_is_loaded_again(frame, tmp_path):
    frame.to_csv(tmp_path / "events.csv", index=False)
    keys = {**KEYS, "item": "product", "time": "when", "min_user": 4}
    found = recbole_disent.run("BPR", data="events.csv", config_dict=keys)
    assert scored_again(found["checkpoint"]) == pytest.approx(found["test_result"])
    shutil.rmtree(tmp_path / "dataset")  # the table is converted again
    assert scored_again(found["checkpoint"]) == pytest.approx(found["test_result"])
    frame.iloc[:-3].to_csv(tmp_path / "events.csv", index=False)  # the model's data set is still there
    assert scored_again(found["checkpoint"]) == pytest.approx(found["test_result"])
    shutil.rmtree(tmp_path / "dataset")
    with pytest.raises(UserError, match="was trained on other data"):
        load_checkpoint(found["checkpoint"])


def test_the_encoding_is_that_of_the_table(frame, tmp_path):
    named = frame.assign(product="é" + frame["product"])
    named.to_csv(tmp_path / "events.csv", index=False, encoding="latin-1")
    keys = {**KEYS, "item": "product", "time": "when"}
    with pytest.raises(UserError, match="a byte is not utf-8"):
        Config("BPR", None, config_dict={**keys, "data": "events.csv"})
    data = build_data(Config("BPR", None, config_dict={**keys, "data": "events.csv", "encoding": "latin-1"}))
    assert set(data.dataset.field2id_token["item_id"][1:]) <= set(named["product"])
    from_frame = recbole_disent.run("BPR", data=named, config_dict={**keys, "encoding": "latin-1"})
    assert from_frame["data_hash"] == data.data_hash
    for key in ("field_separator", "seq_separator"):
        with pytest.raises(UserError, match=f"{key}: got '[|]' with data, expected no such key"):
            Config("BPR", None, config_dict={**keys, "data": "events.csv", key: "|"})
    with pytest.raises(UserError, match="encoding: got 'latin-1' with a table in memory"):
        recbole_disent.run("BPR", data=named, config_dict=keys, cmd_args=["--encoding=latin-1"])


def test_a_bundle_tells_how_the_table_was_read(frame, tmp_path):
    pytest.importorskip("safetensors")
    frame.to_csv(tmp_path / "events.csv", index=False)
    keys = {**KEYS, "data": "events.csv", "item": "product", "time": "when", "min_user": 4}
    found = recbole_disent.run("SASRec", config_dict=keys)
    bundle = str(recbole_disent.load(found["checkpoint"]).save(tmp_path / "bundle"))
    again = recbole_disent.run("SASRec", config_dict={**keys, "warm_start": bundle})
    assert again["warm_start"]["items"]["new"] == 0
    for other in ({"min_user": 3}, {"dedupe": "exact"}):
        with pytest.raises(UserError, match=rf"'{bundle}' was trained with {next(iter(other))}="):
            recbole_disent.run("SASRec", config_dict={**keys, **other, "warm_start": bundle})
