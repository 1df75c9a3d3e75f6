"""Content of items: right vectors from each source, one sentence for each fault, a cache that is data."""

from __future__ import annotations

import logging
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from recbole_disent import checkpoint
from recbole_disent.data.content import item_content
from recbole_disent.data.content_text import text_vectors, token_vectors, words
from recbole_disent.errors import UserError
from recbole_disent.quick_start import build_model, build_trainer, load_checkpoint, prepare_data, run
from tests.conftest import hostile_items, write_inter, write_items

HEAD = "item_id:token\ttitle:token_seq\ttags:token_seq"
TITLE = "item_id:token\ttitle:token_seq\n"


def content_of(make_config, **keys):
    config = make_config("TSSR", **keys)
    data = prepare_data(config)
    dataset = data.loaders[0]._dataset
    return item_content(config, dataset), list(dataset.field2id_token["item_id"])


def rows_of(make_config, **keys):
    content, tokens = content_of(make_config, **keys)
    return dict(zip(tokens, content.matrix, strict=True))


def rewrite(hostile, rows, header=HEAD):
    write_items(hostile, "hostile", rows, header)


# -- words -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The iPhone-13, new!", ["the", "iphone", "13", "new"]),
        ("L'été à Москва", ["l", "été", "à", "москва"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("青い椅子", ["青い", "い椅", "椅子"]),
        ("Sony製 ａ", ["sony", "製", "a"]),
        ("ภาษา", ["ภา", "าษ", "ษา"]),
        ("한국어 책", ["한국어", "책"]),
        ("كتاب جديد", ["كتاب", "جديد"]),
        (" \x00 --- 🙂", []),
        ("", []),
    ],
)
def test_words_of_any_script(text, expected):
    assert words(text) == expected


def test_text_vectors_are_tf_idf_when_nothing_is_to_be_reduced():
    texts = ["red red chair", "red table", "blue chair", "alone", ""]
    vectors = text_vectors(texts, 50)
    counts = [Counter(t.split()) for t in texts]
    shared = [w for w in sorted({w for c in counts for w in c}) if sum(w in c for c in counts) > 1]
    assert shared == ["chair", "red"]
    for row, count in zip(vectors, counts, strict=True):
        raw = []
        for word in shared:
            idf = math.log((1 + len(texts)) / (1 + sum(word in c for c in counts))) + 1
            raw.append((1 + math.log(count[word])) * idf if word in count else 0.0)
        size = math.sqrt(sum(v * v for v in raw)) or 1.0
        assert row.tolist() == pytest.approx([v / size for v in raw], abs=1e-6)


def test_reduced_text_vectors_keep_the_inner_products_that_the_exact_svd_keeps():
    rng = np.random.default_rng(0)
    texts = [" ".join(f"w{int(w)}" for w in rng.zipf(1.5, 20) % 60) for _ in range(80)] + [""]
    full = text_vectors(texts, 10**6).astype(np.float64)
    reduced = text_vectors(texts, 12).astype(np.float64)
    assert reduced.shape == (81, 12)
    left, size, _ = np.linalg.svd(full, full_matrices=False)
    exact = left[:, :12] * size[:12]
    exact[80] = 0
    exact /= np.maximum(np.linalg.norm(exact, axis=1, keepdims=True), 1e-12)
    np.testing.assert_allclose(reduced @ reduced.T, exact @ exact.T, atol=1e-4)
    assert not reduced[80].any()
    assert np.array_equal(reduced, text_vectors(texts, 12).astype(np.float64))


def test_texts_that_share_no_word_are_told_apart():
    vectors = text_vectors(["one", "two", ""], 5)
    assert (vectors @ vectors.T).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_token_vectors_are_unit_bags_of_the_commonest():
    vectors = token_vectors([[], ["a", "b", "a"], ["b"], ["c", "b"], ["c", "d"]], 3)
    half = 0.5**0.5
    # b in three items, c in two, then a before d.
    np.testing.assert_allclose(vectors, [[0, 0, 0], [half, 0, half], [1, 0, 0], [half, half, 0], [0, 1, 0]])


# -- sources ---------------------------------------------------------------------------


def test_rows_are_aligned_with_the_internal_ids_and_padding_is_zero(make_config, hostile):
    found = rows_of(make_config, content_fields="title", content_dim=1000)
    assert not found["[PAD]"].any()
    titles = {row[0]: row[1] for row in hostile_items()}
    for a in ("i4", "i7", "i9"):
        for b in ("i5", "i8", "i20"):
            if a in found and b in found:
                shared = set(titles[a].split()) & set(titles[b].split())
                assert (float(found[a] @ found[b]) > 1e-6) == bool(shared)
    assert not found["i3"].any()  # its title is empty
    assert not found["i0"].any()  # it has no line
    assert all(
        row.norm() == pytest.approx(1)
        for token, row in found.items()
        if token not in ("[PAD]", "i0", "i3", "i6")
    )


def test_sources_are_put_side_by_side_each_of_unit_length(make_config):
    keys = {"content_fields": ["title"], "content_token_fields": ["tags"]}
    both = rows_of(make_config, content_source=["text", "tokens"], **keys)
    text = rows_of(make_config, content_source="text", **keys)
    tokens = rows_of(make_config, content_source="tokens", **keys)
    assert tokens["i1"].shape == (4,)
    for token, row in both.items():
        assert torch.equal(row, torch.cat([text[token], tokens[token]]))


def test_equal_tokens_of_two_columns_differ(make_config, hostile):
    rows = [(f"i{i}", "a" if i % 2 else "b", "b" if i % 2 else "a") for i in range(30)]
    rewrite(hostile, rows, "item_id:token\tcolour:token\tsize:token_seq")
    found = rows_of(make_config, content_source="tokens")
    assert found["i1"] @ found["i2"] == 0
    assert found["i1"] @ found["i3"] == pytest.approx(1)


def test_missing_items_are_counted(make_config, caplog):
    with caplog.at_level(logging.WARNING):
        content_of(make_config, content_fields=["title"])
    assert any("1 of 30 items, such as 'i0', have no line in" in r.message for r in caplog.records)
    assert any("items have none; theirs is zero" in r.message for r in caplog.records)


def test_long_texts_of_any_script_and_quotes_are_read(make_config, hostile):
    rows = hostile_items()
    rows[1] = ("i2", "red " * 50_000, "a")
    rows[2] = ("i3", "青い椅子" * 50_000, "b")
    rows[3] = ("i4", 'an "unclosed quote', "c")
    rows[5] = ("i6", "青い椅子 café", "c")
    rows[6] = ("i7", "cafe\u0301", "d")
    rewrite(hostile, rows)
    found = rows_of(make_config, content_fields=["title"], content_dim=1000)
    assert len(found) == 31
    assert found["i3"] @ found["i6"] > 0.5
    assert found["i7"] @ found["i6"] > 0.1
    assert all(torch.isfinite(row).all() for row in found.values())


def test_other_models_do_not_see_the_item_file(make_config, hostile):
    found = []
    for there in (True, False):
        if not there:
            (hostile / "hostile" / "hostile.item").unlink()
        data = prepare_data(make_config("SASRec"))
        assert data.dataset.item_feat is None
        found.append((data.data_hash, list(data.loaders[0]._dataset.inter_feat.columns)))
    assert found[0] == found[1]


def test_content_does_not_change_with_interactions(make_config, hostile):
    """Other interactions of the same items: the same vectors."""
    first = rows_of(make_config)
    lines = (hostile / "hostile" / "hostile.inter").read_text().splitlines()
    rows = [line.split("\t") for line in lines[1:]]
    write_inter(hostile, "hostile", [(u, i, r, t) for u, i, r, t in rows] * 2 + rows[:50])
    second = rows_of(make_config)
    for token, row in first.items():
        torch.testing.assert_close(row, second[token])


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
    said = f"2 of 30 items are not in {tmp_path}/v.npz; they get: {how}"
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
        ("nan", r"v\.npz: the vector of item 'i3' holds NaN or inf \(1 such rows\)"),
        ("unknown", r"v\.npz: the item 'x77' is in no interaction .*content_file_unknown=ignore"),
        ("twice", r"v\.npz: the item 'i5' is there twice"),
        ("width", r"got ids of shape \(30,\) and vectors of shape \(29, 5\), expected \(n,\) and \(n, F\)"),
        ("flat", r"vectors of shape \(30,\), expected"),
        ("text", r"got vectors of type <U\d+, expected numbers"),
        ("none", r"none of its 30 ids is an item of the interactions"),
        ("names", r"has the arrays \['keys', 'values'\], expected 'ids' and 'vectors'"),
        ("pickle", r"holds Python objects, which are not read for safety"),
        ("empty", r"v\.npz holds no vectors"),
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
        ("i1\t1 nan\n", r"v\.itememb: the vector of item 'i1' holds NaN"),
        ("", r"holds no vectors"),
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
        ("v.npz", r"v\.npz is no array of numbers"),
        ("flat.npy", r"got shape \(4,\), expected \(n, 1 \+ F\), the item id first"),
        ("half.npy", r"the first column is the item id and must hold whole numbers"),
        ("v.itememb", r"line 1: expected one token column .* and one float_seq column"),
        ("v.txt", r"got '.*v\.txt', expected a file named \.npz, \.npy or \.itememb"),
        ("away.npy", r"the file .*away\.npy is not there"),
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
        ({"content_source": "file"}, r"content_file: not given; content_source=file needs it"),
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
        (None, r"content_fields: the file .*hostile\.item is not there"),
        (TITLE + "i1\tred\tchair\n", r"hostile\.item, line 2: got 3 cells, expected 2"),
        (TITLE + "i1\tred\n\ti2\n", r"hostile\.item, line 3: no item id"),
        (TITLE + "i1\tred\ni2\tb\ni1\tblue\n", r"line 4: the item 'i1' is there already, in line 2"),
        (TITLE + "i1\t\ni2\t  \n", r"the columns title are empty for every item"),
        (TITLE + "i1\t...\ni2\t--\n", r"content_source: .* gave no content"),
        (TITLE + "z1\tred\n", r"none of its item ids is in the interactions"),
        ("item_id:token\n", r"content_fields: no column to read"),
        ("id:token\ttitle:token_seq\ni1\tred\n", r"line 1: no column 'item_id' with the item ids; got"),
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


def test_a_number_column_has_no_tokens(make_config, hostile):
    rewrite(hostile, [("i1", 3.5)], "item_id:token\tprice:float")
    with pytest.raises(
        UserError, match=r"column 'price' of .* is of type float, expected token or token_seq"
    ):
        content_of(make_config, content_source="tokens")


def test_bytes_of_another_encoding(make_config, hostile):
    (hostile / "hostile" / "hostile.item").write_bytes((TITLE + "i1\tété\n").encode("latin-1"))
    with pytest.raises(UserError, match=r"hostile\.item: a byte that is not utf-8 .*name its encoding"):
        content_of(make_config)
    rows = rows_of(make_config, encoding="latin-1", content_fields=["title"])
    assert rows["i1"].any()


# -- cache and checkpoints -------------------------------------------------------------


def test_the_cache_is_used_repaired_and_apart_for_other_settings(make_config):
    first, _ = content_of(make_config)
    file = Path(first.place)
    with np.load(file, allow_pickle=False) as stored:
        changed = stored["matrix"] * 2
    np.savez(file, matrix=changed)
    assert torch.equal(content_of(make_config)[0].matrix, first.matrix * 2)
    file.write_bytes(b"damaged")
    assert torch.equal(content_of(make_config)[0].matrix, first.matrix)
    others = [{"content_dim": 3}, {"content_fields": ["tags"]}, {"content_source": "tokens"}]
    hashes = {first.hash, *(content_of(make_config, **keys)[0].hash for keys in others)}
    assert len(hashes) == 4


def trained(make_config):
    config = make_config("TSSR", epochs=1)
    data = prepare_data(config)
    trainer = build_trainer(data, build_model(data))
    trainer.fit(*data.loaders[:2], verbose=False)
    trainer._save_checkpoint(0, verbose=False)
    return trainer.saved_model_file


def test_a_checkpoint_has_the_hash_and_not_the_matrix(make_config):
    path = trained(make_config)
    state = checkpoint.load(path)["state_dict"]
    assert "content.matrix" not in state
    model, data = load_checkpoint(path)
    assert bytes(state["content._extra_state"][:8].tolist()).hex() == model.content.hash
    assert data.config["model"] == "TSSR"


def test_a_checkpoint_of_other_content_is_an_error(make_config, hostile):
    path = trained(make_config)
    rewrite(hostile, [(t, "other", g) for t, _, g in hostile_items()])
    with pytest.raises(UserError, match=r"it was trained with other item content \(hash \w{16}, here"):
        load_checkpoint(path)


def test_other_vectors_of_the_same_content_are_an_error(make_config):
    path = trained(make_config)
    content, _ = content_of(make_config)
    for change, fits in ((1e-6, True), (0.1, False)):
        noise = torch.randn(content.matrix.shape, generator=torch.Generator().manual_seed(0)) * change
        noise[0] = 0
        np.savez(content.place, matrix=(content.matrix + noise).numpy())
        if fits:
            load_checkpoint(path)
        else:
            with pytest.raises(
                UserError, match=r"the same item content gave other vectors here.*copy saved/"
            ):
                load_checkpoint(path)


def test_a_run_ends_with_a_result_file(hostile):
    keys = {
        "data_path": str(hostile),
        "epochs": 1,
        "topk": [5],
        "MAX_ITEM_LIST_LENGTH": 7,
        "show_progress": False,
    }
    report = run("TSSR", "hostile", config_dict=keys)
    assert report["test_result"].keys() >= {"recall@5", "ndcg@5"}
    assert report["config"]["content_source"] == ["text"]
