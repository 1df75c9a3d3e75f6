"""Tests of what the server bounds: connections without a request, long answers to faulty bodies, types."""

from __future__ import annotations

import socket
import subprocess
import sys
import time

import pytest

from recbole_disent import load
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
sys.exit(main(["serve", sys.argv[1], "--port", sys.argv[2], "--timeout", "2"]))
"""


@pytest.fixture
def port(folder, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (tmp_path / "log.txt").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-c", _START, folder, str(port)], stderr=log)
        try:
            for _ in range(600):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.1)
            yield port
        finally:
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


def test_connections_without_a_request_keep_nobody_out(port):
    address = f"http://127.0.0.1:{port}/health"
    with httpx.Client(timeout=30) as steady:
        assert steady.get(address).status_code == 200
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(90)]
        try:
            idle[-1].sendall(b"GET /health HTTP/1.1\r\nHost:")  # a head that never ends
            assert steady.get(address).status_code == 200
            assert all(map(ends, idle))
            # A connection that had an answer may rest for a while, longer than --timeout.
            assert httpx.get(address, timeout=30).status_code == 200
            time.sleep(3)
            assert steady.get(address).status_code == 200
        finally:
            for connection in idle:
                connection.close()


def test_an_answer_to_a_faulty_body_is_short(client):
    bodies = (
        {f"a{number}": 1 for number in range(70_000)},
        {"sequence": [[]] * 200_000},
        {"sequence": [[]] * 10_000},
    )
    for body in bodies:
        answer = client.post("/recommend", json=body)
        assert answer.status_code == 422
        assert len(answer.content) < 5_000
    assert len(answer.json()["detail"]) == MAX_FAULTS
    assert answer.json()["faults"] == 10_000
    wrong = {"user": [], "k": "x"}
    answer = client.post("/recommend", json=wrong).json()
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
