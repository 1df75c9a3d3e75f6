"""Tests of item content: vectors of each source, errors, and the cache."""

from __future__ import annotations

import logging
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from recbole_disent.content.build import build_content
from recbole_disent.content.text import text_vectors, token_vectors, words
from recbole_disent.errors import UserError
from recbole_disent.session import build_data, build_model, build_trainer, load_checkpoint, run
from recbole_disent.training import checkpoint
from tests.conftest import hostile_items, write_inter, write_items

HEAD = "item_id:token\ttitle:token_seq\ttags:token_seq"


def content_of(make_config, **keys):
    config = make_config("TSSR", **keys)
    data = build_data(config)
    dataset = data.loaders[0]._dataset
    return build_content(config, dataset), list(dataset.field2id_token["item_id"])


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
    assert any("items have no content; their vectors are zero" in r.message for r in caplog.records)


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
        data = build_data(make_config("SASRec"))
        assert data.dataset.item_feat is None
        found.append((data.data_hash, list(data.loaders[0]._dataset.inter_feat.columns)))
    assert found[0] == found[1]


def test_content_does_not_change_with_interactions(make_config, hostile):
    """Other interactions with the same items give the same vectors."""
    first = rows_of(make_config)
    lines = (hostile / "hostile" / "hostile.inter").read_text().splitlines()
    rows = [line.split("\t") for line in lines[1:]]
    write_inter(hostile, "hostile", [(u, i, r, t) for u, i, r, t in rows] * 2 + rows[:50])
    second = rows_of(make_config)
    for token, row in first.items():
        torch.testing.assert_close(row, second[token])


# -- cache and checkpoints -------------------------------------------------------------


def test_the_cache_is_used_repaired_and_apart_for_other_settings(make_config):
    first, _ = content_of(make_config)
    file = Path(first.cache_path)
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
    data = build_data(config)
    trainer = build_trainer(data, build_model(data))
    trainer.fit(*data.loaders[:2], verbose=False)
    trainer._save_checkpoint(0, verbose=False)
    return trainer.saved_model_file


def test_a_checkpoint_has_the_hash_and_not_the_matrix(make_config):
    path = trained(make_config)
    state = checkpoint.load(path)["state_dict"]
    assert "content.matrix" not in state
    model, data = load_checkpoint(path)
    assert bytes(state["content._extra_state"][:8].tolist()).hex() == model.content.content_hash
    assert data.config["model"] == "TSSR"


def test_a_checkpoint_of_other_content_is_an_error(make_config, hostile):
    path = trained(make_config)
    rewrite(hostile, [(t, "other", g) for t, _, g in hostile_items()])
    with pytest.raises(UserError, match=r"the model was trained with other item content \(hash \w{16}, here"):
        load_checkpoint(path)


def test_other_vectors_of_the_same_content_are_an_error(make_config):
    path = trained(make_config)
    content, _ = content_of(make_config)
    for change, fits in ((1e-6, True), (0.1, False)):
        noise = torch.randn(content.matrix.shape, generator=torch.Generator().manual_seed(0)) * change
        noise[0] = 0
        np.savez(content.cache_path, matrix=(content.matrix + noise).numpy())
        if fits:
            load_checkpoint(path)
        else:
            with pytest.raises(
                UserError, match=r"the same item content gives other vectors here.*copy saved/"
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
