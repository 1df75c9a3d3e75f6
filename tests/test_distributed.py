"""Tests that several processes have the same losses and gradients as one process."""

from __future__ import annotations

import pytest
import torch

from recbole_disent.config.config import Config
from recbole_disent.models.disents2s import losses
from recbole_disent.parallel import process_group
from recbole_disent.session import build_data, build_model
from recbole_disent.testing.processes import in_processes

pytestmark = pytest.mark.processes


# -- gathers ---------------------------------------------------------------------------


def gather_and_weigh():
    """Each process has a block of 3, 0, 1, ... rows and sums its own function of all rows."""
    mine = process_group.rank()
    rows = [3, 0, 1][mine]
    block = torch.arange(rows * 2, dtype=torch.float64).view(rows, 2) + 10 * mine
    block.requires_grad_()
    blocks = process_group.Blocks(rows, block.device)
    everything = blocks.gather(block)
    (everything.pow(2) * (mine + 1)).sum().backward()
    ids = blocks.gather(torch.full((rows,), mine))
    return everything.detach(), block.grad, block.detach(), ids, blocks.sizes, blocks.row_index()


def test_gather_of_unequal_blocks_and_its_gradient():
    found = in_processes(3, gather_and_weigh)
    for everything, gradient, block, ids, sizes, place in found:
        torch.testing.assert_close(everything, torch.cat([f[2] for f in found]))
        # sum over processes r of (r + 1) * x^2 has the gradient 2 * (1 + 2 + 3) * x.
        torch.testing.assert_close(gradient, 12 * block)
        assert ids.tolist() == [0, 0, 0, 2]
        assert sizes == [3, 0, 1]
        torch.testing.assert_close(everything[place], block)


def test_alone_nothing_is_done():
    block = torch.ones(3, 2)
    blocks = process_group.Blocks(3, block.device)
    assert blocks.gather(block) is block
    assert blocks.row_index() is None
    assert process_group.local_slice(7) == slice(0, 7)
    assert process_group.all_objects(5) == [5]


def test_shares_are_a_partition(monkeypatch):
    for n in range(8):
        for processes in (1, 2, 3, 5):
            monkeypatch.setattr(process_group, "world", lambda p=processes: p)
            rows = []
            for r in range(processes):
                monkeypatch.setattr(process_group, "rank", lambda r=r: r)
                rows += list(range(n))[process_group.local_slice(n)]
            assert rows == list(range(n))


def test_losses_of_some_rows_are_those_rows_of_the_losses():
    """Compare the rows of a process with all columns: groups, shares and own samples by `row_index`."""
    torch.manual_seed(0)
    pairs, intentions, width = 9, 3, 4
    phi, future = torch.randn(2, pairs, intentions, width, dtype=torch.float64)
    targets, items = torch.randn(2, pairs, width, dtype=torch.float64)
    groups, share = torch.randint(3, (pairs,)), torch.rand(pairs, dtype=torch.float64)
    rows = torch.tensor([7, 2, 3])
    for g in (None, groups):
        whole = losses.seq2item(phi, targets, g, share)
        part = losses.seq2item(phi[rows], targets, g, share, row_index=rows)
        torch.testing.assert_close(part, whole[rows])
        whole, part = losses.seq2seq(phi, future, g), losses.seq2seq(phi[rows], future, g, row_index=rows)
        torch.testing.assert_close(part, whole[rows])
        torch.testing.assert_close(
            losses.trusted_mask(part, 0.4, whole), losses.trusted_mask(whole, 0.4)[rows], rtol=0, atol=0
        )
        owner = torch.arange(pairs)
        whole = losses.future_items(phi, targets, items, owner, g, (share, share))
        part = losses.future_items(
            phi[rows], targets, items[rows], torch.arange(3), g, (share, share[rows]), row_index=rows
        )
        torch.testing.assert_close(part, whole[rows])


# -- loss and gradients of a model -----------------------------------------------------

CASES = {
    "windows": (
        "DisentS2S",
        {
            "negatives": "batch",
            "seq2seq_variant": "latent",
            "seq2seq_weight": 0.7,
            "train_batch_size": 64,
            "seq2seq_samples": 10**6,
            "mask_same_user": False,
        },
    ),
    "sampled and masked": (
        "DisentS2S",
        {
            "negatives": "batch",
            "seq2seq_variant": "latent",
            "seq2seq_weight": 0.7,
            "train_batch_size": 64,
            "seq2seq_samples": 20,
            "mask_same_user": True,
        },
    ),
    "visits": (
        "DisentS2S",
        {
            "negatives": "batch",
            "seq2seq_variant": "latent",
            "train_batch_size": 40,
            "seq2seq_samples": 20,
            "passes_per_window": 3,
        },
    ),
    "tiny batches": (
        "DisentS2S",
        {
            "negatives": "batch",
            "seq2seq_variant": "latent",
            "seq2seq_weight": 0.7,
            "train_batch_size": 2,
            "seq2seq_samples": 3,
        },
    ),
    "pairs": (
        "DisentS2S",
        {
            "negatives": "batch",
            "seq2seq_variant": "latent",
            "seq2seq_weight": 0.7,
            "train_mode": "pairs",
            "train_batch_size": 17,
            "seq2seq_warmup": 5,
        },
    ),
    "all items": (
        "DisentS2S",
        {"negatives": "batch", "seq2seq_weight": 0.7, "seq2seq_variant": "all_items", "train_batch_size": 40},
    ),
    "next items": (
        "DisentS2S",
        {
            "negatives": "batch",
            "seq2seq_weight": 0.7,
            "seq2seq_variant": "next_items",
            "train_mode": "pairs",
            "train_batch_size": 40,
        },
    ),
    "softmax over all items": (
        "DisentS2S",
        {"negatives": "all", "seq2seq_weight": 0.7, "seq2seq_variant": "all_items", "train_batch_size": 40},
    ),
    "softmax over a sample": (
        "DisentS2S",
        {"negatives": "sampled", "sampled_negatives": 7, "seq2seq_weight": 0.7, "train_batch_size": 40},
    ),
    "softmax over a sample, tiny batches": (
        "DisentS2S",
        {"negatives": "sampled", "sampled_negatives": 7, "train_mode": "pairs", "train_batch_size": 2},
    ),
    "TSSR": (
        "TSSR",
        {
            "train_batch_size": 5,
            "output": "linear",
            "residual_init": 0.5,
            "n_cross_layers": 1,
            "content_dim": 4,
        },
    ),
    "TSSR, tiny batches": ("TSSR", {"train_batch_size": 2, "residual_init": 0.5, "output": "both"}),
    "SASRecContent": ("SASRecContent", {"train_batch_size": 5, "content_dim": 4}),
    "SASRec": ("SASRec", {"train_batch_size": 17, "attn_dropout_prob": 0.0}),
    "SASRec on windows": (
        "SASRec",
        {"train_mode": "sequences", "train_batch_size": 40, "attn_dropout_prob": 0.0},
    ),
    "BERT4Rec": ("BERT4Rec", {"train_batch_size": 17, "attn_dropout_prob": 0.0}),
    "BERT4Rec on windows": (
        "BERT4Rec",
        {"train_mode": "sequences", "train_batch_size": 5, "attn_dropout_prob": 0.0},
    ),
    "SASRec with a sample": (
        "SASRec",
        {
            "train_mode": "sequences",
            "train_batch_size": 40,
            "attn_dropout_prob": 0.0,
            "negatives": "sampled",
            "sampled_negatives": 7,
        },
    ),
    "SASRec with gBCE, tiny batches": (
        "SASRec",
        {
            "train_mode": "sequences",
            "train_batch_size": 2,
            "attn_dropout_prob": 0.0,
            "loss": "gbce",
            "gbce_negatives": 5,
        },
    ),
    "SASRecContent with a sample, tiny batches": (
        "SASRecContent",
        {"train_batch_size": 2, "content_dim": 4, "negatives": "sampled", "sampled_negatives": 7},
    ),
    "TSSR with gBCE": (
        "TSSR",
        {"train_batch_size": 2, "residual_init": 0.5, "loss": "gbce", "gbce_negatives": 5},
    ),
    "BERT4Rec with a sample": (
        "BERT4Rec",
        {
            "train_batch_size": 2,
            "attn_dropout_prob": 0.0,
            "chunked_softmax": True,
            "negatives": "sampled",
            "sampled_negatives": 7,
        },
    ),
    "BPR": ("BPR", {"train_batch_size": 17}),
    "NeuMF": ("NeuMF", {"train_batch_size": 17, "dropout_prob": 0.0}),
}
STEPS = 4


def steps_of(cases: list[str], keys: dict) -> dict:
    """Return losses and gradients of the first batches of each case, in float64."""
    found = {}
    for case in cases:
        model, more = CASES[case]
        if model not in ("BPR", "NeuMF"):
            more = {"hidden_dropout_prob": 0.0, **more}
        if model == "DisentS2S":
            more = {"seq2seq_warmup": 0, **more}
        config = Config(model, "hostile", config_dict={**keys, **more})
        data = build_data(config)
        net = build_model(data).train()
        if model != "BERT4Rec":  # which makes float32 masks
            net = net.double()
        if process_group.rank():
            torch.manual_seed(process_group.seed_of_epoch(config["seed"], 0))
        # Steps are taken, so that a wrong one shows in the next losses; not where rounding would, too.
        optimizer = torch.optim.Adam(net.parameters(), lr=0.0 if model == "BERT4Rec" else 0.01)
        loss_of = net.calculate_loss
        if process_group.active():
            rows = (lambda b: float((b["MASK_INDEX"] > 0).sum())) if model == "BERT4Rec" else len
            loss_of = process_group.loss_of_all(net, net.calculate_loss, rows)
        steps = []
        for number, batch in enumerate(data.loaders[0]):
            if number == STEPS:
                break
            net.zero_grad()
            loss = loss_of(batch)
            parts = loss if isinstance(loss, tuple) else (loss,)
            sum(parts).backward()
            gradients = {n: None if p.grad is None else p.grad.clone() for n, p in net.named_parameters()}
            steps.append(([part.item() for part in parts], gradients))
            optimizer.step()
        found[case] = steps
    return found


@pytest.fixture
def one_process(run_keys):
    return steps_of(list(CASES), run_keys)


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.slow
def test_loss_and_gradients_are_those_of_one_process(run_keys, one_process, n):
    results = in_processes(n, steps_of, list(CASES), run_keys)
    for case, expected in one_process.items():
        assert len(expected) >= 3
        # Double precision, but for BERT4Rec.
        atol = 1e-6 if CASES[case][0] == "BERT4Rec" else 1e-8
        for found in results:
            for (values, gradients), (a, b) in zip(expected, found[case], strict=True):
                assert a == pytest.approx(values, rel=1e-6), case
                for name, gradient in gradients.items():
                    if gradient is None:
                        assert b[name] is None, (case, name)
                    else:
                        torch.testing.assert_close(
                            b[name], gradient, rtol=1e-5, atol=atol, msg=f"{case}, {name}"
                        )
