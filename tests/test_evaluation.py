"""Tests that candidates, ranks and metrics are fair, reproducible and equal to naive implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from recbole.evaluator.collector import Collector, DataStruct
from recbole.utils import init_seed

from recbole_disent.data import candidates as drawing
from recbole_disent.data.dataset import SequenceDataset
from recbole_disent.data.interactions import InteractionDataset
from recbole_disent.evaluation.evaluator import RankingEvaluator
from recbole_disent.evaluation.metrics import cooccurrence_vectors
from recbole_disent.evaluation.ranks import top_columns
from recbole_disent.loaders import evaluation as loaders_evaluation
from recbole_disent.loaders.build import make_loaders
from recbole_disent.registry import get_model

# -- candidates ------------------------------------------------------------------------


def history(seed=0, users=50, items=80):
    rng = np.random.default_rng(seed)
    who = rng.integers(1, users, size=900)
    what = np.minimum(1 + rng.geometric(0.06, size=900), items - 1)
    return who, what


@pytest.mark.parametrize("weights", ["uniform", "popular"])
@pytest.mark.parametrize("k", [1, 10, 45])
def test_candidates_are_distinct_and_outside_the_history(weights, k):
    users, items = history()
    weight = np.ones(80) if weights == "uniform" else drawing.popularity(items, 80)
    drawn = drawing.draw(users[:60], items[:60], (users, items), weight, k, [7, 1])
    again = drawing.draw(users[:60][::-1], items[:60][::-1], (users, items), weight, k, [7, 1])
    other = drawing.draw(users[:60], items[:60], (users, items), weight, k, [8, 1])
    assert drawn.hash == again.hash
    assert k < 10 or drawn.hash != other.hash
    seen = {u: set(items[users == u]) for u in set(users)}
    for user, row in zip(users[:60], drawn.of(users[:60], items[:60]), strict=True):
        real = row[row > 0]
        assert len(set(real)) == len(real) == min(k, 79 - len(seen[user]))
        assert not set(real) & seen[user]
        assert (row[len(real) :] == 0).all()


def test_few_possible_negatives_are_used_up_and_counted():
    users, items = np.ones(7, dtype=int), np.arange(1, 8)
    weights = np.array([0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0])
    drawn = drawing.draw(users[:1], items[:1], (users, items), weights, 5, [1])
    assert drawn.negatives[0, 0] == 8  # the only one with weight comes first
    assert set(drawn.negatives[0].tolist()) == {8, 9, 10, 0}
    assert drawn.short_rows == 1


def test_popular_items_come_in_proportion():
    weights = np.array([0, 1, 2, 4, 8])
    users = np.arange(1, 40_001)
    drawn = drawing.draw(users, np.ones(40_000, int), (users, np.ones(40_000, int)), weights, 1, [3])
    share = np.bincount(drawn.negatives[:, 0], minlength=5)[2:] / 40_000
    expected = weights[2:] / weights[2:].sum()  # item 1 is everybody's history
    assert np.abs(share - expected).max() < 4 * math.sqrt(0.25 / 40_000)


def test_candidates_are_cached_without_pickle(tmp_path):
    users, items = history()
    path = str(tmp_path / "x" / "c.npz")
    make = lambda: drawing.draw(users[:9], items[:9], (users, items), np.ones(80), 5, [1])  # noqa: E731
    first = drawing.cached(path, make)
    second = drawing.cached(path, lambda: pytest.fail("drawn twice"))
    assert first.hash == second.hash
    assert not np.load(path, allow_pickle=False)["negatives"].dtype.hasobject


def evaluator_and_loader(make_config, model, part=2, **keys):
    config = make_config(model, **keys)
    kind = InteractionDataset if config["MODEL_TYPE"].name != "SEQUENTIAL" else SequenceDataset
    dataset = kind(config)
    loaders = make_loaders(config, dataset.build())
    init_seed(1, True)
    net = get_model(model)(config, loaders[0]._dataset)
    return RankingEvaluator(config, loaders[0]._dataset), loaders[part], net.eval(), config


def test_every_model_epoch_and_process_meets_the_same_candidates(make_config):
    hashes = set()
    for model in ("DisentS2S", "SASRec", "BPR", "NeuMF"):
        for part in (1, 2):
            evaluator, loader, net, _ = evaluator_and_loader(
                make_config, model, part, eval_mode="pop8", topk=9
            )
            before = evaluator.candidates(loader.dataset).hash
            with torch.no_grad():
                evaluator.evaluate(net, loader)
            assert evaluator.candidates(loader.dataset).hash == before
            hashes.add((part, before))
    assert len(hashes) == 2


def clicks_of(history, held_out):
    """Users and items of all clicks but the last *held_out* of each user, in time order.

    As in RecBole a user keeps at least one pair for training.
    """
    users, items = history
    places = [np.flatnonzero(users == user) for user in np.unique(users)]
    kept = np.concatenate([own[: len(own) - max(0, min(held_out, len(own) - 2))] for own in places])
    return users[kept], items[kept]


@pytest.mark.parametrize("model", ["SASRec", "BPR"])
@pytest.mark.parametrize("part", [1, 2])
def test_popularity_of_candidates_counts_training_clicks_only(make_config, model, part):
    """A held-out click must not make its item a more likely candidate of other users."""
    for clicks, held_out in (("train", 2), ("all", 0)):
        evaluator, loader, _, _ = evaluator_and_loader(
            make_config, model, part, eval_mode="pop8", topk=9, candidate_popularity=clicks
        )
        dataset = loader.dataset
        _, items = clicks_of(dataset.history, held_out)
        expected = drawing.popularity(items, dataset.item_num)
        np.testing.assert_array_equal(evaluator._weights(dataset), expected)


@pytest.mark.parametrize("model", ["SASRec", "BPR"])
def test_statistics_of_metrics_and_models_count_training_clicks_only(make_config, model):
    evaluator, loader, _, _ = evaluator_and_loader(
        make_config, model, metrics=["NDCG", "AveragePopularity", "IntraListDiversity"]
    )
    users, items = clicks_of(loader.dataset.history, 2)
    n_users, n_items = loader.dataset.user_num, loader.dataset.item_num
    counts = np.bincount(items, minlength=n_items)
    np.testing.assert_array_equal(evaluator.train.training_counts(), counts)
    struct = DataStruct()
    evaluator._describe_data(struct)
    assert struct.get("data.count_items") == {i: n for i, n in enumerate(counts) if n}
    vectors = cooccurrence_vectors(users, items, n_users, n_items)
    found = struct.get("data.item_vectors")
    # The order of the clicks decides the signs of singular vectors, but no product of two items.
    torch.testing.assert_close(found @ found.T, vectors @ vectors.T, rtol=1e-4, atol=1e-4)


# -- whole evaluations -----------------------------------------------------------------


class Constant:
    """A model that gives every item the same score."""

    def __init__(self, n_items):
        self.n_items = n_items

    def full_sort_predict(self, batch):
        return torch.zeros(len(batch), self.n_items)


@pytest.mark.parametrize(("mode", "columns"), [("full", None), ("uni20", 21), ("pop20", 21)])
def test_constant_scorer_is_at_chance(tmp_path, mode, columns):
    from recbole_disent.config.config import Config
    from tests.conftest import write_inter

    rng = np.random.default_rng(0)
    rows = [(u, i, 1, t) for u in range(3000) for t, i in enumerate(rng.integers(60, size=5))]
    write_inter(tmp_path, "many", rows)
    keys = {"data_path": str(tmp_path), "eval_mode": mode, "topk": [1, 5], "valid_metric": "NDCG@5",
            "metric_decimal_place": 8}  # fmt: skip
    config = Config("SASRec", "many", config_dict=keys)
    loaders = make_loaders(config, SequenceDataset(config).build())
    evaluator = RankingEvaluator(config, loaders[0]._dataset)
    columns = columns or 60
    found = evaluator.evaluate(Constant(61), loaders[2])
    for k in (1, 5):
        chance = k / columns
        assert abs(found[f"recall@{k}"] - chance) < 4 * math.sqrt(chance * (1 - chance) / 3000)


def naive(config, model, dataset, drawn):
    """Return Recall, NDCG and MRR from predict, one sequence at a time."""
    found = []
    for row in range(len(dataset.inter_feat)):
        batch = dataset[[row]]
        target = int(batch["item_id"])
        pool = [target, *drawn.of(batch["user_id"].numpy(), batch["item_id"].numpy())[0].tolist()]
        scores = []
        for item in pool:
            if item:
                batch["item_id"] = torch.tensor([item])
                scores.append(float(model.predict(batch)))
        found.append(1 + sum(s > scores[0] for s in scores[1:]))
    rank = np.array(found)
    k = config["topk"][-1]
    return {
        f"recall@{k}": (rank <= k).mean(),
        f"ndcg@{k}": np.where(rank <= k, 1 / np.log2(rank + 1), 0).mean(),
        f"mrr@{k}": np.where(rank <= k, 1 / rank, 0).mean(),
    }


@pytest.mark.parametrize("model", ["DisentS2S", "SASRec", "GRU4Rec", "BPR", "NeuMF", "FPMC"])
def test_candidate_metrics_equal_a_naive_implementation(make_config, model):
    keys = {"eval_mode": "pop8", "topk": [1, 4], "valid_metric": "NDCG@4", "eval_batch_size": 7,
            "metric_decimal_place": 10}  # fmt: skip
    evaluator, loader, net, config = evaluator_and_loader(make_config, model, **keys)
    with torch.no_grad():
        found = evaluator.evaluate(net, loader)
        expected = naive(config, net, loader.dataset, evaluator.candidates(loader.dataset))
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-9), name


@pytest.mark.parametrize("model", ["SASRec", "BPR"])
def test_full_ranking_equals_recboles_collector(make_config, model):
    """Metrics equal those of RecBole's collector on the same scores without ties."""
    names = ["Recall", "NDCG", "MRR", "Hit", "Precision", "MAP", "GAUC"]
    evaluator, loader, net, config = evaluator_and_loader(
        make_config, model, metrics=names, metric_decimal_place=6
    )
    collector = Collector(config)
    with torch.no_grad():
        found = evaluator.evaluate(net, loader)
        for queries in loader:
            scores = net.full_sort_predict(queries.batch).view(len(queries.batch), -1)
            scores[:, 0] = -np.inf
            if model == "BPR":
                row, item = loader.dataset.earlier(queries.rows)
                keep = scores[queries.owner, queries.positives]
                scores[row, item] = -np.inf
                scores[queries.owner, queries.positives] = keep
            collector.eval_batch_collect(scores, queries.batch, queries.owner, queries.positives)
    expected = evaluator.metrics.evaluate(collector.get_data_struct())
    assert set(found) == set(expected)
    for name in expected:
        assert found[name] == pytest.approx(expected[name], abs=2e-6), name


def test_general_model_with_ratio_split_ranks_all_held_out_items_of_a_user_together(make_config):
    evaluator, loader, net, _ = evaluator_and_loader(
        make_config, "BPR", eval_args={"split": {"RS": [0.5, 0.2, 0.3]}, "order": "TO"}
    )
    users = loader.dataset.inter_feat["user_id"]
    assert loader.n_queries == len(users.unique()) < len(users)
    recalls = []
    with torch.no_grad():
        found = evaluator.evaluate(net, loader)["recall@10"]
        for queries in loader:
            scores = net.full_sort_predict(queries.batch).view(len(queries.batch), -1)
            own = scores[queries.owner, queries.positives]
            scores[:, 0] = -np.inf
            row, item = loader.dataset.earlier(queries.rows)
            scores[row, item] = -np.inf
            scores[queries.owner, queries.positives] = own
            for query, best in enumerate(scores.topk(10).indices.tolist()):
                held_out = queries.positives[queries.owner == query].tolist()
                recalls.append(len({*held_out} & {*best}) / len(held_out))
    assert len(recalls) == loader.n_queries
    assert found == pytest.approx(np.mean(recalls), abs=1e-4)


def test_chunks_do_not_change_the_result(make_config):
    found = []
    for keys in ({}, {"eval_batch_size": 3}, {"trim_batches": False}):
        evaluator, loader, net, _ = evaluator_and_loader(make_config, "SASRec", **keys)
        with torch.no_grad():
            evaluator.evaluate(net, loader)
        found.append(evaluator.last_ranks)
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


@pytest.mark.parametrize(("position", "event"), [(2**15, 1), (1, 2**16), (2**15, 2**16), (2**30, 2**30)])
def test_chunks_of_long_histories_have_fewer_queries(make_config, monkeypatch, position, event):
    keys = {"filter_history": True, "eval_memory_mb": 1, "MAX_ITEM_LIST_LENGTH": 10}
    evaluator, loader, net, _ = evaluator_and_loader(make_config, "SASRec", **keys)
    with torch.no_grad():
        evaluator.evaluate(net, loader)
        expected = evaluator.last_ranks
        monkeypatch.setattr(loaders_evaluation, "_POSITION", position)
        monkeypatch.setattr(loaders_evaluation, "_EVENT", event)
        evaluator, loader, net, _ = evaluator_and_loader(make_config, "SASRec", **keys)
        evaluator.evaluate(net, loader)
    assert np.array_equal(evaluator.last_ranks, expected)
    chunks = list(loader)
    assert sorted(np.concatenate([chunk.number for chunk in chunks])) == list(range(loader.n_queries))
    for chunk in chunks:
        owner, _ = loader.dataset.earlier(chunk.rows)
        positions = chunk.batch["item_id_list"].numel()
        assert len(owner) == loader.dataset.history_sizes(chunk.rows).sum()
        if len(chunk.number) > 1:
            assert positions * position <= 2**20
            assert len(owner) * event <= 2**20
    if position < 2**30:
        assert len({len(chunk.number) for chunk in chunks}) > 1
    else:
        assert len(chunks) == loader.n_queries


@pytest.mark.parametrize("model", ["SASRec", "BPR"])
def test_filter_history_leaves_out_the_history_but_not_the_target(make_config, model):
    evaluator, loader, net, _ = evaluator_and_loader(
        make_config, model, filter_history=True, metrics=["RepeatShare", "NDCG"]
    )
    with torch.no_grad():
        result = evaluator.evaluate(net, loader)
    # The data repeat items: only the held-out item itself may be one that the user has met.
    n = loader.n_queries
    assert result["repeatshare@10"] <= 1 / 10
    evaluator.config["filter_history"] = False
    with torch.no_grad():
        assert evaluator.evaluate(net, loader)["repeatshare@10"] > result["repeatshare@10"]
    assert len(evaluator.last_ranks) == n


def test_lists_that_cannot_be_filled_are_no_lists(make_config):
    """The padding item is never recommended, even to users with few possible candidates."""
    names = ["ItemCoverage", "NDCG", "RepeatShare", "AveragePopularity"]
    evaluator, loader, net, _ = evaluator_and_loader(
        make_config, "SASRec", metrics=names, eval_mode="uni29", topk=[20]
    )
    kept = {}
    evaluator.metrics.evaluate = lambda struct: kept.update(items=struct.get("rec.items"))
    with torch.no_grad():
        evaluator.evaluate(net, loader)
    assert 0 < len(kept["items"]) < loader.n_queries
    assert (kept["items"] > 0).all()


def test_popularity_metrics_count_the_same_clicks_for_every_model(make_config):
    counts = []
    for model in ("SASRec", "BPR"):
        evaluator, loader, net, _ = evaluator_and_loader(
            make_config, model, metrics=["AveragePopularity", "NDCG"]
        )
        evaluator.metrics.evaluate = lambda struct: counts.append(struct.get("data.count_items"))
        with torch.no_grad():
            evaluator.evaluate(net, loader)
    assert counts[0] == counts[1]


def test_nan_scores_are_an_error(make_config):
    evaluator, loader, net, _ = evaluator_and_loader(make_config, "SASRec")
    net.item_embedding.weight.data[3] = math.nan
    with pytest.raises(ValueError, match="not numbers"), torch.no_grad():
        evaluator.evaluate(net, loader)


# -- beyond accuracy -------------------------------------------------------------------


def test_recboles_beyond_accuracy_metrics_and_ours(make_config):
    names = ["NDCG", "ItemCoverage", "AveragePopularity", "ShannonEntropy", "GiniIndex",
             "TailPercentage", "IntraListDiversity", "RepeatShare"]  # fmt: skip
    for model in ("DisentS2S", "BPR"):
        evaluator, loader, net, _ = evaluator_and_loader(make_config, model, metrics=names)
        with torch.no_grad():
            result = evaluator.evaluate(net, loader)
        assert set(result) >= {f"{n.lower()}@5" for n in names}
        assert result["intralistdiversity@1"] == 0
        assert 0 < result["intralistdiversity@10"] < 2


def test_lists_of_all_items_cover_all_items(make_config):
    """RecBole's denominator has the padding item as well, with which the coverage is 30 / 31."""
    evaluator, loader, net, _ = evaluator_and_loader(
        make_config, "SASRec", metrics=["ItemCoverage", "NDCG"], topk=[30], filter_history=False
    )
    assert evaluator.train.item_num == 31
    with torch.no_grad():
        assert evaluator.evaluate(net, loader)["itemcoverage@30"] == 1


def test_intra_list_diversity_equals_its_definition(make_config):
    evaluator, loader, net, _ = evaluator_and_loader(
        make_config, "SASRec", metrics=["IntraListDiversity", "NDCG"], metric_decimal_place=8
    )
    with torch.no_grad():
        found = evaluator.evaluate(net, loader)["intralistdiversity@5"]
        v = evaluator._vectors
        values = []
        for queries in loader:
            scores = net.full_sort_predict(queries.batch)
            scores[:, 0] = -np.inf
            for row in top_columns(scores, 5, torch.arange(scores.shape[1])):
                pairs = [(a, b) for a in range(5) for b in range(a)]
                values.append(np.mean([1 - float(v[row[a]] @ v[row[b]]) for a, b in pairs]))
    assert found == pytest.approx(np.mean(values), abs=1e-5)


def test_item_vectors_put_items_of_the_same_users_together():
    users = np.array([1, 1, 2, 2, 3, 3, 4, 4])
    items = np.array([1, 2, 1, 2, 3, 4, 3, 4])
    v = cooccurrence_vectors(users, items, 5, 6)
    assert float(v[1] @ v[2]) > 0.99
    assert abs(float(v[1] @ v[3])) < 0.01
    assert float(v[5].norm()) == 0
