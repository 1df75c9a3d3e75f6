"""Tests of exported query encoders: equal to the model, for histories of any length and number."""

from __future__ import annotations

import builtins
import json

import numpy as np
import pytest
import torch

from recbole_disent import load
from recbole_disent.errors import UserError
from recbole_disent.serving import program
from recbole_disent.session import run

safetensors = pytest.importorskip("safetensors.torch")
KEYS = {"TSSR": {"content_source": "tokens", "output": "linear"}}
MODELS = ("DisentS2S", "SASRec", "TSSR", "GRU4Rec", "BERT4Rec")


@pytest.fixture
def recommender(make_keys):
    """Return a function model -> Recommender of a checkpoint, trained for one epoch."""

    def make(model, **keys):
        return load(run(config_dict=make_keys(model, epochs=1, **KEYS.get(model, {}), **keys))["checkpoint"])

    return make


def sequences(rec, longest=7):
    items = list(rec.items)
    return [items[:length] for length in range(1, longest + 1)]


def inputs(rec, rows, longest=7):
    numbers = np.zeros((len(rows), longest), np.int64)
    for row, sequence in enumerate(rows):
        numbers[row, : len(sequence)] = rec.catalogue.item_numbers(sequence)
    return numbers, np.array([len(row) for row in rows], np.int64)


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_a_program_gives_the_vectors_and_the_order_of_the_model(recommender, tmp_path, model):
    rec = recommender(model)
    rec.save(tmp_path / "b", program=True)
    call = torch.export.load(tmp_path / "b" / program.PROGRAM).module()
    rows = sequences(rec)
    expected = rec.user_vectors(sequences=rows)
    table = safetensors.load_file(tmp_path / "b" / "item_vectors.safetensors")["items"]
    np.testing.assert_array_equal(table[1:].numpy(), rec.item_vectors())
    for some in (rows, rows[:1], rows[2:4]):
        items, lengths = map(torch.from_numpy, inputs(rec, some))
        with torch.no_grad():
            found = call(items, lengths)
        np.testing.assert_allclose(found.numpy(), expected[rows.index(some[0]) :][: len(some)], atol=1e-5)
    scores = (found @ table.T).amax(1)
    scores[:, 0] = -torch.inf
    best = rec.recommend_sequences(rows[2:4], k=1, filter_history=False)
    assert [rec.items[i - 1] for i in scores.argmax(1)] == list(best["item"])
    # The bundle is loaded as any other one: the file is checked, and read by other programs only.
    load(tmp_path / "b")
    (tmp_path / "b" / program.PROGRAM).write_bytes(b"x")
    with pytest.raises(UserError, match=r"query_encoder\.pt2 is damaged or changed"):
        load(tmp_path / "b")


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS[:4])
def test_onnx_gives_the_vectors_of_the_model(recommender, tmp_path, model):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    rec = recommender(model)
    rec.save(tmp_path / "b", onnx=True)
    session = runtime.InferenceSession(str(tmp_path / "b" / program.ONNX), providers=["CPUExecutionProvider"])
    rows = sequences(rec)
    for some in (rows, rows[:1]):
        items, lengths = inputs(rec, some)
        found = session.run(["queries"], {"items": items, "lengths": lengths})[0]
        np.testing.assert_allclose(found, rec.user_vectors(sequences=some), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("Caser", "needs the column 'user_id' beside the history"),
        ("BPR", "BPR does not encode histories as query vectors"),
        ("CORE", "CORE does not encode histories as query vectors"),
    ],
)
def test_a_model_without_such_an_encoder_is_refused(recommender, tmp_path, model, message):
    with pytest.raises(UserError, match=message):
        recommender(model).save(tmp_path / "b", program=True)
    assert not (tmp_path / "b").exists()


def test_a_file_that_differs_is_not_exported(recommender, tmp_path, monkeypatch):
    rec = recommender("GRU4Rec")
    real = torch.export.load

    def other(path):
        made = real(path)
        with torch.no_grad():
            for value in made.state_dict.values():
                value *= 1.01
        return made

    monkeypatch.setattr(torch.export, "load", other)
    with pytest.raises(UserError, match=r"query_encoder\.pt2 gives vectors that differ from the vectors"):
        rec.save(tmp_path / "b", program=True)
    assert not (tmp_path / "b").exists()


def test_without_onnx_it_is_one_sentence(recommender, tmp_path, monkeypatch):
    rec, real = recommender("GRU4Rec"), builtins.__import__

    def without(name, *args, **options):
        if name.partition(".")[0] == "onnxruntime":
            raise ImportError(name, name="onnxruntime")
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        UserError, match=r"--onnx needs the package 'onnxruntime': pip install 'recbole_disent\[onnx\]'"
    ):
        rec.save(tmp_path / "b", onnx=True)


def test_the_masked_model_sees_what_recbole_shows_it(make_keys):
    rec = load(run(config_dict=make_keys("BERT4Rec", epochs=1))["checkpoint"])
    model, rows = rec.encoder.model, sequences(rec)
    items, lengths = map(torch.from_numpy, inputs(rec, rows))
    shown = []
    model.register_forward_pre_hook(lambda _, given: shown.append(given[0]))
    real, model.forward = model.forward, lambda item_seq: shown.append(item_seq) or real(item_seq)
    rec.encoder.query_function({model.ITEM_SEQ: items, model.ITEM_SEQ_LEN: lengths})
    assert torch.equal(shown[-1], model.reconstruct_test_data(items, lengths))
    assert json.loads(json.dumps(shown[-1].shape)) == [7, 7]
