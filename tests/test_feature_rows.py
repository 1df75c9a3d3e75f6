"""Tests that a checkpoint of a model with item features is used with the features it was trained on only."""

from __future__ import annotations

import pytest

from recbole_disent.errors import UserError
from recbole_disent.session import load_checkpoint, run
from tests.conftest import feature_keys


@pytest.mark.parametrize("change", ["order", "values"])
def test_a_checkpoint_of_other_features_is_refused(make_keys, hostile, change):
    """The rows of the embedding of a feature follow the order of the .item file."""
    keys = make_keys("SASRecF", epochs=1, **feature_keys("SASRecF"))
    found = run(config_dict=keys)
    path = found["checkpoint"]
    load_checkpoint(path)
    run(config_dict={**keys, "resume_file": path, "epochs": 2})
    file = hostile / "hostile" / "hostile.item"
    head, *rows = file.read_text(encoding="utf-8").splitlines()
    rows = rows[::-1] if change == "order" else [row.replace("red", "blue") for row in rows]
    file.write_text("\n".join([head, *rows, ""]), encoding="utf-8")
    for use in (lambda: load_checkpoint(path), lambda: run(config_dict={**keys, "resume_file": path})):
        with pytest.raises(UserError, match=r"was trained with other selected_features .* use the same file"):
            use()
    again = run(config_dict=keys)
    assert None is not found["content_hash"] != again["content_hash"]
    assert found["data_hash"] == again["data_hash"]


def test_models_without_features_do_not_depend_on_them(make_keys, hostile):
    keys = make_keys("SASRec", epochs=1, load_col=feature_keys("SASRecF")["load_col"])
    found = run(config_dict=keys)
    file = hostile / "hostile" / "hostile.item"
    head, *rows = file.read_text(encoding="utf-8").splitlines()
    file.write_text("\n".join([head, *rows[::-1], ""]), encoding="utf-8")
    load_checkpoint(found["checkpoint"])
    assert found["content_hash"] is None
