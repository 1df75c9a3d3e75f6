"""Tests of files as users write them: encodings, quotes, compressed files, cells and names."""

from __future__ import annotations

import ast
import gzip
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

import recbole_disent
from recbole_disent.build import data_report
from recbole_disent.config.config import Config
from recbole_disent.data import text_files
from recbole_disent.data.item_file import read_items
from recbole_disent.errors import UserError
from tests.faults import HEAD, KEYS, config, hash_of, load, sequences, small_rows, write

PACKAGE = Path(recbole_disent.__file__).parent
ITEM_HEAD = "item_id:token\ttitle:token_seq"


def accented(name="small", **options):
    rows = [(u, f"é{i}" if i == "i2" else f"ü{i}", r, t) for u, i, r, t in small_rows()]
    return write(name, "inter", rows, **options)


# -- encodings -------------------------------------------------------------------------


def test_the_encoding_of_a_file():
    accented()
    wanted = sequences(load()[0])
    for name, encoding in (("latin", "latin-1"), ("wide", "utf-16"), ("marked", "utf-8-sig")):
        accented(name, encoding=encoding)
        keys = {} if encoding == "utf-8-sig" else {"encoding": encoding}
        assert sequences(load("SASRec", name, **keys)[0]) == wanted
        assert hash_of("Pop", name, **keys) == hash_of()


def test_the_locale_decides_nothing():
    accented()
    write("small", "item", [(f"üi{n}", f"Zürich {n}") for n in range(6)], ITEM_HEAD)
    code = (
        "import locale\n"
        "from tests.faults import *\n"
        "assert locale.getpreferredencoding(False).lower().replace('-', '') != 'utf8', 'the test needs "
        "another'\n"
        "print(hash_of(), hash_of('Pop'), ascii(sequences(load()[0])['u0']))"
    )
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0",
                   "PYTHONPATH": str(PACKAGE.parent)}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[:2] == [hash_of(), hash_of("Pop")]
    assert r"'\xfci0', '\xfci1', '\xe9i2'" in done.stdout


@pytest.mark.parametrize("suffix", ["inter", "item"])
def test_bytes_of_another_encoding_are_named(suffix):
    write("small", "inter", small_rows())
    rows = [f"i{n}\ttitle" for n in range(5)] + ["i5\tZürich"] if suffix == "item" else ["u\tü\t1\t2"]
    write("small", suffix, rows, ITEM_HEAD if suffix == "item" else HEAD, encoding="latin-1")
    line = 7 if suffix == "item" else 2
    with pytest.raises(
        UserError, match=rf"small\.{suffix}, line {line}: got bytes that are not utf-8; save the file as"
    ):
        load(load_col=None)


@pytest.mark.parametrize("encoding", ["gbk9", "hex", "undefined", 7])
def test_an_unknown_encoding_is_named(encoding):
    write("small", "inter", small_rows())
    with pytest.raises(
        UserError, match=f"encoding: got {encoding!r}, expected an encoding that Python knows"
    ):
        load(encoding=encoding)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda text: gzip.compress(text.encode()), "the file is compressed with gzip; decompress it"),
        (lambda text: b"PK\x03\x04" + text.encode(), "the file is a zip archive or a spreadsheet"),
        (
            lambda text: text.encode("utf-16"),
            "the file is encoded in UTF-16; save it as UTF-8, or set encoding=utf-16",
        ),
        (lambda text: text.replace("i1", "i\0").encode(), r"line 3: got a NUL byte, expected text"),
        (lambda text: text.replace("\n", "\r").encode(), "line 1: got "),
        (
            lambda text: text.replace("i2\t", "i\r\t", 1).encode(),
            "line 4: got a carriage return within",
        ),
    ],
)
def test_files_that_are_no_text_are_named(make, message):
    path = write("small", "inter", small_rows())
    path.write_bytes(make(path.read_text()))
    with pytest.raises(UserError, match=message) as caught:
        load()
    assert str(path.name) in str(caught.value)


def test_line_ends_of_windows_and_empty_lines_change_nothing():
    path = write("small", "inter", small_rows())
    wanted = hash_of()
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n").replace(b"u3\t", b"\r\nu3\t", 1) + b"\r\n")
    assert hash_of() == wanted
    with pytest.raises(UserError, match="line 52: got 1 cells"):
        path.write_bytes(path.read_bytes() + b"u1\n")
        load()


def test_cells_are_counted_across_chunks(monkeypatch):
    path = write("small", "inter", small_rows())
    whole = text_files.count_cells(str(path), "\t", None)
    assert whole.tolist() == [4] * 49
    for size in (1, 7, 64):
        monkeypatch.setattr(text_files, "_CHUNK", size)
        assert text_files.count_cells(str(path), "\t", None).tolist() == whole.tolist()


def test_every_text_file_is_opened_with_its_encoding():
    """A lint rule in pyproject.toml also requires an encoding; without one, the locale would decide."""
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if name not in ("open", "read_text", "fdopen") or ast.unparse(node.func) in (
                "os.open",
                "self._open",
            ):
                continue
            text = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            binary = any("b" in mode for mode in text if set(mode) <= set("rwab+"))
            assert binary or "encoding" in {k.arg for k in node.keywords} or "utf-8" in text, (
                file,
                node.lineno,
            )


# -- cells -----------------------------------------------------------------------------


@pytest.mark.parametrize("head", [HEAD, HEAD + "\tnote:token"])
def test_quotes_are_characters(head):
    rows = small_rows()
    notes = ['"open', "x", 'close"'] if "note" in head else []
    marked = [
        (u, f'"{i}' if n in (3, 20) else i, r, t, *(notes[n % 3 : n % 3 + 1]))
        for n, (u, i, r, t) in enumerate(rows)
    ]
    write("small", "inter", marked, head)
    dataset = load()[0]
    assert len(dataset.store) == 48
    assert sequences(dataset)["u0"] == ["i0", "i1", "i2", '"i3', "i4", "i5"]


def test_quotes_are_the_same_in_item_files():
    write("small", "inter", small_rows())
    path = write("small", "item", [("i0", 'the "red" one'), ("i1", '"open'), ("i2", 'close"'), ("i3", "x"),
                                   ("i4", "y"), ("i5", "z")], ITEM_HEAD)  # fmt: skip
    dataset = load("SASRec", load_col=None)[0]
    words = dataset.field2id_token["title"]
    features = {str(dataset.id2token("item_id", n)): words[row[row > 0].numpy()].tolist()
                for n, row in enumerate(dataset.item_feat["title"])}  # fmt: skip
    assert features["i0"] == ["the", '"red"', "one"]
    assert features["i1"] == ['"open']
    assert read_items(str(path), "item_id", None, "\t", None, "key").cells["i1"] == ['"open']


def test_features_that_are_missing_or_twice_are_said(caplog):
    write("small", "inter", small_rows())
    rows = ["i0\ta\t1", "i1\tb", "\tc\t3", "i0\td\t4", "i2\t\t5", "i3\te\t6", "i4\tf\t7", "i5\tg\t8"]
    write("small", "item", rows, "item_id:token\ttag:token\tprice:float")
    dataset = load("SASRec", load_col=None)[0]
    for text in (
        "fewer than 3 cells in line 3: the other cells are missing",
        "item_id is missing in line 4",
        "item_id is a duplicate in line 5",
        "tag is missing in line 6: filled with the padding value",
        "price is missing in line 3: filled with the mean of the column",
    ):
        assert text in caplog.text
    assert dataset.reading.missing == {"small.item:tag": 1, "small.item:price": 1}
    prices = dataset.item_feat["price"][dataset.token2id("item_id", ["i0", "i1", "i5"])].tolist()
    assert prices == pytest.approx([1, (1 + 5 + 6 + 7 + 8) / 5, 8])


def test_items_that_the_item_file_lacks_are_counted_and_said(caplog):
    write("small", "inter", small_rows())
    write("small", "item", [(f"i{n}", "a") for n in range(5)], "item_id:token\tclass:token")
    keys = {"load_col": {**KEYS["load_col"], "item": ["item_id", "class"]}, "selected_features": ["class"]}
    dataset = load("SASRecF", **keys)[0]
    assert dataset.reading.dropped == {"filter_inter_by_user_or_item": 8}
    assert (
        "filter_inter_by_user_or_item: 8 of 48 interactions were left out because the .user or .item"
        in caplog.text
    )
    kept = load("SASRecF", filter_inter_by_user_or_item=False, **keys)[0]
    assert len(kept.store) == 48
    assert not kept.reading.dropped


def test_lines_without_user_or_item_are_counted_in_pre_split_files_too():
    parts = {
        "train": small_rows(),
        "valid": [("u0", "i1", 1, 99)],
        "test": [("u1", "", 1, 99), ("u2", "i1", 1, 99)],
    }
    for part, rows in parts.items():
        write("cut", f"{part}.inter", rows)
    dataset, split = load("SASRec", "cut", benchmark_filename=list(parts))
    assert dataset.reading.dropped == {"missing id": 1}
    assert [len(p.inter_feat) for p in split] == [40, 1, 1]


# -- a user's own words ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("data/beauty/beauty.inter", "--data_path=data --dataset=beauty"),
        (
            "data/beauty.inter",
            "put the file into data/beauty/beauty.inter and set --data_path=data --dataset=beauty",
        ),
        ("beauty.inter", "put the file into beauty/beauty.inter and set --data_path=. --dataset=beauty"),
        ("data/beauty", "--data_path=data --dataset=beauty"),
    ],
)
def test_a_data_set_is_no_path(name, message):
    with pytest.raises(UserError, match="dataset: got the") as caught:
        config("SASRec", name)
    assert message in str(caught.value)


def test_config_files_are_utf_8_with_or_without_a_mark():
    write("small", "inter", small_rows())
    Path("keys.yaml").write_text("seed: 7\nwandb_project: Zürich\n", encoding="utf-8-sig")
    found = Config("BPR", "small", ["keys.yaml"], KEYS)
    assert (found["seed"], found["wandb_project"]) == (7, "Zürich")
    Path("keys.yaml").write_text("wandb_project: Zürich\n", encoding="latin-1")
    with pytest.raises(UserError, match=r"config file 'keys\.yaml': it is no UTF-8 text"):
        Config("BPR", "small", ["keys.yaml"], KEYS)


@pytest.mark.parametrize("field", ["user_id", "item_id"])
@pytest.mark.parametrize("kind", ["float", "token_seq"])
def test_ids_are_tokens(field, kind):
    write("small", "inter", small_rows(), HEAD.replace(f"{field}:token", f"{field}:{kind}"))
    with pytest.raises(
        UserError, match=rf"small\.inter, line 1: got '{field}:{kind}', expected '{field}:token'"
    ):
        load()


def test_a_column_that_is_there_twice_is_named():
    write("small", "inter", small_rows(), HEAD.replace("rating", "item_id"))
    with pytest.raises(UserError, match="line 1: the column 'item_id' occurs twice"):
        load()


# -- the report ------------------------------------------------------------------------


def test_the_report_has_the_right_numbers():
    rows = [(u, i, r, 1_600_000_000 + t) for u, i, r, t in small_rows()]
    rows += [
        ("u0", "i0", 5, 1_600_000_000),
        ("u0", "i3", 1, 1_600_000_900),
        ("u1", "new", 1, 1_600_001_000),
        ("w", "i1", 1, 1_600_000_001),
    ]
    write("small", "inter", rows)
    found = data_report("small", "SASRec", [], ["--data_path=."])
    assert found["files"] == {"small.inter": 52}
    assert (found["interactions"], found["users"], found["items"]) == (52, 9, 7)
    assert found["time"]["unit"] == "s"
    assert (found["time"]["from"], found["time"]["to"]) == (
        "2020-09-13T12:26:40+00:00",
        "2020-09-13T12:43:20+00:00",
    )
    assert found["time"]["exact"]
    assert found["time"]["equal_times"] == 1
    assert found["duplicates"] == 1
    assert found["repeat_share"] == round(2 / 52, 4)  # i0 and i3 of u0
    assert found["lengths"] == {"min": 1, "25 %": 6, "median": 6, "75 %": 6, "95 %": 7.6, "max": 8}
    assert found["rows"] == {"train": 52 - 9 - 16, "valid": 8, "test": 8}
    assert found["cold_targets"] == {"valid": 0, "test": 1}  # the item new
    # float32 has steps of 128 s here: of 0, 10, ..., 50 s each but a user's first falls onto the one before.
    assert found["time"]["float32_ties"] == 40
    assert "1 users have one event, from which no sequential model learns" in found["warnings"]
    assert any(text.startswith("1 events have the user, item and time of") for text in found["warnings"])


def test_the_command_prints_the_report(capsys):
    from recbole_disent.cli import main

    write("small", "inter", small_rows())
    assert main(["data", "small", "--data_path=.", "--item_inter_num_interval=[1,7]"]) == 2
    assert "no interaction is left of 48; loosen the filter" in capsys.readouterr().err
    assert (
        main(
            [
                "data",
                "small",
                "--model=Pop",
                "--data_path=.",
                "--load_col=None",
                "--val_interval={'rating': '[2,5]'}",
            ]
        )
        == 0
    )
    printed = capsys.readouterr().out
    assert "lines read: small.inter 48" in printed
    assert "interactions left out: val_interval 10" in printed


def test_a_run_logs_the_report_and_writes_it(caplog):
    caplog.set_level(logging.INFO)
    from tests.faults import small_run

    write("small", "inter", small_rows())
    found = small_run()
    assert found["data"]["interactions"] == 48
    assert "lines read: small.inter 48" in caplog.text


def test_tokens_that_look_like_numbers_stay_what_they_are():
    """pandas 3.1 makes numbers of categories that look like numbers: 007 would be 7."""
    items = ("001", "002", "0010", "003")
    write("zeros", "inter", [(f"0{u}", item, 1, t) for u in range(4) for t, item in enumerate(items)])
    found = sequences(load("SASRec", "zeros")[0])
    assert found == {f"0{u}": list(items) for u in range(4)}


def test_a_number_with_an_underscore_is_named():
    write("small", "inter", [*small_rows(), ("u1", "i1", "1_000", 99)])
    with pytest.raises(UserError, match=r"small.inter, line 50: rating: got '1_000', expected a number"):
        load("BPR")
