"""Tests of packed sequences: values are neither lost nor mixed, and gradients equal those with padding."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from recbole_disent.models.causal_encoder import CausalBlock
from recbole_disent.ops.jagged import JaggedBatch

LENGTHS = [
    [1],
    [4, 4, 4],
    [1, 1, 2, 3, 5, 8, 13],
    [2, 3, 3, 7, 7, 10],
]


@pytest.mark.parametrize("lengths", LENGTHS)
def test_place_counts_from_zero_in_each_sequence(lengths):
    jagged = JaggedBatch(torch.tensor(lengths))
    assert jagged.position.tolist() == [i for n in lengths for i in range(n)]
    assert jagged.starts.tolist() == [sum(lengths[:i]) for i in range(len(lengths))]
    assert sum(jagged.sizes) == sum(lengths)
    groups = torch.tensor(lengths).split([count for count, _ in jagged.shapes])
    for (_, width), group in zip(jagged.shapes, groups, strict=True):
        assert width == group.max() <= 1.5 * group.min()


@pytest.mark.parametrize("lengths", LENGTHS)
def test_a_causal_function_gives_what_it_gives_alone(lengths):
    torch.manual_seed(0)
    jagged = JaggedBatch(torch.tensor(lengths))
    x, y = (torch.randn(sum(lengths), 3, dtype=torch.double, requires_grad=True) for _ in range(2))

    def function(a, b):
        return (a * b).cumsum(1) + a.square()

    weight = torch.randn(sum(lengths), 3, dtype=torch.double)
    found = jagged.map(function, x, y)
    alone = zip(x.split(lengths), y.split(lengths), strict=True)
    expected = torch.cat([function(a[None], b[None])[0] for a, b in alone])
    torch.testing.assert_close(found, expected)
    ours = torch.autograd.grad((found * weight).sum(), (x, y))
    torch.testing.assert_close(ours, torch.autograd.grad((expected * weight).sum(), (x, y)))


def test_a_block_of_packed_sequences_equals_one_of_each():
    torch.manual_seed(0)
    lengths = [1, 2, 2, 5, 6, 9]
    block = CausalBlock(8, 12, 2, 0.0, 0.0, 1e-12).double()
    for parameter in block.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(sum(lengths), 8, dtype=torch.double)
    found = block(x, JaggedBatch(torch.tensor(lengths)))
    expected = torch.cat([block(part[None])[0] for part in x.split(lengths)])
    torch.testing.assert_close(found, expected)
