"""Tests of rules for lists, and of sequences with unknown items: what cannot hold is said or refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from recbole_disent import load
from recbole_disent.errors import UserError
from recbole_disent.serving.arguments import refuse_unknown
from recbole_disent.session import run

KEYS = ("items_allowed", "items_excluded")


@pytest.fixture
def rec(make_keys):
    return load(run(config_dict=make_keys("SASRec", epochs=1))["checkpoint"])


@pytest.mark.parametrize("key", KEYS)
def test_a_table_with_a_misnamed_owner_is_no_rule_for_all(rec, key):
    users, item = list(rec.users[:2]), rec.items[0]
    for owner, names in (("user_id", "item, user_id"), ("sequence", "item, sequence")):
        table = pd.DataFrame({"item": [item], owner: [users[0]]})
        with pytest.raises(UserError, match=f"{key}: the table has the columns {names}, expected 'user' and"):
            rec.recommend(users, **{key: table})
    with pytest.raises(UserError, match=f"{key}: the table has the columns user, item, expected 'sequence'"):
        rec.recommend_sequences([[item]], **{key: pd.DataFrame({"user": [users[0]], "item": [item]})})
    with pytest.raises(UserError, match=f"{key}: the table has the columns product, expected 'user' and"):
        rec.recommend(users, **{key: pd.DataFrame({"product": [item]})})


def test_a_table_of_items_holds_for_all_and_further_columns_of_owners_are_passed_over(rec):
    users, some = list(rec.users[:2]), list(rec.items[2:5])
    every = {"k": 40, "filter_history": False}
    for_all = rec.recommend(users, items_allowed=pd.DataFrame({"item": some}), **every)
    pd.testing.assert_frame_equal(for_all, rec.recommend(users, items_allowed=some, **every))
    assert len(for_all) == 6
    table = pd.DataFrame({"note": "x", "user": users[0], "item": some})
    own = rec.recommend(users, items_allowed=table, **every)
    assert set(own[own["user"] == users[0]]["item"]) == set(some)
    assert len(own[own["user"] == users[1]]) == len(rec.items)


def test_allowed_items_of_nobody_are_refused(rec):
    user, item = rec.users[0], rec.items[0]
    for rule in ({}, pd.DataFrame({"user": [], "item": []})):
        with pytest.raises(UserError, match="items_allowed: names no user, expected at least one"):
            rec.recommend([user], items_allowed=rule)
    with pytest.raises(UserError, match="items_allowed: names no sequence, expected at least one"):
        rec.recommend_sequences([[item]], items_allowed={})
    assert len(rec.recommend([user], k=2, items_excluded={})) == 2


@pytest.mark.parametrize("key", KEYS)
def test_rules_of_unknown_users_are_said(rec, caplog, key):
    user, other, item = rec.users[0], rec.users[1], rec.items[0]
    rec.recommend([user], **{key: {user: [item], "typo": [item]}})
    assert f"{key}: 1 of 2 users with a rule, such as 'typo', are not known" in caplog.text
    caplog.clear()
    rec.recommend([user], **{key: pd.DataFrame({"user": [other, "typo", "typo"], "item": item})})
    assert f"{key}: 1 of 2 users with a rule, such as 'typo', are not known" in caplog.text
    caplog.clear()
    rec.recommend([user], **{key: {other: [item]}})  # known, though no list is asked for
    rec.recommend_sequences({"a": [item]}, **{key: {"a": [item]}})
    assert "with a rule" not in caplog.text
    rec.recommend_sequences({"a": [item]}, **{key: {"b": [item]}})
    assert f"{key}: 1 of 1 sequences with a rule, such as 'b', are not known" in caplog.text


def test_a_rule_of_a_user_who_gets_popular_items_holds_without_a_warning(rec, caplog):
    item = rec.recommend(["new"], k=1, unknown_users="popularity")["item"][0]
    found = rec.recommend(["new"], unknown_users="popularity", items_allowed={"new": [item]})
    assert list(found["item"]) == [item]
    assert "with a rule" not in caplog.text


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("123", "00123"),
        (123, "00123"),
        ("000123", "00123"),
        (" A7 ", "A7"),
        ("a7", "A7"),
        ("45.0", "45"),
        (46, None),
        ("b7", None),
    ],
)
def test_an_unknown_id_that_stands_for_a_known_one_is_named(given, meant):
    number = {"00123": 1, "A7": 2, "45": 3}
    with pytest.raises(UserError) as error:
        refuse_unknown(
            [given], np.zeros(1, int), "users", "user", "; leave them out",
            lambda ids: np.array([number.get(i, 0) for i in ids], int),
        )  # fmt: skip
    hint = f"; did you mean '{meant}'?" if meant else ""
    expected = f"users: the user '{given}' is not known to the model (1 such of 1){hint}; leave them out"
    assert str(error.value) == expected


def test_vectors_of_unknown_users_have_a_way_out_that_exists(rec):
    with pytest.raises(
        UserError, match=r"'nobody' is not known to the model \(1 such of 1\); leave them out$"
    ):
        rec.user_vectors(users=["nobody"])


def test_vectors_of_sequences_say_which_items_are_left_out(rec, caplog):
    known = rec.items[0]
    rec.user_vectors(sequences=[[known]])
    assert "left out" not in caplog.text
    rec.user_vectors(sequences=[[known, "typo"], [known]])
    assert "sequences: 1 item ids in 1 sequences are not known to the model and left out" in caplog.text
