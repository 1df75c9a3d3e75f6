"""Tests of ``repeat_gate``, which learns from the training part whether users meet items again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import write_inter
from tests.test_evaluation import evaluator_and_loader


def without_repeats(config):
    """Leave each user's first event with an item in the data of *config*, and return the configuration."""
    path = Path(config["data_path"]) / f"{config['dataset']}.inter"
    lines = path.read_text().splitlines()
    seen, kept = set(), []
    for line in lines[1:]:
        if (pair := tuple(line.split("\t")[:2])) not in seen:
            seen.add(pair)
            kept.append(line)
    path.write_text("\n".join([lines[0], *kept]) + "\n")
    return config


@pytest.mark.parametrize("model", ["SASRec", "BPR", "DisentS2S"])
def test_the_repeat_gate_closes_where_training_has_no_repeats(make_config, model):
    """Without repeats the gate equals the filter; with repeats it changes nothing."""
    keys = {"metrics": ["RepeatShare", "NDCG", "ItemCoverage"], "filter_history": False}
    for prepare, closed in ((lambda config: config, False), (without_repeats, True)):
        prepare(make_config(model))
        found = {}
        for name, more in {"gate": {"repeat_gate": True}, "filter": {"filter_history": True}, "": {}}.items():
            evaluator, loader, net, _ = evaluator_and_loader(make_config, model, **{**keys, **more})
            with torch.no_grad():
                found[name] = evaluator.evaluate(net, loader), evaluator.last_ranks.tolist()
            if name == "gate":
                assert evaluator.chosen() == {"repeat_gate": "closed" if closed else "open"}
        assert found["gate"] == found["filter" if closed else ""]
        assert found["filter"] != found[""]


@pytest.mark.parametrize("model", ["SASRec", "BPR", "DisentS2S", "NeuMF"])
def test_the_repeat_gate_puts_a_repeated_held_out_item_last(make_config, model):
    evaluator, loader, net, _ = evaluator_and_loader(
        make_config, model, repeat_gate=True, filter_history=False, metrics=["RepeatShare", "NDCG"]
    )
    evaluator.gated = True  # as if the training part had no repeats
    with torch.no_grad():
        assert evaluator.evaluate(net, loader)["repeatshare@10"] == 0
    dataset, repeated, numbers = loader.dataset, [], []
    for _, queries in loader.chunks(0, 1):
        row, item = (values.tolist() for values in dataset.earlier(queries.rows))
        met = set(zip(row, item, strict=True))
        pairs = zip(queries.owner.tolist(), queries.positives.tolist(), strict=True)
        repeated += [pair in met for pair in pairs]
        numbers += queries.number.tolist()
    repeated = np.array(repeated)[np.argsort(numbers, kind="stable")]
    assert repeated.any()
    assert not repeated.all()
    assert (evaluator.last_ranks[repeated] == dataset.item_num - 1).all()


@pytest.mark.parametrize("model", ["SASRec", "BPR"])
@pytest.mark.parametrize(("repeated", "gate"), [(2, "open"), (3, "closed"), (4, "closed")])
def test_the_repeat_gate_learns_nothing_from_held_out_events(make_config, hostile, model, repeated, gate):
    """The events 0, 1 and 2 of each user are for training, 3 is for validation and 4 is for the test."""
    rows = [
        (f"u{user}", f"i{user if time == repeated else user + time}", 3, time)
        for user in range(8)
        for time in range(5)
    ]
    write_inter(hostile, "hostile", rows)
    evaluator, *_ = evaluator_and_loader(make_config, model, repeat_gate=True, topk=[1])
    assert evaluator.chosen() == {"repeat_gate": gate}
