"""Tests of the keys of a search: unknown keys, keys without an effect, and folders that are used again."""

from __future__ import annotations

from pathlib import Path

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


@pytest.mark.parametrize(
    ("model", "line", "message"),
    [
        ("BPR", "embedding_siz choice [16, 32]", "the key 'embedding_siz' is known neither to RecBole nor to "
         r"BPR; did you mean 'embedding_size'\?"),
        ("TSSR", "train_mode choice ['pairs']", "train_mode: TSSR has only one training mode; leave the key"),
    ],
)  # fmt: skip
def test_an_unknown_key_of_a_space_is_refused_before_the_first_trial(run_keys, model, line, message):
    Path("a.hyper").write_text(f"learning_rate choice [0.01, 0.1]\n{line}\n")
    with pytest.raises(UserError, match=rf"^a\.hyper, line 2: {message}"):
        tune(model, "hostile", config_dict=run_keys, params_file="a.hyper", max_evals=2, output="out")
    assert not Path("out").exists()


def test_a_space_may_have_the_keys_of_a_transform_that_it_has(run_keys):
    Path("a.hyper").write_text(
        "transform choice ['mask_itemseq']\nmask_ratio choice [0.2]\nft_ratio choice [0.5]\n"
    )
    study = tune("SASRec", "hostile", config_dict=run_keys, params_file="a.hyper", max_evals=1, output="out")
    assert len(study.trials) == 1
