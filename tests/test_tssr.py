"""Tests of TSSR against slow references, of its losses, its ablations and its scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recbole_disent.errors import UserError
from recbole_disent.loaders.windows import UserLoader
from recbole_disent.models.tssr import losses
from recbole_disent.models.tssr.model import _on_the_scale_of
from recbole_disent.ops.full_softmax import full_softmax
from recbole_disent.session import build_data, build_model
from tests import reference_tssr as reference
from tests.windows import windows

SEQUENCES = [[3, 1, 4, 1, 5, 9], [2, 6], [5, 3, 4], [8, 9, 7, 9], [3, 1, 2]]
USERS = [1, 2, 3, 4, 1]


def build(make_config, **keys):
    given = {
        "hidden_size": 6, "inner_size": 5, "n_heads": 2, "n_layers": 2, "n_cross_layers": 2, "content_dim": 4,
        "hidden_dropout_prob": 0.0, "initializer_range": 0.5, "residual_init": 0.7, **keys,
    }  # fmt: skip
    data = build_data(make_config("TSSR", **given))
    net = build_model(data)
    torch.manual_seed(3)
    for name, parameter in net.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.3)
    return net.double()


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


VARIANTS = [
    {}, {"user_weight": 0.0, "item_weight": 0.3}, {"item_weight": 0.0, "user_weight": 0.5},
    {"user_weight": 0.0, "item_weight": 0.0}, {"n_cross_layers": 0}, {"gate": "sigmoid"},
    {"gate": "concat"}, {"output": "linear"}, {"output": "id", "user_weight": 1.0, "item_weight": 1.0},
    {"temperature": 0.7, "n_heads": 1, "n_layers": 1},
]  # fmt: skip


@pytest.mark.parametrize("keys", VARIANTS, ids=str)
def test_the_loss_equals_the_reference_with_gradients(make_config, keys):
    model = build(make_config, **keys)
    expected = reference.total_loss(model, SEQUENCES, USERS)
    expected_gradients = gradients(model, expected)
    found = sum(model.calculate_loss(windows(SEQUENCES, USERS)))
    assert found.item() == pytest.approx(expected.item(), abs=1e-9)
    for name, gradient in gradients(model, found).items():
        torch.testing.assert_close(gradient, expected_gradients[name], atol=1e-8, rtol=1e-6, msg=name)


@pytest.mark.parametrize("output", ["linear", "id", "both"])
def test_the_scores_equal_the_reference(make_config, output):
    model = build(make_config, output=output).eval()
    batch = {
        "item_id_list": torch.tensor([[3, 1, 4, 0], [2, 0, 0, 0]]),
        "item_length": torch.tensor([3, 1]),
        "item_id": torch.tensor([7, 8]),
    }
    scores = model.full_sort_predict(batch)
    candidates = torch.tensor([[7, 2, 2], [8, 1, 0]])
    torch.testing.assert_close(model.score_candidates(batch, candidates), scores.gather(1, candidates))
    for row, sequence in enumerate([[3, 1, 4], [2]]):
        state = reference.encode(model, sequence)[2][-1]
        for item in (1, 7, 8):
            if output == "linear":
                expected = model.prediction.weight[item] @ state + model.prediction.bias[item]
            else:
                content = reference.content(model, item) if output == "both" else 0.0
                expected = (model.item_embedding.weight[item] + content) @ state
            assert scores[row, item].item() == pytest.approx(expected.item())


@pytest.mark.parametrize("stream", ["id", "content"])
def test_one_stream_is_its_unimodal_encoder(make_config, stream):
    model = build(make_config, streams=stream, output="linear")
    assert len(model.calculate_loss(windows(SEQUENCES, USERS))) == 1
    net = model.encoder
    for s in SEQUENCES:
        if stream == "id":
            x = [model.item_embedding.weight[i] + net.position_embedding.weight[p] for p, i in enumerate(s)]
            expected = reference.stack(net.id_stack, x)
        else:
            x = [reference.content(model, i) + net.position_embedding.weight[p] for p, i in enumerate(s)]
            expected = reference.stack(net.content_stack, x)
        torch.testing.assert_close(model.encode(torch.tensor([s])).joined[0], torch.stack(expected))
    names = {name.split(".")[0] for name, _ in model.named_parameters()}
    assert names == {"encoder", "prediction", "item_embedding" if stream == "id" else "content"}


def test_nothing_of_the_future_or_the_padding_reaches_a_state(make_config):
    model = build(make_config)
    items = torch.tensor([[3, 1, 4, 1, 5]])
    states = model.encode(items)
    for cut in range(1, 5):
        changed = items.clone()
        changed[:, cut:] = items[:, cut:] % 8 + 1  # others at each place
        for a, b in zip(states, model.encode(changed), strict=True):
            torch.testing.assert_close(a[:, :cut], b[:, :cut])
            assert not torch.allclose(a[:, cut:], b[:, cut:])


# -- losses by themselves --------------------------------------------------------------


def random_positions(seed, sequences=9, longest=7, items=6):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, longest + 1, (sequences,), generator=generator).tolist()
    ids = [torch.randint(1, items, (n,), generator=generator).tolist() for n in lengths]
    states = [list(torch.randn(n, 4, generator=generator).double()) for n in lengths]
    nexts = [list(torch.randn(n, 4, generator=generator).double()) for n in lengths]
    return states, nexts, ids


@pytest.mark.parametrize("limit", [2**26, 200, 90, 30, 1])
@pytest.mark.parametrize("seed", range(3))
def test_item_contrast_is_the_loop_over_positions_whatever_the_slices(seed, limit):
    states, nexts, ids = random_positions(seed)
    a = torch.stack([v for row in states for v in row]).requires_grad_()
    b = torch.stack([v for row in nexts for v in row]).requires_grad_()
    places = torch.tensor([j for row in ids for j in range(len(row))])
    items = torch.tensor([i for row in ids for i in row])
    shuffled = torch.randperm(len(items))
    found = torch.empty(len(items), dtype=torch.double)
    value = losses.item_contrast(a[shuffled], b[shuffled], places[shuffled], items[shuffled], limit)
    found[shuffled] = value.detach()
    slow = reference.item_contrast(states, nexts, ids)
    torch.testing.assert_close(found, torch.stack([v for row in slow for v in row]))
    weight = torch.rand(len(items)).double()
    first = torch.autograd.grad((value * weight[shuffled]).sum(), [a, b])
    pieces, at = [], 0
    for row in ids:
        pieces.append(range(at, at + len(row)))
        at += len(row)
    slow = reference.item_contrast(
        [[a[i] for i in p] for p in pieces], [[b[i] for i in p] for p in pieces], ids
    )
    second = torch.autograd.grad((torch.stack([v for row in slow for v in row]) * weight).sum(), [a, b])
    for x, y in zip(first, second, strict=True):
        torch.testing.assert_close(x, y)


def test_slices_cover_each_position_once_and_keep_the_limit():
    counts = [40, 39, 38, 20, 19, 7, 7, 0, 0, 3, 1, 1]
    for limit in (10**6, 4000, 800, 1):
        slices = list(losses._slices(counts, limit))
        covered = [p for first, last, _ in slices for p in range(first, last) if counts[p]]
        assert covered == [p for p, n in enumerate(counts) if n]
        for first, last, rows in slices:
            assert rows == max(counts[first:last])
            assert last - first == 1 or (last - first) * rows**2 <= limit
    assert len(list(losses._slices([40, 38, 36, 30], 10**6))) == 1


def test_item_contrast_leaves_out_copies_of_the_positive():
    states, nexts = torch.randn(3, 2).double(), torch.randn(3, 2).double()
    nexts[1] = nexts[0]
    places = torch.zeros(3, dtype=torch.long)
    found = losses.item_contrast(states, nexts, places, torch.tensor([5, 5, 7]), 100)
    expected = torch.logaddexp(states[0] @ nexts[0], states[0] @ nexts[2]) - states[0] @ nexts[0]
    torch.testing.assert_close(found[0], expected)


def test_next_item_leaves_padding_out_and_bounds_its_scores():
    states, table = torch.randn(5, 4).double(), torch.randn(9, 4).double()
    bias, targets = torch.randn(9).double(), torch.tensor([1, 8, 3, 3, 2])
    expected = sum(reference.next_item(s, int(t), table, bias) for s, t in zip(states, targets, strict=True))
    for limit in (2**20, 10, 1):
        torch.testing.assert_close(full_softmax(states, targets, table, bias, limit), expected)
    table[0], bias[0] = 100.0, 100.0
    torch.testing.assert_close(full_softmax(states, targets, table, bias, 10), expected)


# -- loader ----------------------------------------------------------------------------


@pytest.mark.parametrize("kept", ["all", "last"])
def test_a_batch_has_a_number_of_users_and_an_epoch_each_target_once(make_config, kept):
    config = make_config("TSSR", train_batch_size=4, train_windows=kept, MAX_ITEM_LIST_LENGTH=5)
    data = build_data(config)
    loader, train = data.loaders[0], data.loaders[0].dataset
    assert isinstance(loader, UserLoader)
    store = train.store
    store.fields["item_id"] = torch.arange(len(store), dtype=torch.int32) + 1
    for _ in range(2):
        batches = list(loader)
        sizes = [len(batch.users) for batch in batches]
        assert set(sizes[:-1]) == {4}
        assert 1 <= sizes[-1] <= 4
        targets = []
        for batch in batches:
            targets += [int(i) for row in batch.items.split(batch.lengths.tolist()) for i in row[1:]]
        rows = train.inter_feat.rows
        if kept == "last":  # of 24 events of a user the last five targets of the training part
            rows = rows[rows >= (train.train_end - 5)[store.users[rows].long()]]
            assert len(batches) == len(loader)
            assert len(rows) < len(train.inter_feat.rows)
        assert sorted(targets) == sorted((rows + 1).tolist())


# -- keys and cold start ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"n_heads": 3}, r"n_heads: got 3, expected a divisor of hidden_size=64"),
        ({"streams": "id", "output": "both"}, r"output: got 'both' with streams=id"),
        (
            {"score_by_content": 1, "streams": "content", "output": "id"},
            r"score_by_content: got 1, expected 0",
        ),
        ({"score_by_content": 1, "item_weight": 0.0, "output": "id"}, r"score_by_content: got 1, expected 0"),
        ({"gate": "sum"}, r"gate: got 'sum', expected one of sigmoid, none, concat"),
        ({"item_wight": 0.0}, r"'item_wight' is known neither.*did you mean 'item_weight'"),
    ],
)
def test_keys_that_do_not_fit_are_told_before_data_are_read(make_config, keys, message):
    with pytest.raises(UserError, match=message):
        make_config("TSSR", data_path="nowhere", **keys)


@pytest.mark.parametrize("output", ["linear", "id", "both"])
def test_items_without_training_clicks_are_scored_by_content_alone(make_config, output):
    found = []
    for scale in (1.0, 7.0):
        data = build_data(make_config("TSSR", score_by_content=3, output=output))
        net = build_model(data).eval()
        cold = torch.from_numpy(data.loaders[0]._dataset.training_counts() < 3)
        cold[0] = False
        assert cold.any()
        with torch.no_grad():  # what is learnt for an item by its id alone
            for table in (net.item_embedding.weight, net.prediction.weight if net.prediction else None):
                if table is not None:
                    table[cold] *= scale
        part = data.loaders[2].dataset
        batch = part[np.arange(len(part.inter_feat))]
        warm = ~cold[batch["item_id_list"]].any(1)
        batch = batch[warm]
        assert len(batch)
        with torch.no_grad():
            found.append(net.full_sort_predict(batch))
            torch.testing.assert_close(net.score_candidates(batch, torch.arange(5).expand(len(batch), -1)),
                                       found[-1][:, :5])  # fmt: skip
    torch.testing.assert_close(found[0], found[1])


def test_scores_by_content_are_put_on_the_scale_of_the_others():
    scores, others = torch.randn(2, 6) * 5 + 3, torch.randn(2, 6)
    known = torch.tensor([True, True, True, True, False, False])
    found = _on_the_scale_of(scores, others, known)
    for a, b in ((found, scores),):
        torch.testing.assert_close(a[:, 1:4].mean(1), b[:, 1:4].mean(1))
        torch.testing.assert_close(a[:, 1:4].std(1), b[:, 1:4].std(1))
    # The order by content stays.
    assert torch.equal(found.argsort(1), others.argsort(1))
