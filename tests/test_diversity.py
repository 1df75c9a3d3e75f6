"""Tests of the memory that diverse lists need."""

from __future__ import annotations

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from recbole_disent import load
from recbole_disent.serving import diversity
from recbole_disent.session import run


class Largest(TorchDispatchMode):
    """Notes the number of values of the largest tensor that an operation gives."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        if isinstance(found, torch.Tensor):
            self.numbers = max(self.numbers, found.numel())
        return found


def test_mmr_holds_no_likeness_of_all_pairs():
    torch.manual_seed(0)
    scores, table = torch.randn(2, 900).sort(descending=True).values, torch.randn(900, 8)
    with Largest() as largest:
        diversity.mmr(scores, torch.arange(900).expand(2, -1), table, 5, 0.5)
    assert largest.numbers <= 2 * 900 * 8


def test_the_vectors_of_mmr_count_as_memory(make_keys, monkeypatch):
    rec = load(run(config_dict=make_keys("SASRec", epochs=1))["checkpoint"])
    whole, mmr, rows = rec.recommend(k=5, diversity=0.5, diversify="mmr"), diversity.mmr, []

    def noting(values, *args):
        rows.append(len(values))
        return mmr(values, *args)

    monkeypatch.setattr(diversity, "mmr", noting)
    rec._maker.memory_mb = 1
    found = rec.recommend(k=5, diversity=0.5, diversify="mmr")
    width, pool = rec.encoder.table.shape[1], len(rec.encoder.padded)
    assert max(rows) * pool * width * 2 * 4 <= 2**20 < len(rec.users) * pool * width * 2 * 4
    assert list(found["item"]) == list(whole["item"])
