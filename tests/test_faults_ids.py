"""Tests of columns that share ids, and of RecBole's tools that read ids."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from recbole.utils.case_study import full_sort_scores, full_sort_topk

from recbole_disent.errors import UserError
from recbole_disent.session import load_checkpoint, run
from tests.faults import HEAD, KEYS, load, small_rows, small_run, write


def test_aliases_share_their_ids():
    rows = [(*row, f"u{(n + 1) % 8}", f"i{n % 6}") for n, row in enumerate(small_rows())]
    write("small", "inter", rows, HEAD + "\tfriend:token\tlast:token")
    dataset = load(load_col=None, alias_of_user_id=["friend"], alias_of_item_id=["last"])[0]
    assert dataset.field2id_token["friend"] is dataset.field2id_token["user_id"]
    assert dataset.field2id_token["last"] is dataset.field2id_token["item_id"]
    assert (dataset.user_num, dataset.item_num) == (9, 7)
    alone = load(load_col=None)[0]
    assert list(alone.field2id_token["friend"])[1] == "u1"  # in the order of first appearance
    assert list(dataset.field2id_token["friend"])[1] == "u0"


@pytest.mark.parametrize("key", ["alias_of_user_id", "alias_of_item_id"])
@pytest.mark.parametrize("value", [["rating"], ["nowhere"], "friend"])
def test_aliases_are_loaded_columns_of_tokens(key, value):
    write("small", "inter", small_rows())
    with pytest.raises(UserError, match=rf"{key}: got "):
        load(load_col=None, **{key: value})


# -- recbole.utils.case_study ----------------------------------------------------------


@pytest.mark.parametrize("model", ["SASRec", "BPR", "BERT4Rec", "DisentS2S", "ItemKNN"])
def test_case_studies_of_recbole_work_on_a_loaded_checkpoint(model):
    write("small", "inter", [row for n, row in enumerate(small_rows()) if n % 6 != 3])
    more = {"mask_ratio": 0.6, "chunked_softmax": True} if model == "BERT4Rec" else {}
    found = run(
        model, "small", config_dict={**KEYS, **more, "checkpoint_dir": "saved", "result_dir": "saved"}
    )
    net, data = load_checkpoint(found["checkpoint"])
    test = data.loaders[2]
    users = data.dataset.token2id("user_id", ["u1", "u5"])
    scores = full_sort_scores(users, net, test)
    values, items = full_sort_topk(users, net, test, k=2)
    assert items.shape == (2, 2)
    assert torch.equal(values, scores.gather(1, items))
    assert torch.isinf(scores[:, 0]).all()
    part = test.dataset
    own = part.inter_feat["user_id"].tolist()
    rows = np.array([own.index(user) for user in users])
    for row, user, ranked in zip(rows, users, scores, strict=True):
        target = int(part.inter_feat["item_id"][row])
        met = set(part.earlier(np.array([row]))[1].tolist()) - {target}
        left_out = set(torch.isinf(ranked).nonzero().flatten().tolist()) - {0}
        assert left_out == (met if model in ("BPR", "ItemKNN") else set()), user


@pytest.mark.parametrize("model", ["SASRecCPR", "GRU4RecCPR"])
def test_models_that_rank_again_need_as_many_items(model):
    write("small", "inter", small_rows())
    with pytest.raises(
        UserError, match=rf"reranker_CAN_NUM: got 100, expected a number from 1 to 7: {model} reranks"
    ):
        small_run(model)
    with pytest.raises(UserError, match="reranker_CAN_NUM: got 0, expected a number from 1 to 7"):
        small_run(model, reranker_CAN_NUM=0)
    assert small_run(model, reranker_CAN_NUM=3)["test_result"]
    assert small_run(model, reranker_CAN_NUM=7)["test_result"]
