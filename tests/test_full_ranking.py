"""Tests that a full ranking in tiles equals the ranking of whole rows of scores, ties included."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recbole_disent.errors import UserError
from recbole_disent.evaluation import full_ranking
from recbole_disent.evaluation.full_ranking import rank_among_all
from recbole_disent.evaluation.ranks import placed, ranks, top_columns
from recbole_disent.evaluation.scoring import item_vectors
from recbole_disent.models.base import VectorRecommender
from recbole_disent.session import build_data, build_model
from tests.model_lists import WITH_VECTORS
from tests.test_evaluation import evaluator_and_loader

ROWS = 13


@pytest.fixture(params=[(8, 2), (100, 7), (2**19, 256)], ids=str)
def tile(request, monkeypatch):
    """Tiles of 2 items, of 7 and of all items."""
    monkeypatch.setattr(full_ranking, "_CPU_TILE", request.param[0])
    monkeypatch.setattr(full_ranking, "_COLUMNS", request.param[1])
    return request.param


def example(items: int, vectors: int, whole_numbers: bool, seed: int = 0):
    """Queries, table, targets and pairs that are not ranked, of which some occur twice."""
    rng = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        if whole_numbers:  # exact products with many ties
            return torch.randint(-1, 2, shape, generator=rng).float()
        return torch.randn(*shape, generator=rng)

    targets = torch.randint(1, items, (ROWS,), generator=rng)
    row = torch.randint(ROWS, (40,), generator=rng)
    item = torch.randint(1, items, (40,), generator=rng)
    row, item = torch.cat([row, torch.arange(ROWS)]), torch.cat([item, targets])  # the target is met, too
    return draw(items, 4), draw(ROWS, vectors, 4), targets, row, item


def whole(table, queries, targets, row, item):
    """Scores as the evaluator masks them."""
    scores = (queries @ table.T).amax(1)
    own = scores.gather(1, targets[:, None])
    scores[:, 0] = scores[row, item] = -np.inf
    return scores.scatter_(1, targets[:, None], own)


@pytest.mark.parametrize("items", [2, 9, 50])
@pytest.mark.parametrize("vectors", [1, 3])
@pytest.mark.parametrize("whole_numbers", [False, True])
def test_ranks_and_lists_are_those_of_whole_rows(tile, items, vectors, whole_numbers):
    table, queries, targets, row, item = example(items, vectors, whole_numbers)
    permutation = torch.randperm(items)
    k = min(5, items - 1)
    for pairs in ((row, item), (row[:0], item[:0])):
        scores = whole(table, queries, targets, *pairs)
        tie_break = torch.rand(ROWS, dtype=torch.float64)
        found = rank_among_all(table, queries, targets, *pairs, k, permutation, 3)
        expected = ranks(scores, torch.arange(ROWS), targets, tie_break, permutation)
        for a, b in zip(placed(found.greater, found.equal, tie_break), expected, strict=True):
            assert torch.equal(a, b)
        assert torch.equal(found.ranked, (scores > -np.inf).sum(1))
        best = top_columns(scores, k, permutation)
        full = (scores.gather(1, best) > -np.inf).all(1)
        assert torch.equal(found.full, full)
        assert torch.equal(found.best[full], best[full])
    assert rank_among_all(table, queries, targets, row, item).best is None


def test_a_machine_whose_products_depend_on_their_place_gives_the_same_ranks(tile, monkeypatch):
    """A target's score then differs between the first products and its tile."""
    table, queries, targets, row, item = example(50, 1, True)
    expected = rank_among_all(table, queries, targets, row, item)
    own = full_ranking._Tiles.own_scores
    monkeypatch.setattr(full_ranking._Tiles, "own_scores", lambda *a: own(*a) + 1e-3)
    found = rank_among_all(table, queries, targets, row, item)
    assert torch.equal(found.greater, expected.greater)
    assert torch.equal(found.equal, expected.equal)


@pytest.mark.parametrize("rows", [1, 7, 98, 290])
def test_equal_vectors_are_tied_in_every_tile(monkeypatch, rows):
    monkeypatch.setattr(full_ranking, "_CPU_TILE", 2**15)
    torch.manual_seed(1)
    table = torch.randn(1, 64).expand(5000, 64).contiguous()
    targets = torch.randint(1, 5000, (rows,))
    found = rank_among_all(table, torch.randn(rows, 2, 64), targets, targets[:0], targets[:0])
    assert found.greater.tolist() == [0] * rows
    assert found.equal.tolist() == [4999] * rows


@pytest.mark.parametrize("place", [(0, 3), (1, 2)])
def test_a_score_that_is_not_a_number_is_an_error(tile, place):
    table, queries, targets, row, item = example(9, 2, False)
    (table if place[0] else queries[:, 0])[place[1], 0] = float("nan")
    with pytest.raises(UserError, match=r"scores that are not numbers \(NaN\)"):
        rank_among_all(table, queries, targets, row, item)


def test_products_of_large_numbers_that_are_no_number_are_an_error(tile):
    """All entries are finite, but a score is the difference of two infinite products."""
    table, queries, targets, row, item = example(9, 1, False)
    table[4] = torch.tensor([1e30, -1e30, 0, 0])
    queries[2, 0] = 1e30
    assert table.isfinite().all()
    if not (queries[:, 0] @ table.T).isnan().any():
        pytest.skip("this machine adds a product to a sum before it rounds, so that the score is infinite")
    with pytest.raises(UserError, match="not numbers"):
        rank_among_all(table, queries, targets, row, item)


def test_no_array_has_a_row_of_scores_for_each_query():
    """With more items than a tile has columns, no tensor holds a score of each query and item."""
    from torch.utils._python_dispatch import TorchDispatchMode

    table, queries, targets, row, item = example(5000, 2, False)
    largest = []

    class Sizes(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            found = func(*args, **(kwargs or {}))
            if isinstance(found, torch.Tensor) and found is not table:
                largest.append(found.untyped_storage().nbytes() // found.element_size())
            return found

    full_ranking._CPU_TILE, kept = 2000, full_ranking._CPU_TILE
    try:
        with Sizes():
            rank_among_all(table, queries, targets, row, item, 5, torch.randperm(5000))
    finally:
        full_ranking._CPU_TILE = kept
    others = [size for size in largest if size != table.numel()]
    assert 0 < max(others) <= 2 * ROWS * 256


# -- models ----------------------------------------------------------------------------


def test_which_models_have_vectors(make_config):
    for model in ("DisentS2S", "SASRecContent", "SASRec", "BERT4Rec", "Caser", "BPR"):
        net = build_model(build_data(make_config(model))).eval()
        assert item_vectors(net, model) is not None
    assert item_vectors(build_model(build_data(make_config("FPMC"))).eval(), "FPMC") is None
    hidden = build_model(build_data(make_config("TSSR", score_by_content=1, output="both"))).eval()
    assert item_vectors(hidden, "TSSR") is None
    assert "FPMC" not in WITH_VECTORS


def test_a_class_with_its_own_scores_is_ranked_by_them(make_config):
    net = build_model(build_data(make_config("SASRec"))).eval()
    assert item_vectors(net, "SASRec") is not None
    net.full_sort_predict = lambda batch: torch.zeros(len(batch), net.n_items)
    assert item_vectors(net, "SASRec") is None
    own = type("SASRec", (type(net),), {"full_sort_predict": lambda self, batch: 1, "__module__": "mine"})
    own.full_sort_predict.__module__ = "mine"
    net.__class__ = own
    del net.full_sort_predict
    assert item_vectors(net, "SASRec") is None
    mine = type("Mine", (VectorRecommender,), {"full_sort_predict": own.full_sort_predict})
    assert item_vectors(mine.__new__(mine), "Mine") is None


NAMES = ["Recall", "NDCG", "MRR", "GAUC", "ItemCoverage", "AveragePopularity", "RepeatShare"]


@pytest.mark.parametrize("model", ["SASRec", "BERT4Rec", "GRU4Rec", "DisentS2S"])
@pytest.mark.parametrize("filters", [False, True])
def test_metrics_in_tiles_are_those_of_whole_rows(make_config, monkeypatch, model, filters):
    monkeypatch.setattr(full_ranking, "_CPU_TILE", 64)
    monkeypatch.setattr(full_ranking, "_COLUMNS", 4)
    evaluator, loader, net, _ = evaluator_and_loader(
        make_config, model, metrics=NAMES, filter_history=filters, topk=[1, 5], MAX_ITEM_LIST_LENGTH=10
    )
    with torch.no_grad():
        found, ranked = evaluator.evaluate(net, loader), evaluator.last_ranks
        monkeypatch.setattr("recbole_disent.evaluation.evaluator.item_vectors", lambda *a: None)
        loader.whole_rows = 3  # parts of a chunk
        expected = evaluator.evaluate(net, loader)
    assert found == expected
    assert np.array_equal(ranked, evaluator.last_ranks)


def test_a_chunk_of_whole_rows_keeps_to_the_memory(make_config, monkeypatch):
    """A model without vectors scores at most *whole_rows* queries at a time."""
    evaluator, loader, net, _ = evaluator_and_loader(make_config, "FPMC")
    loader.whole_rows = 4
    sizes, score = [], net.full_sort_predict
    net.full_sort_predict = lambda batch: sizes.append(len(batch)) or score(batch)
    with torch.no_grad():
        evaluator.evaluate(net, loader)
    assert max(sizes) == 4
    assert sum(sizes) == loader.n_queries


def test_half_precision_counts_exactly():
    """Small whole numbers are exact in bfloat16, also more than 256 equal scores in a tile."""
    table, queries, targets, row, item = example(2000, 3, True)
    exact = rank_among_all(table, queries, targets, row, item)
    assert exact.equal.max() > 256
    half = rank_among_all(table.bfloat16(), queries, targets, row, item)
    for name in ("greater", "equal", "ranked"):
        assert torch.equal(getattr(half, name), getattr(exact, name)), name


def test_score_dtype_rounds_the_item_vectors(make_config, monkeypatch):
    ranked, tables = {}, []

    def spy(table, *args, **keys):
        tables.append(table.dtype)
        return rank_among_all(table, *args, **keys)

    monkeypatch.setattr("recbole_disent.evaluation.evaluator.rank_among_all", spy)
    for name in ("float32", "bfloat16"):
        evaluator, loader, net, _ = evaluator_and_loader(make_config, "SASRec", score_dtype=name)
        table = item_vectors(net, "SASRec")[0]
        found = evaluator._item_vectors(net)[0]
        assert torch.equal(found, table.bfloat16() if name == "bfloat16" else table)
        evaluator.evaluate(net, loader)
        assert set(tables) == {getattr(torch, name)}
        tables.clear()
        ranked[name] = evaluator.last_ranks
    assert ranked["bfloat16"].shape == ranked["float32"].shape
    monkeypatch.setattr("recbole_disent.evaluation.evaluator.item_vectors", lambda *_: None)
    with pytest.raises(UserError, match=r"score_dtype: got 'bfloat16', expected float32, .* SASRec"):
        evaluator.evaluate(net, loader)
