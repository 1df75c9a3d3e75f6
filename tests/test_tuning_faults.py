"""Tests of searches that would mislead: spaces, and folders with other files."""

from __future__ import annotations

import pytest

from recbole_disent.errors import UserError
from recbole_disent.tuning.tune import tune


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            'valid_metric choice ["NDCG@1", "Recall@5"]',
            "valid_metric says what is measured, and the scores of",
        ),
        ("filter_history choice [True, False]", "filter_history says what is measured"),
        ("refit choice [True, False]", "refit says what is measured"),
        ("seed choice [1, 2]", "the search sets seed for each trial itself; take it out of the search space"),
        ('result_dir choice ["a", "b"]', "the search sets result_dir for each trial itself"),
    ],
)
def test_a_space_has_no_keys_that_make_a_trial_the_best_one(run_keys, tmp_path, line, message):
    file = tmp_path / "a.hyper"
    file.write_text(f"learning_rate choice [0.01, 0.1]\n{line}\n")
    with pytest.raises(UserError, match=rf"a\.hyper, line 2: {message}"):
        tune("BPR", "hostile", config_dict=run_keys, params_file=str(file), max_evals=2, output="out")
    assert not (tmp_path / "out").exists()
