"""Tests of the keys of a search: unknown keys, keys without an effect, and folders that are used again."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from recbole_disent import cli
from recbole_disent.config.search_space import read_space
from recbole_disent.errors import UserError
from recbole_disent.tuning.study import Study
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


def study_in(space: str) -> Study:
    Path("a.hyper").write_text(space)
    return Study("out", "BPR", "d", {}, read_space("a.hyper"), {"tool": "random"})


FAILED = {"status": "failed", "score": None, "bigger": True, "error": "no"}
DONE = {"status": "done", "score": 0.5, "bigger": True}


def test_a_folder_without_a_result_takes_another_search(caplog):
    caplog.set_level(logging.INFO)
    old = study_in("embedding_size choice ['a', 'b']\n").add(0, {"embedding_size": "a"}, **FAILED)
    study = study_in("learning_rate choice [0.1]\n")
    assert not study.trials
    assert not Path(f"out/{old['id']}.json").exists()
    assert "its files of 1 failed trials are removed" in caplog.text
    study.add(0, {"learning_rate": 0.1}, **DONE)
    study.report()
    assert study_in("learning_rate choice [0.1]\n").best["score"] == 0.5
    study_in("learning_rate choice [0.1]\n").add(1, {"learning_rate": 0.2}, **FAILED)
    with pytest.raises(UserError, match="output 'out' holds another search: got space"):
        study_in("learning_rate choice [0.2]\n")
    assert len(study_in("learning_rate choice [0.1]\n").trials) == 2


def test_a_folder_with_a_checkpoint_keeps_its_search():
    study = study_in("learning_rate choice [0.1]\n")
    file = Path(study.config_of({"learning_rate": 0.1})["checkpoint_dir"], "BPR.pth")
    file.parent.mkdir(parents=True)
    file.touch()
    with pytest.raises(UserError, match="output 'out' holds another search: got space"):
        study_in("learning_rate choice [0.2]\n")
    assert file.exists()
