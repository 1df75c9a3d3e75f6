"""Tests of evaluations in unusual settings: repeated items, cut histories, refits and single scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recbole_disent.errors import UserError
from recbole_disent.evaluation.scoring import Scorer
from recbole_disent.session import build_data, run
from tests.faults import KEYS, SPLIT, config, hash_of, load, small_rows, small_run, write
from tests.test_evaluation import evaluator_and_loader


def test_an_item_that_is_held_out_twice_for_a_user_counts_once():
    """A ranking of the whole catalogue finds everything, so that its recall is 1."""
    rows = [(f"u{u}", f"i{(u + step) % 6}", 1, step) for u in range(8) for step in range(4)]
    rows += [(f"u{u}", f"i{(u + 5) % 6}", 1, step) for u in range(8) for step in (8, 9)]
    write("small", "inter", rows)
    split = {"split": {"RS": [0.4, 0.2, 0.4]}, "order": "TO", "mode": "full", "group_by": "user"}
    keys = {"eval_args": split, "topk": [6], "valid_metric": "NDCG@6", "metrics": ["Recall", "NDCG"]}
    found = small_run("BPR", **keys, filter_history=False)
    assert found["test_result"]["recall@6"] == 1
    loader = build_data(config("BPR", **keys)).loaders[2]
    assert [len(batch.positives) for batch in loader] == [8]
    assert loader.n_queries == 8


def test_a_ratio_split_with_several_test_items_tells_general_models_from_sequential_ones():
    """One ranking for all test items of a user cannot be compared with one for each item."""
    write(
        "small", "inter", [(f"u{u}", f"i{(u + step) % 9}", 1, step) for u in range(8) for step in range(11)]
    )
    several = {"eval_args": {"split": {"RS": [0.6, 0.2, 0.2]}}}
    models = "BPR", "Pop", "SASRec"
    rows = [[len(part.inter_feat) for part in load(model, **several)[1][1:]] for model in models]
    assert rows == [[16, 16]] * 3
    general, other, sequential = (hash_of(model, **several) for model in models)
    assert general == other != sequential
    one_each = {"eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}}}
    assert hash_of("BPR", **one_each) == hash_of("SASRec", **one_each)


def test_the_size_of_a_chunk_does_not_decide_how_equal_scores_are_ordered():
    """Some users have one test item and others two; Pop gives most items equal scores."""
    rows = [(f"u{u}", f"i{(u + step) % 12}", 1, step) for u in range(8) for step in range(5 + 5 * (u > 4))]
    write("small", "inter", rows)
    keys = {"eval_args": {"split": {"RS": [0.6, 0.2, 0.2]}}, "metrics": ["MRR"], "valid_metric": "MRR@3"}
    loader = build_data(config("Pop", **keys, eval_batch_size=2)).loaders[2]
    assert [len(batch.positives) for batch in loader] == [2, 2, 3, 4]
    found = [small_run("Pop", **keys, topk=[3, 9], eval_batch_size=size) for size in (1, 2, 512)]
    assert found[0]["test_result"] == found[1]["test_result"] == found[2]["test_result"]


def test_events_of_cut_histories_count_once():
    """Each line repeats the history before it, and six events of a user are six training events."""
    lines = {part: [] for part in SPLIT}
    for u in range(4):
        items = [f"i{(u + step) % 9}" for step in range(8)]
        for end in range(2, 8):
            part = "train" if end < 6 else "valid" if end == 6 else "test"
            lines[part].append((f"u{u}", " ".join(items[:end]), items[end]))
    for part in SPLIT:
        write("cut", f"{part}.inter", lines[part], "user_id:token\titem_id_list:token_seq\titem_id:token")
    keys = {"benchmark_filename": SPLIT, "load_col": {"inter": ["user_id", "item_id"]}}
    dataset, parts = load("SASRec", "cut", **keys, MAX_ITEM_LIST_LENGTH=9)
    names = dataset.field2id_token["item_id"]
    expected = [f"i{(u + step) % 9}" for u in range(4) for step in range(6)]
    counts = {name: count for name, count in zip(names, parts[0].training_counts(), strict=True) if count}
    assert counts == {name: expected.count(name) for name in set(expected)}
    assert len(parts[0].history[0]) == 4 * 8
    users, items = (side[parts[0].train_mask] for side in parts[0].history)
    assert len(set(zip(users.tolist(), items.tolist(), strict=True))) == len(users) == 24


def test_histories_that_repeat_nothing_count_as_a_whole():
    """Windows that are cut to a length repeat the events before; other histories of the user do not."""
    lines = {
        "train": [("u", "a b", "c"), ("u", "d e f", "g"), ("v", "a b c", "d"), ("v", "b c d", "e"),
                  ("v", "c d e", "f"), ("w", "a", "b"), ("w", "a b c d", "e")],
        "valid": [("v", "d e f", "g"), ("x", "a b", "c")],
        "test": [("v", "e f g", "h"), ("w", "a b c d e", "f")],
    }  # fmt: skip
    for part in SPLIT:
        write("cut", f"{part}.inter", lines[part], "user_id:token\titem_id_list:token_seq\titem_id:token")
    keys = {"benchmark_filename": SPLIT, "load_col": {"inter": ["user_id", "item_id"]}}
    dataset, parts = load("SASRec", "cut", **keys, MAX_ITEM_LIST_LENGTH=9)
    (users, items), seen = parts[0].history, parts[0].train_mask
    found = {}
    for user, item, train in zip(users, items, seen, strict=True):
        name = dataset.id2token("user_id", user)
        found[name] = found.get(name, "") + str(dataset.id2token("item_id", item)) * bool(train)
    assert found == {"u": "abcdefg", "v": "abcdef", "w": "abcde", "x": ""}
    assert len(users) == 7 + 8 + 6 + 3


def test_a_refit_of_pop_counts_every_event():
    write("small", "inter", small_rows())
    found = small_run("Pop", train_batch_size=7, refit=False)
    assert found["rows"]["train"] == 32
    net = run("Pop", "small", config_dict={**KEYS, "train_batch_size": 7, "refit": True})
    state = torch.load(net["checkpoint"], weights_only=True)
    assert int(state["other_parameter"]["item_cnt"].sum()) == 40
    assert net["refit"]["steps"] == 14  # of three events, each with one drawn negative that Pop leaves out


@pytest.mark.parametrize("model", ["BPR", "SASRec", "NeuMF"])
def test_a_repeated_held_out_item_has_the_last_mean_rank_behind_a_gate(make_config, model):
    keys = {"repeat_gate": True, "filter_history": False, "metrics": ["Recall", "GAUC"]}
    evaluator, loader, net, _ = evaluator_and_loader(make_config, model, **keys)
    evaluator.gated = True  # as if the training part had no repeats
    n = loader.dataset.item_num - 1
    with torch.no_grad():
        found = evaluator.evaluate(net, loader)["gauc"]
        scorer, values, places = Scorer(net, loader.dataset, torch.device("cpu")), [], []
        for queries in loader:
            scores = scorer.all_items(queries.batch).numpy()
            row, item = (side.numpy() for side in loader.dataset.earlier(queries.rows))
            for query in range(len(scores)):
                met = {*item[row == query].tolist()}
                order = [i for i in range(1, n + 1) if i not in met]
                held = queries.positives[queries.owner == query].tolist()
                ranked = len(order) + len(met & {*held})
                for target in held:
                    own = [1 + sum(scores[query, i] > scores[query, target] for i in order)]
                    places += [ranked if target in met else own[0]]
                    values.append(1 - (places[-1] - 1) / (ranked - 1))
    assert len(held) == 1
    assert found == pytest.approx(np.mean(values), abs=2e-4)
    assert 0 <= found <= 1


def test_negatives_of_single_scores_repeat_and_follow_the_training_part():
    more = [("v", f"i{item}", 1, 0) for item in range(6, 16)]
    write("small", "inter", [*small_rows(), *((f"u{u}", "i99", 1, 90) for u in range(8)), *more])
    keys = {"metrics": ["AUC"], "valid_metric": "AUC", "eval_mode": "pop2", "topk": [1]}

    def drawn(seed, **more):
        data = build_data(config("BPR", **keys, candidate_seed=seed, **more))
        return [[batch[0]["item_id"].tolist() for batch in data.loaders[2]] for _ in range(2)], data

    (first, second), data = drawn(1, worker=1)
    assert first == second
    state = np.random.get_state()[1].tolist()
    list(data.loaders[2])
    assert np.random.get_state()[1].tolist() == state
    assert drawn(2)[0][0] != first
    # i99 has no training event, and eight test events; it is the target of every row.
    sampler = data.loaders[2]._sampler
    number = data.loaders[0]._dataset.token2id("item_id", "i99")
    assert number not in sampler._get_candidates_list()
    every = drawn(1, candidate_popularity="all")[1].loaders[2]._sampler
    assert every._get_candidates_list().count(number) == 8
    assert small_run("BPR", **keys)["candidate_hashes"] == {}
    write("small", "inter", small_rows())
    with pytest.raises(
        UserError, match="eval_mode: no negative is left for the user 'u0', who has met every"
    ):
        small_run("BPR", **keys)


def test_general_and_sequential_models_differ_in_the_hash_where_a_user_has_several_test_rows():
    rows = small_rows()
    for several in (False, True):
        wanted = {"train": range(3), "valid": [3], "test": [4, 5] if several else [4]}
        for part, own in wanted.items():
            write("cut", f"{part}.inter", [r for n, r in enumerate(rows) if n % 6 in own])
        hashes = {hash_of(model, "cut", benchmark_filename=SPLIT) for model in ("SASRec", "BPR", "Pop")}
        assert len(hashes) == 1 + several


def negatives(**more):
    return {"train_neg_sample_args": {"distribution": "uniform", "sample_num": 1, **more}}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"eval_step": -1}, "eval_step: got -1, expected at least 0"),
        (negatives(alpah=1), "train_neg_sample_args: the key 'alpah' is unknown; did you mean 'alpha'"),
        (negatives(sample_num=0), "train_neg_sample_args: got sample_num=0, expected a whole number"),
        (negatives(sample_num=-2), "train_neg_sample_args: got sample_num=-2, expected a whole number"),
        (negatives(sample_num=None), "train_neg_sample_args: got sample_num=None, expected a whole number"),
        (negatives(alpha="x"), "train_neg_sample_args: got alpha='x', expected a number"),
        (negatives(dynamic="yes"), "train_neg_sample_args: got dynamic='yes', expected True or False"),
        (negatives(dynamic=True), "train_neg_sample_args: got dynamic=True without candidate_num"),
    ],
)  # fmt: skip
def test_values_that_failed_later_are_refused(keys, message):
    write("small", "inter", small_rows())
    with pytest.raises(UserError, match=message):
        config("BPR", **keys)
    good = config("BPR", **negatives(alpha=0.5, dynamic=True, candidate_num=4))
    assert good["train_neg_sample_args"]["alpha"] == 0.5


def test_negatives_by_popularity_need_an_item_that_the_user_has_not_met():
    """RecBole drew for ever: the items of the held-out events have no popularity in the training part."""
    write(
        "small", "inter", [(f"u{u}", f"i{n}", 1, t) for u in range(6) for t, n in enumerate((0, 1, 2, u + 3))]
    )
    keys = negatives(distribution="popularity")
    split = {"eval_args": {"split": {"LS": "test_only"}}}
    with pytest.raises(UserError, match="train_neg_sample_args: no negative is left for the user 'u0', who"):
        small_run("BPR", **keys, **split)
    assert small_run("BPR", **split)["test_result"]
    assert small_run("SASRec", **keys, **split, loss_type="BPR")["test_result"]
    write("small", "inter", small_rows())
    assert small_run("BPR", **keys)["test_result"]


def test_a_split_for_pre_split_files_is_said_to_have_no_effect():
    given = {"split": {"LS": "test_only"}, "order": "RO", "group_by": "none", "mode": "uni5"}
    found = config("Pop", benchmark_filename=SPLIT, eval_args=given)
    assert [note.partition(":")[0] for note in found.notes] == [
        "eval_args split", "eval_args order", "eval_args group_by"
    ]  # fmt: skip
    assert found.notes[1].startswith("eval_args order: 'RO' has no effect on pre-split files")
    assert config("Pop", eval_args=given).notes == []
    usual = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "uni5"}
    found = config("Pop", benchmark_filename=SPLIT, eval_args=usual)
    assert found.notes == []
    assert found["eval_args"]["mode"] == {"valid": "uni5", "test": "uni5"}


def test_a_mode_for_one_part_leaves_the_other_part_as_it_is(tmp_path):
    assert config(eval_args={"mode": {"valid": "uni5"}})["eval_args"]["mode"] == {
        "valid": "uni5", "test": "full"
    }  # fmt: skip
    assert config(eval_args={"mode": {"test": "pop3"}})["eval_args"]["mode"] == {
        "valid": "full", "test": "pop3"
    }  # fmt: skip
    file = tmp_path / "own.yaml"
    file.write_text("eval_args: {mode: uni4}\n")
    from recbole_disent.config.config import Config

    given = {**KEYS, "eval_args": {"mode": {"test": "full"}}}
    merged = Config("SASRec", "small", config_file_list=[str(file)], config_dict=given)
    assert merged["eval_args"]["mode"] == {"valid": "uni4", "test": "full"}


def test_models_of_recbole_run_or_say_what_they_need():
    rows = [(f"u{u}", f"i{(u + step) % 6}", 1, step) for u in range(40) for step in range(6)]
    write("small", "inter", rows)
    assert small_run("SINE", "small", prototype_size=3, interest_size=2)["test_result"]
    with pytest.raises(
        UserError, match="train_batch_size: got 1024, expected at most 32: the model draws 41 users"
    ):
        small_run("DGCF", "small", train_batch_size=1024)
    assert small_run("DGCF", "small", train_batch_size=20, embedding_size=8)["test_result"]
