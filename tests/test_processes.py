"""Tests that runs of several processes have the metrics, files and data of one process and end together."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist

from recbole_disent import cli
from recbole_disent.config.config import Config
from recbole_disent.errors import UserError
from recbole_disent.parallel import launcher, process_group
from recbole_disent.parallel import shared_memory as sharing
from recbole_disent.session import build_data, run
from recbole_disent.testing.processes import in_processes
from recbole_disent.training import checkpoint

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.processes


# -- whole runs ------------------------------------------------------------------------


def words(keys, model, *more):
    usual = [f"--model={model}", "--dataset=hostile", *(f"--{k}={v}" for k, v in keys.items())]
    return ["run", *{word.partition("=")[0]: word for word in [*usual, *more]}.values()]


def report(folder="saved"):
    newest = max(Path(folder).glob("*.json"), key=lambda p: p.stat().st_mtime_ns)
    return json.loads(newest.read_text())


@pytest.mark.parametrize(
    ("model", "more"),
    [
        ("DisentS2S", ["--hidden_dropout_prob=0", "--train_batch_size=64", "--eval_mode=pop8",
                       "--topk=[1,9]", "--seq2seq_variant=latent", "--seq2seq_warmup=0"]),
        ("SASRec", ["--hidden_dropout_prob=0", "--attn_dropout_prob=0", "--train_batch_size=32",
                    "--metrics=['NDCG','AveragePopularity','RepeatShare','TailPercentage']",
                    "--topk=[3,10]"]),
        ("TSSR", ["--hidden_dropout_prob=0", "--train_batch_size=8"]),
        ("BERT4Rec", ["--hidden_dropout_prob=0", "--attn_dropout_prob=0", "--train_batch_size=32"]),
        # Some batches have no mask that counts.
        ("BERT4Rec", ["--hidden_dropout_prob=0", "--attn_dropout_prob=0", "--train_batch_size=2",
                      "--chunked_softmax=True"]),
        ("BERT4Rec", ["--hidden_dropout_prob=0", "--attn_dropout_prob=0", "--train_batch_size=7",
                      "--train_mode=sequences"]),
        ("BPR", ["--train_batch_size=32", "--metrics=['Recall','NDCG','GAUC']"]),
    ],
)  # fmt: skip
@pytest.mark.slow
def test_metrics_of_two_processes_are_those_of_one(run_keys, model, more):
    more = [*more, "--eval_batch_size=7", "--metric_decimal_place=12", "--precision=double"]
    if model in ("SASRec", "BPR"):
        more.append("--valid_metric=NDCG@10")
    found = []
    for n in (1, 2):
        assert cli.main(words(run_keys, model, *more, f"--nproc={n}", f"--result_dir=n{n}",
                              f"--checkpoint_dir=n{n}")) == 0  # fmt: skip
        assert len(list(Path(f"n{n}").glob("*.pth"))) == len(list(Path(f"n{n}").glob("*.json"))) == 1
        assert not list(Path(f"n{n}").rglob("*.tmp"))
        found.append(report(f"n{n}"))
        weights = checkpoint.load(found[-1]["checkpoint"])["state_dict"].values()
        assert {w.dtype for w in weights if w.is_floating_point()} == {torch.float64}
    one, two = found
    assert (one["processes"], two["processes"]) == (1, 2)
    for key in ("test_result", "best_valid_result", "best_epoch", "data_hash", "candidate_hashes", "rows"):
        assert one[key] == two[key], key


@pytest.mark.parametrize(
    ("model", "more"),
    [
        ("DisentS2S", ["--train_batch_size=64", "--seq2seq_warmup=0", "--filter_history=True"]),
        (
            "DisentS2S",
            [
                "--train_batch_size=3",
                "--eval_mode=pop8",
                "--topk=[1,9]",
                "--prepared_limit_gb=0",
                "--seq2seq_variant=latent",
            ],
        ),
        ("SASRec", ["--attn_dropout_prob=0", "--train_batch_size=8", "--train_mode=sequences"]),
        ("TSSR", ["--train_batch_size=4"]),  # some processes have no window of a batch
    ],
)
@pytest.mark.slow
def test_metrics_of_divided_users_are_those_of_one_process(run_keys, model, more):
    more = [*more, "--hidden_dropout_prob=0", "--metric_decimal_place=12", "--precision=double"]
    found = []
    for n, divide in ((1, False), (2, True), (3, True)):
        assert cli.main(words(run_keys, model, *more, f"--nproc={n}", f"--divide_users={divide}",
                              f"--result_dir=n{n}", f"--checkpoint_dir=n{n}")) == 0  # fmt: skip
        found.append(report(f"n{n}"))
    for key in ("test_result", "best_valid_result", "best_epoch", "data_hash", "candidate_hashes", "rows"):
        assert found[0][key] == found[1][key] == found[2][key], key


def divided(keys):
    """Return the users of this process's training windows and held-out rows, and the events it trains on."""
    data = build_data(Config("DisentS2S", "hostile", config_dict={**keys, "divide_users": True}))
    train, valid, _ = data.loaders
    batches, chunks = list(train), [chunk for _, chunk in valid.local_chunks()]
    windows = torch.cat([batch.users for batch in batches])
    held = np.concatenate([chunk.number for chunk in chunks])
    users = valid.dataset.inter_feat[valid.dataset.uid_field].numpy()[held]
    return set(windows.tolist()), set(users.tolist()), held, sum(len(batch) for batch in batches)


@pytest.mark.slow
def test_divided_users_are_disjoint_and_complete(run_keys):
    (all_users, all_held, rows, pairs), *_ = in_processes(1, divided, run_keys)
    found = in_processes(3, divided, run_keys)
    for place, everyone in ((0, all_users), (1, all_held)):
        shares = [each[place] for each in found]
        assert set.union(*shares) == everyone
        assert sum(map(len, shares)) == len(everyone)
        assert max(map(max, shares[:1])) < min(map(min, shares[1:]))  # ranges of users
    assert sorted(np.concatenate([each[2] for each in found])) == sorted(rows)
    assert sum(each[3] for each in found) == pairs
    assert max(each[3] for each in found) < 0.6 * pairs


@pytest.mark.parametrize("model", ["BPR", "BERT4Rec", "GRU4Rec"])
def test_a_model_without_windows_cannot_divide_users(run_keys, model):
    keys = {**run_keys, "divide_users": True, "train_mode": None}
    if model == "BERT4Rec":
        keys["train_mode"] = "sequences"
    keys = {key: value for key, value in keys.items() if value is not None}
    with pytest.raises(UserError, match=f"divide_users: got True, but {model} does not train on windows"):
        build_data(Config(model, "hostile", config_dict=keys))


@pytest.mark.slow
def test_dropout_differs_between_processes_and_repeats_with_the_seed(run_keys):
    found = []
    for _ in range(2):
        assert cli.main(words(run_keys, "DisentS2S", "--nproc=2", "--hidden_dropout_prob=0.5")) == 0
        found.append(checkpoint.load(report()["checkpoint"])["state_dict"])
    for name, value in found[0].items():
        assert torch.equal(value, found[1][name]), name
    assert process_group.seed_of_epoch(1, 0) is None
    states = in_processes(3, seeds)
    assert len({*states}) == 3
    assert states[0] is None


def seeds():
    return process_group.seed_of_epoch(1, 0)


@pytest.mark.slow
def test_resume_with_another_number_of_processes(run_keys):
    more = ["--hidden_dropout_prob=0", "--train_batch_size=64", "--stopping_step=50", "--ema_decay=0.8"]
    assert cli.main(words(run_keys, "DisentS2S", *more, "--epochs=6")) == 0
    whole = report()
    assert cli.main(words(run_keys, "DisentS2S", *more, "--nproc=2", "--epochs=3")) == 0
    half = report()
    path = half["checkpoint"]
    start = checkpoint.load(path)["epoch"] + 1
    assert (
        cli.main(words(run_keys, "DisentS2S", *more, "--nproc=3", "--epochs=6", f"--resume_file={path}")) == 0
    )
    resumed = report()
    assert resumed["resumed_from"] == start
    assert resumed["processes"] == 3
    assert resumed["test_result"] == whole["test_result"]


@pytest.mark.slow
def test_torchrun_is_another_way_in(run_keys):
    script = "import sys; from recbole_disent.cli import main; sys.exit(main(sys.argv[1:]))"
    Path("script.py").write_text(script)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port",
               str(launcher.free_port()), "script.py", *words(run_keys, "DisentS2S")]  # fmt: skip
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert report()["processes"] == 2
    assert len(list(Path("saved").glob("*.json"))) == 1


def environment():
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


# -- failures --------------------------------------------------------------------------


def children_of(parent):
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = file.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent and fields[0] != "Z":
            found.append(int(file.parent.name))
    return sorted(found)


def start(keys, *more):
    # A job in the background ignores SIGINT, and so would its children.
    script = (
        "import signal, sys; from recbole_disent.cli import main; "
        "signal.signal(signal.SIGINT, signal.default_int_handler); sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", script, *words(keys, "DisentS2S", "--nproc=2", "--epochs=500",
               "--stopping_step=500", *more)]  # fmt: skip
    process = subprocess.Popen(
        command, env=environment(), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    limit = time.monotonic() + 120
    while not list(Path("saved").glob("*.pth")):
        assert process.poll() is None
        assert time.monotonic() < limit
        time.sleep(0.05)
    return process


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds processes in /proc")
@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.slow
def test_a_killed_process_ends_the_job_with_one_sentence(run_keys, which):
    job = start(run_keys)
    children = children_of(job.pid)
    assert len(children) == 2
    begin = time.monotonic()
    os.kill(children[which], signal.SIGKILL)
    _, err = job.communicate(timeout=60)
    assert time.monotonic() - begin < 60
    assert job.returncode == 2
    (line,) = [x for x in err.splitlines() if x.startswith("recbole-disent: error:")]
    assert f"process {which} of 2 was ended by SIGKILL" in line
    assert "Traceback" not in err
    for child in children:
        assert not Path(f"/proc/{child}").exists()
    # The checkpoint is complete, and a run of one process goes on from it.
    (path,) = Path("saved").glob("*.pth")
    epoch = checkpoint.load(str(path))["epoch"]
    run_keys = {**run_keys, "epochs": epoch + 2}
    assert cli.main(words(run_keys, "DisentS2S", f"--resume_file={path}")) == 0
    assert report()["resumed_from"] == epoch + 1


@pytest.mark.parametrize("which", [0, 1])
def test_the_sentence_has_a_line_of_its_own(run_keys, capfd, monkeypatch, which):
    # A log line with colours is written in pieces: a process can end between two of them.
    begin = launcher._start

    def killed(folder, variables, count, total):
        if variables["RANK"] != str(which):
            return begin(folder, variables, count, total)
        script = "import os; os.write(2, b'half a line'); os.kill(os.getpid(), 9)"
        return subprocess.Popen([sys.executable, "-c", script])

    monkeypatch.setattr(launcher, "_start", killed)
    assert cli.main(words(run_keys, "DisentS2S", "--nproc=2")) == 2
    assert f"\nrecbole-disent: error: process {which} of 2 was ended by SIGKILL" in capfd.readouterr().err


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds processes in /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.slow
def test_no_process_outlives_the_launcher(run_keys, how):
    job = start(run_keys)
    children = children_of(job.pid)
    job.send_signal(how)
    job.communicate(timeout=60)
    limit = time.monotonic() + 30
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < limit
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--nproc=2", "--world_size=1"], "world_size: got 1, expected at least group_offset + nproc = 2"),
        (["--nproc=2", "--world_size=4"], "port: got None with several machines"),
        (["--nproc=0"], "nproc: got 0"),
        (
            ["--local_rank=1"],
            "'local_rank' is not supported: the launcher numbers the processes",
        ),
        (["--nproc=2", "--learning_rate=1e30", "--epochs=5"], "training diverged"),
        (["--nproc=2", "--topk=[500]"], "topk: got 500, expected at most"),
    ],
)
def test_errors_of_several_processes_are_one_sentence(run_keys, capfd, more, message):
    model = "GRU4Rec" if "--learning_rate=1e30" in more else "DisentS2S"
    assert cli.main(words(run_keys, model, *more)) == 2
    (line,) = [x for x in capfd.readouterr().err.splitlines() if x.startswith("recbole-disent: error:")]
    assert message in line


@pytest.mark.parametrize("model", ["Pop", "ItemKNN"])
def test_models_without_a_gradient_are_refused(run_keys, model):
    plain = {k: v for k, v in run_keys.items() if k != "MAX_ITEM_LIST_LENGTH"}
    with pytest.raises(UserError, match=re.escape(f"nproc: {model} is not trained by the gradient")):
        run(model, "hostile", config_dict={**plain, "nproc": 2})


def test_a_function_cannot_go_to_other_processes(run_keys):
    with pytest.raises(UserError, match="nproc: got several processes, but a call after each epoch"):
        run("BPR", "hostile", config_dict={"data_path": run_keys["data_path"], "nproc": 2}, on_epoch=print)


# -- data ------------------------------------------------------------------------------


def test_arrays_are_mapped_and_the_rest_is_equal(tmp_path):
    config = object()
    big = torch.arange(10_000)
    value = {"config": config, "tensor": big, "again": big, "array": np.arange(5000.0).reshape(50, 100),
             "small": np.arange(3), "names": ["a", None], "empty": torch.zeros(0),
             "bits": big > 3}  # fmt: skip
    sharing.write(str(tmp_path), value, config)
    mine = object()
    found = sharing.read(str(tmp_path), mine)
    assert found["config"] is mine
    assert found["tensor"] is found["again"]  # one object stays one
    for name in ("tensor", "empty", "bits"):
        assert torch.equal(found[name], value[name])
        assert found[name].dtype == value[name].dtype
    np.testing.assert_array_equal(found["array"], value["array"])
    assert found["names"] == ["a", None]
    # Mapped, not copied: the addresses lie inside one mapping of the file.
    addresses = [found["tensor"].data_ptr(), found["array"].ctypes.data]
    lines = Path("/proc/self/maps").read_text().splitlines() if Path("/proc/self/maps").exists() else []
    ranges = [[int(x, 16) for x in line.split()[0].split("-")] for line in lines if str(tmp_path) in line]
    assert not lines or all(any(a <= x < b for a, b in ranges) for x in addresses)
    # Private when written to.
    found["tensor"][0] = -1
    assert sharing.read(str(tmp_path), mine)["tensor"][0] == 0


def loaded(keys):
    """Return the process that made the data, the data, and whether they are memory-mapped."""
    made = []
    from recbole_disent.data import loading

    real = loading.create_dataset
    loading.create_dataset = lambda config: made.append(1) or real(config)
    data = build_data(Config("DisentS2S", "hostile", config_dict=keys))
    store = data.loaders[0]._dataset.store
    dist.barrier()
    return len(made), data.data_hash, store.items.clone(), len(data.dataset.field2id_token)


@pytest.mark.slow
def test_one_process_prepares_and_all_have_the_same_data(run_keys):
    alone = build_data(Config("DisentS2S", "hostile", config_dict={**run_keys, "prepared_limit_gb": 0}))
    found = in_processes(2, loaded, run_keys)
    assert [made for made, *_ in found] == [1, 0]
    for _, data_hash, items, fields in found:
        assert data_hash == alone.data_hash
        assert torch.equal(items, alone.loaders[0]._dataset.store.items)
        assert fields == len(alone.dataset.field2id_token)
