"""The kinds of files that the fuzzing test damages, each with sound files and what reads them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from recbole_disent import load
from recbole_disent.build import build_data
from recbole_disent.config.config import Config
from recbole_disent.config.search_space import read_space
from recbole_disent.content.vectors_file import read_vectors
from recbole_disent.data.item_file import read_items
from recbole_disent.hashing import file_digest
from recbole_disent.leaderboard import report
from recbole_disent.leaderboard.archive import RANKS_FILE, RUNS_FILE, _digest
from recbole_disent.leaderboard.compact import compact
from recbole_disent.leaderboard.plan import make_plan, read_plan
from recbole_disent.session import load_checkpoint, run
from tests.faults import HEAD, KEYS, small_rows
from tests.fuzzing import Target, tree
from tests.test_leaderboard_compact import OPTIONS, result

_ITEM_HEAD = "item_id:token\tkind:token\tprice:float\ttags:token_seq\tsizes:float_seq\n"
_ITEMS = _ITEM_HEAD + "".join(f"i{n}\tk{n % 2}\t{n / 2}\tred big\t0.5 {n}\n" for n in range(6))
_KEYS = {**KEYS, "load_col": None}
_PLAN = """models: [BPR, {name: Pop, label: popular, config: {learning_rate: 0.01}}]
datasets: [ml-100k]
protocols: [full, {sampled: {eval_mode: uni20}}]
seeds: [1, 2]
sweep: {weight_decay: [0.0, 0.1]}
config: {epochs: 2, train_batch_size: 512}
"""
_YAML = """epochs: 3
learning_rate: 1e-3
eval_args: {split: {LS: valid_and_test}, mode: full}
metrics: [Recall, NDCG]
topk: [1, 3]
valid_metric: NDCG@3
load_col: {inter: [user_id, item_id, timestamp]}
val_interval: {rating: "[3,inf)"}
"""
_SPACE = """# a comment
learning_rate loguniform -9.2,-4.6
n_layers choice [1, 2, 3]
hidden_dropout_prob uniform 0.0,0.5
embedding_size quniform 8,64,8
"""


def _inter() -> str:
    return "\n".join([HEAD, *("\t".join(map(str, row)) for row in small_rows())]) + "\n"


def _read_data() -> Any:
    for model in ("BPR", "SASRec"):
        build_data(Config(model, "small", config_dict=_KEYS))


def _read_items() -> Any:
    for fields in (None, ["kind", "tags"]):
        read_items("small/small.item", "item_id", fields, "\t", None, "content_fields")
    _read_data()


def _report() -> Any:
    report.write(Path("in"), out=Path("out"), say=lambda line: None)


def _plan() -> Any:
    plan = make_plan(read_plan("plan.yaml"))
    if len(plan.entries) * len(plan.datasets) * len(plan.protocols) * len(plan.sweep[1]) < 20:
        plan.runs()


def _vectors(path: str) -> Any:
    return lambda: read_vectors(path, "\t", None)


def _config() -> Any:
    return Config("BPR", "ml-100k", config_file_list=["run.yaml"])


def _loaded(path: str) -> Any:
    def read() -> Any:
        rec = load(path)
        rec.recommend(list(rec.users[:2]), k=2)

    return read


def _renew_rank_digests() -> None:
    """Say the digest of the changed ranks in runs.csv."""
    content = Path("in", RUNS_FILE).read_bytes()
    first, feed, rest = content.partition(b"\n")
    try:
        head = json.loads(first.removeprefix(b"#"))
        head["ranks"] = _digest(Path("in", RANKS_FILE).read_bytes())
    except (ValueError, TypeError, RecursionError):
        return
    Path("in", RUNS_FILE).write_bytes(b"# " + json.dumps(head).encode() + feed + rest)


def _renew_bundle_digests() -> None:
    """Say the digests of the changed files in config.json."""
    path = Path("bundle", "config.json")
    try:
        found = json.loads(path.read_bytes())
        found["files"] = {name: file_digest(path.parent / name) for name in found["files"]}
        path.write_text(json.dumps(found))
    except (ValueError, TypeError, AttributeError, KeyError, OSError, RecursionError):
        return


def _vector_files(folder: Path) -> dict[str, bytes]:
    vectors = np.arange(12, dtype=np.float32).reshape(6, 2)
    np.savez(folder / "v.npz", ids=np.array([f"i{n}" for n in range(6)]), vectors=vectors)
    np.save(folder / "v.npy", np.column_stack([np.arange(6), vectors]))
    lines = "".join(f"i{n}\t{n / 2} {n}\n" for n in range(6))
    (folder / "v.itememb").write_text("item_id:token\tvector:float_seq\n" + lines)
    return {name: (folder / name).read_bytes() for name in ("v.npz", "v.npy", "v.itememb")}


def _write_plan_results(folder: Path) -> None:
    rng = np.random.default_rng(1)
    cell = {"dataset": "d", "protocol": "uni99", "sweep": None, "trial": None}
    runs = [{"id": f"r{label}{seed}", "label": label, "model": label, "seed": seed, **cell}
            for label in ("BPR", "Pop") for seed in (1, 2)]  # fmt: skip
    plan = {"schema": 1, "command": ["x"], "options": OPTIONS, "labels": ["BPR", "Pop"], "sweep": None,
            "searches": [], "runs": runs, "trials": []}  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "plan.json").write_text(json.dumps(plan))
    for entry in runs:
        place = folder / "runs" / entry["id"]
        place.mkdir(parents=True)
        ranks, users = rng.integers(1, 101, 30), np.arange(1, 31)
        (place / "config.yaml").write_text("config: {epochs: 3}\n")
        (place / "result.json").write_text(
            json.dumps(result(rng, ranks, seed=entry["seed"], model=entry["model"]))
        )
        np.savez(place / "per_user.npz", user=users, rank=ranks, history=users % 7, popularity=users % 5)


def make_targets(folder: Path) -> list[Target]:
    """Make the sound files in an empty *folder*, the working directory, and return the targets."""
    data = {"small/small.inter": _inter().encode()}
    (folder / "small").mkdir()
    (folder / "small" / "small.inter").write_text(_inter())
    made = run("BPR", "small", config_dict={**KEYS, "checkpoint_dir": "saved", "result_dir": "saved",
                                            "per_user_file": "saved/ranks.npz"})  # fmt: skip
    rec = load(made["checkpoint"])
    rec.save("bundle")
    with mock.patch.dict(sys.modules, {"pyarrow": None}):
        rec.save("csv/bundle")
    checkpoint = {"small/small.inter": data["small/small.inter"]}
    state = Path(made["checkpoint"]).read_bytes()
    results = {"in/one.json": Path(made["result_file"]).read_bytes(),
               "in/one.npz": Path("saved/ranks.npz").read_bytes()}  # fmt: skip
    bundle, of_csv = ({f"bundle/{name}": content for name, content in tree(place).items()}
                      for place in (folder / "bundle", folder / "csv" / "bundle"))  # fmt: skip
    _write_plan_results(folder / "plan" / "in")
    plan = tree(folder / "plan")
    compact(folder / "plan" / "in", say=lambda line: None)
    packed = {f"in/{name}": (folder / "plan" / "in" / name).read_bytes() for name in (RUNS_FILE, RANKS_FILE)}
    vectors = _vector_files(folder)

    def read_checkpoint() -> None:
        Path("small").mkdir()
        Path("small/small.inter").write_bytes(checkpoint["small/small.inter"])
        load_checkpoint("model.pth")

    return [
        Target("interactions", data, _read_data),
        Target("items", {"small/small.item": _ITEMS.encode()}, _with_inter(data, _read_items)),
        *(Target(f"vectors {n[1:]}", {n: content}, _vectors(n), share=2) for n, content in vectors.items()),
        Target("checkpoint", {"model.pth": state}, read_checkpoint),
        Target("result file", results, _report),
        Target("plan folder", plan, _report),
        Target("compact results", packed, _report, share=0.5),
        Target("compact results, new digests", packed, _report, renew_digests=_renew_rank_digests),
        Target("plan", {"plan.yaml": _PLAN.encode()}, _plan, share=2),
        Target("search space", {"a.hyper": _SPACE.encode()}, lambda: read_space("a.hyper"), share=2),
        Target("configuration", {"run.yaml": _YAML.encode()}, _config, share=2),
        Target("bundle", bundle, _loaded("bundle"), share=0.3),
        Target("bundle, new digests", bundle, _loaded("bundle"), renew_digests=_renew_bundle_digests),
        Target("bundle of CSV, new digests", of_csv, _loaded("bundle"), renew_digests=_renew_bundle_digests),
    ]


def _with_inter(data: dict[str, bytes], read: Any) -> Any:
    def both() -> None:
        for path, content in data.items():
            Path(path).write_bytes(content)
        read()

    return both
