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


def test_convert_names_all_its_options(capsys):
    assert main(["convert", "events.csv", "shop", "--item_s=items.csv"]) == 2
    said = capsys.readouterr().err
    assert "did you mean 'items'?" in said
    assert "the options are items, user, item, time" in said


@pytest.mark.parametrize("command", [["compare"], ["paper"], ["data"]])
def test_an_option_with_a_space_does_not_give_its_value_to_the_position(command, capsys):
    assert main([*command, "--seed", "1", "--epochs=1"]) == 2
    said = capsys.readouterr().err
    assert said.splitlines()[-1].endswith("got '--seed', expected --key=value; did you mean '--seed=1'?")


def test_a_table_in_place_of_a_plan_is_not_printed(tmp_path, capsys):
    table = tmp_path / "orders.csv"
    table.write_text("customer;sku\n" + "Kundé 84;00022\n" * 9999)
    assert main(["compare", str(table), "--models", "Pop"]) == 2
    said = capsys.readouterr().err
    assert "expected lines 'key: value'" in said
    assert len(said) < 400


def test_recommend_says_which_file_it_needs(tmp_path, capsys):
    result = tmp_path / "BPR.json"
    result.write_text("{}")
    words = ["--users", "all", "--out", str(tmp_path / "lists.csv")]
    assert main(["recommend", str(result), *words]) == 2
    assert "is a JSON file; give the .pth file that a result file names" in capsys.readouterr().err
    assert main(["recommend", str(tmp_path), *words]) == 2
    assert "give the folder of a bundle or the .pth file of a run" in capsys.readouterr().err
