"""The command line as a whole: its version, an interruption, and what a command says once."""

import signal
import subprocess
import sys
import time

import pytest

from recbole_disent import __version__
from recbole_disent.cli import main

COMMAND = [sys.executable, "-m", "recbole_disent.cli"]


def test_version(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"recbole-disent {__version__}\n"


@pytest.mark.slow
def test_ctrl_c_is_one_sentence_and_leaves_no_file(tmp_path):
    """A long conversion is interrupted while it writes: no traceback, no half a data set."""
    table, out = tmp_path / "events.csv", tmp_path / "shop"
    rows = (f"u{n % 50_000},i{n % 9_973},{n}" for n in range(2_000_000))
    table.write_text("user_id,item_id,timestamp\n" + "\n".join(rows) + "\n")
    process = subprocess.Popen([*COMMAND, "convert", str(table), str(out)], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while not list(tmp_path.glob("**/.*.tmp")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 130
    assert said.splitlines()[-1] == "recbole-disent: stopped by Ctrl-C"
    assert "Traceback" not in said
    assert not [path for path in tmp_path.glob("**/*") if path.is_file() and path != table]


def test_convert_says_once_that_there_is_no_time(tmp_path):
    """The sentence is a warning, because the order of the rows becomes the order of the events."""
    table = tmp_path / "events.csv"
    table.write_text("user_id,item_id\na,x\na,y\nb,x\n")
    done = subprocess.run(
        [*COMMAND, "convert", str(table), str(tmp_path / "shop")], capture_output=True, text=True, check=True
    )
    assert (done.stdout + done.stderr).count("there is no time column") == 1
    assert "there is no time column" in done.stderr
    named = subprocess.run(
        [*COMMAND, "convert", str(table), str(tmp_path / "new"), "--time=False"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert (named.stdout + named.stderr).count("there is no time column") == 1
