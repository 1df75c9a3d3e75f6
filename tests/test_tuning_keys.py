"""Tests of the keys of a search: unknown keys, keys without an effect, and folders that are used again."""

from __future__ import annotations

import pytest

from recbole_disent import cli
from recbole_disent.errors import UserError
from recbole_disent.tuning.tune import tune


def test_a_misspelt_option_of_a_search_gets_its_name(run_keys, capsys):
    words = ["tune", "--model=BPR", "--dataset=hostile", f"--data_path={run_keys['data_path']}"]
    assert cli.main([*words, "--max_eval=2"]) == 2
    message = (
        "command line: the key 'max_eval' is known neither to RecBole nor to BPR; did you mean 'max_evals'?"
    )
    assert message in capsys.readouterr().err
    with pytest.raises(UserError, match="config_dict: 'max_evals' is no key of a run, but an option of the"):
        tune("BPR", "hostile", config_dict={**run_keys, "max_evals": 2})
