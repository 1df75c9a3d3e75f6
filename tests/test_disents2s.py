"""Tests of DisentS2S against slow references, for values and gradients in both training modes."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from recbole_disent.data.dataset import SequenceDataset
from recbole_disent.errors import UserError
from recbole_disent.evaluation.intentions import mean_cosine
from recbole_disent.models.disents2s import losses
from recbole_disent.models.disents2s.disentanglement import FUTURE, PAST
from recbole_disent.models.disents2s.model import DisentS2S
from recbole_disent.ops.jagged import JaggedBatch
from recbole_disent.training.trainer import make_trainer
from tests import reference
from tests.windows import windows

SEQUENCES = [[3, 1, 4, 1, 5, 9], [2, 6], [5, 3, 5], [8, 9, 7, 9]]
NONE = [(0, 0)] * 4
MARGINS = [(2, 1), (0, 0), (0, 1), (2, 0)]
ALL = {"phase": None, "every": 1}
EVERY_SECOND = {"phase": [1, 0, 0, 0], "every": 2}


def build(make_config, **keys):
    lift = keys.get("negatives", "batch") == "batch"
    usual = {
        "hidden_size": 6, "inner_size": 5, "n_intentions": 3, "hidden_dropout_prob": 0.0,
        "initializer_range": 0.4, "softmax_learns": "lift" if lift else "auto", "seq2seq_warmup": 0,
        "negatives": "batch", "intention_cosine": 1.0, "intention_balance": 0.0,
        "seq2seq_variant": "latent",
    }  # fmt: skip
    config = make_config(**{**usual, **keys})
    train = SequenceDataset(config).build()[0]
    torch.manual_seed(1)
    return DisentS2S(config, train).double()


def pairs_of(number, sequence, margins, phase, every):
    """Return the positions of the next items of a window's trained pairs."""
    first = phase[number] if phase else 0
    return range(1 + margins[number][0] + first, len(sequence) - margins[number][1], every)


def one_by_one(sequences, margins=NONE, phase=None, every=1):
    """Return the same pairs as rows of RecBole."""
    pasts, futures, targets, users = [], [], [], []
    for user, s in enumerate(sequences, start=1):
        for t in pairs_of(user - 1, s, margins, phase, every):
            pasts.append(s[:t])
            futures.append(s[t:][::-1])
            targets.append(s[t])
            users.append(user)

    def pad(rows):
        out = torch.zeros(len(rows), 7, dtype=torch.long)
        for row, values in zip(out, rows, strict=True):
            row[: len(values)] = torch.tensor(values)
        return out, torch.tensor([len(r) for r in rows])

    past, past_length = pad(pasts)
    future, future_length = pad(futures)
    return {
        "item_id_list": past,
        "item_length": past_length,
        "future_item_id_list": future,
        "future_item_length": future_length,
        "item_id": torch.tensor(targets),
        "user_id": torch.tensor(users),
    }


def slow_loss(model, sequences, numerator, denominator, margins=NONE, phase=None, every=1):
    net, layer = model.encoder, model.disentanglement
    past, future, h, futures, users = [], [], [], [], []
    for user, s in enumerate(sequences):
        for t in pairs_of(user, s, margins, phase, every):
            # Where pairs of one user are negatives, each counts as a user of its own.
            users.append(user if model.mask_same_user else len(users))
            past.append(reference.disentangle(layer, reference.encoder(net, s[:t]), PAST))
            reverse = reference.encoder(net, s[t:][::-1])
            future.append(reference.disentangle(layer, reverse, FUTURE))
            h.append(net.item_embedding.weight[s[t]])
            futures.append([net.item_embedding.weight[i] for i in s[t:]])
    pairs = len(h)
    scores = model.pooling
    # Against the next items of the batch, or against all items.
    rivals = None if model.negatives == "batch" else list(net.item_embedding.weight[1:])
    item = sum(reference.seq2item(past, h, scores, users, rivals)) / pairs
    if model.variant == "none":
        return item
    if model.variant == "latent":
        rest = reference.trusted(reference.seq2seq(past, future, users), numerator, denominator)
    else:
        cut = None if model.variant == "all_items" else model.next_items
        rest = reference.future_items(past, h, [f[:cut] for f in futures], scores, users, rivals)
    return item + model.seq2seq_weight * rest / pairs


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("scores", ["paper", "max", "logsumexp"])
@pytest.mark.parametrize(
    ("variant", "share"),
    [("latent", (1, 2)), ("latent", (1, 1)), ("latent", (1, 10)), ("none", (1, 1)),
     ("all_items", (1, 1)), ("next_items", (1, 1))],
)  # fmt: skip
@pytest.mark.parametrize("same_user", [True, False])
@pytest.mark.parametrize(
    ("margins", "part"),
    [(NONE, ALL), (MARGINS, ALL), (NONE, EVERY_SECOND)],
    ids=["whole", "margins", "every second"],
)
def test_both_modes_equal_the_reference_with_gradients(
    make_config, variant, share, scores, same_user, margins, part
):
    model = build(
        make_config,
        mask_same_user=same_user,
        seq2seq_variant=variant,
        intention_pooling=scores,
        seq2seq_lambda=share[0] / share[1],
        seq2seq_weight=0.7,
        next_items=2,
    )
    expected = slow_loss(model, SEQUENCES, *share, margins, **part)
    expected_gradients = gradients(model, expected)
    for batch in (one_by_one(SEQUENCES, margins, **part), windows(SEQUENCES, margins=margins, **part)):
        found = sum(model.calculate_loss(batch))
        assert found.item() == pytest.approx(expected.item(), abs=1e-9)
        for name, gradient in gradients(model, found).items():
            torch.testing.assert_close(gradient, expected_gradients[name], atol=1e-8, rtol=1e-6, msg=name)


@pytest.mark.parametrize("scores", ["paper", "max", "logsumexp"])
@pytest.mark.parametrize("variant", ["latent", "none", "all_items", "next_items"])
@pytest.mark.parametrize(
    ("margins", "part"), [(NONE, ALL), (MARGINS, EVERY_SECOND)], ids=["whole", "margins, every second"]
)
@pytest.mark.parametrize("negatives", ["all", "sampled"])
def test_over_all_items_both_modes_equal_the_reference(
    make_config, variant, scores, margins, part, negatives
):
    """A sample of all items gives the same loss as all items."""
    if negatives == "sampled" and variant in ("all_items", "next_items"):
        return
    model = build(
        make_config, negatives=negatives, sampled_negatives=10**6, seq2seq_variant=variant,
        intention_pooling=scores, seq2seq_weight=0.7, next_items=2,
    )  # fmt: skip
    expected = slow_loss(model, SEQUENCES, 1, 2, margins, **part)
    expected_gradients = gradients(model, expected)
    for batch in (one_by_one(SEQUENCES, margins, **part), windows(SEQUENCES, margins=margins, **part)):
        found = model.calculate_loss(batch)
        assert sum(found).item() == pytest.approx(expected.item(), abs=1e-9)
        if len(found) == 2:
            alone = slow_loss(build(make_config, negatives="all", seq2seq_variant="none",
                                    intention_pooling=scores), SEQUENCES, 1, 2, margins, **part)  # fmt: skip
            assert found[0].item() == pytest.approx(alone.item(), abs=1e-9)
        for name, gradient in gradients(model, sum(found)).items():
            torch.testing.assert_close(gradient, expected_gradients[name], atol=1e-8, rtol=1e-6, msg=name)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, "all"),
        ({"eval_mode": "uni5"}, "all"),
        ({"eval_mode": "pop5"}, "batch"),
        ({"sampled_negatives": 29}, "sampled"),
        ({"sampled_negatives": 30}, "all"),  # there are 30 items
        ({"sampled_negatives": 29, "seq2seq_variant": "next_items"}, "batch"),
        ({"eval_mode": "pop5", "negatives": "sampled"}, "sampled"),
        ({"negatives": "batch"}, "batch"),
    ],
)
def test_negatives_follow_the_evaluation(make_config, keys, expected):
    config = make_config(**{"topk": [1], **keys})
    data = SequenceDataset(config).build()[0]
    assert data.item_num == 31
    assert DisentS2S(config, data).negatives == expected


def test_negatives_that_do_not_fit_other_keys_are_refused(make_config):
    with pytest.raises(UserError, match=r"softmax_learns: got lift with negatives=auto, expected"):
        make_config(softmax_learns="lift")
    assert make_config(softmax_learns="lift", negatives="batch")
    with pytest.raises(UserError, match=r"negatives: got sampled with seq2seq_variant=all_items, expected"):
        make_config(negatives="sampled", seq2seq_variant="all_items")


def test_intention_vectors_differ_from_the_start(make_config):
    """This includes sequences of one item, whose K sums are multiples of one state."""
    model = build(make_config, hidden_size=64)
    item_seq, length = torch.tensor([[3, 0, 0, 0, 0, 0, 0]]), torch.tensor([1])
    for side in (PAST, FUTURE):
        assert mean_cosine(model.intentions(item_seq, length, side).detach()) < 0.9


@pytest.mark.parametrize(
    ("keys", "variant"),
    [
        ({"negatives": "auto"}, "none"),  # all items are ranked
        ({"negatives": "auto", "eval_mode": "pop100"}, "latent"),
        ({"negatives": "batch"}, "latent"),
        ({"negatives": "all", "seq2seq_variant": "latent"}, "latent"),
        ({"negatives": "batch", "seq2seq_variant": "none"}, "none"),
    ],
)
def test_the_loss_on_the_future_follows_the_evaluation(make_config, caplog, keys, variant):
    caplog.set_level(logging.INFO)
    keys = {"seq2seq_variant": "auto", **keys}
    model = build(make_config, **keys)
    said = "keys such as seq2seq_weight have no effect" in caplog.text
    assert said == (variant == "none" and keys["seq2seq_variant"] == "auto")
    assert model.variant == model.chosen["seq2seq_variant"] == variant
    assert len(model.calculate_loss(windows(SEQUENCES))) == (2 if variant == "latent" else 1)


def test_lambda_zero_trains_no_seq2seq(make_config):
    model = build(make_config, seq2seq_lambda=0.0)
    assert len(model.calculate_loss(windows(SEQUENCES))) == 1


# 0.28 * 25 is 7.000000000000001 in floating point.
@pytest.mark.parametrize(("share", "n", "kept"), [(0.0, 30, 0), (0.1, 30, 3), (0.01, 30, 1), (0.28, 25, 7)])
def test_confident_keeps_the_smallest(share, n, kept):
    values = torch.randperm(n).double().view(5, -1)
    mask = losses.trusted_mask(values, share)
    assert mask.sum() == kept
    assert set(values[mask].tolist()) == set(range(kept))


def test_confident_keeps_all_that_equal_the_threshold():
    assert losses.trusted_mask(torch.tensor([1.0, 2.0, 2.0, 3.0]), 0.5).tolist() == [True] * 3 + [False]


def test_threshold_carries_no_gradient():
    values = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    (values * losses.trusted_mask(values, 0.5)).sum().backward()
    assert values.grad.tolist() == [1.0, 1.0, 0.0]


def test_a_batch_of_one_user_has_negatives_all_the_same(make_config):
    losses_of = []
    for wanted in (True, False):
        model = build(make_config, mask_same_user=wanted)
        losses_of.append([part.item() for part in model.calculate_loss(windows([SEQUENCES[0]]))])
    assert losses_of[0] == losses_of[1]
    assert min(losses_of[0]) > 0


def test_popularity_correction_makes_the_softmax_exact():
    """If items occur in the batch in proportion to their shares, the corrected loss is the full softmax."""
    torch.manual_seed(0)
    counts = torch.tensor([1, 2, 5])
    table = torch.randn(3, 4).double()
    batch = torch.repeat_interleave(torch.arange(3), counts)
    phi = torch.randn(len(batch), 2, 4).double()
    share = (counts / counts.sum()).double().log()
    found = losses.seq2item(phi, table[batch], None, share[batch])
    scores = torch.einsum("pkd,nd->pkn", phi, table) / 2
    own = scores.amax(1)[torch.arange(len(batch)), batch]
    # An item stands count times in the sum, each time divided by its share: batch size times.
    expected = scores.flatten(1).logsumexp(-1) + np.log(len(batch)) - own + share[batch]
    torch.testing.assert_close(found, expected)


def test_future_items_with_correction_equals_seq2item_for_the_next_item():
    torch.manual_seed(0)
    phi, h = torch.randn(5, 2, 3).double(), torch.randn(5, 3).double()
    share = torch.rand(5).double().log()
    found = losses.future_items(phi, h, h, torch.arange(5), None, (share, share))
    torch.testing.assert_close(found, losses.seq2item(phi, h, None, share))


def test_sampling_pairs_keeps_the_expected_share(make_config):
    """The mean loss over many draws of S of P pairs is close to the loss over all pairs."""
    model = build(
        make_config, seq2seq_lambda=1.0, seq2seq_samples=4, seq2seq_weight=1.0, mask_same_user=False
    )
    model.disentanglement.output_norm.weight.data.mul_(0.01)
    for batch in (windows(SEQUENCES), one_by_one(SEQUENCES)):
        values = [model.calculate_loss(batch)[1].item() for _ in range(20)]
        # Almost equal scores: each of the 3 values of a pair is ln(4 pairs x 3 intentions).
        assert np.mean(values) == pytest.approx(3 * np.log(12), rel=1e-2)
        assert np.std(values) > 0


def test_score_is_the_best_intention(make_config):
    model = build(make_config).eval()
    past = one_by_one(SEQUENCES)
    phi = model.intentions(past["item_id_list"], past["item_length"])
    assert phi.shape == (len(past["item_id"]), 3, 6)
    table = model.encoder.item_embedding.weight
    everything = model.full_sort_predict(past)
    for row in range(len(phi)):
        for item in (1, 5, 9):
            expected = max(float(table[item] @ v) for v in phi[row]) / 6**0.5
            assert everything[row, item].item() == pytest.approx(expected)


def test_a_hidden_item_is_an_unknown_one(make_config):
    encoder = build(make_config, item_dropout_prob=0.5).encoder
    items = torch.tensor([[3, 1, 4, 1]])
    encoder.item_dropout = 1.0
    torch.testing.assert_close(encoder.train()(items), encoder(torch.zeros_like(items)))
    torch.testing.assert_close(
        encoder.packed(encoder.item_embedding(items[0]), JaggedBatch(torch.tensor([4]))),
        encoder(items * 0)[0],
    )
    encoder.item_dropout = 0.5
    torch.manual_seed(0)
    assert not torch.allclose(encoder(items), encoder(items))
    torch.testing.assert_close(encoder.eval()(items), encoder(items))


def test_item_step_is_for_the_item_embeddings_alone(make_config):
    config = make_config(learner="sgd", learning_rate=0.5, item_lr_multiplier=0.2)
    train = SequenceDataset(config).build()[0]
    model = DisentS2S(config, train)
    optimizer = make_trainer(config, model).optimizer
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    for name, p in model.named_parameters():
        step = 0.1 if name == "encoder.item_embedding.weight" else 0.5
        torch.testing.assert_close(p.detach(), before[name] - step, msg=name)


def test_item_decay_is_for_the_item_embeddings_alone(make_config):
    config = make_config(
        learner="adamw", item_weight_decay=0.5, weight_decay=0.0, learning_rate=0.1, item_lr_multiplier=1.0
    )
    model = DisentS2S(config, SequenceDataset(config).build()[0])
    optimizer = make_trainer(config, model).optimizer
    before = {name: value.clone() for name, value in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, value in model.named_parameters():
        share = 1 - 0.1 * 0.5 if name == "encoder.item_embedding.weight" else 1.0
        torch.testing.assert_close(value, before[name] * share, msg=name)
    with pytest.raises(
        UserError, match=r"item_weight_decay: got 0\.5 with learner=adam, expected learner=ad"
    ):
        make_config(item_weight_decay=0.5)


@pytest.mark.parametrize("negatives", ["batch", "all"])
@pytest.mark.parametrize("variant", ["latent", "all_items"])
def test_half_precision_gives_almost_the_same_loss(make_config, variant, negatives):
    model = build(make_config, seq2seq_variant=variant, seq2seq_lambda=1.0, negatives=negatives).float()
    for batch in (windows(SEQUENCES), one_by_one(SEQUENCES)):
        whole = sum(model.calculate_loss(batch))
        with torch.autocast("cpu", torch.bfloat16):
            half = sum(model.calculate_loss(batch))
        assert half.dtype == torch.float32
        assert half.item() != whole.item()
        assert half.item() == pytest.approx(whole.item(), rel=0.03)
        assert all(g.isfinite().all() for g in gradients(model, half).values())


@pytest.mark.parametrize(
    ("margins", "part"),
    [(NONE, ALL), (MARGINS, ALL), (NONE, EVERY_SECOND)],
    ids=["whole", "margins", "every second"],
)
def test_futures_of_a_sample_are_those_among_all(make_config, margins, part):
    """Only the items of a sample are encoded."""
    model = build(make_config)
    batch = windows(SEQUENCES, margins=margins, **part)
    every = torch.arange(len(batch))
    expected = model.pairs_of_windows(batch, every)
    window, place, _ = batch.pairs()
    encoded, encode = [], model.encoder.packed
    model.encoder.packed = lambda x, packing: encoded.append(len(x)) or encode(x, packing)
    torch.manual_seed(0)
    for size in (0, 1, 3, len(batch)):
        sample = torch.randperm(len(batch))[:size]
        found = model.pairs_of_windows(batch, sample)
        longest, pasts = {}, dict(zip(window.tolist(), place.tolist(), strict=True))  # of each window
        for w, p in zip(window[sample].tolist(), place[sample].tolist(), strict=True):
            longest[w] = max(longest.get(w, 0), int(batch.counts[w] + batch.after[w]) - p)
        past = int(batch.before.sum()) + sum(pasts.values()) + len(pasts)
        assert encoded.pop() == past + sum(longest.values())
        torch.testing.assert_close(found.past, expected.past)
        torch.testing.assert_close(found.future, expected.future[sample])
        assert torch.equal(found.sample, sample)
