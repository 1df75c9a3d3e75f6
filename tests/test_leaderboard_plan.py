"""Tests of plans: runs, their names, and plans that are refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from recbole_disent.config import key_rules
from recbole_disent.errors import UserError
from recbole_disent.leaderboard.compare import _choose, execute
from recbole_disent.leaderboard.paper import experiment, names
from recbole_disent.leaderboard.plan import make_plan, read_plan
from recbole_disent.leaderboard.runner import Runner
from tests.conftest import write_inter

TINY = {"topk": [1, 5], "MAX_ITEM_LIST_LENGTH": 7, "epochs": 1,
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]}}  # fmt: skip


@pytest.fixture
def given(hostile):
    """Return the keys of a small plan."""
    return {"models": ["DisentS2S", "Pop"], "datasets": ["hostile"], "seeds": [1, 2], "config": dict(TINY),
            "data_path": str(hostile)}  # fmt: skip


def ids(given, **more):
    return [run.id for run in make_plan({**given, **more}).runs()]


def test_a_plan_is_every_combination_with_first_seeds_first(given):
    runs = make_plan({**given, "protocols": ["full", "uni8"]}).runs()
    assert [(r.cell.label, r.cell.protocol, r.seed) for r in runs] == [
        ("DisentS2S", "full", 1), ("Pop", "full", 1), ("DisentS2S", "full", 2), ("Pop", "full", 2),
        ("DisentS2S", "uni8", 1), ("Pop", "uni8", 1), ("DisentS2S", "uni8", 2), ("Pop", "uni8", 2),
    ]  # fmt: skip
    assert runs[0].given["filter_history"] is True
    assert runs[4].given["eval_mode"] == "uni8"
    assert len({r.id for r in runs}) == 8


def test_protocols_and_models_override_the_common_keys_and_a_sweep_adds_one(given):
    models = [{"name": "DisentS2S", "label": "K2", "config": {"n_intentions": 2, "learning_rate": 0.1}}]
    plan = {**given, "models": models, "seeds": [1], "sweep": {"click_noise": [0.0, 0.5]},
            "datasets": {"hostile": {"learning_rate": 0.3, "epochs": 7}},
            "protocols": {"mine": {"eval_mode": "uni5", "epochs": 9, "n_intentions": 3}}}  # fmt: skip
    first, second = make_plan(plan).runs()
    assert first.cell.label == "K2"
    assert {k: first.given[k] for k in ("n_intentions", "learning_rate", "epochs", "eval_mode")} == {
        "n_intentions": 2, "learning_rate": 0.1, "epochs": 9, "eval_mode": "uni5"}  # fmt: skip
    assert (first.cell.sweep, first.given["click_noise"]) == (0.0, 0.0)
    assert (second.cell.sweep, second.given["click_noise"]) == (0.5, 0.5)


def test_every_ranking_of_all_items_has_one_rule_for_the_history(given):
    protocols = {"full": None, "short": {"MAX_ITEM_LIST_LENGTH": 5}, "mine": {"eval_mode": "full"},
                 "args": {"eval_args": {"mode": {"valid": "uni8", "test": "full"}}},
                 "sampled": {"eval_mode": "uni8"}, "args too": {"eval_args": {"mode": "uni8"}},
                 "said": {"eval_mode": "full", "filter_history": False}}  # fmt: skip
    runs = make_plan({**given, "models": ["Pop"], "seeds": [1], "protocols": protocols}).runs()
    found = {run.cell.protocol: run.given.get("filter_history") for run in runs}
    assert found == {"full": True, "short": True, "mine": True, "args": True, "sampled": None,
                     "args too": None, "said": False}  # fmt: skip


def test_a_plan_that_says_what_happens_to_the_history_is_obeyed(given):
    runs = make_plan({**given, "config": {"filter_history": False}, "protocols": ["full"]}).runs()
    assert {run.given["filter_history"] for run in runs} == {False}


def test_a_run_is_named_by_what_determines_its_result(given, tmp_path, monkeypatch):
    base = ids(given)
    assert ids(given) == base
    assert ids(given, config={**TINY, "show_progress": True, "worker": 0, "eval_memory_mb": 100}) == base
    assert ids(given, parallel=2, threads=2, out="elsewhere", keep_checkpoints=True) == base
    labelled = [{"name": "DisentS2S", "label": "other name"}, "Pop"]
    assert ids(given, models=labelled) == base
    # A default that is said aloud is the same run.
    assert ids(given, config={**TINY, "n_intentions": 4}, models=["DisentS2S"]) == ids(
        given, models=["DisentS2S"]
    )
    ours = {"models": ["DisentS2S"]}
    passes = {"config": {**TINY, "passes_per_window": 2}}
    assert not set(ids(given, **ours, **passes)) & set(ids(given, **ours))
    changes = [{"config": {**TINY, "precision": "double"}}, {"config": {**TINY, "ema_decay": 0.9}},
               {"config": {**TINY, "epochs": 2}}, {"seeds": [3, 4]}, {"protocols": ["uni8"]},
               {"config": {**TINY, "learning_rate": 0.5}}, {"config": {**TINY, "nproc": 2}},
               {"config": {**TINY, "worker": 2}}]  # fmt: skip
    for change in changes:
        assert not set(ids(given, **change)) & set(base)
    # The same files in another place.
    moved = tmp_path / "moved"
    (Path(given["data_path"])).rename(moved)
    assert ids(given, data_path=str(moved)) == base


def test_another_version_or_default_is_another_run(given, monkeypatch):
    from recbole_disent.leaderboard import identity

    base = ids(given, models=["DisentS2S"])
    monkeypatch.setattr(identity, "__version__", "99")
    identity.resolved.cache_clear()
    assert not set(ids(given, models=["DisentS2S"])) & set(base)
    monkeypatch.undo()
    identity.resolved.cache_clear()
    changed = {**key_rules.defaults(key_rules.of_run("DisentS2S")), "hidden_size": 8}
    monkeypatch.setattr(key_rules, "defaults", lambda s: changed if "n_intentions" in s else
                        {k: v.default for k, v in s.items()})  # fmt: skip
    assert not set(ids(given, models=["DisentS2S"])) & set(base)
    identity.resolved.cache_clear()


def test_names_are_the_same_in_another_process(given, tmp_path):
    file = tmp_path / "plan.yaml"
    file.write_text(yaml.safe_dump(given))
    command = [sys.executable, "-m", "recbole_disent.cli", "compare", str(file), "--dry-run"]
    environment = {**os.environ, "PYTHONHASHSEED": "5", "CUDA_VISIBLE_DEVICES": "7"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert [line.split()[0] for line in done.stdout.splitlines()] == ids(given)


def test_making_a_plan_leaves_the_choice_of_gpus_alone(given, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,4")
    ids(given)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3,4"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    ids(given, seeds=[9])
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_names_and_keys_may_stand_in_one_list(given):
    short = {"eval_mode": "full", "MAX_ITEM_LIST_LENGTH": 3}
    mixed = make_plan({**given, "protocols": ["full", {"short": short}, "uni8"]})
    apart = make_plan({**given, "protocols": {"full": None, "short": short, "uni8": None}})
    assert [run.id for run in mixed.runs()] == [run.id for run in apart.runs()]
    assert [*mixed.protocols] == ["full", "short", "uni8"]
    with pytest.raises(UserError, match="plan: protocols: 'full' appears twice, with "):
        make_plan({**given, "protocols": ["full", {"full": short}]})


@pytest.mark.parametrize(
    ("metrics", "message"),
    [(["foo@10"], "got 'foo@10', which the results will not have"),
     (["ndcg@10"], r"got 'ndcg@10', .* did you mean 'ndcg@1'\?"), (["Recall"], "got 'Recall'")],
)  # fmt: skip
def test_columns_are_checked_before_anything_runs(given, metrics, message):
    with pytest.raises(UserError, match=rf"plan, DisentS2S on hostile, full: metrics: {message}"):
        ids(given, metrics=metrics)
    assert len(ids(given, metrics=["NDCG@5", "itemcoverage@1"])) == 4


def test_columns_of_value_metrics_have_no_cut_off(given):
    keys = {**TINY, "metrics": ["AUC"], "valid_metric": "AUC"}
    more = {"models": ["BPR"], "protocols": {"mine": {"eval_mode": "uni5"}}, "config": keys}
    assert len(ids(given, metrics=["auc"], **more)) == 2
    with pytest.raises(UserError, match=r"got 'auc@5', .* \(they will have auc\)"):
        ids(given, metrics=["auc@5"], **more)


def test_a_dry_run_names_what_is_searched_first(given, tmp_path):
    said = []
    plan = {**given, "trials": 2, "seeds": [1], "out": str(tmp_path / "out")}
    assert execute(plan, [], dry_run=True, say=said.append) == 0
    names = ["DisentS2S, hostile, full, seed 2020, trial 0", "DisentS2S, hostile, full, seed 2020, trial 1",
             "DisentS2S, hostile, full, seed 1", "Pop, hostile, full, seed 1"]  # fmt: skip
    assert [line.rpartition("  ")[2].strip() for line in said] == names
    assert said[2].startswith("to be searched first")
    assert not (tmp_path / "out").exists()


# -- searches --------------------------------------------------------------------------


def test_trials_are_the_given_setting_then_distinct_draws(given):
    models = [{"name": "DisentS2S", "config": {"n_layers": 1}}, {"name": "Pop"}]
    plan = make_plan({**given, "models": models, "trials": 6, "search_epochs": 3, "search_seed": 5})
    trials = plan.trials()
    assert {t.cell.label for t in trials} == {"DisentS2S"}  # Pop has nothing to search
    assert [t.trial for t in trials] == list(range(6))
    assert {t.seed for t in trials} == {5}
    assert {t.given["epochs"] for t in trials} == {3}
    assert len({t.id for t in trials}) == 6
    draws = [t.drawn for t in trials]
    assert draws[0] == {}
    # What the plan gives is not searched.
    assert all("n_layers" not in drawn and "learning_rate" in drawn for drawn in draws[1:])
    fewer = make_plan({**given, "models": models, "trials": 3, "search_seed": 5})
    assert [t.drawn for t in fewer.trials()] == draws[:3]
    other = make_plan({**given, "models": models, "trials": 3, "search_seed": 6})
    assert [t.drawn for t in other.trials()][1:] != draws[1:3]


def test_a_trial_is_never_taken_for_a_reported_run(given):
    plan = make_plan({**given, "models": ["BPR"], "trials": 3, "search_seed": 2})
    runs, trials = plan.runs(), plan.trials()
    assert len({r.id for r in trials}) == 3
    assert not {r.id for r in trials} & {r.id for r in runs}
    # Folders of results are named by them.
    assert [r.id for r in runs] == ids(given, models=["BPR"])


def test_what_a_data_set_or_protocol_gives_is_not_searched_there(given):
    models = [{"name": "DisentS2S", "config": {"n_layers": 1}}]
    plain = make_plan({**given, "models": models, "trials": 4})
    protocols = {"one": {"hidden_size": 16}, "two": {}}
    plan = make_plan({**given, "models": models, "trials": 4, "protocols": protocols,
                      "datasets": {"hostile": {"learning_rate": 0.3}}})  # fmt: skip
    entry = plan.entries[0]
    whole = set(plain.space(entry, "hostile", "full"))
    assert {"hidden_size", "learning_rate"} < whole
    assert set(plan.space(entry, "hostile", "two")) == whole - {"learning_rate"}
    assert set(plan.space(entry, "hostile", "one")) == whole - {"learning_rate", "hidden_size"}
    for trial in plan.trials():
        assert trial.given["learning_rate"] == 0.3
        assert trial.cell.protocol == "two" or trial.given["hidden_size"] == 16
    _, searches = _choose(plan, Runner(plan, []), plan.trials())
    assert {key[2]: set(told["space"]) for key, told in searches.items()} == {
        name: set(plan.space(entry, "hostile", name)) for name in protocols}  # fmt: skip


def test_a_search_without_a_validation_part_is_one_sentence(given, tmp_path):
    plan = make_plan({**given, "models": ["BPR"], "trials": 2, "out": str(tmp_path / "out")})
    runner = Runner(plan, [])
    for trial in plan.trials():
        runner.folder(trial).mkdir(parents=True)
        result = {"config": {"epochs": 1}, "best_valid_score": None, "valid_score_bigger": True}
        (runner.folder(trial) / "result.json").write_text(json.dumps(result))
    with pytest.raises(UserError, match="plan, BPR, hostile, full: a search needs a validation part"):
        _choose(plan, runner, plan.trials())


def test_a_small_space_gives_fewer_trials_than_asked_for(given, tmp_path):
    space = tmp_path / "space.hyper"
    space.write_text("n_layers choice [1, 2]\nn_intentions choice [1, 4]\n")
    models = [{"name": "DisentS2S", "trials": 50, "space": str(space)}]
    trials = make_plan({**given, "models": models}).trials()
    # Of the four settings one is the given one: two blocks and four intentions are the defaults.
    assert [t.trial for t in trials] == [0, 1, 2, 3]
    assert trials[0].drawn == {}
    drawn = {(t.drawn["n_layers"], t.drawn["n_intentions"]) for t in trials[1:]}
    assert drawn == {(1, 1), (1, 4), (2, 1)}


def test_the_swept_key_is_not_searched(given):
    plan = make_plan(
        {**given, "models": ["DisentS2S"], "trials": 4, "sweep": {"last_item_weight": [0.1, 0.9]}}
    )
    assert all(t.given["last_item_weight"] == 0.1 for t in plan.trials())


# -- what is refused -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"modles": []}, "plan: the key 'modles' is unknown; did you mean 'models'?"),
        (
            {"models": []},
            r"plan: models: got an empty value; give at least one, such as \[FIRST_MODEL",
        ),
        ({"datasets": None}, "plan: datasets: got an empty value"),
        ({"seeds": "1,2"}, r"plan: seeds: got '1,2', expected list"),
        ({"seeds": [1.5]}, r"plan: seeds: got \[1.5\], expected whole numbers"),
        ({"seeds": [-1]}, "expected whole numbers >= 0"),
        ({"models": ["DisentS2"]}, "model 'DisentS2' is not known; did you mean 'DisentS2S'?"),
        ({"models": ["Pop", "Pop"]}, "two models have the label 'Pop'; give each model its own label"),
        ({"models": [{"label": "x"}]}, "expected a name or a dictionary with name"),
        ({"models": [{"name": "Pop", "lable": "x"}]}, "the key 'lable' is unknown; did you mean 'label'?"),
        ({"models": [{"name": "Pop", "config": 3}]}, "plan: models, Pop, config: got 3"),
        ({"models": [{"name": "Pop", "trials": 3}]}, "no search space for this model; name the file"),
        ({"models": [{"name": "Pop", "trials": 0}]}, "trials: got 0, expected int in"),
        ({"models": [{"name": "BPR", "trials": 2, "space": "no.hyper"}]}, "search space 'no.hyper': no such"),
        ({"protocols": ["ful"]}, "plan: protocols: got 'ful', expected full, uniN, popN"),
        ({"protocols": {"mine": 3}}, "expected name: {key: value, ...}"),
        ({"sweep": {"a": [1], "b": [2]}}, "plan: sweep: got .* expected one key and a list"),
        ({"sweep": {"click_noise": 0.5}}, "plan: sweep: got"),
        (
            {"sweep": {"click_noise": [0.1, 0.2, 0.1]}},
            "plan: sweep: click_noise: the value 0.1 appears twice",
        ),
        (
            {"sweep": {"click_noise": [0.1, 0.2]}, "config": {"click_noise": 0.3}},
            "plan: config: click_noise: 0.3 has no effect, because sweep sets this key; leave it out here",
        ),
        ({"sweep": {"topk": [[5], [3, 5], [5]]}}, r"plan: sweep: topk: the value \[5\] appears twice"),
        ({"reference": "GRU"}, "plan: reference: got 'GRU', expected one of DisentS2S, Pop"),
        ({"parallel": 0}, r"plan: parallel: got 0, expected int or null in \[1, inf\)"),
        ({"time_limit": -1.0}, "plan: time_limit: got -1.0"),
        ({"alpha": 1.5}, "plan: alpha: got 1.5"),
        (
            {"config": {"n_intention": 3}},
            "plan, DisentS2S on hostile, full: .*'n_intention' is known neither",
        ),
        (
            {"sweep": {"seq2seq_lambda": [0.5]}},
            "plan, Pop on hostile, full: .*'seq2seq_lambda' is known neither",
        ),
        ({"models": ["DisentS2S"], "sweep": {"seq2seq_lambda": [0.5, 2.0]}}, "seq2seq_lambda: got 2.0"),
        ({"config": {"seed": 5}}, r"plan: config: the key 'seed' has no effect here; use the key seeds"),
        (
            {"datasets": {"hostile": {"result_dir": "x"}}},
            "datasets, hostile: .*'result_dir' .* use the key out",
        ),
        ({"protocols": {"mine": {"per_user_file": "x"}}}, "protocols, mine: .*'per_user_file' .* out"),
        ({"models": [{"name": "Pop", "config": {"model": "BPR"}}]}, "models, Pop, config: .*'model' "),
        ({"sweep": {"seed": [1, 2]}}, "plan: sweep: the key 'seed' .* use the key seeds"),
        ({"config": {"resume_file": "x"}}, "'resume_file' .* repeat the same command"),
        ({"datasets": ["nowhere"]}, "dataset 'nowhere': there is no folder"),
    ],
)
def test_wrong_plans_are_one_sentence_before_anything_runs(given, more, message):
    with pytest.raises(UserError, match=message):
        make_plan({**given, **more}).runs()


@pytest.mark.parametrize(
    ("text", "message"),
    [("[1, 2]", "expected lines 'key: value'"), ("a: [", "expected YAML"), (None, "No such file")],
)
def test_a_faulty_plan_file(tmp_path, text, message):
    file = tmp_path / "plan.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UserError, match=rf"plan '{file}': .*{message}"):
        read_plan(str(file))


# -- the papers ------------------------------------------------------------------------


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("scale", ["quick", "full"])
def test_presets_are_plans(name, scale, tmp_path):
    rows = [(f"u{u}", f"i{(u * 7 + t) % 150}", 3, t) for u in range(30) for t in range(6)]
    write_inter(tmp_path / "data", "d", rows)
    given = {**experiment(name, scale), "datasets": ["d"], "data_path": str(tmp_path / "data")}
    runs = make_plan(given).runs()
    cells = {(r.cell.label, r.cell.sweep) for r in runs}
    assert len(runs) == len({r.id for r in runs}) == len(cells) * len(given["seeds"])
    assert scale == "quick" or len(given["seeds"]) == 3


def test_presets_say_what_the_papers_say():
    assert set(names()) == {"baselines", "variants", "noise", "lambda", "intentions", "tssr",
                            "tssr-ablations", "tssr-batch-size"}  # fmt: skip
    models = [m if isinstance(m, str) else m["name"] for m in experiment("baselines", "full")["models"]]
    assert {"Pop", "BPR", "NeuMF", "FPMC", "GRU4Rec", "Caser", "SASRec", "BERT4Rec"} < set(models)
    assert experiment("noise", "full")["sweep"]["click_noise"] == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert experiment("intentions", "full")["sweep"]["n_intentions"] == list(range(1, 9))
    with pytest.raises(UserError, match=r"the experiment 'nosie' is unknown; did you mean 'noise'\?"):
        experiment("nosie", "full")
    with pytest.raises(UserError, match="scale: got 'big', expected one of quick, full"):
        experiment("noise", "big")


def test_another_model_file_is_another_run(given, tmp_path):
    from recbole_disent.leaderboard import identity

    file = tmp_path / "mine.py"
    text = """
from recbole.model.general_recommender.bpr import BPR
from recbole_disent.specs import ModelSpec
class MyOwnBPR(BPR):
    pass
SPEC = ModelSpec("MyOwnBPR", cls=f"{__name__}:MyOwnBPR")
"""
    found = []
    for more in ("", "# another model"):
        file.write_text(text + more)
        identity.resolved.cache_clear()
        keys = json.dumps({**TINY, "data_path": given["data_path"], "model_file": str(file)})
        found.append(identity.resolved("MyOwnBPR", "hostile", keys).digest)
    assert found[0] != found[1]


def test_another_preset_is_another_code(tmp_path, monkeypatch):
    from recbole_disent.config import key_rules
    from recbole_disent.leaderboard import identity

    found = []
    for passes in (4, 5):
        (tmp_path / "presets" / "M").mkdir(parents=True, exist_ok=True)
        (tmp_path / "presets" / "M" / "long.yaml").write_text(f"passes_per_window: {passes}")
        monkeypatch.setattr(key_rules, "folder", lambda name: tmp_path)
        found.append(identity.code_digest())
    assert found[0] != found[1]
