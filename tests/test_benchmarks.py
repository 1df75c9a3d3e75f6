"""Every benchmark can still be started; one is run with little work."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
NAMES = sorted(path.name for path in FOLDER.glob("*.py") if path.name != "common.py")


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
