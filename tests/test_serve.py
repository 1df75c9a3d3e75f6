"""Tests of the server: lists, limits, batches, and a new bundle while the server runs."""

from __future__ import annotations

import ast
import asyncio
import io
import re
import runpy
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import torch

from recbole_disent import load
from recbole_disent.cli import main
from recbole_disent.errors import UserError
from recbole_disent.recommender import Recommender
from recbole_disent.serving import approximate
from recbole_disent.serving.index import Index
from recbole_disent.session import run

pytest.importorskip("fastapi")
pytest.importorskip("httpx")
pytest.importorskip("safetensors")
from fastapi.testclient import TestClient

from recbole_disent.serving import batching, http
from recbole_disent.serving.http import Limits, make_app


@pytest.fixture
def bundle(make_keys, tmp_path):
    def make(name="b", model="DisentS2S", **keys):
        path = run(config_dict=make_keys(model, epochs=1, **keys))["checkpoint"]
        return load(path).save(tmp_path / name, overwrite=True)

    return make


@pytest.fixture
def folder(bundle):
    return bundle()


@pytest.fixture
def client(folder):
    with TestClient(make_app(folder)) as client:
        yield client


def items(answer):
    assert answer.status_code == 200, answer.text
    return [row["item"] for row in answer.json()["items"]]


def test_answers_are_those_of_recommend(client, folder):
    rec = load(folder)
    for user in rec.users[:3]:
        expected = rec.recommend([user], k=4)
        answer = client.post("/recommend", json={"user": user, "k": 4})
        assert items(answer) == list(expected["item"])
        rows = answer.json()["items"]
        assert [row["score"] for row in rows] == pytest.approx(list(expected["score"]), rel=1e-5)
        assert [row["intention"] for row in rows] == list(expected["intention"])
    some = list(rec.items[:4])
    expected = rec.recommend_sequences([some], k=5, items_excluded=list(rec.items[5:8]), diversity=0.5)
    excluded = [*rec.items[5:8], "nowhere", "no"]
    body = {"sequence": [*some, "nowhere"], "k": 5, "items_excluded": excluded, "diversity": 0.5}
    answer = client.post("/recommend", json=body)
    assert items(answer) == list(expected["item"])
    assert (answer.json()["unknown_items"], answer.json()["unknown_excluded"]) == (1, 2)
    found = client.post("/similar", json={"item": some[0], "k": 3})
    assert items(found) == list(rec.similar_items(some[:1], k=3)["similar"])
    about = client.get(f"/items/{some[0]}").json()
    assert about["clicks"] == rec.catalogue.counts[1]
    health = client.get("/health").json()
    assert (health["status"], health["model"]) == ("ok", "DisentS2S")
    assert "<form" in client.get("/").text
    assert client.get("/docs").status_code == 200
    assert 'requests_total{route="/recommend",status="200"} 4' in client.get("/metrics").text


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"user": "nobody"}, 404, "the user 'nobody' is not known to the model (1 such of 1); give another"),
        ({}, 422, "either 'user' or 'sequence'"),
        ({"user": "u1", "sequence": []}, 422, "either 'user' or 'sequence'"),
        ({"sequence": ["i1"], "k": 10**9}, 422, "less than or equal to 1000"),
        ({"sequence": ["i1"], "k": 0}, 422, "greater than or equal to 1"),
        ({"sequence": ["i1"], "k": True}, 422, "valid integer"),
        ({"sequence": "i1"}, 422, "valid list"),
        ({"sequence": ["i1"] * 10001}, 422, "sequence: got 10001 values, expected at most 10000"),
        ({"sequence": ["i1"], "diversity": 2}, 422, "less than or equal to 1"),
        ({"sequence": ["i1"], "items_allowed": ["no"]}, 422, "none of these items is known"),
        ({"sequence": ["i1"], "unknown_users": "popularity"}, 422, "expected it with 'user'; leave it out"),
        ({"sequence": ["i1"], "model_file": "/etc/passwd"}, 422, "the key 'model_file' is not known"),
    ],
)
def test_wrong_requests_are_refused_in_words(client, body, status, message):
    answer = client.post("/recommend", json=body)
    assert answer.status_code == status
    assert message in answer.text


def test_malformed_and_long_bodies(client):
    head = {"Content-Type": "application/json"}
    assert client.post("/recommend", content=b"{", headers=head).status_code == 422
    assert client.post("/recommend", content=b"\xff\xfe", headers=head).status_code in (400, 422)
    assert client.post("/recommend", content=b"x" * (10 * 2**20), headers=head).status_code == 413
    chunks = (b"x" * 2**16 for _ in range(40))  # without a content-length
    assert client.post("/recommend", content=chunks, headers=head).status_code == 413
    assert client.post("/similar", json={"item": "nowhere"}).status_code == 404
    assert client.get("/items/../../etc/passwd").status_code == 404
    assert client.get("/items/%2e%2e%2f%2e%2e%2fetc%2fpasswd").status_code == 404
    assert client.get("/health").status_code == 200


def test_concurrent_requests_are_answered_in_batches(folder):
    rec = load(folder)
    users = list(rec.users) * 5
    expected = {user: list(rows["item"]) for user, rows in rec.recommend(k=5).groupby("user")}
    with TestClient(make_app(folder)) as client, ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda u: items(client.post("/recommend", json={"user": u, "k": 5})), users))
        text = client.get("/metrics").text
    assert answers == [expected[user] for user in users]
    gauges = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(gauges["recbole_disent_batched_requests"]) == len(users)
    assert float(gauges["recbole_disent_batches"]) < len(users)


def test_lists_of_a_batch_are_those_of_each_alone(folder):
    rec = load(folder)
    asks = [
        batching.Ask(None, tuple(rec.items[n : n + 3]), k=n + 1, excluded=tuple(rec.items[:n]),
                     allowed=tuple(rec.items[n : n + 20]) if n % 2 else None)
        for n in range(6)
    ]  # fmt: skip
    together = batching.answer(rec, asks)
    for ask, found in zip(asks, together, strict=True):
        alone = batching.answer(rec, [ask])[0]
        assert found.items == alone.items
        assert len(found.items) == ask.k
        assert not set(found.items) & set(ask.excluded)


def test_too_many_requests_for_similar_items_get_503(folder, monkeypatch):
    go = threading.Event()
    monkeypatch.setattr("recbole_disent.recommender.Recommender.similar_items", lambda *given: go.wait(10))
    limits = Limits(waiting=2, seconds=1.5)
    with TestClient(make_app(folder, limits)) as client, ThreadPoolExecutor(8) as pool:
        body = {"item": "i1"}
        texts = [r.text for r in pool.map(lambda _: client.post("/similar", json=body), range(8))]
        assert sum("too many requests wait" in text for text in texts) == 6
        assert sum("longer than 1.5 s" in text for text in texts) == 2
        go.set()


def test_too_many_and_too_slow_requests_get_503(folder, monkeypatch):
    go = threading.Event()
    real = batching.answer

    def slow(recommender, *given):
        go.wait(10)
        return real(recommender, *given)

    monkeypatch.setattr(batching, "answer", slow)
    limits = Limits(waiting=2, seconds=1.5)
    with TestClient(make_app(folder, limits)) as client, ThreadPoolExecutor(8) as pool:
        user = {"user": str(load(folder).users[0])}
        waiting = [pool.submit(client.post, "/recommend", json=user) for _ in range(8)]
        statuses = sorted(w.result().status_code for w in waiting)
        assert statuses == [503] * 8
        assert any("too many requests wait" in w.result().text for w in waiting)
        assert any("longer than 1.5 s" in w.result().text for w in waiting)
        assert waiting[0].result().headers["retry-after"] == "1"
        go.set()
        assert items(client.post("/recommend", json=user))


def test_a_new_bundle_is_loaded_and_a_faulty_one_left_alone(bundle):
    folder = bundle()
    with TestClient(make_app(folder, Limits(reload_seconds=0.05))) as client:
        first = client.get("/health").json()["bundle"]
        answers, stop = [], threading.Event()

        def ask():
            while not stop.is_set():
                answers.append(client.post("/recommend", json={"sequence": ["i1", "i2"]}).status_code)

        thread = threading.Thread(target=ask)
        thread.start()
        bundle(seed=7)
        _until(lambda: client.get("/health").json()["bundle"] != first)
        (folder / "config.json").write_text("{")
        _until(lambda: failed_reloads(client) > 0)
        stop.set()
        thread.join()
        assert set(answers) == {200}
        assert items(client.post("/recommend", json={"sequence": ["i1"]}))


def failed_reloads(client):
    return int(re.search(r'reloads_total\{result="failed"\} (\d+)', client.get("/metrics").text)[1])


def test_attempts_to_load_a_faulty_bundle_never_end():
    waits = [0.0]
    for _ in range(8):
        waits.append(http._longer(waits[-1], 2.0))
    assert waits[1:] == [4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 128.0, 128.0]


def test_a_bundle_that_is_completed_late_is_loaded(bundle):
    folder, fresh = bundle(), bundle("fresh", seed=7)
    with TestClient(make_app(folder, Limits(reload_seconds=0.05))) as client:
        first = client.get("/health").json()["bundle"]
        (folder / "model.safetensors").unlink()
        others = [p for p in fresh.iterdir() if p.name not in ("model.safetensors", "config.json")]
        for path in (*others, fresh / "config.json"):
            shutil.copy(path, folder.with_name("moving"))
            folder.with_name("moving").replace(folder / path.name)
        _until(lambda: failed_reloads(client) > 0)
        assert client.get("/health").json()["bundle"] == first
        assert items(client.post("/recommend", json={"sequence": ["i1"]}))
        stamp = (folder / "config.json").stat().st_mtime_ns
        shutil.copy(fresh / "model.safetensors", folder)
        _until(lambda: client.get("/health").json()["bundle"] != first)
        assert (folder / "config.json").stat().st_mtime_ns == stamp
        body = {"sequence": ["i1", "i2"], "k": 5}
        expected = load(fresh).recommend_sequences([body["sequence"]], k=5)
        assert items(client.post("/recommend", json=body)) == list(expected["item"])


def test_an_answer_names_the_bundle_that_made_it(folder, monkeypatch):
    other, servers, make = load(folder), [], http.Server
    other.about["digest"] = "f" * 64
    other.catalogue.texts = ["other"] * len(other.catalogue.items)
    rec = load(folder)
    assert batching.answer(rec, [batching.Ask(None, ("i1",))])[0].made_by is rec
    monkeypatch.setattr(http, "Server", lambda *given: servers.append(make(*given)) or servers[0])

    def then_replaced(function):
        def replacing(*given):
            found = function(*given)
            servers[0].recommender = other
            return found

        return replacing

    monkeypatch.setattr(batching, "answer", then_replaced(batching.answer))
    monkeypatch.setattr(Recommender, "similar_items", then_replaced(Recommender.similar_items))
    with TestClient(make_app(folder)) as client:
        mine = servers[0].recommender
        for route, body in (("/recommend", {"sequence": ["i1"]}), ("/similar", {"item": "i1"})):
            servers[0].recommender = mine
            found = client.post(route, json=body).json()
            assert servers[0].recommender is other
            assert found["bundle"] == http.digest_of(mine) != http.digest_of(other)
            ids = [row["item"] for row in found["items"]]
            assert [row["text"] for row in found["items"]] == http.texts_of(mine, ids)
            assert "other" not in http.texts_of(mine, ids)
        assert client.get("/health").json()["bundle"] == "f" * 12


def _until(holds):
    for _ in range(200):
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError("it did not happen")


def test_the_command_wants_a_bundle(folder, capsys):
    assert main(["serve", "nowhere"]) == 2
    assert "expected a bundle" in capsys.readouterr().err
    assert main(["serve", str(folder), "--prot=1"]) == 2
    assert "'--prot=1', which serve does not know" in capsys.readouterr().err


@pytest.mark.parametrize(
    "body", ['{"user": "\\ud800"}', '{"sequence": ["\\ud800"]}', '{"user": "u1", "diversity": NaN}',
             '{"user": "u1", "k": 1e400}'],
)  # fmt: skip
def test_values_that_an_answer_cannot_hold_are_refused(folder, body):
    with TestClient(make_app(folder), raise_server_exceptions=False) as client:
        answer = client.post("/recommend", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 422
        assert "Input should be" in answer.text


@pytest.mark.slow
def test_the_soak_test_finds_no_fault(folder, monkeypatch):
    benchmarks = Path(__file__).resolve().parent.parent / "benchmarks"
    monkeypatch.syspath_prepend(str(benchmarks))
    soak = runpy.run_path(str(benchmarks / "serve.py"))
    copy = folder.with_name("served")
    shutil.copytree(folder, copy)
    said = io.StringIO()
    with redirect_stdout(said):
        limits = ["--max-waiting=4", "--timeout=1.5"]
        faults = soak["endure"](copy, folder, load(folder).users.tolist(), 16, limits)
    text = said.getvalue()
    assert faults == 0, text
    # Each kind of request was there: valid ones, too many, malformed, unknown, too long and too slow.
    valid, others = re.search(r"valid (\{.*?\}), others (\{.*?\})", text).groups()
    assert {200, 503} == set(ast.literal_eval(valid))
    assert {200, 404, 408, 422} <= set(ast.literal_eval(others))
    assert {413, "closed"} & set(ast.literal_eval(others))
    assert int(re.search(r"reloads: (\d+) done", text)[1]) >= 1
    assert float(re.search(r"memory_growth=(\S+)", text)[1]) < 0.25


@pytest.mark.parametrize("kind", ["faiss", "hnsw"])
def test_lists_by_the_index_are_those_of_recommend(make_keys, tmp_path, monkeypatch, kind):
    pytest.importorskip({"faiss": "faiss", "hnsw": "hnswlib"}[kind])
    monkeypatch.setattr(approximate, "_SHARE", 1e9)
    path = run(config_dict=make_keys("DisentS2S", epochs=1))["checkpoint"]
    folder = load(path).save(tmp_path / "b", index=kind)
    rec, used = load(folder), []
    search = Index.search
    monkeypatch.setattr(Index, "search", lambda self, *given: used.append(1) or search(self, *given))
    some, ids = list(rec.items), rec.users.tolist()
    with TestClient(make_app(folder, index=True)) as client:
        assert client.get("/health").json()["index"] == kind

        def ask(**body):
            used.clear()
            return items(client.post("/recommend", json={"k": 4, **body})), bool(used)

        assert ask(user=ids[0]) == (list(rec.recommend(ids[:1], 4, index=True)["item"]), True)
        assert ask(sequence=some[:2])[1]
        found, by_index = ask(user=ids[1], items_excluded=some[:9])
        assert by_index
        assert not set(found) & {*some[:9], *history(rec, 2)}
        # These need the scores of all items, and are the lists of a server without an index.
        exact = list(rec.recommend(ids[:1], 4, items_allowed=some[:20])["item"])
        assert ask(user=ids[0], items_allowed=some[:20]) == (exact, False)
        exact = list(rec.recommend(ids[:1], 4, diversity=0.7)["item"])
        assert ask(user=ids[0], diversity=0.7) == (exact, False)
        # One of a batch that names allowed items does not decide for the others.
        asks = [batching.Ask(ids[0], k=4), batching.Ask(ids[0], k=4, allowed=tuple(some[:20]))]
        assert asks[0].group != asks[1].group


def history(rec, user):
    return [rec.catalogue.items[n] for n in rec.catalogue.histories.events_of(torch.tensor([user]))[1]]


def test_an_index_that_is_not_there_is_refused_at_the_start(folder, capsys):
    assert main(["serve", str(folder), "--index"]) == 2
    assert "index: there is none here; export a bundle with --index" in capsys.readouterr().err
    with pytest.raises(UserError, match="index: there is none here"):
        make_app(folder, index=True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--port=0"], "got --port=0, expected a number from 1 to 65535"),
        (["--timeout=nan"], "got --timeout=nan and --max-waiting=1024, expected numbers above 0"),
        (["--max-waiting=0"], "--max-waiting=0, expected numbers above 0"),
        (["--device=nothing"], "device: got 'nothing', expected a device that PyTorch has here"),
    ],
)
def test_arguments_that_cannot_be_used_are_refused(folder, capsys, words, message):
    assert main(["serve", str(folder), *words]) == 2
    assert message in capsys.readouterr().err


def test_a_batch_takes_what_has_arrived(folder):
    """Requests that are put into the queue within a few turns of the loop are computed together."""
    rec = load(folder)

    async def go():
        batcher = batching.Batcher(rec)
        work = asyncio.create_task(batcher.work())

        async def ask(user, turns):
            for _ in range(turns):
                await asyncio.sleep(0)
            return await batcher.ask(batching.Ask(user, k=3))

        found = await asyncio.gather(*(ask(user, n) for n, user in enumerate(rec.users[:6])))
        work.cancel()
        return found, batcher.batches

    found, batches = asyncio.run(go())
    assert batches == 1
    assert [answer.items for answer in found] == [
        list(rec.recommend([user], k=3)["item"]) for user in rec.users[:6]
    ]
