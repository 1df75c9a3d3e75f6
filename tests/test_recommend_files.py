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
            # The text of a missing value differs by the type of the column and by the version of pandas.
            known = expected[name].notna()
            assert list(found[name].notna()) == list(known), name
            texts = [table[name][known].astype(str).tolist() for table in (found, expected)]
            assert texts[0] == texts[1], name


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


@pytest.mark.parametrize("key", ["users", "sequences", "allow", "exclude"])
def test_a_result_does_not_replace_an_input(tmp_path, key):
    path, text = tmp_path / "f.csv", "user,sequence,item\n1,1,1\n"
    path.write_text(text)
    (tmp_path / "link.csv").symlink_to(path)
    given = {key: str(path) if key == "users" else path}
    request = stream.Request(**({"users": "all"} if key in ("allow", "exclude") else {}), **given)
    for out in (path, tmp_path / "x" / ".." / "f.csv", tmp_path / "link.csv"):
        with pytest.raises(UserError, match=f"is the file of --{key}, expected another file"):
            stream.write_lists(None, request, out, progress=False)
    assert path.read_text() == text


def test_a_result_that_cannot_be_written_is_refused_first(tmp_path):
    (tmp_path / "d.csv").mkdir()
    (tmp_path / "f").write_text("x")
    for out, message in (
        (tmp_path / "d.csv", "d.csv' is a folder, expected a file"),
        (tmp_path / "f" / "x" / "o.csv", "f' is a file, expected a folder"),
    ):
        with pytest.raises(UserError, match=message):
            stream.Request(users="all").check(out)
    stream.Request(users="all").check(tmp_path / "new" / "o.csv")


def test_a_second_command_with_the_same_result_is_refused(rec, tmp_path, monkeypatch):
    out, make, said = tmp_path / "o.csv", stream._make, []

    def meanwhile(*args):
        with pytest.raises(UserError) as caught:
            stream.write_lists(rec, stream.Request(users="all", k=2, batch=10), out, progress=False)
        said.append(str(caught.value))
        return make(*args)

    monkeypatch.setattr(stream, "_make", meanwhile)
    stream.write_lists(rec, stream.Request(users="all", k=3, batch=10), out, progress=False)
    expected = f"--out: another recommend writes '{out}'; wait until it ends, or give another file"
    assert set(said) == {expected}
    require_same(read(out), rec.recommend(k=3))
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


@pytest.mark.parametrize("change", ["configuration", "version"])
def test_parts_of_another_configuration_or_version_are_made_again(make_keys, tmp_path, monkeypatch, change):
    keys = make_keys("TSSR", epochs=1, content_source="text", output="linear", score_by_content=2)
    path = run(config_dict=keys)["checkpoint"]
    first, out, make, made = load(path), tmp_path / "o.csv", stream._make, []
    second = load(path, config_dict={"score_by_content": 1000}) if change == "configuration" else first
    request = stream.Request(users="all", k=3, batch=10)

    def stopping(*args):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(args[2][0])
        return make(*args)

    monkeypatch.setattr(stream, "_make", stopping)
    with pytest.raises(KeyboardInterrupt):
        stream.write_lists(first, request, out, progress=False)
    monkeypatch.setattr(stream, "_make", make)
    if change == "version":
        monkeypatch.setattr(stream, "__version__", "another")
    else:
        assert list(first.recommend(k=3)["item"][:20]) != list(second.recommend(k=3)["item"][:20])
    assert "from the run before" not in stream.write_lists(second, request, out, progress=False)
    require_same(read(out), second.recommend(k=3))


@pytest.mark.parametrize("ending", stream.ENDINGS)
def test_parts_without_an_item_add_no_row(rec, tmp_path, ending):
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    users, out = list(rec.users[:3]), tmp_path / f"o{ending}"
    pd.DataFrame({"user": users}).to_csv(tmp_path / "u.csv", index=False)
    pd.DataFrame({"user": users[1], "item": list(rec.items)}).to_csv(tmp_path / "ex.csv", index=False)
    request = stream.Request(users=str(tmp_path / "u.csv"), k=2, exclude=tmp_path / "ex.csv", batch=1)
    said = stream.write_lists(rec, request, out, progress=False)
    assert said.endswith(": 4 rows, lists of 3 users")
    require_same(read(out), rec.recommend([users[0], users[2]], k=2))
    if ending != ".parquet":
        lines = out.read_text(encoding="utf-8").split("\n")
        assert len(lines) == 5 + (ending == ".csv")  # a header, rows, and the end of the last line
        assert all(lines[:-1])


@pytest.mark.parametrize("key", ["allow", "exclude"])
def test_files_of_rules_name_their_owner(rec, tmp_path, key):
    users, some, rule = list(rec.users[:2]), list(rec.items[2:5]), tmp_path / "rule.csv"
    pd.DataFrame({"user": users}).to_csv(tmp_path / "u.csv", index=False)
    request = stream.Request(users=str(tmp_path / "u.csv"), k=40, filter_history=False, **{key: rule})
    every = {"k": 40, "filter_history": False}
    pd.DataFrame({"item": some, "user_id": users[0]}).to_csv(rule, index=False)
    with pytest.raises(UserError, match=r"rule.csv, line 1: the columns are item, user_id, expected 'user'"):
        stream.write_lists(rec, request, tmp_path / "o.csv", progress=False)
    for table, own in (
        ({"item": some}, some),
        ({"note": "x", "user": users[0], "item": some}, {users[0]: some}),
    ):
        pd.DataFrame(table).to_csv(rule, index=False)
        stream.write_lists(rec, request, tmp_path / "o.csv", progress=False)
        argument = {"allow": "items_allowed", "exclude": "items_excluded"}[key]
        require_same(read(tmp_path / "o.csv"), rec.recommend(users, **every, **{argument: own}))


def test_a_file_of_allowed_items_without_a_row_is_refused(rec, tmp_path):
    for head in ("user,item\n", "item\n"):
        (tmp_path / "rule.csv").write_text(head)
        request = stream.Request(users="all", allow=tmp_path / "rule.csv")
        with pytest.raises(
            UserError, match=r"rule.csv: has no row below its header, expected at least one item"
        ):
            stream.write_lists(rec, request, tmp_path / "o.csv", progress=False)


@pytest.mark.parametrize("key", ["allow", "exclude"])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("item,user\n{item},{user}\n{item}\n", "line 3: fewer cells than the header has"),
        ("item,user\n{item},\n", "line 2: the column 'user' is empty; expected an id"),
        ("user,item\n{user},\n", "line 2: the column 'item' is empty; expected an id"),
        ('item\n""\n', "line 2: the column 'item' is empty; expected an id"),
    ],
)
def test_rules_without_an_owner_or_an_item_are_refused(rec, tmp_path, key, text, message):
    (tmp_path / "rule.csv").write_text(text.format(item=rec.items[0], user=rec.users[0]))
    request = stream.Request(users="all", **{key: tmp_path / "rule.csv"})
    with pytest.raises(UserError, match=f"rule.csv, {message}"):
        stream.write_lists(rec, request, tmp_path / "o.csv", progress=False)
    assert not (tmp_path / "o.csv").exists()


@pytest.mark.parametrize("owner", ["user", "sequence"])
@pytest.mark.parametrize("key", ["allow", "exclude"])
def test_rules_without_a_list_are_said_once(rec, tmp_path, caplog, owner, key):
    users, out, rule = list(rec.users[:5]), tmp_path / "o.csv", tmp_path / "rule.csv"
    pd.DataFrame({owner: users, "item": rec.items[0]}).to_csv(tmp_path / "who.csv", index=False)
    who = {"users": str(tmp_path / "who.csv")} if owner == "user" else {"sequences": tmp_path / "who.csv"}
    request = stream.Request(**who, batch=1, **{key: rule})
    for owners, expected in (([users[0], users[4]], 0), ([users[0], "typo", users[4], "typo", "xx"], 1)):
        pd.DataFrame({owner: owners, "item": rec.items[1]}).to_csv(rule, index=False)
        caplog.clear()
        stream.write_lists(rec, request, out, progress=False)
        said = [r.getMessage() for r in caplog.records if "with a rule" in r.getMessage()]
        assert len(said) == expected
    full = {"allow": "items_allowed", "exclude": "items_excluded"}[key]
    assert said == [f"{full}: no list is made for 2 of the {owner}s with a rule, such as 'typo'"]


def test_parquet_users_are_ids(rec, tmp_path):
    pytest.importorskip("pyarrow")
    path = tmp_path / "u.parquet"
    request, out = stream.Request(users=str(path), unknown_users="popularity"), tmp_path / "o.csv"
    for users, message in (
        ([rec.users[0], None], r"u.parquet, row 2: the column 'user' is empty; expected an id"),
        ([rec.users[0], rec.users[1], ""], r"u.parquet, row 3: the column 'user' is empty; expected an id"),
        ([1.0, 2.0], r"u.parquet: the column 'user' has the type double, expected text or whole numbers"),
    ):
        pd.DataFrame({"user": users}).to_parquet(path)
        with pytest.raises(UserError, match=message):
            stream.write_lists(rec, request, out, progress=False)
        assert not out.exists()
    pd.DataFrame({"user": [7, 8]}).to_parquet(path)
    stream.write_lists(rec, request, out, progress=False)
    assert list(read(out)["user"].unique()) == ["7", "8"]


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


@pytest.mark.parametrize(
    "words",
    [
        ["export", "--out=b"],
        ["recommend", "--users=all", "--out=o.csv"],
        ["inspect", "--out=p.html"],
        ["serve"],
    ],
)
def test_two_models_for_one_command_are_named(tmp_path, capsys, words):
    for name in ("a.pth", "b.pth"):
        (tmp_path / name).touch()
    assert main([*words, "a.pth", "b.pth"]) == 2
    expected = f"error: {words[0]}: got 2 models, 'a.pth' and 'b.pth', expected one; a * in a name may match "
    assert expected + "several, so write the whole name" in capsys.readouterr().err


def test_ids_with_line_breaks_stay_whole_in_a_csv_file(rec, tmp_path):
    names = ["a\nb", "c\rd", "e,f", 'g"h']
    lines = [json.dumps({"sequence": name, "items": [str(rec.items[0])]}) for name in names]
    (tmp_path / "s.jsonl").write_text("\n".join(lines))
    request = stream.Request(sequences=tmp_path / "s.jsonl", k=2, batch=1)
    said = stream.write_lists(rec, request, tmp_path / "r.csv", progress=False)
    assert said.endswith("r.csv: 8 rows, lists of 4 sequences")
    found = pd.read_csv(tmp_path / "r.csv")
    assert found["sequence"].tolist() == [name for name in names for _ in range(2)]
    assert found["rank"].tolist() == [1, 2] * 4
