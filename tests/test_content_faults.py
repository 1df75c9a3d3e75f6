"""Tests of faulty files of vectors and faulty .item files, which give correct vectors or an error."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from recbole_disent.config.config import Config
from recbole_disent.content import vectors_file
from recbole_disent.content.build import build_content
from recbole_disent.errors import UserError
from recbole_disent.session import build_data
from tests.conftest import hostile_rows, write_inter, write_items
from tests.test_content import content_of, rewrite, rows_of

TITLE = "item_id:token\ttitle:token_seq\n"
HEADER = "item_id:token\ttitle:token_seq\ttags:token_seq"


# -- files -----------------------------------------------------------------------------


def vectors_for(seed=0, n=30, width=5):
    rng = np.random.default_rng(seed)
    return np.array([f"i{i}" for i in range(n)]), rng.normal(size=(n, width))


def use(path):
    return {"content_source": "file", "content_file": str(path)}


def test_npz_npy_and_itememb_give_the_same(make_config, tmp_path, hostile):
    ids, vectors = vectors_for()
    np.savez(tmp_path / "v.npz", ids=ids, vectors=vectors)
    cells = [" ".join(map(repr, row)) for row in vectors.tolist()]
    lines = [f"{token}\t{cell}" for token, cell in zip(ids, cells, strict=True)]
    (tmp_path / "v.itememb").write_text("\n".join(["iid:token\titem_emb:float_seq", *lines]) + "\n")
    first, second = (rows_of(make_config, **use(tmp_path / f"v.{kind}")) for kind in ("npz", "itememb"))
    for token, row in first.items():
        torch.testing.assert_close(row, second[token])
    for token, row in zip(ids, vectors, strict=True):
        if token in first:
            np.testing.assert_allclose(first[token], row / np.linalg.norm(row), rtol=1e-5)
    rows = [line.split("\t") for line in (hostile / "hostile" / "hostile.inter").read_text().splitlines()[1:]]
    write_inter(hostile, "hostile", [(u, i[1:], r, t) for u, i, r, t in rows])
    np.save(tmp_path / "v.npy", np.column_stack([np.arange(30), vectors]))
    third = rows_of(make_config, **use(tmp_path / "v.npy"))
    for token, row in first.items():
        torch.testing.assert_close(row, third[token.removeprefix("i")])


@pytest.mark.parametrize("how", ["zero", "mean"])
def test_items_that_the_file_lacks(make_config, tmp_path, caplog, how):
    ids, vectors = vectors_for()
    np.savez(tmp_path / "v.npz", ids=ids[:-2], vectors=vectors[:-2])
    with caplog.at_level(logging.WARNING):
        found = rows_of(make_config, **use(tmp_path / "v.npz"), content_file_missing=how)
    said = f"2 of 30 items are not in {tmp_path}/v.npz; content_file_missing={how} decides"
    assert any(said in record.message for record in caplog.records)
    mean = sum(row for token, row in found.items() if token not in ("[PAD]", "i28", "i29"))
    expected = mean / mean.norm() if how == "mean" else torch.zeros(5)
    torch.testing.assert_close(found["i28"], expected)
    assert not found["[PAD]"].any()


def test_unknown_ids_may_be_ignored(make_config, tmp_path):
    ids, vectors = vectors_for(n=33)
    np.savez(tmp_path / "v.npz", ids=ids, vectors=vectors)
    found = rows_of(make_config, **use(tmp_path / "v.npz"), content_file_unknown="ignore")
    assert len(found) == 31


class Evil:
    def __reduce__(self):
        return (print, ("unpickled",))


def faulty(kind, path: Path):
    ids, vectors = vectors_for()
    if kind == "nan":
        vectors[3, 1] = np.nan
    if kind == "unknown":
        ids = np.append(ids, "x77")
        vectors = np.vstack([vectors, vectors[:1]])
    if kind == "twice":
        ids[4] = "i5"
    if kind == "width":
        vectors = vectors[:-1]
    if kind == "flat":
        vectors = vectors[:, 0]
    if kind == "text":
        vectors = vectors.astype(str)
    if kind == "none":
        ids = np.array([f"z{i}" for i in range(30)])
    if kind == "names":
        np.savez(path, keys=ids, values=vectors)
        return
    if kind == "pickle":
        ids = np.array([Evil()] * 30, dtype=object)
    if kind == "empty":
        ids, vectors = ids[:0], vectors[:0]
    np.savez(path, ids=ids, vectors=vectors)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("nan", r"v\.npz: the vector of item 'i3' contains NaN or inf \(1 such rows\)"),
        ("unknown", r"v\.npz: the item 'x77' is in no interaction .*content_file_unknown=ignore"),
        ("twice", r"v\.npz: the item 'i5' occurs twice"),
        ("width", r"got ids of shape \(30,\) and vectors of shape \(29, 5\), expected \(n,\) and \(n, F\)"),
        ("flat", r"vectors of shape \(30,\), expected"),
        ("text", r"got vectors of type <U\d+, expected numbers"),
        ("none", r"none of the 30 ids is an item of the interactions"),
        ("names", r"has the arrays \['keys', 'values'\], expected 'ids' and 'vectors'"),
        ("pickle", r"contains Python objects, which are not read for security"),
        ("empty", r"v\.npz contains no vectors"),
    ],
)
def test_faults_of_a_file_are_one_sentence(make_config, tmp_path, capsys, kind, message):
    faulty(kind, tmp_path / "v.npz")
    more = {"content_file_unknown": "ignore"} if kind == "none" else {}
    with pytest.raises(UserError, match=message) as error:
        content_of(make_config, **use(tmp_path / "v.npz"), **more)
    assert "\n" not in str(error.value)
    assert "unpickled" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("i1\t1 2\ni2\t1 2 3\n", r"v\.itememb, line 3: got a vector of 3 numbers, expected 2"),
        ("i1\t1 two\n", r"v\.itememb, line 2: could not convert string to float: 'two'"),
        ("i1\t1 2\t3\n", r"v\.itememb, line 2: got 3 cells, expected 2"),
        ("i1\t1 nan\n", r"v\.itememb: the vector of item 'i1' contains NaN"),
        ("", r"contains no vectors"),
    ],
)
def test_faults_of_an_itememb_file_have_a_line(make_config, tmp_path, text, message):
    (tmp_path / "v.itememb").write_text("iid:token\titem_emb:float_seq\n" + text)
    with pytest.raises(UserError, match=message):
        content_of(make_config, **use(tmp_path / "v.itememb"))


def test_other_faults_of_files(make_config, tmp_path):
    (tmp_path / "v.npz").write_bytes(b"no zip")
    np.save(tmp_path / "flat.npy", np.arange(4.0))
    np.save(tmp_path / "half.npy", np.ones((3, 3)) * 0.5)
    (tmp_path / "v.itememb").write_text("iid:token\ttitle:token\n")
    for name, message in [
        ("v.npz", r"v\.npz is not an array of numbers"),
        ("flat.npy", r"got shape \(4,\), expected \(n, 1 \+ F\) with the item ids"),
        ("half.npy", r"the first column contains a number that is not whole"),
        ("v.itememb", r"line 1: got .*, expected one token column .* and one float_seq column"),
        ("v.txt", r"got '.*v\.txt', expected a file named \.npz, \.npy or \.itememb"),
        ("away.npy", r"the file .*away\.npy does not exist"),
    ]:
        with pytest.raises(UserError, match=message):
            content_of(make_config, **use(tmp_path / name))


# -- faults of the .item file and of the keys ------------------------------------------


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"content_fields": ["titel"]}, r"content_fields: .*hostile\.item has no column 'titel', "
                                        r"expected some of title, tags; did you mean 'title'\?"),
        ({"content_fields": "item_id"}, r"has no column 'item_id', expected some of title, tags"),
        ({"content_source": "tokens", "content_token_fields": ["x"]}, r"token_fields: .* no column 'x'"),
        ({"content_source": "words"}, r"got 'words', expected some of text, tokens, file, encoder"),
        ({"content_source": ["text", "text"]}, r"content_source: got \['text', 'text'\]"),
        ({"content_source": []}, r"content_source: got \[\]"),
        ({"content_fields": []}, r"content_fields: got \[\], expected columns such as"),
        ({"content_fields": ["title", "title"]}, r"expected each column once"),
        ({"content_source": "file"}, r"content_file: not given, but content_source=file needs the key"),
        ({"content_file": "a.npz"}, r"content_file: got 'a.npz', but content_source=\['text'\] lacks 'file'"),
        ({"content_source": "encoder"}, r"content_encoder: not given"),
        ({"content_trainable": True}, r"content_trainable: got True with content_source=\['text'\]"),
        ({"content_dim": 0}, r"content_dim: got 0, expected int in \[1, inf\)"),
    ],
)  # fmt: skip
def test_faulty_keys_are_one_sentence(make_config, keys, message):
    with pytest.raises(UserError, match=message) as error:
        content_of(make_config, **keys)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"content_fields: the file .*hostile\.item does not exist"),
        (TITLE + "i1\tred\tchair\n", r"hostile\.item, line 2: got 3 cells, expected 2"),
        (TITLE + "i1\tred\n\ti2\n", r"hostile\.item, line 3: no item id"),
        (TITLE + "i1\tred\ni2\tb\ni1\tblue\n", r"line 4: the item 'i1' is a duplicate of line 2"),
        (TITLE + "i1\t\ni2\t  \n", r"the columns title are empty for every item"),
        (TITLE + "i1\t...\ni2\t--\n", r"content_source: got .*, but every text, bag or vector is empty"),
        (TITLE + "z1\tred\n", r"none of the item ids is in the interactions"),
        ("item_id:token\n", r"content_fields: there is no column to read"),
        ("id:token\ttitle:token_seq\ni1\tred\n", r"line 1: got the columns .*, expected a column 'item_id'"),
        ("item_id\ttitle\n", r"line 1: got 'item_id', expected a header 'name:type'"),
        ("", r"line 1: the file is empty"),
    ],
)  # fmt: skip
def test_faulty_item_files_are_one_sentence(make_config, hostile, text, message):
    file = hostile / "hostile" / "hostile.item"
    file.unlink()
    if text is not None:
        file.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        content_of(make_config)
    assert "\n" not in str(error.value)


def test_of_the_columns_that_come_with_the_package_some_are_enough(tmp_path, caplog):
    # dataset_configs/office.yaml names title, brand and description.
    write_inter(tmp_path, "office", hostile_rows())
    rows = [(f"i{n}", f"red w{n}", "acme") for n in range(30)]
    write_items(tmp_path, "office", rows, "item_id:token\ttitle:token_seq\tbrand:token")
    keys = {"data_path": str(tmp_path), "topk": [5]}
    with caplog.at_level(logging.WARNING):
        dataset = build_data(config := Config("TSSR", "office", config_dict=keys)).loaders[0]._dataset
        assert build_content(config, dataset).matrix.any()
    said = "office.item has no column description; the columns used are title, brand"
    assert any(said in record.message for record in caplog.records)
    config = Config("TSSR", "office", config_dict={**keys, "content_fields": ["title", "description"]})
    with pytest.raises(UserError, match=r"content_fields: .* has no column 'description'"):
        build_content(config, dataset)


def test_a_number_column_has_no_tokens(make_config, hostile):
    rewrite(hostile, [("i1", 3.5)], "item_id:token\tprice:float")
    with pytest.raises(
        UserError, match=r"column 'price' of .* is of type float, expected token or token_seq"
    ):
        content_of(make_config, content_source="tokens")


def test_number_columns_are_left_out_unless_the_user_names_them(make_config, hostile):
    rows = [(f"i{n}", f"red w{n % 3}", n / 2) for n in range(30)]
    rewrite(hostile, [row[:2] for row in rows], TITLE.strip())
    expected = rows_of(make_config, content_source="tokens")
    rewrite(hostile, rows, TITLE.strip() + "\tprice:float")
    found = rows_of(make_config, content_source="tokens")
    assert all(torch.equal(row, found[token]) for token, row in expected.items())
    for key in ("content_fields", "content_token_fields"):
        with pytest.raises(UserError, match=f"^{key}: column 'price' .* by content_token_fields, or change"):
            content_of(make_config, content_source="tokens", **{key: ["title", "price"]})
    rewrite(hostile, [row[::2] for row in rows], "item_id:token\tprice:float")
    with pytest.raises(UserError, match=r"^content_token_fields: column 'price' .* is of type float"):
        content_of(make_config, content_source="tokens")


def test_bytes_of_another_encoding(make_config, hostile):
    (hostile / "hostile" / "hostile.item").write_bytes((TITLE + "i1\tété\n").encode("latin-1"))
    with pytest.raises(
        UserError, match=r"hostile\.item, line \d+: got bytes that are not utf-8; .*set the key 'encoding'"
    ):
        content_of(make_config)
    rows = rows_of(make_config, encoding="latin-1", content_fields=["title"])
    assert rows["i1"].any()


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (np.array([16777217, 16777219], np.float32), "an id too large for float32, in which"),
        (np.array([1, 16777216], np.float32), "an id too large for float32, in which"),
        (np.array([1, -16777216], np.float32), "an id too large for float32, in which"),
        (np.array([1, 2**54], np.float64), "an id too large for float64, in which"),
        (np.array([1, 2**53 + 1], np.int64), ["1", "9007199254740993"]),
        (np.array([1, 16777215], np.float32), ["1", "16777215"]),
    ],
)
def test_the_ids_of_an_array_are_exact(tmp_path, ids, expected):
    path = str(tmp_path / "v.npy")
    np.save(path, np.stack([ids, np.ones_like(ids)], 1))
    if isinstance(expected, str):
        with pytest.raises(UserError, match=expected):
            vectors_file.read_vectors(path, "\t", None)
    else:
        assert vectors_file.read_vectors(path, "\t", None)[0] == expected


def test_ids_of_bytes_are_texts_and_values_too_large_for_the_vectors_are_refused(tmp_path):
    path = str(tmp_path / "v.npz")
    np.savez(path, ids=np.array([b"a", b"b"]), vectors=np.ones((2, 3)))
    assert vectors_file.read_vectors(path, "\t", None)[0] == ["a", "b"]
    np.savez(path, ids=np.array([b"\xe9", b"b"]), vectors=np.ones((2, 3)))
    with pytest.raises(UserError, match="an id has bytes that are not UTF-8"):
        vectors_file.read_vectors(path, "\t", None)
    np.savez(path, ids=np.array(["a", "b"]), vectors=np.array([[1.0], [1e300]]))
    with pytest.raises(UserError, match="the vector of item 'b' contains NaN or inf"):
        vectors_file.read_vectors(path, "\t", None)


def test_empty_columns_of_tokens_leave_the_other_source(make_config, hostile, caplog):
    write_items(hostile, "hostile", [(f"i{i}", "red" if i % 2 else "blue", "") for i in range(30)], HEADER)
    both = {
        "content_source": ["text", "tokens"],
        "content_fields": ["title"],
        "content_token_fields": ["tags"],
    }
    rows = rows_of(make_config, **both)
    assert all(row.abs().sum() > 0 for token, row in rows.items() if token.startswith("i"))
    assert "the columns tags are empty for every item of the interactions" in caplog.text
    with pytest.raises(UserError, match="every text, bag or vector is empty"):
        rows_of(make_config, content_source="tokens", content_token_fields=["tags"])
