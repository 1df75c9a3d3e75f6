"""Tests of searches: which trial of a plan is chosen, and that trials are not refitted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from recbole_disent import compare
from recbole_disent.config.search_space import read_space
from recbole_disent.errors import UserError
from recbole_disent.leaderboard.compare import _choose, execute
from recbole_disent.leaderboard.plan import make_plan
from recbole_disent.leaderboard.plan_keys import check_parts
from recbole_disent.leaderboard.runner import Runner
from recbole_disent.tuning.study import Study
from tests.test_leaderboard_plan import TINY, given  # noqa: F401  (a fixture)


@pytest.mark.parametrize(
    ("scores", "bigger", "best"),
    [
        ((0.3, 0.5, 0.4), True, 1),
        ((0.3, 0.5, 0.2), False, 2),
        ((0.3, 0.5, 0.5), True, 1),
        ((0.5, 0.3, 0.3), False, 1),
    ],
)
def test_the_first_trial_with_the_best_score_is_chosen(given, tmp_path, scores, bigger, best):  # noqa: F811
    plan = make_plan({**given, "models": ["BPR"], "trials": 3, "out": str(tmp_path / "out")})
    runner, trials = Runner(plan, []), plan.trials()
    for trial, score in zip(trials, scores, strict=True):
        runner.folder(trial).mkdir(parents=True)
        result = {"config": {"epochs": 1}, "best_valid_score": score, "valid_score_bigger": bigger,
                  "data_hash": "h"}  # fmt: skip
        (runner.folder(trial) / "result.json").write_text(json.dumps(result))
    chosen, searches = _choose(plan, runner, trials)
    key = "BPR", "hostile", "full"
    assert chosen == {key: trials[best].drawn}
    assert searches[key]["chosen"] == {"trial": best, "keys": trials[best].drawn, "valid": scores[best]}


def test_trials_of_a_plan_are_not_refitted(given):  # noqa: F811
    plain = {**given, "models": ["BPR"], "trials": 2}
    plan = make_plan({**plain, "config": {**TINY, "refit": True}})
    assert {run.given["refit"] for run in plan.runs()} == {True}
    assert {trial.given["refit"] for trial in plan.trials()} == {False}
    assert [trial.id for trial in plan.trials()] == [trial.id for trial in make_plan(plain).trials()]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"config": {**TINY, "eval_mode": "uni5"}}, "plan: config: the key 'eval_mode' is not for"),
        ({"config": {**TINY, "eval_args": {"mode": "uni5"}}}, "plan: config: the key 'eval_args: mode' is"),
        ({"datasets": {"hostile": {"eval_mode": "pop5"}}}, "plan: datasets, hostile: the key 'eval_mode' is"),
        ({"models": [{"name": "BPR", "config": {"eval_mode": "uni5"}}]}, "models, BPR, config: the key"),
        ({"sweep": {"eval_mode": ["full", "uni5"]}}, "plan: sweep: the key 'eval_mode' is not for"),
        (
            {"models": ["DisentS2S"], "sweep": {"intention_cosine": [0.1, 0.9]}, "trials": 2,
             "config": {**TINY, "n_intentions": 1}},
            "DisentS2S on hostile, full: sweep: intention_cosine: 0.1 has no effect with n_intentions=1",
        ),
        ({"sweep": {"refit": [True, False]}}, "plan: sweep: results that differ in refit cannot"),
        ({"models": [{"name": "BPR", "space": "own.hyper"}], "trials": 2}, r"space own\.hyper: the key"),
        ({"models": [{"name": "BPR", "space": 5}], "trials": 2}, "models, BPR, space: got 5, expected the"),
        *(
            ({"models": [{"name": "BPR", "space": f"{key}.hyper"}], "trials": 2},
             rf"{key}\.hyper, line 2: {key} says what is measured")
            for key in ("valid_metric", "filter_history", "refit", "candidate_seed", "val_interval")
        ),
        ({"sweep": {"eval_args": [{"mode": "full"}, {"mode": "uni5"}]}}, "results that differ in eval_args"),
        ({"models": [{"name": "BPR", "config": {"learning_rate": 0.5}}], "sweep": {"learning_rate": [0.1]}},
         "plan: models, BPR, config: learning_rate: 0.5 has no effect, because sweep sets this key; leave"),
        ({"datasets": {"hostile": {"learning_rate": 0.5}}, "sweep": {"learning_rate": [0.1]}},
         "plan: datasets, hostile: learning_rate: 0.5 has no effect, because sweep sets this key"),
        ({"config": {**TINY, "eval_step": 0}, "trials": 2}, "BPR on hostile, full: got eval_step: 0 with 2"),
        *(
            ({"config": {**TINY, "eval_args": {"split": split}}, "trials": 2},
             "full: eval_args split: got .* no validation part for the search; give .* or set trials: 1")
            for split in ({"LS": "test_only"}, {"RS": [0.8, 0.0, 0.2]})
        ),
    ],
)  # fmt: skip
def test_keys_that_would_mislead_a_comparison_are_refused(given, tmp_path, keys, message):  # noqa: F811
    (tmp_path / "own.hyper").write_text("learning_rate choice [0.1]\nseed choice [1, 2, 3]\n")
    for key in ("valid_metric", "filter_history", "refit", "candidate_seed", "val_interval"):
        (tmp_path / f"{key}.hyper").write_text(f"learning_rate choice [0.1]\n{key} choice [1, 2]\n")
    with pytest.raises(UserError, match=message):
        make_plan({**given, "models": ["BPR"], **keys}).trials()


def test_trials_differ_in_keys_that_have_an_effect(given):  # noqa: F811
    """With one intention and without the future, four keys of the space made other trials of the same run."""
    kept = {"n_layers", "intention_cosine", "intention_balance", "seq2seq_lambda", "seq2seq_weight"}
    fixed = {key: d.sample(np.random.default_rng(0)) for key, d in read_space("DisentS2S").items()
             if key not in kept}  # fmt: skip
    config = {**TINY, **fixed, "n_intentions": 1, "seq2seq_variant": "none"}
    trials = make_plan({**given, "models": ["DisentS2S"], "config": config, "trials": 4}).trials()
    assert sorted(trial.drawn.get("n_layers", 2) for trial in trials) == [1, 2, 3]
    assert not any(trial.drawn.keys() & trial.idle.keys() for trial in trials)


@pytest.mark.parametrize("split", [{"LS": "valid_only"}, {"RS": [0.8, 0.2, 0.0]}, {"TS": [8, 2, 0]}])
def test_a_split_without_a_test_part_is_refused_before_the_first_run(given, split):  # noqa: F811
    """Every run was made, and then there was nothing to report."""
    plan = make_plan({**given, "models": ["BPR"], "config": {**TINY, "eval_args": {"split": split}}})
    with pytest.raises(UserError, match=r"eval_args split: got .*, which has no test part for the report"):
        plan.runs()
    files = {"benchmark_filename": ["train", "test"], "eval_args": {"split": split}}
    check_parts(files, trial=False)
    with pytest.raises(
        UserError, match=r"benchmark_filename: got .* no validation part .* give train, valid"
    ):
        check_parts(files, trial=True)


def test_a_protocol_changes_a_part_of_the_evaluation_and_leaves_the_split_of_the_plan(given):  # noqa: F811
    """The split of the plan was lost as soon as a protocol set the mode by eval_args."""
    split = {"RS": [0.6, 0.2, 0.2]}
    plan = {**given, "models": [{"name": "BPR", "config": {"eval_args": {"group_by": "user"}}}], "seeds": [1],
            "config": {**TINY, "eval_args": {"split": split, "group_by": None}},
            "datasets": {"hostile": {"eval_args": {"order": "TO"}}},
            "protocols": {"mixed": {"eval_args": {"mode": {"valid": "uni5"}}}, "full": {}}}  # fmt: skip
    mixed, full = make_plan(plan).runs()
    assert mixed.given["eval_args"] == {
        "split": split, "group_by": "user", "order": "TO", "mode": {"valid": "uni5"}
    }  # fmt: skip
    assert full.given["eval_args"] == {"split": split, "group_by": "user", "order": "TO"}
    assert json.loads(mixed.measured["eval_args"])["mode"] == {"valid": "uni5", "test": "full"}


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (
            {"filter_history": False},
            "filter_history is true for BPR, hostile, full, seed 1, but false for two",
        ),
        ({"refit": True}, "refit is false for BPR.* give refit the same value for all models"),
        ({"repeat_gate": True}, "repeat_gate is false for BPR"),
        ({"score_dtype": "bfloat16"}, 'score_dtype is "float32" for BPR'),
        ({"user_inter_num_interval": "[3,inf)"}, r'is "\[0,inf\)" for BPR, .*, but "\[3,inf\)" for two'),
        ({"eval_args": {"split": {"LS": "test_only"}}}, "eval_args is .* for BPR"),
        ({"candidate_seed": 5, "filter_history": True, "valid_metric": "Recall@5"}, None),  # all are ranked
    ],
)
def test_models_whose_results_cannot_be_compared_are_refused_before_the_first_run(given, keys, told):  # noqa: F811
    plan = make_plan({**given, "models": ["BPR", {"name": "BPR", "label": "two", "config": keys}]})
    if told is None:
        assert len(plan.runs()) == 4
    else:
        with pytest.raises(UserError, match=f"plan: .*{told}"):
            plan.runs()


def test_models_with_other_candidates_are_refused(given):  # noqa: F811
    models = ["BPR", {"name": "BPR", "label": "two", "config": {"candidate_seed": 5}}]
    with pytest.raises(UserError, match=r"plan: candidate_seed is 2020 for BPR.*, but 5 for two"):
        make_plan({**given, "models": models, "protocols": ["uni5"]}).runs()


def test_a_plan_takes_paths_and_numbers_of_numpy(given):  # noqa: F811
    sweep = {"learning_rate": list(np.array([1e-4, 1e-2]))}
    plan = {
        **given,
        "models": ["BPR"],
        "data_path": Path(given["data_path"]),
        "seeds": np.arange(2),
        "sweep": sweep,
    }
    runs = make_plan(plan).runs()
    assert yaml.safe_load(yaml.safe_dump([run.given for run in runs]))[0]["learning_rate"] == 1e-4
    assert [run.seed for run in runs] == [0, 0, 1, 1]
    with pytest.raises(UserError, match="plan, config, warm_start: got a value of the type object, expected"):
        make_plan({**plan, "config": {"warm_start": object()}})


def test_the_file_of_a_plan_may_be_a_path(tmp_path):
    with pytest.raises(UserError, match=r"plan '.*plan\.yaml': No such file"):
        compare(tmp_path / "plan.yaml")


def test_trials_of_a_study_are_not_refitted_but_its_best_configuration_is(tmp_path):
    (tmp_path / "space.hyper").write_text("learning_rate choice [0.1, 0.01]\n")
    space = read_space(str(tmp_path / "space.hyper"))
    study = Study(str(tmp_path / "out"), "BPR", "d", {"refit": True}, space, {"tool": "random"})
    assert study.config_of({"learning_rate": 0.1})["refit"] is False
    study.add(0, {"learning_rate": 0.1}, status="done", score=0.5, bigger=True)
    study.report()
    assert "refit: true" in (tmp_path / "out" / "best.yaml").read_text().splitlines()


def test_a_plan_refuses_a_space_whose_key_has_no_effect_in_its_trials(given, tmp_path):  # noqa: F811
    (tmp_path / "a.hyper").write_text("learning_rate choice [0.1]\nclick_noise_seed choice [1, 2]\n")
    plan = {**given, "models": [{"name": "BPR", "space": "a.hyper"}], "trials": 2}
    with pytest.raises(UserError, match=r"BPR on hostile, full: a\.hyper, line 2: click_noise_seed has no e"):
        make_plan(plan).trials()
    assert len(make_plan({**plan, "config": {**TINY, "click_noise": 0.1}}).trials()) == 2
    with pytest.raises(
        UserError, match="so put another value first in the sweep, because trials use the fir"
    ):
        make_plan({**plan, "sweep": {"click_noise": [0.0, 0.1]}}).trials()
    assert len(make_plan({**plan, "sweep": {"click_noise": [0.1, 0.0]}}).trials()) == 2
    of_package = {**plan, "models": ["DisentS2S"], "config": {**TINY, "n_intentions": 1}}
    assert len(make_plan(of_package).trials()) == 2


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"config": {**TINY, "click_noise_seed": 4}}, "BPR, hostile, full: click_noise_seed: 4 has"),
        ({"config": {**TINY, "click_noise_seed": 4, "click_noise": 0.1}}, None),
        ({"config": {**TINY, "click_noise_seed": 4}, "sweep": {"click_noise": [0.0, 0.1]}}, None),
        ({"config": {**TINY, "click_noise_seed": 4}, "trials": 4,
          "models": [{"name": "BPR", "space": "noise.hyper"}]}, None),
        ({"config": TINY, "models": ["Pop", {"name": "BPR", "config": {"click_noise_seed": 4}}]}, "BPR, hos"),
    ],
)  # fmt: skip
def test_a_comparison_says_once_which_keys_have_no_effect(given, tmp_path, keys, told):  # noqa: F811
    (tmp_path / "noise.hyper").write_text("click_noise choice [0.1, 0.2, 0.3]\n")
    said: list[str] = []
    execute({**given, "models": ["BPR", "Pop"], **keys}, [], dry_run=True, say=said.append)
    noted = [line for line in said if "no effect" in line]
    assert len(noted) == (told is not None)
    if told is not None:
        assert noted[0].startswith(f"plan, {told}")
        assert said.index(noted[0]) == 0
