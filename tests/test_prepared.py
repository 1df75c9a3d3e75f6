"""Prepared data on disk: equal results, entries for changed files and keys, and damaged entries."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from recbole_disent.config.config import Config
from recbole_disent.data import archive, loading, prepared
from recbole_disent.data.lazy_interaction import LazyInteraction
from recbole_disent.errors import UserError
from recbole_disent.session import build_data, run
from recbole_disent.testing.processes import in_processes
from tests.conftest import feature_keys
from tests.faults import KEYS, SPLIT, small_rows, write


def small(model="SASRec", **keys):
    """Prepare the data set ``small`` of the working directory."""
    return build_data(Config(model, "small", config_dict={**KEYS, **keys}))


@pytest.fixture
def entries():
    """Return a function that lists the entries of the working directory."""
    return lambda: sorted(p for p in Path("saved/prepared").glob("*") if not p.name.startswith("."))


@pytest.fixture
def made(monkeypatch):
    """Count the data sets that are read from their files."""
    count, real = Counter(), loading.create_dataset

    def counted(config):
        count["made"] += 1
        return real(config)

    monkeypatch.setattr(loading, "create_dataset", counted)
    return count


def plain(value):
    """Return a value of a data set as values that ``==`` compares."""
    if isinstance(value, LazyInteraction):
        return {"rows": plain(value.rows), **{k: plain(v) for k, v in value.interaction.items()}}
    if isinstance(value, torch.Tensor | np.ndarray):
        return str(value.dtype), value.shape, value.tolist()
    if isinstance(value, dict):
        return {key: plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if hasattr(value, "__dict__") and type(value).__name__ in archive._CLASSES:
        return {key: plain(v) for key, v in vars(value).items() if key not in NOT_COMPARED}
    return value


NOT_COMPARED = ("config", "logger", "field2token_id")


KINDS = [
    ("SASRec", {}),
    ("DisentS2S", {"history_fields": ["item_id"], "click_noise": 0.2}),
    ("BPR", {"user_inter_num_interval": "[2,inf)"}),
    ("SASRecF", feature_keys("SASRecF")),
    ("GRU4Rec", {"eval_args": {"split": {"RS": [0.6, 0.2, 0.2]}}, "rm_dup_inter": "first"}),
    ("FPMC", {"numerical_features": ["rating"], "load_col": {"inter": ["user_id", "item_id", "rating",
                                                                       "timestamp"]}}),
]  # fmt: skip


@pytest.mark.parametrize(("model", "keys"), KINDS, ids=[model for model, _ in KINDS])
def test_stored_data_are_the_same_object_for_object(make_config, made, model, keys):
    fresh = build_data(make_config(model, prepared_limit_gb=0, **keys))
    first = build_data(make_config(model, **keys))
    assert made["made"] == 2
    again = build_data(make_config(model, **keys))
    assert made["made"] == 2
    for data in (first, again):
        assert data.data_hash == fresh.data_hash
        assert data.report == fresh.report
        for other, part in zip(fresh.loaders, data.loaders, strict=True):
            assert part._dataset.config is data.config
            for name, value in vars(other._dataset).items():
                if name not in NOT_COMPARED:
                    assert plain(vars(part._dataset)[name]) == plain(value), name
            # RecBole builds this table at once, this package on the first access.
            for field, ids in other._dataset.field2id_token.items():
                assert part._dataset.field2token_id[field] == {t: i for i, t in enumerate(ids)}
            batch, expected = (d._dataset[np.arange(3)] for d in (part, other))
            assert plain(batch.interaction) == plain(expected.interaction)


@pytest.mark.parametrize("model", ["DisentS2S", "LightGCN"])
def test_runs_have_the_same_result_with_and_without_stored_data(make_keys, model):
    found = []
    for limit in (0.0, 1.0, 1.0):
        keys = make_keys(model, prepared_limit_gb=limit)
        del keys["model"], keys["dataset"]
        report = run(model, "hostile", config_dict=keys)
        found.append({k: report[k] for k in ("data", "data_hash", "test_result", "best_valid_result")})
    assert found[0] == found[1] == found[2]


def test_pre_split_files_are_stored_too(made):
    for name in SPLIT:
        write("small", f"{name}.inter", [row for row in small_rows() if row[3] // 20 == SPLIT.index(name)])
    keys = {"benchmark_filename": SPLIT}
    hashes = {small(**keys).data_hash for _ in range(2)}
    assert len(hashes) == 1
    assert made["made"] == 1
    write("small", "valid.inter", [row for row in small_rows() if row[3] == 20])
    assert small(**keys).data_hash not in hashes
    assert made["made"] == 2


def test_files_consist_of_arrays_and_json(entries):
    write("small", "inter", small_rows())
    small()
    (entry,) = entries()
    for file in entry.iterdir():
        if file.suffix == ".npy":
            assert np.load(file, allow_pickle=False).dtype != object
        else:
            assert file.name in (prepared.ENTRY, archive.GRAPH)
    json.loads((entry / archive.GRAPH).read_text().partition("\n")[2])
    assert not list(Path("saved/prepared").glob(".*"))


def test_a_changed_file_makes_another_entry(entries, made):
    path = write("small", "inter", small_rows())
    first = small().data_hash
    os.utime(path, (1, 1))  # the content decides, and not the time
    assert small().data_hash == first
    assert made["made"] == 1
    before = path.stat()
    path.write_text(path.read_text().replace("u1\ti2", "u1\ti3"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert small().data_hash != first
    assert len(entries()) == 2
    # A file of items that appears later.
    write("small", "item", [("i1", 3)], "item_id:token\tprice:float")
    columns = {**KEYS["load_col"], "item": ["item_id", "price"]}
    assert small(load_col=columns, filter_inter_by_user_or_item=False).dataset.item_feat is not None
    Path("small/small.item").unlink()
    with pytest.raises(UserError, match=r"load_col: got columns of item, but there is no file .*small\.item"):
        small(load_col=columns, filter_inter_by_user_or_item=False)  # and not the entry with the file
    assert small().dataset.item_feat is None
    assert made["made"] == 4  # the refused one is counted


def test_a_file_that_is_not_read_does_not_count(made):
    write("small", "inter", small_rows())
    write("small", "item", [("i1", 3)], "item_id:token\tprice:float")
    small()
    write("small", "item", [("i1", 4)], "item_id:token\tprice:float")
    small()
    assert made["made"] == 1


def test_only_keys_that_decide_the_data_make_another_entry(entries, made):
    write("small", "inter", small_rows())
    small()
    small("GRU4Rec", learning_rate=0.5, train_batch_size=7, seed=5, topk=[1], valid_metric="MRR@1")
    assert made["made"] == 1
    for number, keys in enumerate(
        ({"MAX_ITEM_LIST_LENGTH": 4}, {"user_inter_num_interval": "[1,inf)"}, {"recbole_time": True},
         {"rm_dup_inter": "last"}, {"click_noise": 0.5}, {"click_noise": 0.5, "click_noise_seed": 1},
         {"history_fields": ["item_id"]}, {"load_col": None}),
        start=2,
    ):  # fmt: skip
        small(**keys)
        assert made["made"] == len(entries()) == number, keys
    small("BPR")
    assert made["made"] == len(entries()) == 10


def test_another_version_of_the_code_makes_another_entry(entries, monkeypatch):
    write("small", "inter", small_rows())
    small()
    monkeypatch.setattr(prepared, "_code", lambda: "another version")
    small()
    assert len(entries()) == 2


def cut(path):
    path.write_bytes(path.read_bytes()[:-2])


def flip(path):
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(bytes(content))


DAMAGES = [
    (prepared.ENTRY, cut), (prepared.ENTRY, Path.unlink), (prepared.ENTRY, lambda p: p.write_text("[]")),
    (prepared.ENTRY, lambda p: p.write_text(p.read_text().replace('"False"', '"True"'))),
    (archive.GRAPH, cut), (archive.GRAPH, flip), (archive.GRAPH, Path.unlink),
    ("*.npy", cut), ("*.npy", flip), ("*.npy", Path.unlink), ("*.npy", lambda p: p.write_bytes(b"")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "damage"), DAMAGES)
def test_a_damaged_entry_is_made_again(entries, made, caplog, name, damage):
    write("small", "inter", small_rows())
    first = small()
    (entry,) = entries()
    damage(max(entry.glob(name), key=lambda p: p.stat().st_size))
    with caplog.at_level("WARNING"):
        again = small()
    assert "damaged" in caplog.text
    assert "prepared again" in caplog.text
    assert again.data_hash == first.data_hash
    assert again.report == first.report
    assert made["made"] == 2
    assert small().data_hash == first.data_hash
    assert made["made"] == 2
    assert entries() == [entry]


def test_warnings_about_the_files_are_logged_again(caplog):
    rows = small_rows()
    rows[3] = ("u0", "", 1, 30)
    write("small", "inter", rows)
    for _ in range(2):
        caplog.clear()
        with caplog.at_level("WARNING"):
            small()
        assert "item_id is missing in line 5" in caplog.text


def test_two_processes_that_make_the_same_entry_both_succeed(entries, monkeypatch):
    write("small", "inter", small_rows())
    real, hashes = archive.write, []

    def slow(*args):
        real(*args)
        if not hashes:
            hashes.append(None)
            hashes.append(small().data_hash)  # another process is faster

    monkeypatch.setattr(archive, "write", slow)
    hashes.append(small().data_hash)
    assert hashes[1] == hashes[2]
    assert len(entries()) == 1
    assert len(list(Path("saved/prepared").iterdir())) == 1


def test_the_folder_stays_below_its_limit(entries, caplog):
    write("small", "inter", small_rows())
    small()
    size = sum(file.stat().st_size for file in entries()[0].iterdir()) / 2**30
    small(MAX_ITEM_LIST_LENGTH=4)
    old, new = sorted(entries(), key=lambda folder: (folder / prepared.ENTRY).stat().st_mtime_ns)
    os.utime(new / prepared.ENTRY, (1, 1))
    small()  # a use makes an entry young
    caplog.set_level("INFO")
    small(MAX_ITEM_LIST_LENGTH=3, prepared_limit_gb=2.5 * size)
    assert len(entries()) == 2
    assert old in entries()
    assert f"{new}: the prepared data are deleted" in caplog.text
    small(MAX_ITEM_LIST_LENGTH=2, prepared_limit_gb=size / 2)
    assert "more than prepared_limit_gb" in caplog.text
    assert len(entries()) == 2


def test_only_unfinished_entries_are_cleared_away():
    write("small", "inter", small_rows())
    kept = [Path(name) for name in (".git", ".ssh", ".notes.tmp", ".shop-1.a.tmp", "-0123456789abcdef.tmp")]
    unfinished, young = (Path(f".small-0123456789abcdef.{end}.tmp") for end in ("a_b1c2d3", "x"))
    for folder in (*kept, unfinished, young):
        folder.mkdir()
        os.utime(folder, None if folder == young else (1, 1))
    Path(".git", prepared.ENTRY).touch()
    small(prepared_dir=".", prepared_limit_gb=0.001)
    assert all(folder.is_dir() for folder in (*kept, young))
    assert not unfinished.exists()


def test_a_random_split_is_not_stored(entries, caplog):
    write("small", "inter", small_rows())
    with caplog.at_level("INFO"):
        small("BPR", eval_args={"split": {"RS": [0.8, 0.1, 0.1]}, "order": "RO"})
    assert "not stored: the split or the order is random" in caplog.text
    assert not entries()


def test_a_folder_that_cannot_be_written_is_no_error(caplog):
    write("small", "inter", small_rows())
    Path("occupied").write_text("")
    with caplog.at_level("INFO"):
        small(prepared_dir="occupied")
    assert "the prepared data are not stored: occupied" in caplog.text


def test_a_file_that_changes_while_it_is_read_is_not_stored(monkeypatch, entries, caplog):
    path = write("small", "inter", small_rows())
    real = loading.create_dataset

    def changed(config):
        found = real(config)
        path.write_text(path.read_text() + "u1\ti1\t1\t99\n")
        return found

    monkeypatch.setattr(loading, "create_dataset", changed)
    with caplog.at_level("INFO"):
        small()
    assert "a file changed while it was read" in caplog.text
    assert not entries()


def test_other_objects_are_not_stored(tmp_path):
    with pytest.raises(archive.NotStorable, match="SimpleNamespace"):
        archive.write(str(tmp_path), {"a": [SimpleNamespace()]}, {})
    with pytest.raises(archive.NotStorable, match="function"):
        archive.write(str(tmp_path), len.__class__ and (lambda: 0), {})


def test_shared_objects_stay_shared(tmp_path):
    array = np.arange(20_000)
    tensor, names = torch.from_numpy(array), ["a"]
    archive.write(str(tmp_path), {"array": array, "tensor": tensor, "one": names, "two": names}, {})
    found = archive.read(str(tmp_path), {})
    assert found["one"] is found["two"]
    assert found["tensor"].data_ptr() == found["array"].__array_interface__["data"][0]
    found["tensor"][0] = 7  # private to this process
    assert archive.read(str(tmp_path), {})["array"][0] == 0
    assert len(list(tmp_path.glob("*.npy"))) == 1


def loaded(keys):
    """Return the hash of the data in one of several processes."""
    return build_data(Config("SASRec", "small", config_dict=keys)).data_hash


@pytest.mark.slow
@pytest.mark.parametrize("limit", [0.0, 1.0])
def test_processes_share_the_stored_data(entries, limit):
    write("small", "inter", small_rows())
    keys = {**KEYS, "prepared_limit_gb": limit}
    found = in_processes(2, loaded, keys)
    assert found == [small(prepared_limit_gb=0).data_hash] * 2
    assert len(entries()) == (1 if limit else 0)
