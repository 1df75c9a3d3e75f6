"""Tests of presets, which are named sets of keys that a user's own keys replace."""

from __future__ import annotations

import pytest

from recbole_disent.config import key_rules, presets
from recbole_disent.config.config import Config
from recbole_disent.errors import UserError
from recbole_disent.registry import recbole_models
from recbole_disent.session import build_data, run
from recbole_disent.specs import SPECS
from tests.conftest import scored_again, write_inter


def config(model="DisentS2S", **keys):
    return Config(model, "ml-100k", config_dict=keys)


@pytest.mark.parametrize("model", sorted({"SASRec", *(name for name, spec in SPECS.items() if spec.cls)}))
def test_every_preset_of_a_model_holds_keys_and_values_that_the_model_has(model):
    names = presets.available(model)
    assert "bert4rec-protocol" in names
    for name in names:
        found = config(model, preset=name)
        rules = key_rules.of_run(model)
        for key, value in presets.read(name, model).items():
            assert key in found.final_config_dict
            assert value == (rules[key].check(value) if key in rules else value)
            if key != "train_neg_sample_args":
                assert found[key] == value


def test_the_folders_of_presets_are_models():
    base = key_rules.folder("properties") / "presets"
    assert {path.name for path in base.iterdir()} - {"protocols"} <= {*SPECS, *recbole_models()}


def test_priorities():
    assert config()["train_mode"] == "sequences"
    assert config(preset="paper")["train_mode"] == "pairs"
    assert config(preset="paper", train_mode="sequences")["train_mode"] == "sequences"
    both = config(preset=["paper", "bert4rec-protocol"])
    assert (both["refit"], both["intention_pooling"], both["topk"][-1]) == (True, "paper", 101)


def test_an_unknown_preset_is_refused():
    with pytest.raises(UserError, match=r"preset: got 'papers', .*did you mean 'paper'"):
        config(preset="papers")
    with pytest.raises(UserError, match="got 'paper', expected one of auto, bert4rec-protocol for SASRec"):
        config("SASRec", preset="paper")


def test_the_data_choose_between_short_and_long_histories(tmp_path, caplog):
    for length, expected, passes in ((4, "short", 1), (12, "long", 4)):
        rows = [(f"u{u}", f"i{(u + t) % 15}", 1, t) for u in range(20) for t in range(length)]
        write_inter(tmp_path, f"of{length}", rows)
        keys = {"data_path": str(tmp_path), "MAX_ITEM_LIST_LENGTH": 5, "topk": [3], "valid_metric": "NDCG@3"}
        made = Config("DisentS2S", f"of{length}", config_dict=keys)
        with caplog.at_level("INFO"):
            build_data(made)
        assert made["passes_per_window"] == passes
        assert f"preset: {expected}, because a user has {length - 3:.1f} training targets" in caplog.text
        given = Config("DisentS2S", f"of{length}", config_dict={**keys, "passes_per_window": 2})
        build_data(given)
        assert given["passes_per_window"] == 2  # a key of the user's own stays
        named = Config("DisentS2S", f"of{length}", config_dict={**keys, "preset": "short"})
        build_data(named)
        assert named["passes_per_window"] == 1


def test_many_targets_are_a_long_history_even_if_a_window_holds_them(tmp_path, caplog):
    for length, expected, compared in ((53, "short", "not more than 50"), (54, "long", "more than 50")):
        rows = [(f"u{u}", f"i{(u + t) % 60}", 1, t) for u in range(5) for t in range(length)]
        write_inter(tmp_path, f"of{length}", rows)
        keys = {"data_path": str(tmp_path), "MAX_ITEM_LIST_LENGTH": 80}
        made = Config("DisentS2S", f"of{length}", config_dict=keys)
        with caplog.at_level("INFO"):
            build_data(made)
        reason = f"a user has {length - 3:.1f} training targets on average, {compared}; it sets"
        assert f"preset: {expected}, because {reason}" in caplog.text
        assert made["hidden_dropout_prob"] == (0.5 if expected == "short" else 0.2)
        caplog.clear()
        given = {key: made[key] for key in ("passes_per_window", "hidden_dropout_prob")}
        with caplog.at_level("INFO"):
            build_data(Config("DisentS2S", f"of{length}", config_dict={**keys, **given}))
        assert "preset: " not in caplog.text  # nothing is left for it to set


def test_the_dropout_of_tssr_follows_the_data(tmp_path):
    for length, dropout in ((4, 0.5), (12, 0.1)):
        rows = [(f"u{u}", f"i{(u + t) % 15}", 1, t) for u in range(20) for t in range(length)]
        write_inter(tmp_path, f"of{length}", rows)
        keys = {"data_path": str(tmp_path), "MAX_ITEM_LIST_LENGTH": 5, "topk": [3], "valid_metric": "NDCG@3"}
        made = Config("TSSR", f"of{length}", config_dict=keys)
        build_data(made)
        assert made["hidden_dropout_prob"] == dropout


def test_a_chosen_preset_that_does_not_fit_the_users_keys_is_left_out(tmp_path, caplog):
    write_inter(tmp_path, "of12", [(f"u{u}", f"i{(u + t) % 15}", 1, t) for u in range(20) for t in range(12)])
    keys = {"data_path": str(tmp_path), "MAX_ITEM_LIST_LENGTH": 5, "topk": [3], "valid_metric": "NDCG@3",
            "targets_per_window": 2, "epochs": 1, "show_progress": False}  # fmt: skip
    found = run("DisentS2S", "of12", config_dict=keys)
    assert found["config"]["passes_per_window"] == 1
    assert scored_again(found["checkpoint"]) == pytest.approx(found["test_result"])
    with caplog.at_level("WARNING"):
        build_data(Config("DisentS2S", "of12", config_dict=keys))
    assert "preset: long is not used, because its keys do not fit yours (passes_per_window: " in caplog.text
