"""Tests that the inspect page shows the numbers of the model and escapes all texts."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from recbole_disent import load
from recbole_disent.cli import main
from recbole_disent.errors import UserError
from recbole_disent.serving import inspect, inspect_page
from recbole_disent.session import run


@pytest.fixture
def checkpoint(make_keys):
    def make(model="DisentS2S", **keys):
        return run(config_dict=make_keys(model, epochs=1, **keys))["checkpoint"]

    return make


def test_numbers_of_a_person_are_those_of_the_model(checkpoint):
    rec = load(checkpoint(n_intentions=3))
    user = rec.users[4]
    person = inspect.describe(rec, [user], [], k=4)["people"][0]
    expected = rec.recommend([user], k=4)
    assert [row["item"] for row in person["recommended"]] == list(expected["item"])
    assert [row["intention"] for row in person["recommended"]] == list(expected["intention"])
    for row in person["recommended"]:
        assert max(row["scores"]) == pytest.approx(row["score"], rel=1e-4)
        assert int(np.argmax(row["scores"])) == row["intention"]
    past = rec.catalogue.histories.events_of(torch.tensor([5]))[1][-rec.encoder.max_length :]
    assert [e["item"] for e in person["events"]] == list(rec.catalogue.items[past.numpy()])
    assert sum(e["weight"] for e in person["events"]) == pytest.approx(1, abs=1e-5)
    for event in person["events"]:
        assert sum(event["intentions"]) == pytest.approx(1, abs=1e-5)
    # The sum of p(k|i) w(i) z_i, normalised, is the query vector.
    queries = rec.queries_of_users([user], "error")
    batch = rec.encoder.batch(queries.store, queries.rows, queries.users)
    net = rec.encoder.model
    with torch.no_grad():
        z = net.encoder(batch["item_id_list"])[0]
        p = torch.tensor([e["intentions"] for e in person["events"]])
        w = torch.tensor([e["weight"] for e in person["events"]])
        w = w * (1 + net.disentanglement.last_item_weight)
        pooled = torch.einsum("lk,l,ld->kd", p, w, z[: len(w)])
        phi = net.disentanglement.output_norm(net.disentanglement.bias[0] + pooled) * net.scale
    np.testing.assert_allclose(phi.numpy(), rec.user_vectors([user])[0], rtol=1e-3, atol=1e-5)


def test_shares_sum_to_one_and_a_collapse_is_said(checkpoint):
    rec = load(checkpoint(n_intentions=3))
    found = inspect.describe(rec, [], [], k=5)["intentions"]
    for key in ("share_of_clicks", "share_of_lists"):
        assert sum(row[key] for row in found["rows"]) == pytest.approx(1, abs=1e-5)
    chosen = rec.recommend(k=5)["intention"].value_counts(normalize=True)
    for row in found["rows"]:
        assert row["share_of_lists"] == pytest.approx(chosen.get(row["intention"], 0.0))
    net = rec.encoder.model
    with torch.no_grad():  # all prototypes the same, and all biases
        net.disentanglement.prototypes[:] = net.disentanglement.prototypes[0]
        net.disentanglement.bias[:] = net.disentanglement.bias[:, :1]
    collapsed = inspect.describe(rec, [], [], k=5)["intentions"]
    assert collapsed["verdict"]["collapsed"]
    assert collapsed["measures"]["overlap_of_items"] == 1
    assert "have collapsed" in inspect_page.page(inspect.describe(rec, [], [], k=5))


def test_effective_number_and_verdict():
    assert inspect.effective_number(np.array([1, 1, 1, 1])) == pytest.approx(4)
    assert inspect.effective_number(np.array([7, 0, 0])) == 1
    measures = {
        "effective_intentions_of_lists": 3.0,
        "effective_intentions_of_clicks": 3.0,
        "overlap_of_items": 0.1,
    }
    assert not inspect.verdict(measures, 4)["collapsed"]
    for change in ({"effective_intentions_of_lists": 1.2}, {"effective_intentions_of_clicks": 1.0}, {"overlap_of_items": 0.9}):  # noqa: E501  # fmt: skip
        assert inspect.verdict({**measures, **change}, 4)["collapsed"]


def test_the_overlap_of_a_small_catalogue_is_not_that_of_chance():
    """The 50 best of 60 items are nearly the same for any two rankings, which is no collapse."""
    rng = np.random.default_rng(0)
    for n_items in (12, 48, 60, 400, 5000):
        n = inspect.compared_items(n_items)
        common = [len({*rng.permutation(n_items)[:n]} & {*rng.permutation(n_items)[:n]}) for _ in range(200)]
        assert np.mean([count / n > 0.8 for count in common]) < 0.02
    assert (inspect.compared_items(1682), inspect.compared_items(3)) == (50, 1)


@pytest.mark.parametrize("model", ["SASRec", "BPR", "Pop"])
def test_other_models_say_that_they_have_no_intentions(checkpoint, model):
    rec = load(checkpoint(model))
    found = inspect.describe(rec, [rec.users[0]], [], k=3)
    assert found["intentions"] is None
    assert "no intentions" in found["note"]
    assert len(found["people"][0]["recommended"]) == 3
    inspect_page.page(found)


def test_the_command_writes_a_page_that_stands_alone(checkpoint, tmp_path, capsys, caplog):
    path = checkpoint(n_intentions=3)
    rec = load(path)
    words = [
        "inspect",
        path,
        "--user",
        rec.users[0],
        "--sequence",
        " ".join([*rec.items[:3], "typo"]),
        "--out",
        "p.html",
    ]
    assert main(words) == 0
    page = (tmp_path / "p.html").read_text(encoding="utf-8")
    numbers = json.loads((tmp_path / "p.json").read_text(encoding="utf-8"))
    assert [p["name"] for p in numbers["people"]] == [
        f"user {rec.users[0]}", "sequence 1 (unknown item ids, left out: 1)",
    ]  # fmt: skip
    assert "http" not in page
    assert "<script" not in page
    assert numbers["intentions"]["verdict"]["text"] in capsys.readouterr().out
    assert "sequences: 1 item ids in 1 sequences are not known to the model and left out" in caplog.text
    assert main([*words[:-1], "p.txt"]) == 2
    assert main(words) == 0  # its own files are replaced
    capsys.readouterr()
    for content in ('{"model": "DisentS2S", "test_result": {}}', "[]", "no JSON"):
        (tmp_path / "p.json").write_text(content, encoding="utf-8")
        assert main(words) == 2
        assert "--out: 'p.json', which the numbers of the page go into, is there" in capsys.readouterr().err
        assert (tmp_path / "p.json").read_text(encoding="utf-8") == content


def test_texts_of_items_are_escaped(checkpoint):
    rec = load(checkpoint())
    rec.catalogue.texts = ["<script>alert(1)</script>"] * len(rec.catalogue.items)
    page = inspect_page.page(inspect.describe(rec, [rec.users[0]], [], k=3))
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_overlap_is_the_mean_share_of_common_items(checkpoint, monkeypatch):
    rec = load(checkpoint(n_intentions=3))
    best = torch.tensor([[1, 2, 3, 4], [1, 2, 5, 6], [7, 8, 9, 3]])  # 2, 1 and 0 of 4 are common
    monkeypatch.setattr(inspect, "top_items", lambda scores, k: (scores[:, :4], best))
    monkeypatch.setattr(inspect, "compared_items", lambda n_items: 4)
    found = inspect.describe(rec, [], [], k=3)["intentions"]
    assert [[item["item"] for item in row["items"]] for row in found["rows"]] == [
        list(rec.catalogue.items[row.numpy()]) for row in best
    ]
    assert found["measures"]["overlap_of_items"] == pytest.approx((2 / 4 + 1 / 4 + 0) / 3)


def test_people_of_a_bundle_without_histories_are_refused(checkpoint, tmp_path):
    pytest.importorskip("safetensors")
    rec = load(checkpoint("BPR"))
    rec.save(tmp_path / "b", histories=False)
    again = load(tmp_path / "b")
    with pytest.raises(UserError, match="filter_history: this bundle holds no histories"):
        inspect.describe(again, [rec.users[0]], [], k=3)
    assert inspect.describe(again, [], [], k=3)["people"] == []
