"""Tests of the approximate index: inner products, filters, exact scores, measured recall, damaged files."""

from __future__ import annotations

import builtins
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from recbole_disent import load
from recbole_disent.cli import main
from recbole_disent.errors import UserError
from recbole_disent.hashing import file_digest
from recbole_disent.serving import approximate
from recbole_disent.serving.index import FILES, KINDS, Index
from recbole_disent.session import run

pytest.importorskip("safetensors")
LIBRARIES = {"faiss": "faiss", "hnsw": "hnswlib"}


def require(kind: str) -> None:
    pytest.importorskip(LIBRARIES[kind])


def vectors(n: int, width: int = 12, seed: int = 0) -> torch.Tensor:
    """Vectors of very different lengths, so that inner products and cosines disagree."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.rand(n, 1, generator=generator) ** 3 * 5 + 0.05
    return torch.nn.functional.normalize(torch.randn(n, width, generator=generator), dim=1) * lengths


@pytest.mark.parametrize("kind", KINDS)
def test_the_nearest_are_those_with_the_greatest_inner_products(kind, tmp_path):
    require(kind)
    table, queries = vectors(3000), vectors(50, seed=1)
    index = Index.build(kind, table)
    index.effort = index.efforts()[-1]
    wanted = (queries @ table[1:].T).topk(10).indices + 1
    cosines = (queries @ torch.nn.functional.normalize(table[1:], dim=1).T).topk(10).indices + 1
    recalls = []
    index.write(tmp_path / "index")
    again = Index.read(kind, tmp_path / "index", 3000, 12)
    again.effort = index.effort
    assert torch.equal(again.search(queries, 10), index.search(queries, 10))
    for expected in (wanted, cosines):
        found = index.search(queries, 10)
        recalls.append(float((found[:, :, None] == expected[:, None]).any(2).float().mean()))
    assert recalls[0] > 0.99
    assert recalls[1] < 0.5
    assert not (index.search(queries, 10) == 0).any()
    same = Index.build(kind, table)
    same.effort = index.effort
    assert torch.equal(same.search(queries, 10), index.search(queries, 10))


@pytest.mark.parametrize("kind", KINDS)
def test_lists_are_the_exact_lists_where_the_search_is_exact(kind):
    """K vectors, blocked items, equal scores: with full effort nothing differs from a full sort."""
    require(kind)
    table = vectors(400)
    table[33] *= 6 / table[33].norm()
    table[77] = table[33]  # equal scores: the smaller item first
    queries = vectors(40, seed=2).view(10, 4, 12)
    queries[0, 0] = table[33] * 10
    index = Index.build(kind, table)
    index.effort = index.efforts()[-1]
    blocked = torch.tensor([0 * 400 + 5, 1 * 400 + 7, 1 * 400 + 399, 9 * 400 + 1])
    scores = torch.einsum("bkd,nd->bkn", queries, table).amax(1)
    scores.view(-1)[blocked] = -torch.inf
    scores[:, 0] = -torch.inf
    values, order = scores.sort(dim=1, descending=True, stable=True)
    found = approximate.best_of(index, table, queries, 8, 30, blocked)
    assert torch.equal(found.items, order[:, :8])
    torch.testing.assert_close(found.scores, values[:, :8])
    assert found.items[0, :2].tolist() == [33, 77]


def test_the_least_effort_with_the_wanted_recall_is_chosen():
    require("faiss")
    table = vectors(20_000, width=8)
    queries = vectors(100, width=8, seed=3)[:, None]
    index = Index.build("faiss", table)
    recall = approximate.tune(index, table, queries)
    assert recall >= approximate.WANTED
    efforts = index.efforts()
    place = efforts.index(index.effort)
    assert place > 0
    exact = (queries[:, 0] @ table[1:].T).topk(10).indices + 1
    for effort, enough in ((efforts[place], True), (efforts[place - 1], False)):
        index.effort = effort
        found = approximate.best_of(index, table, queries, 10, 10).items
        share = float((found[:, :, None] == exact[:, None]).any(2).float().mean())
        assert (share >= approximate.WANTED) == enough
        if enough:
            assert share == pytest.approx(recall)


@pytest.fixture
def bundle(make_keys, tmp_path, monkeypatch):
    """Return a function (model, kind) -> bundle with an index, which is used for any number of candidates."""
    monkeypatch.setattr(approximate, "_SHARE", 10**6)

    def make(model="DisentS2S", kind="faiss"):
        rec = load(run(config_dict=make_keys(model, epochs=1))["checkpoint"])
        return rec.save(tmp_path / f"{model}-{kind}", index=kind)

    return make


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", ["DisentS2S", "SASRec", "BPR"])
def test_recommendations_by_the_index_keep_all_filters(bundle, model, kind, monkeypatch):
    require(kind)
    rec = load(bundle(model, kind))
    entry = rec.about["index"]
    assert entry["kind"] == kind
    assert entry["recall@10"] >= 0.98  # of 30 items
    used = []
    search = Index.search
    monkeypatch.setattr(Index, "search", lambda self, *given: used.append(given[1]) or search(self, *given))
    rec.source.index(len(rec.items) + 1, rec.item_vectors().shape[1]).effort = 1024
    items = list(rec.items)
    for options in (
        {},
        {"filter_history": False},
        {"items_excluded": items[:12]},
        {"items_excluded": {rec.users[0]: items[5:], rec.users[1]: items[:3]}},
        {"items_excluded": items[:-3], "k": 9},
    ):
        used.clear()
        expected = rec.recommend(**{"k": 5, **options})
        assert used == []
        found = rec.recommend(**{"k": 5, **options}, index=True)
        assert used
        pd.testing.assert_frame_equal(found, expected, rtol=1e-4, atol=1e-6)
    used.clear()
    for options in ({"items_allowed": items[:9]}, {"items_allowed": {rec.users[0]: items[:4]}}):
        pd.testing.assert_frame_equal(
            rec.recommend(k=5, index=True, **options), rec.recommend(k=5, **options)
        )
    assert used == []  # these are exact


def test_a_list_that_the_index_cannot_fill_is_computed_exactly(bundle, monkeypatch):
    require("faiss")
    rec = load(bundle())
    monkeypatch.setattr(Index, "search", lambda self, queries, count: torch.zeros(len(queries), count).long())
    pd.testing.assert_frame_equal(rec.recommend(k=5, index=True), rec.recommend(k=5))


def test_few_items_are_scored_exactly(bundle, monkeypatch):
    require("faiss")
    rec = load(bundle())
    monkeypatch.setattr(approximate, "_SHARE", 1 / 8)
    monkeypatch.setattr(Index, "search", lambda *_: pytest.fail("the index was used"))
    pd.testing.assert_frame_equal(rec.recommend(k=5, index=True), rec.recommend(k=5))


def test_the_commands(make_keys, tmp_path, capsys):
    require("faiss")
    path = run(config_dict=make_keys("SASRec", epochs=1))["checkpoint"]
    out = str(tmp_path / "b")
    assert main(["export", path, "--out", out, "--index", "faiss"]) == 0
    assert "index: faiss finds 100.0% of the exact 10 best items (40 histories)" in capsys.readouterr().out
    assert "- index: faiss" in (tmp_path / "b" / "README.md").read_text()
    lists = ["recommend", out, "--users", "all", "--quiet", "--k", "3"]
    assert main([*lists, "--out", "a.csv"]) == main([*lists, "--index", "--out", "b.csv"]) == 0
    pd.testing.assert_frame_equal(pd.read_csv("a.csv"), pd.read_csv("b.csv"), rtol=1e-4, atol=1e-6)


def test_what_does_not_work_is_one_sentence(bundle, make_keys, tmp_path, monkeypatch):
    require("faiss")
    path = bundle()
    rec = load(path)
    with pytest.raises(UserError, match=r"index: got diversity=0\.5, expected 0"):
        rec.recommend(k=3, index=True, diversity=0.5)
    checkpoint = load(run(config_dict=make_keys("CORE", epochs=1))["checkpoint"])
    with pytest.raises(UserError, match="index: CORE has no item vectors"):
        checkpoint.save(tmp_path / "c", index="faiss")
    with pytest.raises(UserError, match="index: got 'annoy', expected one of faiss, hnsw"):
        checkpoint.save(tmp_path / "c", index="annoy")
    with pytest.raises(UserError, match="CORE has no item vectors"):
        checkpoint.recommend(k=3, index=True)
    plain = load(run(config_dict=make_keys("SASRec", epochs=1))["checkpoint"])
    with pytest.raises(UserError, match="index: there is none here"):
        plain.recommend(k=3, index=True)
    file, config = path / FILES["faiss"], json.loads((path / "config.json").read_text())
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(UserError, match=r"index\.faiss is damaged or changed"):
        load(path)
    for content, message in ((b"nothing", "cannot be read"), (whole[:200], "cannot be read")):
        file.write_bytes(content)
        config["files"]["index.faiss"] = file_digest(file)
        (path / "config.json").write_text(json.dumps(config))
        with pytest.raises(UserError, match=message):
            load(path).recommend(k=3, index=True)
    Index.build("faiss", vectors(9)).write(file)
    config["files"]["index.faiss"] = file_digest(file)
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="is of another table of items"):
        load(path).recommend(k=3, index=True)
    config["index"] = {"kind": "../x", "effort": 1}
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="which is no index"):
        load(path).recommend(k=3, index=True)


@pytest.mark.parametrize("fate", ["replaced", "without an index", "gone"])
def test_the_index_of_another_bundle_is_not_used(make_keys, tmp_path, fate):
    require("faiss")
    models = [load(run(config_dict=make_keys("SASRec", epochs=1, seed=n))["checkpoint"]) for n in (1, 2)]
    models[0].save(tmp_path / "b", index="faiss")
    rec = load(tmp_path / "b")
    if fate == "gone":
        shutil.rmtree(tmp_path / "b")
    else:
        models[1].save(tmp_path / "b", overwrite=True, **({"index": "faiss"} if fate == "replaced" else {}))
    with pytest.raises(UserError, match="index: the bundle in 'b' is another one than was loaded; load it"):
        rec.load_index()


@pytest.mark.parametrize("kind", KINDS)
def test_without_the_library_it_is_one_sentence(kind, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **options):
        if name in LIBRARIES.values():
            raise ImportError(name, name=name)
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=rf"index: {kind} needs the package '{LIBRARIES[kind]}': pip install"):
        Index.build(kind, vectors(20))


def test_vectors_that_differ_in_length_differ_in_cosine():
    """What the first test relies on."""
    table, queries = vectors(3000), vectors(50, seed=1)
    longest = np.argsort(-table.norm(dim=1).numpy())[:300]
    wanted = (queries @ table[1:].T).topk(10).indices + 1
    assert np.isin(wanted.numpy(), longest).mean() > 0.5
