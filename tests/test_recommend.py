"""Tests of recommendations: lists against full_sort_predict, ids, and requests that are refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from recbole.data.interaction import Interaction

from recbole_disent import load
from recbole_disent.cli import main
from recbole_disent.errors import UserError
from recbole_disent.serving import diversity
from recbole_disent.serving.catalogue import Catalogue
from recbole_disent.serving.select import top_items
from recbole_disent.session import load_checkpoint, run

SIX = ("DisentS2S", "TSSR", "SASRecContent", "SASRec", "BERT4Rec", "BPR")
OTHERS = ("GRU4Rec", "Caser", "NARM", "CORE", "FPMC", "LightGCN", "ItemKNN", "Pop", "EASE", "NeuMF")


@pytest.fixture
def recommender(make_keys):
    """Return a function (model, **keys) -> Recommender of a checkpoint, trained for one epoch."""

    def make(model="DisentS2S", **keys):
        return load(run(config_dict=make_keys(model, epochs=1, **keys))["checkpoint"])

    return make


def histories(dataset):
    """Return user id -> item ids in the order of the events, from the rows of the parts."""
    users, items = dataset.history
    found = {}
    for user, item in zip(users.tolist(), items.tolist(), strict=True):
        found.setdefault(user, []).append(item)
    return found


def expected_lists(net, data, users, k, filtered=True):
    """Return the top k by the model's scores for each user, with a padded history and a full sort."""
    train, config = data.loaders[0]._dataset, data.config
    past = histories(train)
    lists = {}
    for user in users:
        batch = {"user_id": torch.tensor([user])}
        if config["MODEL_TYPE"].name == "SEQUENTIAL":
            last = past[user][-config["MAX_ITEM_LIST_LENGTH"] :]
            row = torch.zeros(1, config["MAX_ITEM_LIST_LENGTH"], dtype=torch.long)
            row[0, : len(last)] = torch.tensor(last)
            batch |= {"item_id_list": row, "item_length": torch.tensor([len(last)])}
        with torch.no_grad():
            try:
                scores = net.full_sort_predict(Interaction(batch)).flatten().double().numpy()
            except NotImplementedError:  # NeuMF scores pairs
                every = torch.arange(train.item_num)
                pairs = {"user_id": torch.full_like(every, user), "item_id": every}
                scores = net.predict(Interaction(pairs)).double().numpy()
        scores[0] = -np.inf
        if filtered:
            scores[past[user]] = -np.inf
        order = np.lexsort((np.arange(len(scores)), -scores))[:k]
        lists[user] = [(i, scores[i]) for i in order if scores[i] > -np.inf]
    return lists


@pytest.mark.parametrize("filtered", [True, False])
@pytest.mark.parametrize("model", SIX + OTHERS)
def test_lists_are_those_of_full_sort_predict(make_keys, model, filtered):
    path = run(config_dict=make_keys(model, epochs=1))["checkpoint"]
    net, data = load_checkpoint(path)
    rec = load(path)
    tokens = data.dataset.field2id_token
    table = rec.recommend(k=5, filter_history=filtered)
    expected = expected_lists(net, data, range(1, data.dataset.user_num), 5, filtered)
    got = dict(list(table.groupby("user", sort=False)))
    assert len(got) == data.dataset.user_num - 1
    for user, rows in expected.items():
        mine = got[tokens["user_id"][user]]
        assert list(mine["item"]) == [tokens["item_id"][i] for i, _ in rows]
        np.testing.assert_allclose(mine["score"], [s for _, s in rows], rtol=1e-4, atol=1e-5)
        assert list(mine["rank"]) == list(range(1, len(rows) + 1))
    assert set(table["source"]) == {"model"}


@pytest.mark.parametrize("model", ["DisentS2S", "TSSR", "SASRec", "BERT4Rec", "NARM", "STAMP", "CORE"])
def test_a_sequence_gets_the_list_of_a_user_with_that_history(recommender, model):
    rec = recommender(model)
    past = histories(rec.source.dataset)
    users = list(rec.users)
    sequences = {u: [rec.catalogue.items[i] for i in past[n]] for n, u in enumerate(users, start=1)}
    by_user = rec.recommend(users, k=6)
    by_items = rec.recommend_sequences(sequences, k=6)
    pd.testing.assert_frame_equal(by_user, by_items.rename(columns={"sequence": "user"}), rtol=1e-4)
    if model != "CORE":  # its scores are no inner products
        np.testing.assert_allclose(
            rec.user_vectors(users), rec.user_vectors(sequences=sequences), rtol=1e-4, atol=1e-5
        )


def test_scores_are_inner_products_of_the_vectors(recommender):
    rec = recommender("DisentS2S", n_intentions=3)
    users = list(rec.users[:7])
    products = np.einsum("bkd,nd->bkn", rec.user_vectors(users), rec.item_vectors())
    place = {item: n for n, item in enumerate(rec.items)}
    for row in rec.recommend(users, k=4).itertuples():
        of_item = products[users.index(row.user), :, place[row.item]]
        assert row.score == pytest.approx(of_item.max(), rel=1e-4)
        assert of_item[row.intention] == pytest.approx(of_item.max(), rel=1e-4)


def test_chunks_and_memory_do_not_change_lists(recommender, make_keys):
    rec = recommender("DisentS2S")
    whole = rec.recommend(k=5)
    rec._maker.memory_mb = 0  # one row at a time
    pd.testing.assert_frame_equal(whole, rec.recommend(k=5), rtol=1e-4)


def test_filters_for_all_and_for_each_user(recommender):
    rec = recommender("SASRec")
    users = list(rec.users[:5])
    some = list(rec.items[3:12])
    plain = rec.recommend(users, k=40, filter_history=False)
    allowed = rec.recommend(users, k=40, filter_history=False, items_allowed=some)
    for user in users:
        mine = plain[(plain["user"] == user) & plain["item"].isin(some)]
        assert list(allowed[allowed["user"] == user]["item"]) == list(mine["item"])
    without = rec.recommend(users, k=40, filter_history=False, items_excluded=some)
    assert not set(without["item"]) & set(some)
    assert len(without) == len(plain) - len(users) * len(some)
    own = {users[0]: some[:2], users[1]: some[2:3]}
    table = pd.DataFrame({"user": [users[0]] * 2 + [users[1]], "item": some[:3]})
    for rule in (own, table):
        found = rec.recommend(users, k=40, filter_history=False, items_allowed=rule)
        assert set(found[found["user"] == users[0]]["item"]) == set(some[:2])
        assert set(found[found["user"] == users[1]]["item"]) == {some[2]}
        assert len(found[found["user"] == users[2]]) == len(rec.items)
        found = rec.recommend(users, k=40, filter_history=False, items_excluded=rule)
        assert not set(found[found["user"] == users[0]]["item"]) & set(some[:2])
        assert some[0] in set(found[found["user"] == users[1]]["item"])


def test_unknown_items_are_counted_and_empty_sequences_get_popular_items(recommender, caplog):
    rec = recommender("SASRec")
    known = list(rec.items[:2])
    table = rec.recommend_sequences([[*known, "nowhere"], [], ["nowhere", "no"], known], k=3)
    assert "3 item ids in 2 sequences are not known" in caplog.text
    by = {n: rows.reset_index(drop=True) for n, rows in table.groupby("sequence")}
    assert list(by[0]["item"]) == list(by[3]["item"])
    assert set(by[0]["source"]) == {"model"}
    counts = rec.catalogue.counts
    best = rec.catalogue.items[np.lexsort((np.arange(len(counts)), -counts))[:3]]
    for number in (1, 2):
        assert list(by[number]["item"]) == list(best)
        assert set(by[number]["source"]) == {"popularity"}
        assert by[number]["intention"].isna().all()


def test_unknown_users_are_an_error_or_get_popular_items(recommender):
    rec = recommender("BPR")
    known = rec.users[0]
    with pytest.raises(UserError, match="the user 'nobody' is not known to the model \\(1 such of 2\\)"):
        rec.recommend([known, "nobody"])
    table = rec.recommend([known, "nobody"], k=3, unknown_users="popularity")
    assert list(table["source"]) == ["model"] * 3 + ["popularity"] * 3


def test_what_a_model_cannot_do_is_one_sentence(recommender):
    bpr = recommender("BPR")
    with pytest.raises(UserError, match="BPR knows a user by an embedding and reads no sequences"):
        bpr.recommend_sequences([["i1"]])
    for model in ("Caser", "FPMC"):
        rec = recommender(model)
        with pytest.raises(UserError, match=f"{model} scores by an embedding of the user"):
            rec.recommend_sequences([[rec.items[0]]])
    with pytest.raises(UserError, match="has one vector"):
        bpr.recommend(k=3, diversity=0.5)
    pop = recommender("Pop")
    with pytest.raises(UserError, match="Pop has no item vectors"):
        pop.similar_items([pop.items[0]])
    with pytest.raises(UserError, match="Pop has no item vectors"):
        pop.recommend(k=3, diversity=0.5, diversify="mmr")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"k": 0}, "k: got 0"),
        ({"k": True}, "k: got True"),
        ({"diversity": 1.5}, "diversity: got 1.5"),
        ({"diversify": "luck"}, "diversify: got 'luck'"),
        ({"users": "u1"}, "users: got 'u1', expected a list"),
        ({"users": pd.DataFrame({"id": ["u1"]})}, "expected one 'user'"),
        ({"unknown_users": "skip"}, "unknown_users: got 'skip'"),
        ({"items_allowed": ["nowhere"]}, "none of these items is known"),
    ],
)
def test_wrong_arguments_are_one_sentence(recommender, keys, message):
    with pytest.raises(UserError, match=message):
        recommender("BPR").recommend(**keys)


def test_similar_items_are_the_greatest_cosines(recommender):
    rec = recommender("SASRec")
    vectors = rec.item_vectors().astype(float)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = vectors @ vectors[4]
    cosines[4] = -np.inf
    table = rec.similar_items([rec.items[4]], k=5)
    assert list(table["similar"]) == list(rec.items[np.argsort(-cosines)[:5]])
    np.testing.assert_allclose(table["score"], np.sort(cosines)[::-1][:5], rtol=1e-4)
    assert len(rec.similar_items([rec.items[0]], k=1000)) == len(rec.items) - 1


@pytest.mark.parametrize("library", ["pyarrow", "polars"])
def test_tables_come_back_as_they_were_given(recommender, library):
    module = pytest.importorskip(library)
    rec = recommender("DisentS2S")
    users = {"user": list(rec.users[:3])}
    given = module.table(users) if library == "pyarrow" else module.DataFrame(users)
    found = rec.recommend(given, k=2)
    assert type(found) is type(given)
    expected = rec.recommend(users["user"], k=2)
    got = found["item"].to_pylist() if library == "pyarrow" else found["item"].to_list()
    assert got == list(expected["item"])


def test_histories_end_with_the_last_event(recommender):
    rec = recommender("SASRec")
    data = rec.source.dataset
    store = rec.catalogue.histories
    items, lengths = store.last_histories(torch.arange(data.user_num), 4)
    past = histories(data)
    for user in range(1, data.user_num):
        assert items[user][: lengths[user]].tolist() == past[user][-4:]
        assert not items[user][lengths[user] :].any()
    assert lengths[0] == 0


def test_histories_of_files_with_cut_histories_are_the_last_rows(tmp_path):
    head = "user_id:token\titem_id_list:token_seq\titem_id:token"
    (tmp_path / "ready").mkdir()
    rows = {
        "train": "u\ta b\tc\nv\tc\ta\nw\ta\tb\n",
        "valid": "u\tb c\td\nv\tc a\tb\n",
        "test": "u\tc d\te\n",
    }
    for name, text in rows.items():
        (tmp_path / "ready" / f"ready.{name}.inter").write_text(f"{head}\n{text}")
    keys = {"data_path": str(tmp_path), "benchmark_filename": list(rows), "load_col": None, "epochs": 1,
            "alias_of_item_id": ["item_id_list"], "topk": 2, "valid_metric": "NDCG@2",
            "show_progress": False, "train_mode": "pairs"}  # fmt: skip
    rec = load(run("GRU4Rec", "ready", config_dict=keys)["checkpoint"])
    for user, expected in (("u", "cde"), ("v", "cab"), ("w", "ab")):
        number = torch.from_numpy(rec.catalogue.user_numbers([user]))
        items = rec.catalogue.histories.events_of(number)[1]
        assert "".join(rec.catalogue.items[items.numpy()]) == expected
    by_items = rec.recommend_sequences([list("cde")], k=2)
    assert list(rec.recommend(["u"], k=2)["item"]) == list(by_items["item"])


# -- selection ------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [7, 64, 640, 1000, 64 * 40])
@pytest.mark.parametrize("values", [3, 50, 10**6])
def test_top_items_break_ties_by_number(width, values):
    generator = torch.Generator().manual_seed(width + values)
    scores = torch.randint(values, (9, width), generator=generator).float()
    scores[2] = 0
    scores[3, 5:] = float("-inf")
    scores[4] = float("-inf")
    for k in (1, 5, 12):
        found, columns = top_items(scores.contiguous(), k)
        order = scores.sort(dim=1, descending=True, stable=True)
        assert torch.equal(found, order.values[:, :k])
        real = found > float("-inf")
        assert torch.equal(columns[real], order.indices[:, :k][real])


# -- diversity ------------------------------------------------------------------------------


def test_interleaving_follows_the_weights_and_repeats_nothing():
    scores = torch.tensor([[9.0, 8, 7, 6, 5]])
    sources = [
        (scores, torch.tensor([[0, 1, 2, 3, 4]])),
        (scores, torch.tensor([[0, 1, 2, 3, 4]])),
        (scores, torch.tensor([[5, 6, 7, 0, 1]])),
    ]
    plain, source = diversity.interleave(sources, torch.tensor([[1.0, 0, 0]]))
    assert plain.tolist() == [[0, 1, 2, 3, 4]]
    assert source.tolist() == [[0] * 5]
    both, source = diversity.interleave(sources, torch.tensor([[0.0, 0.5, 0.5]]))
    assert both.tolist() == [[0, 5, 1, 6, 2]]
    assert source.tolist() == [[1, 2, 1, 2, 1]]
    few = [(torch.tensor([[1.0, float("-inf")]]), torch.tensor([[3, 4]]))] * 2
    assert diversity.interleave(few, torch.tensor([[0.0, 1.0]]))[0].tolist() == [[3, -1]]


def test_weights_go_from_plain_over_the_history_to_equal():
    shares = torch.tensor([[0.75, 0.25]])
    for amount, expected in ((0.25, [0.5, 0.375, 0.125]), (0.5, [0, 0.75, 0.25]), (1.0, [0, 0.5, 0.5])):
        torch.testing.assert_close(diversity.weights(shares, amount), torch.tensor([expected]))


def test_diverse_lists_hold_each_intention(recommender):
    rec = recommender("DisentS2S", n_intentions=3)
    plain = rec.recommend(k=6)
    pd.testing.assert_frame_equal(plain, rec.recommend(k=6, diversity=0.0))
    equal = rec.recommend(k=6, diversity=1.0)
    counts = equal.groupby(["user", "intention"]).size()
    assert (counts == 2).all()
    assert not equal.duplicated(["user", "item"]).any()
    products = np.einsum("bkd,nd->bkn", rec.user_vectors("all"), rec.item_vectors())
    place, row = {i: n for n, i in enumerate(rec.items)}, {u: n for n, u in enumerate(rec.users)}
    for r in equal[equal["rank"] == 1].itertuples():  # the best item of the intention that gave it
        of_intention = products[row[r.user], r.intention].copy()
        seen = rec.catalogue.histories.events_of(torch.tensor([row[r.user] + 1]))[1].numpy() - 1
        of_intention[seen] = -np.inf
        assert place[r.item] == of_intention.argmax()


@pytest.mark.parametrize("model", ["SASRec", "DisentS2S"])
def test_mmr_equals_its_definition(recommender, model):
    rec = recommender(model)
    user, k, amount = rec.users[3], 5, 0.4
    pool = rec.recommend([user], k=100)
    vectors = rec.item_vectors().astype(float)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    place = {i: n for n, i in enumerate(rec.items)}
    scores = pool["score"].to_numpy(float)
    relevance = (scores - scores.min()) / (scores.max() - scores.min())
    near = [vectors[place[item]] for item in pool["item"]]
    chosen: list[int] = []
    while len(chosen) < k:
        best = max(
            (n for n in range(len(pool)) if n not in chosen),
            key=lambda n: (
                (1 - amount) * relevance[n] - amount * max((near[n] @ near[c] for c in chosen), default=0.0)
            ),
        )
        chosen.append(best)
    found = rec.recommend([user], k=k, diversity=amount, diversify="mmr")
    assert list(found["item"]) == [pool["item"][n] for n in chosen]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"u1": ["nowhere"]}, "none of the items of user 'u1' is known"),
        ({"u1": []}, "none of the items of user 'u1' is known"),
        (pd.DataFrame({"user": ["u1"], "item": ["nowhere"]}), "none of the items of user 'u1' is known"),
        ({"u1": "i1"}, "got 'i1' for 'u1', expected a list"),
        ({"u1": None}, "got None for 'u1', expected a list"),
    ],
)
def test_a_user_whose_allowed_items_are_unknown_does_not_get_all_items(recommender, rule, message):
    with pytest.raises(UserError, match=message):
        recommender("Pop").recommend(["u1"], items_allowed=rule)


def test_what_was_ignored_is_refused(recommender, tmp_path, capsys):
    rec = recommender("SASRec")
    user = str(rec.users[0])
    with pytest.raises(UserError, match="filter_history: got 'no', expected True or False"):
        rec.recommend([user], filter_history="no")
    path = str(next(tmp_path.rglob("*.pth")))
    with pytest.raises(UserError, match="device: got 'cuda', but the configuration of a checkpoint says"):
        load(path, device="cuda")
    sequences = tmp_path / "s.txt"
    sequences.write_text("i1 i2\n")
    out = ["--out", str(tmp_path / "x.csv")]
    for words, message in (
        (["--users", "all", "--k", "0"], "k: got 0, expected a whole number of at least 1"),
        (["--users", "all", "--diversity", "nan"], "--diversity: got nan, expected a number in [0, 1]"),
        (["--sequences", str(sequences), "--unknown-users", "popularity"], "expected it with --users"),
    ):
        assert main(["recommend", path, *words, *out]) == 2
        assert message in capsys.readouterr().err
    page = str(tmp_path / "p.html")
    assert main(["inspect", path, "--k", "0", "--out", page]) == 2
    assert main(["inspect", path, "--sequence", f"{rec.items[0]} nowhere", "--out", page]) == 0
    assert "sequence 1 (unknown item ids, left out: 1)" in (tmp_path / "p.html").read_text(encoding="utf-8")


def test_ids_that_are_there_twice_are_refused():
    catalogue = Catalogue(np.array(["[PAD]", "a", "a"], dtype=object), np.zeros(3, np.int64))
    with pytest.raises(UserError, match="1 item ids are there twice"):
        catalogue.item_numbers(["a"])
