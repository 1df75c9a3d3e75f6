"""The pages in headless Chromium: they show what they should, and no script fails."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
import time

import pytest
import torch

from recbole_disent import load
from recbole_disent.serving import inspect, inspect_page
from recbole_disent.session import run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")]


def dom(address, folder):
    """The document as the browser has it after its scripts have run, and what it complained about."""
    quiet = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    profile = f"--user-data-dir={folder / 'browser'}"
    words = [CHROMIUM, *quiet, profile, "--virtual-time-budget=4000", "--dump-dom", address]
    found = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    return found.stdout, [line for line in found.stderr.splitlines() if "CONSOLE" in line]


@pytest.fixture
def rec(make_keys):
    return load(run(config_dict=make_keys("DisentS2S", epochs=1, n_intentions=3))["checkpoint"])


def test_the_inspect_page(rec, tmp_path):
    user = rec.users[0]
    (tmp_path / "p.html").write_text(
        inspect_page.page(inspect.describe(rec, [user], [], k=3)), encoding="utf-8"
    )
    found, complaints = dom(f"file://{tmp_path / 'p.html'}", tmp_path)
    assert complaints == []
    assert f"<h2>user {user}</h2>" in found
    for item in rec.recommend([user], k=3)["item"]:
        assert f"<code>{item}</code>" in found
    # A table for each of the three intentions, and the events and the recommendations of the person.
    assert len(re.findall(r"<h2>|<h3>", found)) >= 4
    person = found[found.index(f"<h2>user {user}</h2>") :]
    events = len(rec.catalogue.histories.events_of(torch.tensor([1]))[1])
    assert person.count("<tr") >= min(events, rec.encoder.max_length) + 3


def test_the_page_of_the_server(rec, tmp_path):
    uvicorn = pytest.importorskip("uvicorn")
    pytest.importorskip("safetensors")
    from recbole_disent.serving.http import make_app

    app = make_app(rec.save(tmp_path / "b"))
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        for _ in range(200):
            if server.started:
                break
            time.sleep(0.05)
        port = server.servers[0].sockets[0].getsockname()[1]
        user = rec.users[2]
        found, complaints = dom(f"http://127.0.0.1:{port}/?user={user}&k=3", tmp_path)
        unknown, _ = dom(f"http://127.0.0.1:{port}/?user=nobody", tmp_path)
        diverse, _ = dom(f"http://127.0.0.1:{port}/?user={user}&k=4&diversity=1", tmp_path)
    finally:
        server.should_exit = True
        thread.join()
    assert complaints == []
    assert "DisentS2S, trained on hostile: 30 items" in found
    for item in rec.recommend([user], k=3)["item"]:
        assert f"<td>{item}</td>" in found
    assert rows(found) == ["1", "2", "3"]
    assert "the user 'nobody' is not known to the model" in unknown
    assert rows(unknown) == []
    assert rows(diverse) == ["1", "2", "3", "4"]
    for item in rec.recommend([user], k=4, diversity=1.0)["item"]:
        assert f"<td>{item}</td>" in diverse


def rows(page):
    """Ranks of the table of the page."""
    return re.findall(r"<tr><td>(\d+)</td>", page[page.index('id="rows"') :])
