"""Tests of the commands export and recommend: input files, output files, and interrupted commands."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from recbole_disent import load
from recbole_disent.cli import main
from recbole_disent.errors import UserError
from recbole_disent.serving import stream
from recbole_disent.session import run


@pytest.fixture
def checkpoint(make_keys):
    return run(config_dict=make_keys("DisentS2S", epochs=1, n_intentions=3))["checkpoint"]


@pytest.fixture
def rec(checkpoint):
    return load(checkpoint)


def read(path):
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    if path.suffix == ".csv":
        return pd.read_csv(path, dtype={"user": str, "item": str, "sequence": str})
    return pd.DataFrame([json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()])


def require_same(found, expected):
    assert list(found.columns) == list(expected.columns)
    for name in expected:
        if name == "score":
            pd.testing.assert_series_equal(found[name], expected[name], check_dtype=False, rtol=1e-5)
        else:
            assert list(found[name].astype(str)) == list(expected[name].astype(str)), name


@pytest.mark.parametrize("ending", stream.ENDINGS)
def test_files_hold_the_lists_of_recommend(rec, tmp_path, ending):
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    out = tmp_path / f"recs{ending}"
    stream.write_lists(rec, stream.Request(users="all", k=4, batch=7), out, progress=False)
    require_same(read(out), rec.recommend(k=4))
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_users_and_filters_from_files(rec, tmp_path):
    pytest.importorskip("pyarrow")
    users = list(rec.users[3:6])
    pd.DataFrame({"age": 1, "user": users}).to_csv(tmp_path / "users.csv", index=False)
    pd.DataFrame({"user": users}).to_parquet(tmp_path / "users.parquet")
    pd.DataFrame({"user": users[0], "item": list(rec.items[:20])}).to_csv(tmp_path / "ex.csv", index=False)
    expected = rec.recommend(users, k=5, items_excluded={users[0]: list(rec.items[:20])})
    for name in ("users.csv", "users.parquet"):
        request = stream.Request(users=str(tmp_path / name), k=5, batch=2, exclude=tmp_path / "ex.csv")
        stream.write_lists(rec, request, tmp_path / "o.csv", progress=False)
        require_same(read(tmp_path / "o.csv"), expected)


def test_sequences_in_three_forms(rec, tmp_path):
    rows = [list(rec.items[:3]), list(rec.items[4:5]), list(rec.items[5:9])]
    expected = rec.recommend_sequences({str(n): row for n, row in enumerate(rows)}, k=3)
    (tmp_path / "s.txt").write_text("\n".join(" ".join(row) for row in rows))
    (tmp_path / "s.jsonl").write_text(
        "\n".join([json.dumps(rows[0]), json.dumps({"sequence": 1, "items": rows[1]}), json.dumps(rows[2])])
    )
    lines = [f"{n},{item}" for n, row in enumerate(rows) for item in row]
    (tmp_path / "s.csv").write_text("\n".join(["sequence,item", *lines]))
    for name in ("s.txt", "s.jsonl", "s.csv"):
        request = stream.Request(sequences=tmp_path / name, k=3, batch=2)
        stream.write_lists(rec, request, tmp_path / "o.jsonl", progress=False)
        require_same(read(tmp_path / "o.jsonl"), expected)


def test_a_stopped_command_goes_on_and_another_request_begins_again(rec, tmp_path, monkeypatch):
    out, request = tmp_path / "o.csv", stream.Request(users="all", k=3, batch=10)
    made, make = [], stream._make

    def stopping(recommender, request, chunk, filters):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(chunk[0])
        return make(recommender, request, chunk, filters)

    def counting(*args):
        made.append(args[2][0])
        return make(*args)

    monkeypatch.setattr(stream, "_make", stopping)
    with pytest.raises(KeyboardInterrupt):
        stream.write_lists(rec, request, out, progress=False)
    assert not out.exists()
    made.clear()
    monkeypatch.setattr(stream, "_make", counting)
    said = stream.write_lists(rec, request, out, progress=False)
    assert made[0] == rec.users[20]
    assert "2 of 4 parts from the run before" in said
    require_same(read(out), rec.recommend(k=3))

    monkeypatch.setattr(stream, "_make", stopping)
    made.clear()
    with pytest.raises(KeyboardInterrupt):
        stream.write_lists(rec, request, out, progress=False)
    made.clear()
    monkeypatch.setattr(stream, "_make", counting)
    stream.write_lists(rec, stream.Request(users="all", k=2, batch=10), out, progress=False)
    assert made[0] == rec.users[0]
    require_same(read(out), rec.recommend(k=2))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("u.csv", "id\nu1\n", "u.csv, line 1: the columns are id, expected one 'user'"),
        ("u.csv", "user,x\n,1\n", "u.csv, line 2: the column 'user' is empty"),
        ("s.csv", "sequence,item\na,i1\nb,i1\na,i2\n", "line 4: the sequence 'a' has ended before"),
        ("s.csv", "sequence,item\na\n", "line 2: fewer cells"),
        ("s.jsonl", '["i1"]\n{"items": 3}\n', "s.jsonl, line 2: expected"),
        ("s.jsonl", '{"sequence": 1, "items": []}\n["i1"]\n', "line 2: the sequence '1' is there already"),
        ("s.tsv", "", "ends with .csv, .jsonl or .txt"),
    ],
)
def test_faulty_files_are_one_sentence(rec, tmp_path, name, text, message):
    path = tmp_path / name
    path.write_text(text)
    which = {"users": str(path)} if name[0] == "u" else {"sequences": path}
    with pytest.raises(UserError, match=message):
        stream.write_lists(rec, stream.Request(**which), tmp_path / "o.csv", progress=False)
    assert not (tmp_path / "o.csv").exists()


def test_the_commands(checkpoint, rec, tmp_path, capsys):
    pytest.importorskip("safetensors")
    bundle, out = str(tmp_path / "b"), tmp_path / "o.csv"
    assert main(["export", checkpoint, "--out", bundle]) == 0
    assert main(["recommend", bundle, "--users", "all", "--k", "3", "--out", str(out), "--quiet"]) == 0
    require_same(read(out), rec.recommend(k=3))
    again = tmp_path / "again.csv"
    words = ["recommend", checkpoint, "--users=all", "--k=3", f"--out={again}", "--quiet"]
    assert main([*words, f"--data_path={tmp_path / 'data'}"]) == 0
    assert again.read_bytes() == out.read_bytes()
    capsys.readouterr()
    for words, message in (
        (["recommend", bundle, "--users=all", "--out=o.txt"], "expected a file that ends with .csv"),
        (["recommend", bundle, "--users=all", "--out=o.csv", "--kk=3"], "got '--kk=3', which recommend"),
        (
            ["recommend", bundle, "--users=none.csv", "--out=o.csv"],
            "--users: the file 'none.csv' is not there",
        ),
        (["recommend", bundle, "--users=all", "--out=o.csv", "--k=0"], "k: got 0"),
        (["export", bundle, "--out=x"], "expected the .pth file of a run"),
    ):
        assert main(words) == 2
        assert message in capsys.readouterr().err
