"""Inputs that the differential and the fuzzing test have found, each with the right result."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from recbole_disent import load
from recbole_disent.config.config import Config
from recbole_disent.config.key_rules import load_yaml
from recbole_disent.content.vectors_file import read_vectors
from recbole_disent.errors import UserError, nearest
from recbole_disent.hashing import file_digest
from recbole_disent.leaderboard import report
from recbole_disent.leaderboard.plan import make_plan, read_plan
from recbole_disent.leaderboard.stored import read_users
from recbole_disent.session import load_checkpoint, run
from recbole_disent.training import checkpoint
from tests import faults
from tests.fuzzing import BOMB
from tests.test_leaderboard_collect import result

HEAD = "user_id:token\titem_id:token\ttimestamp:float"
KEYS = {"load_col": None, "topk": [1], "valid_metric": "NDCG@1"}


# -- data ------------------------------------------------------------------------------


def test_tokens_that_look_like_numbers_stay_texts():
    """pandas 3.1 makes numbers of categories: 01 and 1 would be one item, and 4 two of pre-split files."""
    items = ["01", "1", "1.0", "1e0", "007"]
    faults.write(
        "small", "inter", [(f"{u:02}", item, t) for u in range(4) for t, item in enumerate(items)], HEAD
    )
    dataset = faults.load("BPR", **KEYS)[0]
    assert dataset.field2id_token["item_id"].tolist() == ["[PAD]", *items]
    assert dataset.field2id_token["user_id"].tolist() == ["[PAD]", "00", "01", "02", "03"]


def test_a_token_of_several_files_is_one_token():
    files = {
        "train": [("u", "4", 1), ("u", "5", 2)],
        "valid": [("u", "a", 3), ("u", "4", 4)],
        "test": [("u", "4", 5)],
    }
    for part, rows in files.items():
        faults.write("cut", f"{part}.inter", rows, HEAD)
    dataset = faults.load("BPR", "cut", benchmark_filename=list(files), **KEYS)[0]
    assert dataset.field2id_token["item_id"].tolist() == ["[PAD]", "4", "5", "a"]


def test_a_split_at_a_time_of_no_rows_is_told():
    faults.write("small", "inter", [(f"u{n}", f"i{n}", n) for n in range(3)], HEAD)
    with pytest.raises(UserError, match="the training part is empty"):
        faults.load("SASRec", eval_args={"split": {"TS": [0.6, 0.2, 0.2]}}, **KEYS)


def test_a_file_without_a_line_that_can_be_used_is_named():
    for part in faults.SPLIT:
        faults.write("cut", f"{part}.inter", [("NA" if part == "train" else "u", "i1", 1)], HEAD)
    with pytest.raises(UserError, match=r"cut\.train\.inter: no interaction is left of the 1 lines"):
        faults.load("Pop", "cut", benchmark_filename=faults.SPLIT, **KEYS)


def test_a_file_of_short_lines_only_is_told():
    faults.write("small", "inter", ["u\ti\t1", "u\tj\t2"], HEAD + "\tshop:token\ttags:token_seq")
    with pytest.raises(UserError, match=r"small\.inter, line 2: got 3 cells, expected 5"):
        faults.load("BPR", **KEYS)
    faults.write("small", "inter", faults.small_rows())
    faults.write(
        "small",
        "item",
        ["i0", "", *(f"i{n}" for n in range(1, 6))],
        "item_id:token\tprice:float\ttags:token_seq",
    )
    items = faults.load("BPR", **KEYS)[0].item_feat
    assert items["tags"].shape[0] == items["price"].shape[0] == 7


# -- files of numbers ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("v.npy", lambda b: b.replace(b"(6, 3)", b"(6, (3")),  # the header ends in a bracket
        ("v.npy", lambda b: b.replace(b"(6, 3)", b"(999999999999, 3)")),
        ("v.npz", lambda b: b[:100] + bytes([b[100] ^ 1]) + b[101:]),  # another sum
        ("v.npz", lambda b: b"XX" + b[2:]),
        ("v.npz", lambda b: b[:40] + b[60:]),
    ],
)
def test_damaged_vectors_are_no_array(tmp_path, name, damage):
    np.save(tmp_path / "v.npy", np.arange(18.0).reshape(6, 3))
    np.savez(tmp_path / "v.npz", ids=np.arange(6), vectors=np.ones((6, 2)))
    path = tmp_path / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=r"content_file: .* is not an array of numbers|has the arrays"):
        read_vectors(str(path), "\t", None)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rank": np.ones(3)}, "expected a file of ranks"),
        ({"user": np.ones(2, int)}, r"shapes .*, expected \(n,\)"),
    ],
)
def test_ranks_are_whole_numbers_of_one_length(tmp_path, changed, message):
    arrays = dict.fromkeys(("user", "rank", "history", "popularity"), np.ones(3, dtype=int))
    np.savez(tmp_path / "r.npz", **{**arrays, **changed})
    with pytest.raises(UserError, match=message):
        read_users(tmp_path / "r.npz")


# -- bundles ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (
            "items.csv",
            lambda text: text + "i9\n",
            "items.csv is no table of ids .row 8 has 1 cells, expected",
        ),
        ("items.csv", lambda text: "", "items.csv is no table of ids"),
        (
            "items.csv",
            lambda text: text.replace("clicks", "klicks"),
            "do not fit together .KeyError, 'clicks'",
        ),
        (
            "config.json",
            lambda text: text.replace('"features": {}', '"features": {"a": 1}'),
            "cannot build its",
        ),
        (
            "config.json",
            lambda text: text.replace('"MAX_ITEM_LIST_LENGTH"', '"MAX"'),
            "MAX_ITEM_LIST_LENGTH is None",
        ),
        ("config.json", lambda text: "[" * 100000, "config.json is no JSON"),
    ],
)
def test_damaged_bundles_are_refused(monkeypatch, file, change, message):
    pytest.importorskip("safetensors")
    faults.write("small", "inter", faults.small_rows())
    made = run("BPR", "small", config_dict={**faults.KEYS, "checkpoint_dir": "s", "result_dir": "s"})
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    load(made["checkpoint"]).save("bundle")
    path, config = Path("bundle", file), Path("bundle", "config.json")
    text = path.read_text(encoding="utf-8")
    assert change(text) != text
    path.write_text(change(text), encoding="utf-8")
    if file != "config.json":
        found = json.loads(config.read_text(encoding="utf-8"))
        found["files"][file] = file_digest(path)
        config.write_text(json.dumps(found), encoding="utf-8")
    with pytest.raises(UserError, match=message):
        load("bundle")


# -- results ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": "a"}, r"a\.json: seed: got 'a', expected int"),
        ({"dataset": {}}, r"a\.json: dataset: got '\{\}', expected str"),
        ({"test_result": {"ndcg@10": {}}}, r"test_result: ndcg@10: got \{\}, expected a number"),
        ({"versions": {}}, r"versions: the key 'recbole_disent' is missing"),
        (
            {"config": {**result()["config"], "eval_args": {"mode": {"valid": "full"}}}},
            "the key 'test' is missing",
        ),
        ({"best_valid_score": "a"}, "best_valid_score: got 'a', expected a number"),
        ({"seconds": {"train": "a"}}, r"seconds\.train: got 'a', expected int or float"),
        ({"peak_memory_mb": {}}, r"the key 'peak_memory_mb\.cpu' is missing"),
    ],
)
def test_result_files_of_another_schema_are_named(changed, message):
    Path("in").mkdir()
    Path("in/a.json").write_text(json.dumps({**result(), **changed}))
    with pytest.raises(UserError, match=message):
        report.write(Path("in"), out=Path("out"))
    assert not Path("out").exists()


def test_a_plan_without_runs_is_named():
    Path("in").mkdir()
    Path("in/plan.json").write_text("{}")
    with pytest.raises(UserError, match=r"plan\.json: the key 'runs' is missing"):
        report.write(Path("in"), out=Path("out"))


# -- YAML ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", [BOMB.decode(), "a: &a [*a]", "a: 2021-99-99", "[" * 3000, "a: " + "9" * 5000], ids=str.__len__
)
def test_yaml_that_stands_for_too_much_or_nothing_is_refused(text):
    Path("a.yaml").write_text(text)
    with pytest.raises(UserError, match=r"config file 'a\.yaml': the file is not valid YAML"):
        Config("BPR", "ml-100k", config_file_list=["a.yaml"])


def test_aliases_of_yaml_work():
    assert load_yaml("a: &a [1, 2]\nb: *a\n") == {"a": [1, 2], "b": [1, 2]}


def test_keys_of_a_plan_need_not_be_texts():
    Path("plan.yaml").write_text("1: [BPR]\n")
    with pytest.raises(UserError, match="plan: the key '1' is unknown"):
        make_plan(read_plan("plan.yaml"))
    assert nearest(1, {"seeds"}) == ""


def test_cut_offs_are_whole_numbers():
    with pytest.raises(UserError, match=r"topk: got .*, expected a list of integers"):
        Config("BPR", "ml-100k", config_dict={"topk": [1, "a"], "valid_metric": "NDCG@1"})


@pytest.mark.parametrize(
    "damage",
    [
        lambda state: state.pop("config"),
        lambda state: state.pop("data_hash"),
        lambda state: state.update(config=3),
        lambda state: state.update(given=3),
        lambda state: state.update(state_dict=None),
        lambda state: state.update(other_parameter=[1]),
        lambda state: state["state_dict"].update({"item_embedding.weight": 3}),
    ],
)
def test_a_checkpoint_without_its_parts_is_refused_in_a_sentence(tmp_path, damage):
    rows = [(f"u{n % 4}", f"i{n % 5}", n) for n in range(20)]
    faults.write("small", "inter", rows, HEAD)
    keys = {**faults.KEYS, **KEYS, "epochs": 1, "checkpoint_dir": str(tmp_path)}
    made = run("BPR", "small", config_dict=keys)
    state = checkpoint.load(made["checkpoint"])
    damage(state)
    checkpoint.save(str(tmp_path / "damaged.pth"), state)
    with pytest.raises(UserError, match=r"checkpoint .*(configuration is missing|does not fit)"):
        load_checkpoint(str(tmp_path / "damaged.pth"))


def test_a_bundle_with_histories_of_unknown_items_is_refused():
    safetensors = pytest.importorskip("safetensors.torch")
    faults.write("small", "inter", faults.small_rows())
    made = run("BPR", "small", config_dict={**faults.KEYS, "checkpoint_dir": "s", "result_dir": "s"})
    load(made["checkpoint"]).save("bundle")
    data, config = Path("bundle", "data.safetensors"), Path("bundle", "config.json")
    tensors = safetensors.load_file(data)
    tensors["history.items"][0] = 99
    data.write_bytes(safetensors.save(tensors))
    found = json.loads(config.read_text(encoding="utf-8"))
    found["files"][data.name] = file_digest(data)
    config.write_text(json.dumps(found), encoding="utf-8")
    with pytest.raises(UserError, match="a history has an item that the table of items does not have"):
        load("bundle")
