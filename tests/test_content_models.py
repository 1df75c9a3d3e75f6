"""Tests of content in models, and of learning from content with planted topics and new items."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from recbole_disent.errors import UserError
from recbole_disent.models.popularity import scored_by_content
from recbole_disent.registry import get_model
from recbole_disent.session import build_data, build_model, build_trainer, load_checkpoint, run
from tests import reference, reference_tssr
from tests.conftest import write_inter, write_items
from tests.test_disents2s import SEQUENCES, one_by_one, windows


def built(make_config, model, **keys):
    data = build_data(make_config(model, hidden_size=6, inner_size=5, hidden_dropout_prob=0.0, **keys))
    torch.manual_seed(4)
    net = build_model(data)
    for name, parameter in net.named_parameters():
        if "norm" not in name:
            torch.nn.init.normal_(parameter, std=0.4)
    return data, net.double()


# -- DisentS2S -------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["latent", "all_items"])
def test_disents2s_with_content_is_disents2s_with_other_item_vectors(make_config, variant):
    keys = {"n_intentions": 3, "seq2seq_variant": variant, "seq2seq_lambda": 1.0}
    _, plain = built(make_config, "DisentS2S", **keys)
    _, net = built(make_config, "DisentS2S", content=True, **keys)
    state = {k: v for k, v in net.state_dict().items() if ".content." not in k}
    plain.load_state_dict(state)
    table = net.encoder.item_embedding.weight + net.encoder.content.linear(net.encoder.content.matrix)
    with torch.no_grad():
        plain.encoder.item_embedding.weight.copy_(table)
        for batch in (windows(SEQUENCES), one_by_one(SEQUENCES)):
            for a, b in zip(net.calculate_loss(batch), plain.calculate_loss(batch), strict=True):
                assert a.item() == pytest.approx(b.item(), abs=1e-9)
        batch = one_by_one(SEQUENCES)
        torch.testing.assert_close(net.full_sort_predict(batch), plain.full_sort_predict(batch))


def steps_and_decays(make_config, **keys):
    """Return parameter -> (step size, weight decay); the items have 0.3 and 0.5, and others 0.1 and 0."""
    steps = {"learning_rate": 0.1, "item_lr_multiplier": 3.0, "learner": "adamw", "weight_decay": 0.0}
    data = build_data(make_config("DisentS2S", content=True, item_weight_decay=0.5, **steps, **keys))
    net = build_model(data)
    groups = build_trainer(data, net).optimizer.param_groups
    pairs = [(id(p), (group["lr"], group["weight_decay"])) for group in groups for p in group["params"]]
    assert len(pairs) == len(dict(pairs))
    return {name: dict(pairs)[id(parameter)] for name, parameter in net.named_parameters()}


def test_the_projection_of_content_has_the_step_of_the_items_but_not_their_decay(make_config):
    found = steps_and_decays(make_config)
    assert found.pop("encoder.item_embedding.weight") == pytest.approx((0.3, 0.5))
    for name in ("weight", "bias"):
        assert found.pop(f"encoder.content.linear.{name}") == pytest.approx((0.3, 0.0))
    assert set(found.values()) == {(0.1, 0.0)}


def test_disents2s_without_content_reads_none(make_config, hostile):
    found = []
    for there in (True, False):
        if not there:
            (hostile / "hostile" / "hostile.item").unlink()
        data = build_data(make_config("DisentS2S"))
        net = build_model(data)
        assert net.encoder.content is None
        found.append(net.state_dict())
    assert not any("content" in name for name in found[0])
    for name, value in found[0].items():
        assert torch.equal(value, found[1][name])
    with pytest.raises(UserError, match=r"content_fields: the file .*hostile\.item does not exist"):
        build_model(build_data(make_config("DisentS2S", content=True)))


# -- SASRecContent ---------------------------------------------------------------------


def test_sasrec_on_whole_sequences_has_the_scores_of_recboles(make_config):
    data, net = built(make_config, "SASRecContent", content=False, n_heads=2)
    theirs = make_config("SASRec", hidden_size=6, inner_size=5, n_heads=2)
    other = get_model("SASRec")(theirs, data.loaders[0]._dataset).double().eval()
    names = {"item_embedding": "item_embedding", "position_embedding": "position_embedding"}
    state = {f"{b}.weight": net.encoder.state_dict()[f"{a}.weight"] for a, b in names.items()}

    def take(target, module):
        state[f"{target}.weight"], state[f"{target}.bias"] = module.weight, module.bias

    take("LayerNorm", net.encoder.input_norm)
    for i, block in enumerate(net.encoder.blocks):
        layer = f"trm_encoder.layer.{i}"
        for j, name in enumerate(("query", "key", "value")):
            part = slice(6 * j, 6 * j + 6)
            state[f"{layer}.multi_head_attention.{name}.weight"] = block.qkv.weight[part]
            state[f"{layer}.multi_head_attention.{name}.bias"] = block.qkv.bias[part]
        take(f"{layer}.multi_head_attention.dense", block.out)
        take(f"{layer}.multi_head_attention.LayerNorm", block.attn_norm)
        take(f"{layer}.feed_forward.dense_1", block.inner)
        take(f"{layer}.feed_forward.dense_2", block.outer)
        take(f"{layer}.feed_forward.LayerNorm", block.ffn_norm)
    other.load_state_dict(state)
    batch = data.loaders[2].dataset[np.arange(8)]
    with torch.no_grad():
        torch.testing.assert_close(net.eval().full_sort_predict(batch), other.full_sort_predict(batch))


def test_the_loss_of_sasrec_with_content_equals_the_reference(make_config):
    _, net = built(make_config, "SASRecContent", n_heads=1)
    table = net.encoder.item_embedding.weight + net.encoder.content.linear(net.encoder.content.matrix)
    found = net.calculate_loss(windows(SEQUENCES))
    with torch.no_grad():
        net.encoder.item_embedding.weight.copy_(table)
        terms = []
        for s in SEQUENCES:
            states = reference.encoder(net.encoder, s[:-1])
            terms += [reference_tssr.next_item(z, i, table, None) for z, i in zip(states, s[1:], strict=True)]
    assert found.item() == pytest.approx(float(sum(terms)) / len(terms), abs=1e-9)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"n_heads": 5}, r"n_heads: got 5, expected a divisor of hidden_size=64"),
        (
            {"content": False, "score_by_content": 1},
            r"score_by_content: got 1 with content=False, expected 0",
        ),
        ({"content_source": "file"}, r"content_file: not given"),
    ],
)
def test_keys_of_sasrec_with_content(make_config, keys, message):
    with pytest.raises(UserError, match=message):
        make_config("SASRecContent", **keys)
    make_config("SASRecContent", content=False, content_source="file")  # not used, so not checked


def test_items_with_exactly_the_number_of_clicks_keep_their_own_scores():
    dataset = SimpleNamespace(training_counts=lambda: np.array([0, 2, 3, 1, 0]))
    assert scored_by_content({"score_by_content": 2}, dataset).tolist() == [False, False, False, True, True]
    assert scored_by_content({"score_by_content": 1}, dataset).tolist() == [False, False, False, False, True]
    assert scored_by_content({"score_by_content": 0}, dataset) is None


# -- planted topics --------------------------------------------------------------------

TOPICS, EACH, NEW = 8, 6, 2


def planted(folder, users=500, length=9, seed=0):
    """A user goes from topic to topic in a circle, to any old item of it, and ends at a new one.

    Only the words tell the topic of a new item.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        topic = int(rng.integers(TOPICS))
        for time in range(length):
            topic = (topic + 1) % TOPICS
            new = time == length - 1
            item = EACH - NEW + rng.integers(NEW) if new else rng.integers(EACH - NEW)
            rows.append((user, f"t{topic}n{item}", 1, time))
    write_inter(folder, "planted", rows)
    items = [(f"t{t}n{n}", f"topic{t} about{t} number{n}") for t in range(TOPICS) for n in range(EACH)]
    write_items(folder, "planted", items, "item_id:token\ttitle:token_seq")


@pytest.mark.slow
@pytest.mark.parametrize("model", ["TSSR", "SASRecContent"])
def test_new_items_are_found_by_their_content(tmp_path, model):
    """There are 48 items, 16 of them new; a random list of 10 items has recall 0.21."""
    planted(tmp_path / "data")
    keys = {
        "data_path": str(tmp_path / "data"), "show_progress": False, "topk": [10], "epochs": 12,
        "hidden_dropout_prob": 0.1, "learning_rate": 0.005, "train_batch_size": 64, "hidden_size": 32,
    }  # fmt: skip
    found = run(model, "planted", config_dict={**keys, "score_by_content": 1})
    without = run(model, "planted", config_dict={**keys, "score_by_content": 0})
    assert found["best_valid_result"]["recall@10"] > 0.9  # old items
    assert found["test_result"]["recall@10"] > 0.8  # new items
    assert found["test_result"]["recall@10"] > without["test_result"]["recall@10"] + 0.1
    loaded, _ = load_checkpoint(found["checkpoint"])
    assert int(loaded.cold.sum()) == TOPICS * NEW


def test_the_result_file_names_the_content(hostile, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    keys = {"data_path": str(hostile), "epochs": 1, "MAX_ITEM_LIST_LENGTH": 7, "topk": [1, 5, 10],
            "show_progress": False}  # fmt: skip
    found = [
        run("SASRecContent", "hostile", config_dict={**keys, **more}, saved=False)["content_hash"]
        for more in ({"content_dim": 4}, {"content_dim": 4}, {"content_dim": 5}, {"content": False})
    ]
    assert found[0] == found[1] != found[2]
    assert None not in found[:3]
    assert found[3] is None
