"""Tests of the configuration: priorities, checks before data are read, and error messages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recbole_disent import registry
from recbole_disent.config import key_rules, recbole_keys
from recbole_disent.config.config import Config
from recbole_disent.config.key_rules import KeyRule
from recbole_disent.config.literals import literal
from recbole_disent.errors import UserError
from tests.model_lists import OURS


def config(*words, model="DisentS2S", dataset="ml-100k", files=None, **keys):
    return Config(model, dataset, files, keys, list(words))


def test_priorities(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("n_intentions: 2\nhidden_size: 32\nseq2seq_lambda: 1e-1\nseed: 5\n")
    found = config("--n_intentions=8", files=[str(file)], hidden_size=16, n_intentions=7)
    assert found["n_intentions"] == 8  # command line
    assert found["hidden_size"] == 16  # dict over file
    assert found["seq2seq_lambda"] == 0.1  # file over model properties
    assert found["seed"] == 5  # file over RecBole's overall
    assert found["MAX_ITEM_LIST_LENGTH"] == 50
    assert config(dataset="ml-1m")["MAX_ITEM_LIST_LENGTH"] == 200  # data-set config over overall
    assert found["train_batch_size"] == key_rules.of_model("DisentS2S")["train_batch_size"].default
    assert config(model="SASRec")["train_batch_size"] == 2048  # RecBole's overall


def test_sys_argv_is_left_alone(monkeypatch):
    monkeypatch.setattr("sys.argv", ["program", "--seed=99", "nonsense"])
    assert config()["seed"] == 2020


def test_same_protocol_for_general_and_sequential_models():
    for model in ("BPR", "Pop", "NeuMF", "SASRec", "BERT4Rec", "DisentS2S"):
        found = config(model=model)["eval_args"]
        assert found["split"] == {"LS": "valid_and_test"}
        assert found["order"] == "TO"
        assert found["mode"] == {"valid": "full", "test": "full"}


def test_partial_eval_args_keep_the_protocol():
    found = config("--eval_args={'mode': 'uni100'}")["eval_args"]
    assert found["order"] == "TO"
    assert found["split"] == {"LS": "valid_and_test"}
    assert config("--eval_mode=pop100")["test_neg_sample_args"]["sample_num"] == 100


def test_eval_args_of_several_sources_are_merged(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("eval_args: {split: {RS: [0.8, 0.1, 0.1]}}\nmodel: SASRec\ndataset: ml-100k\n")
    found = Config(config_file_list=[str(file)], cmd_args=["--eval_args={'mode': 'uni100'}"])
    assert found["model"] == "SASRec"
    assert found["eval_args"]["split"] == {"RS": [0.8, 0.1, 0.1]}
    assert found["eval_args"]["order"] == "TO"
    assert found["eval_args"]["mode"]["test"] == "uni100"


def test_eval_args_of_a_later_file_leave_the_other_parts_of_an_earlier_file(tmp_path):
    for name, part in (("a", "split: {RS: [0.8, 0.1, 0.1]}, mode: uni5"), ("b", "mode: {test: uni100}")):
        (tmp_path / f"{name}.yaml").write_text(f"eval_args: {{{part}}}\n")
    found = Config("SASRec", "ml-100k", [str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")])["eval_args"]
    assert found["split"] == {"RS": [0.8, 0.1, 0.1]}
    assert found["mode"] == {"valid": "uni5", "test": "uni100"}


def test_sampled_protocol_adds_the_cut_off_over_all_candidates():
    assert config("--eval_mode=pop100")["topk"] == [1, 5, 10, 20, 50, 101]
    assert config("--eval_mode=uni20")["topk"] == [1, 5, 10, 20, 21]


def test_sasrec_runs_without_further_keys_with_either_loss():
    assert config(model="SASRec")["train_neg_sample_args"]["distribution"] == "none"
    bpr = config("--loss_type=BPR", model="SASRec")
    assert bpr["train_neg_sample_args"]["sample_num"] == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--n_intention=4"],
            r"command line: the key 'n_intention' .* did you mean 'n_intentions'\?",
        ),
        (["--learning_rat=1"], "did you mean 'learning_rate'"),
        (["--seq2seq_lambda=1.5"], r"seq2seq_lambda: got 1.5, expected float in \[0, 1\]"),
        (["--seq2seq_lambda=nan"], "seq2seq_lambda: got"),
        (["--n_intentions=0"], r"n_intentions: got 0, expected int in \[1, 64\]"),
        (["--n_intentions=2.5"], "n_intentions: got 2.5, expected int"),
        (["--n_intentions=True"], "n_intentions: got True, expected int"),
        (["--seq2seq_variant=latest"], "expected one of auto, latent, none, all_items, next_items"),
        (["--epochs=ten"], "epochs: got 'ten', expected int"),
        (["--epochs=0"], "epochs: got 0, expected at least 1"),
        (["--epochs=1", "--epochs=2"], "--epochs is given twice"),
        (["--show_progress=3"], "show_progress: got 3, expected bool"),
        (["epochs=1"], "got 'epochs=1', expected --key=value"),
        (["-user=a b=c"], r"got '-user=a b=c', expected --key=value; did you mean '--user=a b=c'\?$"),
        (["a.pth"], "got 'a.pth', expected --key=value$"),
        (["--epochs", "1"], r"got '--epochs', expected --key=value; did you mean '--epochs=1'\?$"),
        (["--epochs", "--seed=1"], "got '--epochs', expected --key=value$"),
        (["--embedding_size=32"], r"the key 'embedding_size' is known neither to RecBole nor to DisentS2S"),
        (["--topk=0"], "topk must be a positive integer"),
        (["--topk=['a']"], "topk: got .*expected a list of integers"),
        (["--topk=[200]", "--eval_mode=uni100"], "topk: got 200, expected at most 101"),
        (["--valid_metric=MRR@3"], "valid_metric: got 'MRR@3', expected one of metrics="),
        (["--valid_metric=NDCG"], "valid_metric: got 'NDCG', expected one of metrics=.* at one of topk="),
        (
            ["--metrics=['GAUC', 'NDCG']", "--valid_metric=GAUC@10"],
            "valid_metric: got 'GAUC@10', expected one of metrics=.* without a cut-off",
        ),
        (["--metrics=['Recal']"], "no metric named 'Recal'"),
        (["--eval_mode=uni0"], "eval_args mode: got 'uni0', expected full, uniN"),
        (["--eval_mode=most"], "eval_args mode: got 'most', expected full, uniN"),
        (["--eval_args={'mode': 5}"], "eval_args mode: got 5"),
        (["--eval_args={'mod': 'full'}"], "eval_args: the key 'mod' is unknown"),
        (["--eval_args={'split': {'RS': [0.8, 0.2]}}"], "expected three ratios"),
        (["--metrics=['Recall','AUC']"], "cannot be used at the same time"),
        (["--metrics=[1]"], r"metrics: got \[1\], expected a list of names"),
        (["--MAX_ITEM_LIST_LENGTH=0"], "MAX_ITEM_LIST_LENGTH: got 0, expected at least 1"),
        (["--seed=-1"], "seed: got -1, expected at least 0"),
        (["--learner=foo"], "learner: got 'foo', expected one of adam"),
        (["--precision=double", "--enable_amp=True"], "precision: got double with enable_amp=True"),
        (["--clip_grad_norm=3"], "clip_grad_norm: got 3, expected a dict"),
        (["--clip_grad_norm={}"], "clip_grad_norm: got max_norm=None, expected a number above 0"),
        (["--clip_grad_norm={'max_norm': 'a'}"], "clip_grad_norm: got max_norm='a', expected a number abo"),
        (["--clip_grad_norm={'max_norm': 0}"], "clip_grad_norm: got max_norm=0, expected a number above"),
        (["--clip_grad_norm={'max_norm': True}"], "clip_grad_norm: got max_norm=True, expected a number"),
        (["--clip_grad_norm={'max_norm': 5, 'foo': 1}"], "clip_grad_norm: the key 'foo' is unknown, exp"),
        (["--clip_grad_norm={'max_norm': 5, 'norm_type': 'x'}"], "clip_grad_norm: got norm_type='x'"),
        (["--clip_grad_norm={'max_norm': 5, 'foreach': 1}"], "clip_grad_norm: got foreach=1, expected Tru"),
        (["--benchmark_filename=['a']"], "expected three parts"),
        (["--loss_type=BPR"], "the key 'loss_type' is known neither"),
        (["--eval_args=3"], "eval_args: got 3, expected"),
        (
            ["--save_dataset=True"],
            "'save_dataset' is not supported: it would store Python pickles",
        ),
        (["--resume_file=there.pth"], "resume_file: 'there.pth' is not there"),
        (["--eval_mode=labeled"], "labeled has no candidates to rank, but the metrics are"),
    ],
)
def test_wrong_settings_get_one_sentence(words, message):
    with pytest.raises(UserError, match=message) as caught:
        config(*words)
    assert "\n" not in str(caught.value)


def test_all_arguments_of_clipping_may_be_given():
    given = {"max_norm": 5, "norm_type": "inf", "error_if_nonfinite": True, "foreach": None}
    assert config(f"--clip_grad_norm={given}")["clip_grad_norm"] == given


def test_models_that_compare_with_negatives_need_them():
    with pytest.raises(UserError, match="train_neg_sample_args: got none, and BPR compares clicks with neg"):
        config("--train_neg_sample_args=None", model="BPR")


def test_a_folder_of_ones_own_is_taken_before_recboles_copy_of_ml_100k(tmp_path):
    assert "dataset_example" in config(f"--data_path={tmp_path}")["data_path"]
    (tmp_path / "ml-100k").mkdir()
    assert config(f"--data_path={tmp_path}")["data_path"] == str(tmp_path / "ml-100k")


def test_default_columns_follow_their_names():
    renamed = config("--ITEM_ID_FIELD=movie", "--TIME_FIELD=when")
    assert renamed["load_col"] == {"inter": ["user_id", "movie", "rating", "when"]}
    assert config("--load_col={'inter': ['user_id', 'item_id']}")["load_col"]["inter"][-1] == "timestamp"


def test_keys_of_another_model_are_unknown():
    with pytest.raises(UserError, match="neither to RecBole nor to GRU4Rec"):
        config("--n_heads=2", model="GRU4Rec")
    with pytest.raises(UserError, match="neither to RecBole nor to DisentS2S"):
        config("--mask_ratio=0.2")


def test_unknown_models_name_the_nearest():
    with pytest.raises(UserError, match="model 'sasrec' is not known; did you mean 'SASRec'"):
        config(model="sasrec")
    with pytest.raises(
        UserError, match=r"did you mean 'DisentS2S'\? \(this package: DisentS2S, .*; RecBole: "
    ):
        config(model="DisentS2")
    with pytest.raises(UserError, match="model: not given"):
        Config(dataset="ml-100k")


def test_faulty_config_files(tmp_path):
    with pytest.raises(UserError, match=r"config file 'no.yaml': No such file"):
        config(files=["no.yaml"])
    (tmp_path / "bad.yaml").write_text("a: [1\n")
    with pytest.raises(UserError, match=r"config file 'bad.yaml': the file is not valid YAML"):
        config(files=["bad.yaml"])
    (tmp_path / "list.yaml").write_text("- a\n")
    with pytest.raises(UserError, match="expected lines 'key: value'"):
        config(files=["list.yaml"])
    (tmp_path / "events.csv").write_text("user,item\n" + "u,i\n" * 9999)  # YAML takes it for one text
    with pytest.raises(UserError, match=r"expected lines 'key: value'") as refused:
        config(files=["events.csv"])
    assert len(str(refused.value)) < 250
    (tmp_path / "typo.yaml").write_text("hiden_size: 3\n")
    with pytest.raises(UserError, match=r"file 'typo.yaml': the key 'hiden_size' .*'hidden_size'"):
        config(files=["typo.yaml"])


def test_values_are_literals_and_never_code():
    code = "__import__('os').mkdir('executed')"
    found = config(f"--wandb_project={code}", "--checkpoint_dir=max")
    assert found["wandb_project"] == code
    assert found["checkpoint_dir"] == "max"
    assert not Path("executed").exists()


def test_every_key_that_recbole_reads_is_known():
    known = recbole_keys.of_framework()
    assert {"epochs", "benchmark_filename", "reg_weight", "clip_grad_norm", "enable_amp"} <= known


@pytest.mark.parametrize("name", OURS)
def test_every_key_of_a_model_is_read_and_has_a_valid_default(name):
    found = key_rules.of_model(name)
    for setting in found.values():
        setting.check(setting.default)
        assert len(setting.meaning) > 10
    read = recbole_keys.of_class(registry.get_model(name)) | recbole_keys.of_framework()
    for file in Path(key_rules.__file__).parents[1].rglob("*.py"):  # loaders and content have keys, too
        read = read | recbole_keys._keys_in(file.read_text(encoding="utf-8"))
    assert set(found) <= read


@pytest.mark.parametrize("name", OURS)
def test_a_condition_names_a_key_and_values_that_it_can_have(name):
    found = key_rules.of_run(name)
    needs = [rule.need for rule in found.values() if rule.need]
    assert needs
    for need in needs:
        if need.key not in found:
            assert need.key == "content", need  # TSSR has content without a key
            continue
        for value in need.values:
            assert found[need.key].accepts(literal(value)), need


SOURCES = "--content_source=['tokens','file']"


@pytest.mark.parametrize(
    ("words", "note"),
    [
        (
            ["--seq2seq_variant=none", "--seq2seq_weight=1.0"],
            "seq2seq_weight: 1.0|seq2seq_variant=none|seq2seq_variant other than none",
        ),
        (
            ["--seq2seq_variant=all_items", "--seq2seq_lambda=0.3"],
            "seq2seq_lambda: 0.3|seq2seq_variant=all_items|seq2seq_variant=auto or latent",
        ),
        (
            ["--negatives=all", "--sampled_negatives=9"],
            "sampled_negatives: 9|negatives=all|negatives=auto or sampled",
        ),
        (["--content_source=tokens"], "content_source: 'tokens'|content=False|content=True"),
        (["--content_dim=9"], "content_dim: 9|content=False|content=True"),
        (
            ["--content=True", SOURCES, "--content_file=x.npz", "--content_dim=9"],
            "content_dim: 9|content_source=['tokens', 'file']|content_source=text",
        ),
        (["--seq2seq_variant=latent", "--seq2seq_weight=1.0", "--seq2seq_lambda=0.3"], None),
        (["--seq2seq_weight=0.05", "--content=True", "--content_dim=9"], None),
    ],
)
def test_keys_without_effect_are_named(words, note):
    notes = [line for line in config(*words).notes if "no effect" in line]
    assert notes == (
        [] if note is None else ["{} has no effect with {}; the key needs {}".format(*note.split("|"))]
    )


def test_overall_defaults_are_valid():
    for setting in key_rules.overall().values():
        setting.check(setting.default)


@pytest.mark.parametrize(
    ("bounds", "good", "bad"),
    [("[0, 1]", [0, 1, 0.5], [-0.1, 1.1]), ("(0, inf)", [1e-9, 5], [0]), ("[0, 1)", [0], [1])],
)
def test_bounds(bounds, good, bad):
    setting = KeyRule("x", 0.5, ("float",), (), bounds, "")
    for value in good:
        assert setting.check(value) == value
    for value in bad:
        with pytest.raises(UserError, match="x: got"):
            setting.check(value)


def test_properties_without_a_rule_are_refused(tmp_path):
    file = tmp_path / "x.yaml"
    file.write_text("a: 1\n")
    with pytest.raises(ValueError, match="key 'a' has no"):
        key_rules.read_rules(file)
    file.write_text("a: 1  # (integer) what\n")
    with pytest.raises(ValueError, match=r"rule .* of key 'a' is not understood"):
        key_rules.read_rules(file)
    file.write_text("a: 1  # (int) what {needs b}\n")
    with pytest.raises(ValueError, match="the condition of key 'a' is not understood"):
        key_rules.read_rules(file)
    file.write_text("a: 1  # (int) what {needs b!=x|y}\n")
    need = key_rules.read_rules(file)["a"].need
    assert (str(need), need.met_by("x"), need.met_by("z")) == ("b other than x or y", False, True)


def test_numpy_names_that_recbole_reads_exist():
    assert np.float(1) == 1.0


def test_a_key_that_a_file_gives_twice_is_refused(tmp_path):
    file = tmp_path / "keys.yaml"
    file.write_text("a: &a {x: 1}\nepochs: 1\nb:\n  <<: *a\n  x: 2\nepochs: 2\n")
    with pytest.raises(UserError, match=r"keys.yaml': .*line 6: the key 'epochs' is given twice; remove one"):
        Config("BPR", "ml-100k", [str(file)])
    found = key_rules.load_yaml("a: &a {x: 1}\nb: &b\n  <<: *a\n  x: 2\nc:\n  <<: *b\n  x: 3\n")
    assert found == {"a": {"x": 1}, "b": {"x": 2}, "c": {"x": 3}}
