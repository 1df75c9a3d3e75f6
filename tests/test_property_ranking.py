"""Property tests of candidates and ranks."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from recbole_disent.data.candidates import draw
from recbole_disent.evaluation.ranks import hit_matrix, ranks, top_columns
from tests.property_settings import QUICK

# -- candidates ------------------------------------------------------------------------


@st.composite
def candidate_cases(draw_from):
    """Draw events of users, some of them held out, and weights of items, some of them 0."""
    n_items = draw_from(st.integers(2, 15))
    event = st.tuples(st.integers(1, 5), st.integers(1, n_items - 1))
    history = draw_from(st.lists(event, min_size=1, max_size=40))
    held = draw_from(st.lists(st.sampled_from(history), min_size=1, max_size=10))
    weights = draw_from(st.lists(st.sampled_from([0, 0, 1, 5]), min_size=n_items, max_size=n_items))
    return np.array(held), np.array(history), np.array(weights, dtype=float), draw_from(st.integers(1, 12))


@QUICK
@given(candidate_cases(), st.integers(0, 2**31), st.randoms(use_true_random=False))
def test_candidates_are_distinct_and_new_to_the_user_and_as_many_as_there_are(case, seed, random):
    held, history, weights, k = case
    found = draw(held[:, 0], held[:, 1], (history[:, 0], history[:, 1]), weights, k, [seed, 1])
    taken = {user: set(history[history[:, 0] == user, 1].tolist()) for user in held[:, 0].tolist()}
    short = 0
    for key, row in zip(found.keys.tolist(), found.negatives.tolist(), strict=True):
        user = key // len(weights)
        drawn = [item for item in row if item]
        possible = set(range(1, len(weights))) - taken[user]
        assert len(set(drawn)) == len(drawn) == min(k, len(possible))
        assert set(drawn) <= possible
        assert row[len(drawn) :] == [0] * (k - len(drawn))
        short += len(drawn) < k
        # An item without weight comes only when those with weight are used up.
        weighted = {item for item in possible if weights[item]}
        assert len(weighted & set(drawn)) == min(k, len(weighted))
    assert found.short_rows == short
    order = list(range(len(held)))
    random.shuffle(order)
    shuffled = held[order]
    again = draw(shuffled[:, 0], shuffled[:, 1], (history[:, 0], history[:, 1]), weights, k, [seed, 1])
    assert again.hash == found.hash
    rows = found.of(held[:, 0], held[:, 1])
    assert np.array_equal(rows[order], again.of(shuffled[:, 0], shuffled[:, 1]))


# -- ranks -----------------------------------------------------------------------------


@st.composite
def score_cases(draw_from):
    """Draw scores with few distinct values, so that there are ties, and a held-out column for each query."""
    queries, columns = draw_from(st.integers(1, 20)), draw_from(st.integers(1, 9))
    values = st.sampled_from([0.0, 0.5, 1.0, float("-inf")])
    row = st.lists(values, min_size=columns, max_size=columns)
    scores = torch.tensor(draw_from(st.lists(row, min_size=queries, max_size=queries)))
    held = torch.tensor(draw_from(st.lists(st.integers(0, columns - 1), min_size=queries, max_size=queries)))
    scores[torch.arange(queries), held] = scores[torch.arange(queries), held].clamp(min=0)
    places = st.lists(st.floats(0, 1, exclude_max=True), min_size=queries, max_size=queries)
    order = torch.tensor(draw_from(st.permutations(range(columns))))
    return scores, held, torch.tensor(draw_from(places), dtype=torch.float64), order


@QUICK
@given(score_cases())
def test_a_rank_counts_better_scores_and_a_share_of_the_equal_ones(case):
    scores, held, tie_break, order = case
    rank, mean_rank = ranks(scores, torch.arange(len(scores)), held, tie_break, order)
    for row, column in enumerate(held.tolist()):
        better = int((scores[row] > scores[row, column]).sum())
        equal = int((scores[row] == scores[row, column]).sum())
        assert better + 1 <= int(rank[row]) <= better + equal
        assert int(rank[row]) == better + 1 + int(float(tie_break[row]) * equal)
        assert float(mean_rank[row]) == better + (equal + 1) / 2


@QUICK
@given(score_cases(), st.data())
def test_held_out_items_of_one_query_stand_in_different_places(case, data):
    scores, _, tie_break, order = case
    finite = scores.clamp(min=-1)
    columns = finite.shape[1]
    many = [data.draw(st.sets(st.integers(0, columns - 1), min_size=1)) for _ in range(len(finite))]
    many[0] = set(range(columns))
    owner = torch.tensor([row for row, held in enumerate(many) for _ in held])
    column = torch.tensor([c for held in many for c in sorted(held)])
    if len(owner) == len(finite):
        return  # one of each query: the test above
    rank, mean_rank = ranks(finite, owner, column, tie_break, order)
    assert sorted(rank[owner == 0].tolist()) == list(range(1, columns + 1))
    for number, (row, c) in enumerate(zip(owner.tolist(), column.tolist(), strict=True)):
        better = int((finite[row] > finite[row, c]).sum())
        equal = int((finite[row] == finite[row, c]).sum())
        assert better + 1 <= int(rank[number]) <= better + equal
        assert float(mean_rank[number]) == better + (equal + 1) / 2
    hits = hit_matrix(rank, owner, len(finite), 3)
    assert hits[:, 3].tolist() == [len(held) for held in many]
    for row in range(len(finite)):
        places = set(rank[owner == row].tolist())
        assert hits[row, :3].tolist() == [int(place in places) for place in (1, 2, 3)]


@QUICK
@given(score_cases(), st.data())
def test_the_best_columns_are_the_best_ones_and_distinct(case, data):
    scores, _, _, order = case
    k = data.draw(st.integers(1, scores.shape[1]))
    columns = top_columns(scores, k, order)
    assert columns.shape == (len(scores), k)
    for row, chosen in enumerate(columns.tolist()):
        assert len(set(chosen)) == k
        assert scores[row, chosen].tolist() == scores[row].sort(descending=True).values[:k].tolist()
