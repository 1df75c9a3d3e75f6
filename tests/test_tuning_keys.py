"""Tests of the keys of a search: unknown keys, keys without an effect, and folders that are used again."""

from __future__ import annotations

from pathlib import Path

import pytest

from recbole_disent import cli
from recbole_disent.config.search_space import read_space
from recbole_disent.errors import UserError
from recbole_disent.tuning.study import Study
from recbole_disent.tuning.tune import _Base, _space, tune


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


IDLE = [
    ("click_noise_seed choice [1, 2]", {}, "click_noise_seed has no effect with click_noise=0.0; the key n"),
    ("click_noise_seed choice [1, 2]\nclick_noise choice [0]", {}, "click_noise_seed has no effect with cl"),
    ("content_source choice ['text', 'tokens']", {"content": False}, "content_source has no effect with c"),
    ("content_dim choice [2, 4]\ncontent_source choice ['tokens']", {}, "content_dim has no effect with con"),
    ("click_noise_seed choice [1, 2]", {"click_noise": 0.1}, None),
    ("click_noise_seed choice [1, 2]\nclick_noise choice [0, 0.1]", {}, None),
    ("click_noise_seed choice [1, 2]\nclick_noise uniform 0,0.1", {}, None),
]


@pytest.mark.parametrize(("lines", "keys", "message"), IDLE)
def test_a_key_of_a_space_that_cannot_have_an_effect_is_refused(run_keys, lines, keys, message):
    Path("a.hyper").write_text(f"learning_rate choice [0.01, 0.1]\n{lines}\n")
    base = _Base("SASRecContent", "hostile", config_dict={**run_keys, **keys})
    if message is None:
        assert len(_space("a.hyper", base, keys)) > 1
    else:
        with pytest.raises(UserError, match=rf"^a\.hyper, line 2: {message}.*, or take \w+ out of the se"):
            _space("a.hyper", base, keys)


def test_a_space_of_the_package_leaves_out_the_keys_without_effect(run_keys, caplog):
    keys = {"n_intentions": 1}
    base = _Base("DisentS2S", "hostile", config_dict={**run_keys, **keys})
    space = _space("DisentS2S", base, keys)
    assert "hidden_size" in space
    assert not {"intention_cosine", "intention_balance"} & space.keys()
    assert "the search leaves a key out: intention_cosine has no effect with n_intentions=1;" in caplog.text
    keys |= dict.fromkeys(space, None)
    with pytest.raises(UserError, match="no key of the search space can change a trial: intention_cosine"):
        _space("DisentS2S", base, keys)
