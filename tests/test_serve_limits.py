"""Tests of what the server bounds: connections without a request, long answers to faulty bodies, types."""

from __future__ import annotations

import socket
import subprocess
import sys
import time

import pytest

from recbole_disent import load
from recbole_disent.cli import main
from recbole_disent.session import run

pytest.importorskip("fastapi")
pytest.importorskip("httpx")
pytest.importorskip("safetensors")
import httpx
from fastapi.testclient import TestClient

from recbole_disent.serving.http import MAX_FAULTS, make_app


@pytest.fixture
def folder(make_keys, tmp_path):
    path = run(config_dict=make_keys("SASRec", epochs=1))["checkpoint"]
    return load(path).save(tmp_path / "b")


@pytest.fixture
def client(folder):
    with TestClient(make_app(folder)) as client:
        yield client


# The server runs in a process that may open 100 files, of which 64 are not for connections.
_START = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
from recbole_disent.cli import main
sys.exit(main(["serve", sys.argv[1], "--port", sys.argv[2], "--timeout", sys.argv[3]]))
"""


@pytest.fixture
def start(folder, tmp_path):
    """Return a function (timeout) -> port of a server; its log stays short."""
    started = []

    def make(timeout):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        words = [folder, str(port), str(timeout)]
        with (tmp_path / "log.txt").open("wb") as log:
            started.append(subprocess.Popen([sys.executable, "-c", _START, *words], stderr=log))
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        return port

    yield make
    for process in started:
        process.kill()
        process.wait()
    assert (tmp_path / "log.txt").stat().st_size < 10_000


def ends(connection):
    """Whether the server closes a connection within 30 seconds."""
    connection.settimeout(30)
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def test_connections_without_a_request_are_closed(start):
    port = start(timeout=2)
    address = f"http://127.0.0.1:{port}/health"
    with httpx.Client(timeout=30) as steady:
        assert steady.get(address).status_code == 200
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
        try:
            idle[-1].sendall(b"GET /health HTTP/1.1\r\nHost:")  # a head that never ends
            assert all(map(ends, idle))
        finally:
            for connection in idle:
                connection.close()
        # A connection that had an answer may rest for longer than --timeout.
        assert steady.get(address).status_code == 200
        time.sleep(3)
        assert steady.get(address).status_code == 200


def test_more_connections_than_a_process_can_have_are_closed_at_once(start):
    port = start(timeout=100)
    with httpx.Client(timeout=30) as steady:
        assert steady.get(f"http://127.0.0.1:{port}/health").status_code == 200
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(90)]
        try:
            assert all(map(ends, idle[60:]))
            assert steady.get(f"http://127.0.0.1:{port}/health").status_code == 200
        finally:
            for connection in idle:
                connection.close()


def test_an_answer_to_a_faulty_body_is_short(client):
    bodies = (
        (1, {f"a{number}": 1 for number in range(70_000)}),
        (1, {"sequence": [[]] * 200_000}),
        (10_000, {"sequence": [[]] * 10_000}),
    )
    for faults, body in bodies:
        answer = client.post("/recommend", json=body)
        assert answer.status_code == 422
        assert len(answer.content) < 5_000
        assert answer.json()["faults"] == faults
        assert len(answer.json()["detail"]) == min(faults, MAX_FAULTS)
    answer = client.post("/recommend", json={"user": [], "k": "x"}).json()
    assert [fault["loc"] for fault in answer["detail"]] == [["body", "user"], ["body", "k"]]


def test_a_server_refuses_and_counts_what_python_does(client, folder):
    rec = load(folder)
    user = str(rec.users[0])
    answer = client.post("/recommend", json={"user": user, "filter_history": "no"})
    assert answer.status_code == 422
    assert "valid boolean" in answer.text
    answer = client.post("/recommend", json={"user": user, "diversify": "mmr"})
    assert answer.status_code == 422
    assert "diversify: got 'mmr' with diversity=0, which makes no difference" in answer.text
    body = {"user": user, "items_allowed": [rec.items[0], "nowhere"], "filter_history": False}
    answer = client.post("/recommend", json=body).json()
    assert [row["item"] for row in answer["items"]] == [rec.items[0]]
    assert (answer["unknown_allowed"], answer["unknown_excluded"]) == (1, 0)


def test_the_command_takes_the_file_of_a_model_and_no_other_key(folder, capsys):
    assert main(["serve", str(folder), "--model_file=nowhere.py"]) == 2
    assert "model_file: 'nowhere.py' is not there" in capsys.readouterr().err
    assert main(["serve", str(folder), "--model_file=nowhere.py", "--topk=5"]) == 2
    assert "got '--topk=5', which serve does not know" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ('{"sequence": ["i1"], "k": 1, "k": 2}', "the key 'k' appears twice in the body; give each key once"),
        ('{"item": "i1", "item": "i2"}', "the key 'item' appears twice in the body; give each key once"),
    ],
)
def test_a_key_that_appears_twice_is_refused(client, body, detail):
    path = "/similar" if "item" in body else "/recommend"
    answer = client.post(path, content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["detail"]) == (422, detail)


def test_a_body_that_is_not_said_to_be_json_gets_a_hint(client):
    answer = client.post("/recommend", content=b'{"sequence": ["i1"]}')
    assert answer.status_code == 422
    assert answer.json()["hint"] == "send the body with the header Content-Type: application/json"
    answer = client.post("/recommend", json={"sequence": 3})
    assert (answer.status_code, "hint" in answer.json()) == (422, False)


def test_a_port_in_use_is_one_sentence(folder, capsys):
    with socket.socket() as used:
        used.bind(("127.0.0.1", 0))
        used.listen()
        port = used.getsockname()[1]
        assert main(["serve", str(folder), "--port", str(port)]) == 2
    said = capsys.readouterr()
    assert f"serve: 127.0.0.1:{port} cannot be used (Address already in use); give another --port" in said.err
    assert not said.out


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        ("NaN", "Input should be JSON, which does not have NaN; leave it out, or send null"),
        ("-Infinity", "Input should be JSON, which does not have -Infinity; leave it out, or send null"),
        ("1e400", "Input should be a finite number, got 1e400 in the body; correct it"),
    ],
)
def test_a_number_that_is_not_finite_is_no_id(client, value, detail):
    body = f'{{"user": {value}, "k": 1, "unknown_users": "popularity"}}'
    answer = client.post("/recommend", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["detail"]) == (422, detail)


@pytest.mark.parametrize("diversity", [True, "0.5"])
def test_diversity_is_a_number_as_in_python(client, folder, diversity):
    body = {"user": str(load(folder).users[0]), "k": 1, "diversity": diversity, "diversify": "mmr"}
    answer = client.post("/recommend", json=body)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", "diversity"]
    assert client.post("/recommend", json={**body, "diversity": 1}).status_code == 200
