"""Tests of bundles: they need no other files, loading checks them, and no content is executed."""

from __future__ import annotations

import builtins
import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest

from recbole_disent import load
from recbole_disent.cli import main
from recbole_disent.errors import UserError
from recbole_disent.hashing import file_digest
from recbole_disent.serving import bundle, id_tables
from recbole_disent.session import run
from tests.conftest import feature_keys

pytest.importorskip("safetensors")
MODELS = ("DisentS2S", "TSSR", "SASRecContent", "SASRec", "SASRecF", "BERT4Rec", "Caser", "GRU4Rec", "CORE",
          "BPR", "LightGCN", "ItemKNN", "EASE", "Pop", "NeuMF", "MultiVAE")  # fmt: skip


@pytest.fixture
def checkpoint(make_keys):
    """Return a function (model, **keys) -> path of a checkpoint, trained for one epoch."""

    def make(model="DisentS2S", **keys):
        return run(config_dict=make_keys(model, epochs=1, **feature_keys(model), **keys))["checkpoint"]

    return make


@pytest.mark.parametrize("model", MODELS)
def test_a_bundle_stands_alone(checkpoint, hostile, tmp_path, monkeypatch, model):
    """A bundle gives the same lists after a move, without its data set, from another working directory."""
    rec = load(checkpoint(model))
    expected = rec.recommend(k=5)
    rec.save(tmp_path / "made")
    shutil.move(tmp_path / "made", tmp_path / "moved" / "here")
    shutil.rmtree(hostile)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = load(tmp_path / "moved" / "here")
    pd.testing.assert_frame_equal(again.recommend(k=5), expected)
    assert list(again.items) == list(rec.items)
    assert again.catalogue.texts == rec.catalogue.texts


def test_a_bundle_of_a_refit_is_built_from_both_parts(checkpoint, tmp_path):
    rec = load(checkpoint("LightGCN", refit=True))
    rec.save(tmp_path / "b")
    pd.testing.assert_frame_equal(load(tmp_path / "b").recommend(k=5), rec.recommend(k=5))


@pytest.mark.parametrize("model", ["DisentS2S", "TSSR"])
def test_content_of_a_trained_model_is_a_tensor(checkpoint, tmp_path, model):
    keys = {"content": True} if model == "DisentS2S" else {"output": "linear", "score_by_content": 2}
    rec = load(checkpoint(model, content_source="text", **keys))
    rec.save(tmp_path / "b")
    pd.testing.assert_frame_equal(load(tmp_path / "b").recommend(k=5), rec.recommend(k=5))


def test_another_process_needs_nothing_but_the_folder(checkpoint, hostile, tmp_path):
    rec = load(checkpoint("DisentS2S"))
    expected = rec.recommend(k=3)
    rec.save(tmp_path / "b")
    shutil.rmtree(hostile)
    code = "import recbole_disent, sys; recbole_disent.load(sys.argv[1]).recommend(k=3).to_json(sys.argv[2])"
    (tmp_path / "w").mkdir()
    paths = [str(Path(bundle.__file__).parents[2]), *sys.path]
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "b"), str(tmp_path / "out.json")],
        cwd=tmp_path / "w", check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )  # fmt: skip
    found = pd.read_json(tmp_path / "out.json")
    assert list(found["item"]) == list(expected["item"])


def test_config_json_names_no_place_of_the_machine(checkpoint, tmp_path):
    load(checkpoint()).save(tmp_path / "b")
    for name in ("config.json", "README.md"):
        text = (tmp_path / "b" / name).read_text(encoding="utf-8")
        assert str(tmp_path) not in text
        assert sys.prefix not in text
    card = (tmp_path / "b" / "README.md").read_text(encoding="utf-8")
    assert "| ndcg@10 |" in card
    assert card.startswith("---\nlibrary_name: recbole_disent\n")


def test_without_histories(checkpoint, tmp_path):
    rec = load(checkpoint("SASRec"))
    rec.save(tmp_path / "b", histories=False)
    assert not list((tmp_path / "b").glob("users.*"))
    again = load(tmp_path / "b")
    some = [list(rec.items[:3])]
    pd.testing.assert_frame_equal(again.recommend_sequences(some), rec.recommend_sequences(some))
    with pytest.raises(UserError, match="knows no users"):
        again.recommend()
    with pytest.raises(
        UserError, match="histories: got True, but the bundle that this one is made of holds no"
    ):
        again.save(tmp_path / "c")
    again.save(tmp_path / "c", histories=False)
    pd.testing.assert_frame_equal(
        load(tmp_path / "c").recommend_sequences(some), rec.recommend_sequences(some)
    )
    if find_spec("faiss"):
        with pytest.raises(UserError, match="index: its recall is measured with histories, and this bundle"):
            again.save(tmp_path / "d", histories=False, index="faiss")
    general = load(checkpoint("BPR"))
    general.save(tmp_path / "g", histories=False)
    general.save(tmp_path / "h")
    for name, who in (("b", "--sequences FILE"), ("g", "--users all --keep-history"), ("h", "--users all")):
        assert f"recommend FOLDER {who} --k" in (tmp_path / name / "README.md").read_text(encoding="utf-8")
    again = load(tmp_path / "g")
    with pytest.raises(UserError, match="filter_history"):
        again.recommend(k=3)
    pd.testing.assert_frame_equal(
        again.recommend(k=3, filter_history=False), general.recommend(k=3, filter_history=False)
    )


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("LightGCN", "LightGCN is built from the events of the users, so that its bundle holds them"),
        ("EASE", "EASE is built from the events of the users, so that its bundle holds them"),
        ("FPMC", "FPMC cannot score the items of a sequence alone, so that its bundle could"),
    ],
)
def test_without_histories_models_that_need_them_are_refused(checkpoint, tmp_path, capsys, model, message):
    path = checkpoint(model)
    assert main(["export", path, "--out", "b", "--no-histories"]) == 2
    assert f"--no-histories: {message}" in capsys.readouterr().err
    assert not list(tmp_path.glob("*b"))
    load(path).save(tmp_path / "b")
    readme = (tmp_path / "b" / "README.md").read_text(encoding="utf-8")
    assert "recommend FOLDER --users all --k" in readme
    assert "recommend_sequences" not in readme


def test_without_pyarrow_tables_are_csv(checkpoint, tmp_path, monkeypatch):
    rec = load(checkpoint())
    expected = rec.recommend(k=3)
    real = builtins.__import__

    def without(name, *args, **options):
        if name.partition(".")[0] == "pyarrow":
            raise ImportError(name)
        return real(name, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "__import__", without)
        rec.save(tmp_path / "b")
        assert (tmp_path / "b" / "items.csv").is_file()
        again = load(tmp_path / "b")
    assert again.catalogue.texts == rec.catalogue.texts
    pd.testing.assert_frame_equal(again.recommend(k=3), expected)


def test_without_safetensors_it_is_one_sentence(checkpoint, tmp_path, monkeypatch):
    rec = load(checkpoint())
    for name in [n for n in sys.modules if n.partition(".")[0] == "safetensors"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(UserError, match=r"need the package 'safetensors': pip install safetensors$"):
        rec.save(tmp_path / "b")
    assert not list(tmp_path.glob("*b*.??????*"))
    assert not (tmp_path / "b").exists()


def test_damage_is_one_sentence(checkpoint, tmp_path):
    path = tmp_path / "b"
    load(checkpoint()).save(path)
    for name in ("model.safetensors", "data.safetensors", "items.parquet"):
        whole = (path / name).read_bytes()
        (path / name).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(UserError, match=f"{name} is damaged or changed"):
            load(path)
        (path / name).unlink()
        with pytest.raises(UserError, match=f"{name} is missing"):
            load(path)
        (path / name).write_bytes(whole)
    load(path)
    config = json.loads((path / "config.json").read_text())
    for change, message in (
        ({"format_version": 2}, "its format has the version 2, expected 1"),
        ({"format": "x"}, "not that of a bundle"),
        ({"files": {"../x": ""}}, "names a file '../x'"),
        ({"files": 3}, "no usable 'files'"),
    ):
        (path / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(UserError, match=message):
            load(path)
    (path / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json is no JSON"):
        load(path)
    with pytest.raises(UserError, match="is not there"):
        load(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="give the folder of a bundle"):
        load(tmp_path / "empty")


def test_a_bundle_runs_no_file_that_it_names(checkpoint, tmp_path):
    path = tmp_path / "b"
    load(checkpoint()).save(path)
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    config = json.loads((path / "config.json").read_text())
    config["config"]["model_file"] = str(tmp_path / "evil.py")
    config["config"]["model"] = "Evil"
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="Evil"):
        load(path)
    assert not (tmp_path / "ran").exists()


def test_a_bundle_reads_no_weights_that_it_names(checkpoint, tmp_path, monkeypatch):
    path = tmp_path / "b"
    load(checkpoint("NeuMF")).save(path)
    config = json.loads((path / "config.json").read_text())
    weights = {"mf_pretrain_path": "evil.pth", "mlp_pretrain_path": "evil.pth"}
    config["config"].update(weights, use_pretrain=True)
    (path / "config.json").write_text(json.dumps(config))
    read = []
    monkeypatch.setattr("torch.load", lambda path, **_: read.append(path) or {})
    with pytest.raises((UserError, KeyError)):
        load(path)
    assert "evil.pth" not in read


def test_a_folder_is_replaced_when_asked_and_only_a_bundle(checkpoint, tmp_path):
    rec = load(checkpoint("SASRec"))
    rec.save(tmp_path / "b")
    with pytest.raises(UserError, match="there already; say --overwrite"):
        rec.save(tmp_path / "b")
    rec.save(tmp_path / "b", histories=False, overwrite=True)
    assert not list((tmp_path / "b").glob("users.*"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("x")
    with pytest.raises(UserError, match="there already; it is no bundle, so give another name"):
        rec.save(tmp_path / "mine", overwrite=True)
    (tmp_path / "mine" / "config.json").write_text('{"architectures": ["BertModel"]}')
    with pytest.raises(UserError, match="there already; it is no bundle, so give another name"):
        rec.save(tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "file").read_text() == "x"
    (tmp_path / "b" / "NOTES.txt").write_text("x")
    with pytest.raises(
        UserError, match=r"--overwrite would delete 'NOTES\.txt', which is no file of a bundle"
    ):
        rec.save(tmp_path / "b", overwrite=True)
    assert (tmp_path / "b" / "NOTES.txt").read_text() == "x"
    (tmp_path / "link").symlink_to(tmp_path / "b")
    with pytest.raises(UserError, match="bundle 'link': this is a link, expected a folder; give the name of"):
        rec.save(tmp_path / "link", overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []


def test_a_bundle_that_cannot_be_replaced_stays(checkpoint, tmp_path, monkeypatch):
    rec, out, moves = load(checkpoint("SASRec")), tmp_path / "b", []
    rec.save(out)
    before = sorted((p.name, p.read_bytes()) for p in out.iterdir())
    replace = os.replace

    def fails_once(source, target):
        # The first move takes the former bundle away, and the second one puts the new bundle in its place.
        moves.append((source, target))
        if len(moves) == 2:
            raise OSError("no space")
        replace(source, target)

    monkeypatch.setattr(
        bundle.os, "replace", lambda s, t: fails_once(s, t) if out in (s, t) else replace(s, t)
    )
    with pytest.raises(OSError, match="no space"):
        rec.save(out, overwrite=True)
    assert sorted((p.name, p.read_bytes()) for p in out.iterdir()) == before


def test_a_bundle_of_a_bundle_has_no_index_unless_it_is_asked_for(checkpoint, tmp_path):
    load(checkpoint()).save(tmp_path / "b")
    rec = load(tmp_path / "b")
    rec.about["index"] = {"kind": "faiss", "effort": 8, "recall@10": 1.0}  # as if exported with one
    rec.save(tmp_path / "c")
    config = json.loads((tmp_path / "c" / "config.json").read_text(encoding="utf-8"))
    assert not {"index", "digest"} & set(config)
    assert set(config["files"]) == {p.name for p in (tmp_path / "c").iterdir()} - {"config.json"}
    assert "index:" not in (tmp_path / "c" / "README.md").read_text(encoding="utf-8")
    again = load(tmp_path / "c")
    assert again.about["digest"] != rec.about["digest"]
    with pytest.raises(UserError, match="index: there is none here"):
        again.load_index()
    pd.testing.assert_frame_equal(again.recommend(k=3), rec.recommend(k=3))


def test_a_file_without_a_digest_and_ids_of_other_users_are_refused(checkpoint, tmp_path):
    path = tmp_path / "b"
    load(checkpoint()).save(path)
    config = json.loads((path / "config.json").read_text())
    for name in ("model.safetensors", "data.safetensors"):
        files = {key: digest for key, digest in config["files"].items() if key != name}
        (path / "config.json").write_text(json.dumps({**config, "files": files}))
        with pytest.raises(UserError, match=rf"config\.json has no digest of the file {name}"):
            load(path)
    users = [*id_tables.read(path, "users", config["files"])["user"], "one more"]
    id_tables.write(path, "users", {"user": users})
    name = next(name for name in config["files"] if name.startswith("users."))
    config["files"][name] = file_digest(path / name)
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=f"histories of {len(users) - 1} users, and ids of {len(users)}"):
        load(path)
