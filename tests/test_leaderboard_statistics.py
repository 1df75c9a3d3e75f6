"""Tests of the statistics of comparisons, against scipy and slow references and on simulated results."""

from __future__ import annotations

import inspect
import itertools

import numpy as np
import pytest
from recbole.evaluator.metrics import MAP, MRR, NDCG, Hit, Precision, Recall
from scipy import stats

from recbole_disent.leaderboard import statistics
from recbole_disent.leaderboard.breakdown import assign, break_down
from recbole_disent.leaderboard.collect import ResultGroup, Row
from recbole_disent.leaderboard.comparisons import compare, reference_of, significantly_best
from recbole_disent.leaderboard.tables import cold_table

# scipy before 1.15 has another name for the argument.
_RNG = "rng" if "rng" in inspect.signature(stats.bootstrap).parameters else "random_state"

OPTIONS = {"alpha": 0.05, "resamples": 2000, "statistics_seed": 1, "reference": None}


def within(p: float, q: float, resamples: int) -> bool:
    """Return whether two estimates of a probability agree within their sampling error."""
    spread = np.sqrt(max(p * (1 - p), q * (1 - q), 1 / resamples) * 2 / resamples)
    return abs(p - q) <= 4 * spread + 1 / resamples


# -- metrics ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "metric"),
    [("recall", Recall), ("hit", Hit), ("ndcg", NDCG), ("mrr", MRR), ("map", MAP), ("precision", Precision)],
)
def test_metrics_of_ranks_are_recboles(name, metric):
    rng = np.random.default_rng(0)
    ranks = rng.integers(1, 40, size=200)
    hits = np.zeros((200, 20), dtype=bool)
    hits[ranks <= 20] = np.arange(1, 21) == ranks[ranks <= 20, None]
    config = {"topk": list(range(1, 21)), "metric_decimal_place": 12}
    with_lengths = name in ("recall", "ndcg", "map")
    theirs = metric(config).metric_info(hits, *([np.ones(200, dtype=np.int64)] if with_lengths else []))
    for k in (1, 5, 20):
        ours = statistics.of_ranks(f"{name}@{k}", ranks)
        np.testing.assert_allclose(ours, np.asarray(theirs, dtype=float)[:, k - 1], atol=1e-12)


def test_a_metric_that_no_rank_gives_is_an_error():
    with pytest.raises(KeyError):
        statistics.of_ranks("itemcoverage@10", np.array([1]))


# -- tests against scipy ---------------------------------------------------------------


def constructed(kind: str) -> np.ndarray:
    """Return differences of 300 users with a p-value of a few percent."""
    rng = np.random.default_rng(4)
    if kind == "discrete":
        return np.repeat([-1.0, 0.0, 1.0], [60, 160, 80])
    if kind == "three seeds":
        one = np.repeat([-1.0, 0.0, 1.0], [65, 160, 75])
        return np.mean([rng.permutation(one) for _ in range(3)], axis=0)
    d = rng.normal(size=300)
    return d - d.mean() + 0.1


@pytest.mark.parametrize("kind", ["discrete", "three seeds", "continuous"])
def test_randomisation_test_is_scipys(kind):
    d = constructed(kind)
    zero = np.zeros_like(d)
    theirs = stats.permutation_test(
        (d, zero), lambda a, b, axis: (a - b).mean(axis), permutation_type="samples", vectorized=True,
        n_resamples=20000, batch=1000, **{_RNG: np.random.default_rng(1)},
    ).pvalue  # fmt: skip
    ours = statistics.sign_flip_p(d, 20000, 5)
    assert 0.001 < theirs < 0.5
    assert within(ours, theirs, 20000)


def test_randomisation_test_is_the_exact_one_of_all_sign_patterns():
    d = np.array([1.0, 1.0, 0.5, -0.25, 0.75, 0.0, -0.5, 0.25, 1.0, 0.3])
    sums = [abs(np.dot(signs, d)) for signs in itertools.product([-1, 1], repeat=len(d))]
    exact = np.mean([s >= abs(d.sum()) - 1e-12 for s in sums])
    assert within(statistics.sign_flip_p(d, 40000, 2), exact, 40000)


@pytest.mark.parametrize("kind", ["discrete", "three seeds", "continuous"])
def test_bootstrap_interval_is_scipys(kind):
    d = constructed(kind)
    theirs = stats.bootstrap(
        (d,), np.mean, n_resamples=20000, method="percentile", batch=1000, **{_RNG: np.random.default_rng(1)}
    ).confidence_interval
    ours = statistics.bootstrap_interval(d, 0.95, 20000, 5)
    width = theirs.high - theirs.low
    np.testing.assert_allclose(ours, [theirs.low, theirs.high], atol=0.03 * width)


def test_no_difference_is_no_difference():
    assert statistics.sign_flip_p(np.zeros(50), 1000, 1) == 1.0
    assert statistics.bootstrap_interval(np.zeros(50), 0.95, 1000, 1) == (0.0, 0.0)


def test_same_seed_same_statistics():
    d = constructed("continuous")
    assert statistics.sign_flip_p(d, 1000, [1, 2]) == statistics.sign_flip_p(d, 1000, [1, 2])
    assert statistics.sign_flip_p(d, 1000, [1, 2]) != statistics.sign_flip_p(d, 1000, [1, 3])
    assert statistics.bootstrap_interval(d, 0.9, 500, 7) == statistics.bootstrap_interval(d, 0.9, 500, 7)


def test_chunks_do_not_change_what_is_tested(monkeypatch):
    d = constructed("continuous")
    whole = statistics.sign_flip_p(d, 8000, 1)
    monkeypatch.setattr(statistics, "_CHUNK", 1000)  # three patterns at a time
    assert within(statistics.sign_flip_p(d, 8000, 1), whole, 8000)


def test_over_seeds_it_is_welchs_test():
    a, b = np.array([0.30, 0.32, 0.31]), np.array([0.25, 0.29, 0.21])
    assert statistics.seeds_p(a, b) == pytest.approx(stats.ttest_ind(a, b, equal_var=False).pvalue)
    assert statistics.seeds_p(a[:1], b) is None


def test_without_spread_over_seeds_only_models_without_chance_differ():
    a, b = np.array([0.2, 0.2]), np.array([0.3, 0.3])
    assert statistics.seeds_p(a, b) == 1.0
    assert statistics.seeds_p(a, b, without_chance=True) == 0.0
    assert statistics.seeds_p(a, a, without_chance=True) == 1.0


@pytest.mark.parametrize(
    ("types", "differ"),
    [(("TRADITIONAL", "TRADITIONAL"), True), (("TRADITIONAL", "GENERAL"), False), (("GENERAL",) * 2, False)],
)
def test_models_that_draw_are_not_better_for_equal_seeds(types, differ):
    rows = [simulated_row(np.random.default_rng(19), name, ability, seeds=1, model_type=kind)
            for name, ability, kind in zip("AB", (2.0, 0.0), types, strict=True)]  # fmt: skip
    for row in rows:
        row.results, row.users = row.results * 2, row.users * 2
    group = ResultGroup("d", "full", None, rows)
    (found,) = compare(group, ["recall@10"], OPTIONS)
    assert found.p_users < 0.01
    assert (found.p_holm < 0.05) == differ
    assert bool(significantly_best(group, "recall@10", OPTIONS)) == differ


def slow_holm(p):
    """Return the p-values by definition: the k-th smallest p-value times n - k + 1, made monotone."""
    found = [0.0] * len(p)
    order = sorted(range(len(p)), key=lambda i: p[i])
    for place, index in enumerate(order):
        found[index] = max(min(1.0, p[order[j]] * (len(p) - j)) for j in range(place + 1))
    return found


def test_holm():
    rng = np.random.default_rng(0)
    families = [[], [1.0], [0.0, 0.0], *(rng.random(n).round(1 + n % 3).tolist() for n in range(1, 60))]
    for p in families:
        adjusted = statistics.holm(p)
        np.testing.assert_allclose(adjusted, slow_holm(p))
        assert all(b >= a for a, b in zip(p, adjusted, strict=True))


def test_holm_on_a_known_example():
    np.testing.assert_allclose(statistics.holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])


# -- whole comparisons -----------------------------------------------------------------


def simulated_row(rng, label, ability, seeds=3, users=400, seed_effect=0.15, model="SASRec",
                  model_type="SEQUENTIAL"):  # fmt: skip
    """Return a row with ranks that differ between users, and between seeds by a shift of all users."""
    results, stored = [], []
    base = np.random.default_rng(99).normal(size=users)  # users are easy or hard for every model
    for seed in range(seeds):
        score = base + ability + rng.normal(0, seed_effect) + rng.normal(size=users)
        ranks = 1 + np.floor(np.exp(2.2 - score)).astype(np.int64)
        stored.append({"user": np.arange(users), "rank": ranks, "history": np.arange(users) % 9 + 1,
                       "popularity": np.arange(users) % 5})  # fmt: skip
        hits = float((ranks <= 10).mean())
        results.append({"model": model, "seed": seed, "test_result": {"recall@10": hits},
                        "config": {"MODEL_TYPE": model_type},
                        "best_valid_score": hits, "valid_score_bigger": True})  # fmt: skip
    return Row(label, results=results, users=stored)


def test_a_model_against_itself_with_other_seeds_is_significant_no_more_often_than_alpha():
    rng = np.random.default_rng(11)
    times, wrong, wrong_users_only, wrong_bold = 200, 0, 0, 0
    for _ in range(times):
        rows = [simulated_row(rng, "A", 0.0), simulated_row(rng, "B", 0.0)]
        group = ResultGroup("d", "full", None, rows)
        (found,) = compare(group, ["recall@10"], {**OPTIONS, "resamples": 400})
        wrong += found.p_holm < 0.05
        wrong_users_only += found.p_users < 0.05
        wrong_bold += bool(significantly_best(group, "recall@10", {**OPTIONS, "resamples": 400}))
    most = 0.05 + 3 * np.sqrt(0.05 * 0.95 / times)
    assert wrong / times <= most
    assert wrong_bold / times <= most
    # Over users alone it would be: they cannot tell a lucky seed from a better model.
    assert wrong_users_only / times > most


def test_without_any_effect_of_seeds_the_test_over_users_keeps_its_level():
    rng = np.random.default_rng(12)
    times, wrong = 200, 0
    for _ in range(times):
        rows = [simulated_row(rng, name, 0.0, seed_effect=0.0) for name in "AB"]
        (found,) = compare(ResultGroup("d", "full", None, rows), ["ndcg@10"], {**OPTIONS, "resamples": 400})
        wrong += found.p_users < 0.05
    assert wrong / times <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / times)


def test_a_better_model_is_found():
    rng = np.random.default_rng(13)
    rows = [simulated_row(rng, "good", 0.8, users=2000, seed_effect=0.02, model="DisentS2S"),
            simulated_row(rng, "bad", 0.0, users=2000, seed_effect=0.02),
            simulated_row(rng, "worse", -0.4, users=2000, seed_effect=0.02)]  # fmt: skip
    group = ResultGroup("d", "full", None, rows)
    found = compare(group, ["recall@10", "ndcg@10"], OPTIONS)
    assert [(c.reference, c.other, c.metric) for c in found] == [
        ("good", "bad", "recall@10"), ("good", "worse", "recall@10"),
        ("good", "bad", "ndcg@10"), ("good", "worse", "ndcg@10")]  # fmt: skip
    for c in found:
        assert c.p_holm < 0.05
        assert 0 < c.low < c.difference < c.high
    assert significantly_best(group, "recall@10", OPTIONS) == [rows[0]]
    assert compare(group, ["recall@10", "ndcg@10"], OPTIONS) == found


def test_differences_are_those_of_users_averaged_over_seeds():
    rng = np.random.default_rng(14)
    a, b = simulated_row(rng, "a", 0.1, model="DisentS2S"), simulated_row(rng, "b", 0.0, seeds=2)
    (found,) = compare(ResultGroup("d", "full", None, [a, b]), ["mrr@10"], OPTIONS)
    slow = []
    for user in range(400):
        mean = []
        for row in (a, b):
            ranks = [stored["rank"][user] for stored in row.users]
            mean.append(sum(1 / r if r <= 10 else 0.0 for r in ranks) / len(ranks))
        slow.append(mean[0] - mean[1])
    assert found.difference == pytest.approx(np.mean(slow), abs=1e-12)
    assert found.low <= found.difference <= found.high


def test_one_seed_is_never_enough_for_bold():
    rng = np.random.default_rng(15)
    rows = [simulated_row(rng, "good", 2.0, seeds=1), simulated_row(rng, "bad", 0.0, seeds=1)]
    group = ResultGroup("d", "full", None, rows)
    (found,) = compare(group, ["recall@10"], OPTIONS)
    assert found.p_users < 0.01
    assert found.p_seeds is None
    assert significantly_best(group, "recall@10", OPTIONS) == []


def row_of_shares(label, *shares, users=200):
    """Return a row in which this share of the users has rank 1 in each seed, and the others have rank 99."""
    ranks = [np.where(np.arange(users) < share * users, 1, 99) for share in shares]
    results = [{"model": "SASRec", "config": {"MODEL_TYPE": "SEQUENTIAL"}} for _ in shares]
    return Row(label, results=results, users=[{"rank": r} for r in ranks])


def test_the_level_of_bold_is_divided_by_the_number_of_other_rows():
    good, second = row_of_shares("good", 0.8, 0.9), row_of_shares("second", 0.4, 0.5)
    p = statistics.seeds_p(np.array([0.8, 0.9]), np.array([0.4, 0.5]))
    worst = row_of_shares("worst", 0.0, 0.1)
    two, three = (ResultGroup("d", "full", None, rows) for rows in ([good, second], [good, second, worst]))
    for group, factor, best in ((two, 1.5, [good]), (three, 1.5, []), (three, 2.5, [good])):
        assert significantly_best(group, "recall@10", {**OPTIONS, "alpha": factor * p}) == best


def test_no_row_is_bold_beside_one_without_a_test():
    good, bad = row_of_shares("good", 0.90, 0.91), row_of_shares("bad", 0.40, 0.41)
    for users, best in ((bad.users, [good]), ([], []), (bad.users[:1], [])):
        unknown = Row("unknown", results=bad.results, users=users)
        group = ResultGroup("d", "full", None, [good, bad, unknown])
        assert significantly_best(group, "recall@10", OPTIONS) == best


def test_the_reference_is_chosen_by_validation_and_among_this_packages_models():
    rng = np.random.default_rng(16)
    rows = [simulated_row(rng, "theirs", 2.0), simulated_row(rng, "ours", 0.0, model="DisentS2S"),
            simulated_row(rng, "ours too", 0.0, model="DisentS2S")]  # fmt: skip
    for row, valid in zip(rows, (0.9, 0.1, 0.2), strict=True):
        for result in row.results:
            result["best_valid_score"] = valid
    assert reference_of(rows, None).label == "ours too"
    assert reference_of(rows[:1], None).label == "theirs"
    assert reference_of(rows, "ours").label == "ours"


def test_a_sweep_is_compared_at_each_value():
    rng = np.random.default_rng(17)
    rows = []
    for value in (0.0, 0.5):
        for label in ("ours", "theirs"):
            row = simulated_row(rng, label, 0.0, model="DisentS2S" if label == "ours" else "SASRec")
            row.sweep = value
            rows.append(row)
    found = compare(ResultGroup("d", "full", "click_noise", rows), ["recall@10"], OPTIONS)
    assert [(c.reference, c.other) for c in found] == [
        ("ours at 0.0", "theirs at 0.0"), ("ours at 0.5", "theirs at 0.5")]  # fmt: skip


# -- groups of users -------------------------------------------------------------------


def test_groups_part_the_users_in_order():
    rng = np.random.default_rng(0)
    cases = [[0], [7], [0, 0, 3], [5] * 9, *(rng.integers(0, 2 + n, size=1 + 3 * n) for n in range(60))]
    for values in map(np.asarray, cases):
        number, groups = assign(values)
        assert len(groups) <= 6
        assert [low for low, _ in groups] == sorted({low for low, _ in groups})
        for group, (low, high) in enumerate(groups):
            np.testing.assert_array_equal(number == group, (values >= low) & (values <= high))
        if 0 in values:
            assert groups[0] == (0, 0)


def test_a_metric_by_group_is_the_mean_over_its_users():
    row = simulated_row(np.random.default_rng(18), "a", 0.0)
    found = break_down(ResultGroup("d", "full", None, [row]), "ndcg@10", "popularity")
    assert found.users.sum() == 400
    for seed in range(3):
        stored = row.users[seed]
        for group, (low, high) in enumerate(found.groups):
            inside = (stored["popularity"] >= low) & (stored["popularity"] <= high)
            slow = [1 / np.log2(r + 1) if r <= 10 else 0.0 for r in stored["rank"][inside]]
            assert found.values[0][seed, group] == pytest.approx(np.mean(slow))


def test_the_table_of_cold_items_is_of_users_whose_test_item_is_rare():
    row = simulated_row(np.random.default_rng(19), "a", 0.0)
    group = ResultGroup("d", "full", None, [row])
    rare = sorted(row.users[0]["popularity"])[40] + 1
    table = cold_table(group, ["recall@10", "itemcoverage@10", "mrr@5"], rare)
    assert table.head == ["model", "recall@10", "mrr@5"]
    inside = [stored["rank"][stored["popularity"] < rare] for stored in row.users]
    recall, mrr = (cell.value for cell in table.rows[0][1:])
    assert recall == pytest.approx(np.mean([np.mean(ranks <= 10) for ranks in inside]))
    assert mrr == pytest.approx(np.mean([np.mean(np.where(r <= 5, 1 / r, 0.0)) for r in inside]))
    assert f"{len(inside[0])} of 400 users" in table.notes[0]
    assert cold_table(group, ["recall@10"], 0) is None
