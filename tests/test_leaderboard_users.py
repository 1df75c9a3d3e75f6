"""Tests of the ranks of users that a run writes, against values from the data files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recbole_disent.errors import UserError
from recbole_disent.evaluation.evaluator import RankingEvaluator
from recbole_disent.leaderboard import statistics
from recbole_disent.session import run
from tests.test_leaderboard_plan import TINY

RANKS = ["recall@1", "recall@5", "ndcg@5", "mrr@5"]


@pytest.mark.parametrize("model", ["DisentS2S", "BPR", "Pop"])
@pytest.mark.parametrize("mode", ["full", "uni8"])
def test_ranks_of_users_give_the_metrics_and_belong_to_the_users(hostile, model, mode):
    keys = {**TINY, "data_path": str(hostile), "eval_mode": mode, "per_user_file": "u.npz",
            "filter_history": True, "show_progress": False, "metric_decimal_place": 10}  # fmt: skip
    found = run(model, "hostile", config_dict=keys)
    with np.load("u.npz", allow_pickle=False) as stored:
        users = dict(stored)
    assert set(users) == {"user", "rank", "history", "popularity"}
    assert len(users["user"]) == found["rows"]["test"]
    for metric in RANKS:
        values = statistics.of_ranks(metric, users["rank"])
        assert values.mean() == pytest.approx(found["test_result"][metric], abs=1e-9)
    # By hand, from the file: users in order of appearance, times as RecBole sorts them.
    rows = [line.split("\t") for line in (hostile / "hostile/hostile.inter").read_text().splitlines()[1:]]
    ids = {token: i for i, token in enumerate(dict.fromkeys(r[0] for r in rows), start=1)}
    histories: dict[int, list] = {}
    for user, item, *_ in sorted(rows, key=lambda r: float(r[3])):
        histories.setdefault(ids[user], []).append(item)
    # Of three events one is held out; of more, two.
    long = {u: h for u, h in histories.items() if len(h) >= 3}
    assert users["user"].tolist() == sorted(long)
    held = {u: 2 if len(h) >= 4 else 1 for u, h in long.items()}
    clicks: dict[str, int] = {}
    for user, items in histories.items():
        for item in items[: len(items) - held.get(user, 0)]:
            clicks[item] = clicks.get(item, 0) + 1
    assert users["history"].tolist() == [len(long[u]) - 1 for u in sorted(long)]
    assert users["popularity"].tolist() == [clicks.get(long[u][-1], 0) for u in sorted(long)]


def test_a_place_that_cannot_be_written_is_refused_before_training(hostile, tmp_path):
    (tmp_path / "file").write_text("")
    keys = {**TINY, "data_path": str(hostile), "show_progress": False}
    epochs = []
    for path, message in ((tmp_path, "is a folder"), (tmp_path / "file" / "u.npz", "cannot be written")):
        with pytest.raises(UserError, match=f"per_user_file: .*{message}"):
            run("Pop", "hostile", config_dict={**keys, "per_user_file": str(path)},
                on_epoch=lambda *epoch: epochs.append(epoch))  # fmt: skip
    assert not epochs


def test_a_result_file_is_written_before_the_ranks(hostile, monkeypatch):
    def fail(*args):
        raise UserError("full")

    monkeypatch.setattr("recbole_disent.session.write_per_user", fail)
    keys = {**TINY, "data_path": str(hostile), "show_progress": False, "per_user_file": "u.npz"}
    with pytest.raises(UserError, match="full"):
        run("Pop", "hostile", config_dict=keys)
    assert list(Path("saved").glob("Pop-*.json"))


def test_ranks_of_users_are_the_same_for_every_order_of_queries(hostile):
    """Ranks do not depend on chunks and kinds of models, which have different orders of queries."""
    keys = {**TINY, "data_path": str(hostile), "filter_history": True, "show_progress": False}
    stored = []
    for model, size in (("DisentS2S", 512), ("DisentS2S", 3), ("BPR", 2)):
        run(model, "hostile", config_dict={**keys, "per_user_file": "u.npz", "eval_batch_size": size})
        with np.load("u.npz", allow_pickle=False) as file:
            stored.append(dict(file))
    for name in ("user", "history", "popularity"):
        assert all(np.array_equal(stored[0][name], other[name]) for other in stored[1:])
    assert np.array_equal(stored[0]["rank"], stored[1]["rank"])
    assert not np.array_equal(stored[0]["rank"], stored[2]["rank"])


def test_users_with_several_test_items_are_refused_before_training(hostile):
    keys = {**TINY, "data_path": str(hostile), "per_user_file": "u.npz",
            "eval_args": {"split": {"RS": [0.4, 0.3, 0.3]}}}  # fmt: skip
    with pytest.raises(UserError, match="per_user_file: got a test part without ranks or with several items"):
        run("Pop", "hostile", config_dict=keys)
    assert not Path("u.npz").exists()


def test_a_split_without_a_test_part_has_no_ranks_of_users(hostile):
    """The file had the ranks of the validation part, and no users."""
    keys = {**TINY, "data_path": str(hostile), "eval_args": {"split": {"LS": "valid_only"}}}
    with pytest.raises(UserError, match="per_user_file: got a test part without ranks"):
        run("Pop", "hostile", config_dict={**keys, "per_user_file": "u.npz"})
    assert run("Pop", "hostile", config_dict=keys, ranks_file="u.npz")["test_result"] is None
    assert not Path("u.npz").exists()


def test_without_a_test_the_test_part_is_not_looked_at(hostile, monkeypatch):
    parts = []
    evaluate = RankingEvaluator.evaluate

    def watched(self, model, loader, *more):
        parts.append(loader.dataset.part)
        return evaluate(self, model, loader, *more)

    monkeypatch.setattr(RankingEvaluator, "evaluate", watched)
    keys = {**TINY, "data_path": str(hostile), "per_user_file": "u.npz", "eval_mode": "uni5"}
    found = run("Pop", "hostile", config_dict=keys, test=False)
    assert set(parts) == {"valid"}
    assert found["test_result"] is None
    assert set(found["candidate_hashes"]) == {"valid"}
    assert found["best_valid_result"]["ndcg@5"] > 0
    assert not Path("u.npz").exists()
    assert run("Pop", "hostile", config_dict=keys)["test_result"]["ndcg@5"] > 0
    assert parts[-1] == "test"


def test_candidates_can_be_shared(hostile):
    keys = {**TINY, "data_path": str(hostile), "eval_mode": "uni5", "candidate_dir": "common"}
    run("Pop", "hostile", config_dict=keys)
    assert len(list(Path("common").glob("*.npz"))) == 2
    assert not Path("saved/candidates").exists()
