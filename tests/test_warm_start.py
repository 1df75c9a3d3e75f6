"""Tests of the key ``warm_start``: rows by id, values of new rows, refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from recbole_disent import load
from recbole_disent.config.config import Config
from recbole_disent.errors import UserError
from recbole_disent.id_axes import id_axes
from recbole_disent.models.content_embedding import ContentEmbedding
from recbole_disent.session import build_data, build_model, build_trainer, load_checkpoint, run
from recbole_disent.testing.small_data import hostile_items, hostile_rows, write_inter, write_items
from recbole_disent.training import checkpoint
from recbole_disent.warm_start import NEIGHBOURS, _check_contained, warm_start
from tests.conftest import feature_keys, scored_again

pytest.importorskip("safetensors")
# Model -> its keys, and a weight with a row for each item (and each user).
MODELS = {
    "DisentS2S": ({}, ["encoder.item_embedding.weight"]),
    "TSSR": ({"train_batch_size": 8, "content_source": "tokens"}, ["item_embedding.weight"]),
    "SASRec": ({}, ["item_embedding.weight"]),
    "BERT4Rec": ({}, ["item_embedding.weight", "output_bias"]),
    "GRU4Rec": ({}, ["item_embedding.weight"]),
    "BPR": ({}, ["item_embedding.weight", "user_embedding.weight"]),
    "LightGCN": ({}, ["item_embedding.weight", "user_embedding.weight"]),
    "Caser": ({}, ["item_embedding.weight", "user_embedding.weight"]),
}
HEADER = "item_id:token\ttitle:token_seq\ttags:token_seq"


def write_later(hostile: Path) -> None:
    """Replace the data: other order of the users and items, new events, four new items and two new users."""
    rows = [(f"u{u}", f"n{n}", 5, 90 + n) for u in (40, 41, 3) for n in range(4)]
    old = sorted(hostile_rows(), key=lambda row: row[0], reverse=True)
    write_inter(hostile, "hostile", rows + old)
    items = [("n0", "red red", "a"), ("n1", "new wooden", "b"), ("n2", "", ""), ("n3", "flat", "c c")]
    write_items(hostile, "hostile", [*items, *hostile_items()], HEADER)


def started(keys: dict, path: str, **more: object) -> tuple:
    """Data, the model as it was drawn, the warm-started model, and the entry of the result file."""
    config = Config(config_dict={**keys, **more, "warm_start": str(path)})
    data = build_data(config)
    drawn, model = build_model(data), build_model(data)
    return data, drawn, model, warm_start(data, model)


def ids(path: str) -> dict[str, list[str]]:
    return {of: json.loads(text) for of, text in checkpoint.load(path)["ids"].items()}


@pytest.mark.parametrize("kind", ["bundle", "checkpoint"])
@pytest.mark.parametrize("model", MODELS)
def test_rows_follow_their_ids(make_keys, hostile, tmp_path, model, kind):
    more, tables = MODELS[model]
    keys = make_keys(model, epochs=1, **more)
    path = run(config_dict=keys)["checkpoint"]
    old, known = checkpoint.load(path)["state_dict"], ids(path)
    if kind == "bundle":
        path = load(path).save(tmp_path / "b")
    elif model == "TSSR":
        return  # its content changes, see below
    write_later(hostile)
    data, drawn, net, entry = started(keys, path)
    train = data.loaders[0]._dataset
    tokens = {"items": train.field2id_token["item_id"], "users": train.field2id_token["user_id"]}
    assert list(tokens["items"][1:31]) != known["items"]
    n_items, n_old = len(tokens["items"]), len(known["items"]) + 1
    for name in tables:
        of = "users" if name.startswith("user") else "items"
        new, first, before = net.state_dict()[name], drawn.state_dict()[name], old[name]
        n_before = len(known[of]) + 1
        fresh = 0
        for row, token in enumerate(tokens[of]):
            if row == 0:
                expected = before[0]
            elif token in known[of]:
                expected = before[known[of].index(token) + 1]
            elif model == "TSSR" and of == "items" and token != "n2":
                continue
            else:
                expected = before[1:n_before].mean(0) + first[row]
                fresh += 1
            torch.testing.assert_close(new[row], expected)
        assert fresh >= (1 if model == "TSSR" else 2)
        torch.testing.assert_close(new[len(tokens[of]) :], before[n_before:])  # the row of a mask
    for name, value in net.state_dict().items():
        followed = name in tables or name.endswith(("_extra_state", "content.linear.weight"))
        if not followed and value.shape == old.get(name, torch.empty(0, 9, 9)).shape:
            torch.testing.assert_close(value, old[name], rtol=0, atol=1e-6)
    assert entry["items"] == {"known": n_items - 5, "new": 4, "gone": n_old - 1 - (n_items - 5)}
    assert (entry["users"] is None) == (not any(name.startswith("user") for name in tables))


@pytest.mark.parametrize("model", ["DisentS2S", "SASRec", "BPR", "MultiVAE"])
def test_without_news_the_model_and_its_metrics_are_the_same(make_keys, tmp_path, model):
    keys = make_keys(model, epochs=2)
    path = run(config_dict=keys)["checkpoint"]
    expected = scored_again(path)
    for origin in (path, load(path).save(tmp_path / "b")):
        data, _, net, entry = started(keys, origin)
        found = build_trainer(data, net).evaluate(data.loaders[2], load_best_model=False)
        assert {key: float(value) for key, value in found.items()} == expected
        assert entry["items"]["new"] == entry["items"]["gone"] == 0
        first, _ = load_checkpoint(path)
        for name, value in first.state_dict().items():
            torch.testing.assert_close(net.state_dict()[name], value, rtol=0, atol=0)


def test_new_items_begin_with_the_rows_of_items_with_similar_content(make_keys, hostile, tmp_path):
    keys = make_keys(
        "DisentS2S", epochs=1, content=True, content_source="tokens", content_token_fields=["tags"]
    )
    path = run(config_dict=keys)["checkpoint"]
    bundle = load(path).save(tmp_path / "b")
    known, before = ids(path)["items"], checkpoint.load(path)["state_dict"]["encoder.item_embedding.weight"]
    write_later(hostile)
    data, drawn, net, _ = started(keys, bundle)
    tokens = list(data.loaders[0]._dataset.field2id_token["item_id"])
    content = next(m for m in net.modules() if isinstance(m, ContentEmbedding)).matrix
    unit = torch.nn.functional.normalize(content, dim=1)
    table = net.encoder.item_embedding.weight
    able = [row for row, token in enumerate(tokens) if token in known and content[row].any()]
    row = tokens.index("n3")
    cosines = unit[able] @ unit[row]
    order = cosines.topk(NEIGHBOURS).indices.tolist()
    expected = torch.stack([before[known.index(tokens[able[i]]) + 1] for i in order]).mean(0)
    torch.testing.assert_close(table[row], expected)
    # No content: the mean and the row that was drawn.
    row = tokens.index("n2")
    torch.testing.assert_close(table[row], before[1:].mean(0) + drawn.encoder.item_embedding.weight[row])


def test_the_projection_is_fitted_where_content_vectors_changed(make_keys, hostile, tmp_path):
    """A rotation of the vectors is found exactly, so that known items keep their content embeddings."""
    keys = make_keys("SASRecContent", epochs=1, content=True, content_source="file", content_file="v.npz")
    rng = np.random.default_rng(1)
    names = [*(f"i{n}" for n in range(30)), *(f"n{n}" for n in range(4))]
    vectors = rng.normal(size=(34, 6)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    np.savez("v.npz", ids=np.array(names), vectors=vectors)
    keys["content_file_unknown"] = "ignore"
    path = run(config_dict=keys)["checkpoint"]
    bundle = load(path).save(tmp_path / "b")
    first, data = load_checkpoint(path)
    old = dict(zip(data.dataset.field2id_token["item_id"], _embedded(first), strict=True))
    write_later(hostile)
    data, _, net, entry = started(keys, bundle)
    assert entry["content"] == {"fitted": False, "error": 0.0}
    for rotated in (False, True):
        if rotated:
            turn = np.linalg.qr(rng.normal(size=(6, 6)))[0].astype(np.float32)
            np.savez("v.npz", ids=np.array(names), vectors=vectors @ turn)
            data, _, net, entry = started(keys, bundle)
            assert entry["content"]["fitted"]
            assert entry["content"]["error"] < 1e-3
        for token, value in zip(data.dataset.field2id_token["item_id"], _embedded(net), strict=True):
            if token in old:
                torch.testing.assert_close(value, old[token], rtol=0, atol=1e-4)
    with pytest.raises(UserError, match="the content of the items has changed"):
        started(keys, path)


def _embedded(net):
    return next(m for m in net.modules() if isinstance(m, ContentEmbedding)).table().detach()


def test_a_run_records_it_and_a_refit_begins_with_it_too(make_keys, hostile, tmp_path):
    keys = make_keys("SASRec", epochs=1)
    path = run(config_dict=keys)["checkpoint"]
    write_later(hostile)
    found = run(config_dict={**keys, "warm_start": path, "refit": True, "learning_rate": 1e-12})
    assert json.loads(Path(found["result_file"]).read_text())["warm_start"] == found["warm_start"]
    assert found["warm_start"]["path"] == path
    assert found["warm_start"]["items"]["new"] == 4
    old, new = (checkpoint.load(p)["state_dict"] for p in (path, found["checkpoint"]))
    torch.testing.assert_close(old["position_embedding.weight"], new["position_embedding.weight"])
    # The checkpoint stands for itself: its origin may be gone.
    Path(path).unlink()
    assert scored_again(found["checkpoint"]) == pytest.approx(found["test_result"])


def test_a_refit_is_warned_of(make_keys, hostile, caplog):
    keys = make_keys("BPR", epochs=1)
    path = run(config_dict={**keys, "refit": True})["checkpoint"]
    assert started(keys, path)[3]["refit"] is True
    assert "was trained on the validation part of this data" in caplog.text
    caplog.clear()
    write_later(hostile)
    assert started(keys, path)[3]["refit"] is True
    assert (
        "was trained on the validation part of its data, which users without new events still" in caplog.text
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("val_interval", {"rating": "[4,inf)"}),
        ("rm_dup_inter", "first"),
        ("user_inter_num_interval", "[3,inf)"),
        ("item_inter_num_interval", "[2,inf)"),
        ("recbole_time", True),
        ("missing_time", "drop"),
        ("TIME_FIELD", "rating"),
    ],
)
def test_a_start_from_other_events_is_refused(make_keys, key, value):
    """Rows that only one of the two leaves out move the last events of a user, which are held out."""
    keys = make_keys("BPR", epochs=1)
    keys["load_col"]["inter"] = ["user_id", "item_id", "rating", "timestamp"]
    path = run(config_dict=keys)["checkpoint"]
    with pytest.raises(
        UserError, match=rf"was trained with {key}=.*, because it may know items that are held"
    ):
        started(keys, path, **{key: value})
    path = run(config_dict={**keys, key: value})["checkpoint"]
    assert started(keys, path, **{key: value})[3]["items"]["new"] == 0
    with pytest.raises(UserError, match=rf"was trained with {key}="):
        started(keys, path)


@pytest.mark.parametrize(
    ("split", "order"),
    [({"RS": [0.6, 0.2, 0.2]}, "TO"), ({"LS": "valid_and_test"}, "RO"), ({"LS": "valid_and_test"}, "TO")],
)
def test_a_split_whose_parts_do_not_grow_is_refused_for_other_data(make_keys, hostile, split, order):
    args = {"split": split, "order": order, "group_by": "user", "mode": "full"}
    keys = make_keys("BPR", epochs=1, eval_args=args, seed=2)
    path = run(config_dict=keys)["checkpoint"]

    def new_items(**more):
        return run(config_dict={**keys, **more, "warm_start": path})["warm_start"]["items"]["new"]

    assert new_items() == 0
    if order == "RO":
        with pytest.raises(UserError, match=r"'RO'.* may know items that are held out here, because"):
            new_items(seed=1)
    write_later(hostile)
    if "LS" in split and order == "TO":
        assert new_items() == 4
    else:
        with pytest.raises(
            UserError, match=r"may know items that are held out here, because .* use LS or TS"
        ):
            new_items()


def test_a_model_of_later_data_is_refused(make_keys, hostile, tmp_path, caplog):
    """It was trained on the events that are held out in the earlier data."""
    rows = [(user, item, rating, n) for n, (user, item, rating, _) in enumerate(hostile_rows())]
    write_inter(hostile, "hostile", rows)
    keys = make_keys("SASRec", epochs=1)
    path = run(config_dict=keys)["checkpoint"]
    bundle = load(path).save(tmp_path / "b", histories=False)
    last = {user: n for user, _, _, n in rows}
    write_inter(hostile, "hostile", [row for row in rows if row[3] != last[row[0]]])
    for origin in (path, bundle):
        with pytest.raises(
            UserError, match=r"the item '.*' has \d+ training events, expected at least \d+ as for"
        ):
            started(keys, origin)
    state = checkpoint.load(path)
    del state["ids"]["clicks"]
    checkpoint.save("old.pth", state)
    started(keys, "old.pth")
    assert "does not hold the number of training events of each item, because" in caplog.text


@pytest.mark.parametrize(
    ("counts", "fault"),
    [
        ([2, 3, 1], None),
        ([3, 3, 0], "'c' has 0 training events, expected at least 1"),
        ([1, 4, 1], "'a' has 1 training events, expected at least 2"),
        ([9, 2, 1], "'b' has 2 training events, expected at least 3"),
    ],
)
def test_each_item_has_to_keep_its_training_events(counts, fault):
    """Also an item that is gone, and one event alone, whatever the other items have."""
    origin = SimpleNamespace(path="p", items=["a", "b", "c"], clicks=np.array([2, 3, 1]))
    kept = [row for row in (1, 2, 3) if counts[row - 1]]
    rows, clicks = np.array([0, -1, *kept]), np.array([0, 9, *(counts[row - 1] for row in kept)])
    if fault is None:
        _check_contained(origin, rows, clicks)
    else:
        with pytest.raises(UserError, match=f"the item {fault} as for 'p', which may know"):
            _check_contained(origin, rows, clicks)


@pytest.mark.parametrize("model", ["SASRec", "BPR"])
def test_a_bundle_with_refit_is_kept_in_use(make_keys, hostile, tmp_path, model):
    keys = make_keys(model, epochs=1)
    path = run(config_dict={**keys, "refit": True})["checkpoint"]
    bundle = load(path).save(tmp_path / "b")
    assert started(keys, bundle)[3]["items"]["new"] == 0
    for origin, refit in ((path, True), (path.replace(".refit", ""), False)):  # the two trainings of the run
        copy = load(load(origin).save(tmp_path / str(refit))).save(tmp_path / f"{refit} again")
        assert started(keys, origin)[3]["refit"] is started(keys, copy)[3]["refit"] is refit
    write_later(hostile)
    for origin in (path, bundle):
        assert started(keys, origin)[3]["items"]["new"] == 4


def test_noise_is_no_sign_of_later_data(make_keys, hostile):
    keys = make_keys("SASRec", epochs=1, click_noise=0.3)
    path = run(config_dict=keys)["checkpoint"]
    write_later(hostile)
    assert started(keys, path)[3]["items"]["new"] == 4


def test_weights_for_another_sum_over_the_items_are_refused(make_keys):
    path = run(config_dict=make_keys("DisentS2S", epochs=1, last_item_weight=0.5))["checkpoint"]
    assert started(make_keys("DisentS2S", last_item_weight=0.5), path)
    with pytest.raises(UserError, match=r"'last_item_weight' is 0\.5 in '.*', expected 1; train it"):
        started(make_keys("DisentS2S"), path)


def test_misfits_are_one_sentence(make_keys, hostile, tmp_path):
    path = run(config_dict=make_keys("SASRec", epochs=1))["checkpoint"]
    bundle = load(path).save(tmp_path / "b", histories=False)
    caser = run(config_dict=make_keys("Caser", epochs=1))["checkpoint"]
    for origin in (path, bundle):
        with pytest.raises(UserError, match="is of the model SASRec, expected GRU4Rec"):
            started(make_keys("GRU4Rec"), origin)
        with pytest.raises(UserError, match=r"has the shape \[31, 64\], expected \[31, 32\]"):
            started(make_keys("SASRec", hidden_size=32), origin)
        with pytest.raises(UserError, match=r"has the shape \[7, 64\], expected \[5, 64\]"):
            started(make_keys("SASRec", MAX_ITEM_LIST_LENGTH=5), origin)
        with pytest.raises(UserError, match=r"has the weight 'trm_encoder\.layer\.1.*only in"):
            started(make_keys("SASRec", n_layers=1), origin)
        with pytest.raises(UserError, match="was trained with the split"):
            started(make_keys("SASRec", eval_args={"split": {"LS": "test_only"}}), origin)
    without = load(caser).save(tmp_path / "c")
    facts = json.loads((without / "config.json").read_text(encoding="utf-8"))
    facts["files"] = {name: digest for name, digest in facts["files"].items() if "users" not in name}
    (without / "config.json").write_text(json.dumps(facts), encoding="utf-8")
    with pytest.raises(UserError, match=r"has a row for each user, but .* knows no users"):
        started(make_keys("Caser"), without)
    pop = run(config_dict=make_keys("ItemKNN"))["checkpoint"]
    with pytest.raises(UserError, match="ItemKNN is computed from the data at once"):
        started(make_keys("ItemKNN"), pop)
    with pytest.raises(UserError, match="warm_start: 'nowhere' is not there"):
        started(make_keys("SASRec"), "nowhere")
    fields = run(config_dict=make_keys("SASRecF", epochs=1, **feature_keys("SASRecF")))["checkpoint"]
    with pytest.raises(UserError, match="belongs to the values of an item column"):
        started(make_keys("SASRecF", **feature_keys("SASRecF")), fields)
    state = checkpoint.load(path)
    del state["ids"]
    checkpoint.save("old.pth", state)
    with pytest.raises(UserError, match="holds no item ids"):
        started(make_keys("SASRec"), "old.pth")
    items = json.loads(checkpoint.load(path)["ids"]["items"])
    for damaged in ('{"a"', "[1, 2]", json.dumps([items[0], *items[:-1]]), 3, json.dumps(items)):
        state["ids"] = {"items": damaged, "users": "[]", "clicks": "[1, 2]"}
        checkpoint.save("old.pth", state)
        with pytest.raises(UserError, match=r"'old\.pth' is damaged"):
            started(make_keys("SASRec"), "old.pth")
    Path("no.pth").write_bytes(b"cos\nsystem\n")
    with pytest.raises(UserError, match="is not a checkpoint of this package"):
        started(make_keys("SASRec"), "no.pth")
    (bundle / "model.safetensors").write_bytes(b"x")
    with pytest.raises(UserError, match="is damaged or changed"):
        started(make_keys("SASRec"), bundle)
    shutil.rmtree(hostile / "hostile")
    write_inter(hostile, "hostile", [(f"u{u}", f"x{i}", 1, i) for u in range(9) for i in range(12)])
    with pytest.raises(UserError, match="none of the 12 items is among the items"):
        started(make_keys("SASRec"), path)


@pytest.mark.parametrize("model", ["SASRec", "MultiVAE", "BERT4Rec", "FPMC", "NeuMF"])
def test_axes_are_found_where_sizes_are_equal(make_config, model):
    """As many positions as items: only the tables of items count as such."""
    config = make_config(model, MAX_ITEM_LIST_LENGTH=31, epochs=1)
    data = build_data(config)
    axes = id_axes(config, data.loaders[0]._dataset)
    state = build_model(data).state_dict()
    assert axes
    for name, axis in axes.items():
        number = data.dataset.item_num if axis.of == "items" else data.dataset.user_num
        assert state[name].shape[axis.dim] == number + axis.extra
    assert "position_embedding.weight" not in axes
