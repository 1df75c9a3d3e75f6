"""Tests of ranks of held-out items, lists of the best items, and NaN scores."""

from __future__ import annotations

import math

import pytest
import torch

from recbole_disent.errors import UserError
from recbole_disent.evaluation.ranks import ranks, top_columns
from recbole_disent.evaluation.scoring import checked as checked_scores


def test_ranks_count_what_is_better():
    scores = torch.tensor([[0.0, 3.0, 1.0, 2.0], [5.0, 5.0, 5.0, -math.inf]])
    first = ranks(scores, torch.arange(2), torch.tensor([2, 1]), torch.zeros(2), torch.arange(4))
    last = ranks(scores, torch.arange(2), torch.tensor([2, 1]), torch.full((2,), 0.99), torch.arange(4))
    assert first[0].tolist() == [3, 1]
    assert last[0].tolist() == [3, 3]
    assert first[1].tolist() == [3.0, 2.0]


def test_permuting_candidates_changes_nothing_without_ties():
    torch.manual_seed(0)
    scores, column = torch.randn(20, 9), torch.randint(9, (20,))
    tie_break, order = torch.rand(20), torch.randperm(9)
    a = ranks(scores, torch.arange(20), column, tie_break, torch.arange(9))[0]
    place = torch.argsort(order)
    b = ranks(scores[:, order], torch.arange(20), place[column], tie_break, torch.arange(9))[0]
    assert torch.equal(a, b)


def test_several_held_out_items_get_distinct_ranks_even_when_tied():
    scores = torch.zeros(2, 6)
    owner, column = torch.tensor([0, 0, 0, 1]), torch.tensor([1, 2, 4, 3])
    rank, mean = ranks(scores, owner, column, torch.zeros(2), torch.randperm(6))
    assert len(set(rank[:3].tolist())) == 3
    assert mean.tolist() == [3.5] * 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_ranks_of_many_rows_equal_a_count_one_by_one(dtype):
    torch.manual_seed(0)
    scores = torch.randint(6, (53, 300)).to(dtype)
    scores[:, 0] = -math.inf
    column, tie_break = torch.randint(1, 300, (53,)), torch.rand(53)
    rank, mean = ranks(scores, torch.arange(53), column, tie_break, torch.arange(300))
    for row, values in enumerate(scores.tolist()):
        own = values[column[row]]
        better, equal = sum(v > own for v in values), sum(v == own for v in values)
        assert rank[row] == better + 1 + int(tie_break[row] * equal)
        assert mean[row] == better + (equal + 1) / 2


@pytest.mark.parametrize("k", [1, 4, 12])
def test_lists_hold_the_best_and_equal_scores_stand_by_the_permutation(k):
    torch.manual_seed(0)
    scores = torch.cat([torch.randn(20, 12), torch.randint(3, (20, 12)).float(), torch.zeros(1, 12)])
    order = torch.randperm(12)
    found = top_columns(scores, k, order)
    assert found.shape == (41, k)
    for row, columns in zip(scores, found, strict=True):
        assert len(set(columns.tolist())) == k
        assert torch.equal(row[columns], row.sort(descending=True).values[:k])
    # Which of the equal ones are in the list, and where, does not depend on the numbers of the columns.
    place = torch.randperm(12)
    again = top_columns(scores[:, place], k, torch.argsort(place)[order])
    assert torch.equal(place[again], found)


@pytest.mark.parametrize("rest", [0.0, math.inf, -math.inf])
def test_a_score_that_is_no_number_is_found_among_others(rest):
    scores = torch.full((3, 40), rest)
    assert checked_scores(scores) is scores
    scores[1, 7] = math.nan
    with pytest.raises(UserError, match="NaN"):
        checked_scores(scores)
