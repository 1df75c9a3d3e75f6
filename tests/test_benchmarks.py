"""Every benchmark can still be started; two are run with little work. Metrics of lists of other projects."""

from __future__ import annotations

import math
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
NAMES = sorted(path.name for path in FOLDER.glob("*.py") if path.name not in ("common.py", "environments.py"))


@pytest.fixture
def start(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))

    def start(name, *words):
        monkeypatch.setattr(sys, "argv", [name, *words])
        runpy.run_path(str(FOLDER / name), run_name="__main__")

    return start


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_imports_and_describes_itself(start, name, capsys):
    with pytest.raises(SystemExit) as end:
        start(name, "--help")
    assert end.value.code == 0
    assert "usage: " in capsys.readouterr().out


@pytest.mark.slow
def test_the_benchmark_of_the_training_prints_a_ratio(start, capsys):
    start("training.py", "--model=SASRec", "--ours=SASRec", "--seconds=0.2", "--max_length=10")
    last = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(r"pairs_per_second=\d+\.\d", last)
    assert float(last.partition("=")[2]) > 1


def test_products_that_are_added_in_place_count_as_operations(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    counter = runpy.run_path(str(FOLDER / "profile_step.py"))["flop_counter"]
    a, b, c = torch.ones(3, 5), torch.ones(5, 7), torch.zeros(3, 7)
    with counter() as counted:
        c.addmm_(a, b)
        torch.mm(a, b, out=c)
    assert counted.get_total_flops() == 2 * 2 * 3 * 5 * 7


def write_events(folder, rows):
    (folder / "some").mkdir()
    head = ("user_id:token", "item_id:token", "timestamp:float")
    lines = ["\t".join(map(str, row)) for row in (head, *rows)]
    (folder / "some" / "some.inter").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture
def peers(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return runpy.run_path(str(FOLDER / "peers.py"))


def test_events_of_the_peers_are_split_by_time(peers, tmp_path):
    # Times that float32 cannot tell apart; u2 has two events.
    rows = [("u1", "c", 1300000003), ("u2", "a", 1), ("u1", "a", 1300000001), ("u1", "b", 1300000002),
            ("u2", "b", 2), ("u1", "d", 1300000004)]  # fmt: skip
    write_events(tmp_path, rows)
    events = peers["read_events"](tmp_path / "some" / "some.inter")
    assert events.to_numpy().tolist() == [
        ["u1", "a", 1, "train"], ["u1", "b", 2, "train"], ["u1", "c", 3, "valid"], ["u1", "d", 4, "test"]
    ]  # fmt: skip
    assert peers["pairs_of_a_batch"](events, 50) == 128
    peers["write_atomic"](events, tmp_path, "again")
    written = pd.read_csv(tmp_path / "again" / "again.inter", sep="\t")
    assert written["timestamp:float"].tolist() == [1, 2, 3, 4]


def test_metrics_of_the_peers(peers):
    lists = {"u1": ["a", "b"], "u2": ["x", "y", "z"], "u3": ["q"]}
    targets = {"u1": "a", "u2": "z", "u3": "w", "u4": "a"}
    ndcg, recall = peers["metrics"](lists, targets, 10)
    assert ndcg == pytest.approx((1 + 1 / math.log2(4)) / 4)
    assert recall == 0.5
    assert peers["metrics"](lists, targets, 2)[1] == 0.25


def test_a_peer_that_is_not_known_is_refused(start):
    with pytest.raises(SystemExit, match="--peers: got Nobody, expected some of ours-SASRec"):
        start("peers.py", "--peers=Nobody")


@pytest.mark.slow
def test_this_package_takes_part_in_the_comparison_of_peers(start, tmp_path, capsys):
    draw = np.random.default_rng(0)
    rows = [(f"u{u}", f"i{i}", t) for u in range(30) for t, i in enumerate(draw.permutation(40)[:8])]
    write_events(tmp_path, rows)
    words = ("--dataset=some", f"--data_path={tmp_path}", "--epochs=1", "--peers=ours-SASRec")
    start("peers.py", *words)
    row = capsys.readouterr().out.split("| ours-SASRec |")[1].splitlines()[0]
    seconds, gib, epochs, ndcg, recall, rate = map(float, row.strip(" |").split("|"))
    assert epochs == 1
    assert 0 <= ndcg <= recall < 1
    assert min(seconds, gib, rate) > 0
