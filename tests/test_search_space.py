"""Tests of search spaces: RecBole's format, literals only, and errors with file and line."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from recbole_disent.config.config import Config
from recbole_disent.config.search_space import grid, read_space, sample, shipped
from recbole_disent.errors import UserError
from recbole_disent.registry import recbole_models
from tests.model_lists import OURS


@pytest.fixture
def space_of(tmp_path):
    def write(text: str):
        path = tmp_path / "a.hyper"
        path.write_text(text)
        return read_space(path)

    return write


def test_the_four_kinds_are_read(space_of):
    space = space_of(
        "# comment of several words\n\n"
        "a choice [1, 'x', None, '[64,32]']   # behind a line too\n"
        "b uniform 0.5, 1\nc quniform 1,4,1\nd loguniform -8,0\n  e\tchoice\t(2,)\n"
    )
    assert list(space) == ["a", "b", "c", "d", "e"]
    assert space["a"].grid() == [1, "x", None, [64, 32]]
    assert space["c"].grid() == [1, 2, 3, 4]
    assert all(isinstance(v, int) for v in space["c"].grid())
    assert space["e"].grid() == [2]


def test_draws_follow_their_distribution(space_of):
    space = space_of("a uniform 2,5\nb loguniform -8,-1\nc quniform 0.5,2.5,0.5\nd choice [1,2,3]\n")
    rng = np.random.default_rng(np.random.SeedSequence([3]))
    drawn = [sample(space, rng) for _ in range(4000)]
    columns = {key: np.array([d[key] for d in drawn]) for key in space}
    assert stats.kstest(columns["a"], stats.uniform(2, 3).cdf).pvalue > 1e-3
    assert stats.kstest(np.log(columns["b"]), stats.uniform(-8, 7).cdf).pvalue > 1e-3
    assert set(columns["c"]) == set(space["c"].grid()) == {0.5, 1.0, 1.5, 2.0, 2.5}
    # The outermost multiples have half an interval each.
    share = [np.mean(columns["c"] == v) for v in space["c"].grid()]
    assert share == pytest.approx([1 / 8, 1 / 4, 1 / 4, 1 / 4, 1 / 8], abs=0.03)
    assert np.bincount(columns["d"].astype(int))[1:] / 4000 == pytest.approx([1 / 3] * 3, abs=0.04)


def test_same_seed_same_draws(space_of):
    space = space_of("a uniform 2,5\nd choice [1,2,3]\n")
    one, two = (sample(space, np.random.default_rng(7)) for _ in range(2))
    assert one == two != sample(space, np.random.default_rng(8))


def test_grid_is_every_combination_once(space_of):
    space = space_of("a choice [1,2]\nb quniform 0,1,0.1\n")
    found = list(grid(space))
    assert len(found) == 22
    assert len({tuple(d.items()) for d in found}) == 22
    assert found[3] == {"a": 1, "b": 0.3}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a choice [1]\nb normal 0,1\n", r"a\.hyper, line 2: got 'b normal 0,1', expected 'key type values'"),
        ("a choice\n", "line 1: got 'a choice', expected"),
        ("a choice []\n", "line 1: a choice: got \\[\\], expected a list"),
        ("a choice __import__('os').getcwd()\n", "line 1: a choice: got __import__"),
        ("a uniform 1\n", "a uniform: got 1, expected 2 numbers 'low,high'"),
        ("a uniform 1,x\n", "expected 2 numbers"),
        ("a uniform 1,inf\n", "expected 2 numbers"),
        ("a uniform 2,1\n", "got 2,1, expected low < high"),
        ("a quniform 1,2\n", "expected 3 numbers 'low,high,step'"),
        ("a quniform 1,2,0\n", "expected low < high and step > 0"),
        ("a choice [1]\n\na choice [2]\n", r"line 3: a is given twice \(.*line 1\)"),
        ("# nothing\n", "no search space, expected lines 'key type values'"),
    ],
)
def test_errors_name_file_and_line(space_of, text, message):
    with pytest.raises(UserError, match=message):
        space_of(text)


def test_no_file_and_no_model():
    with pytest.raises(UserError, match=r"'SASRek': no such file.*did you mean 'SASRec'.*shipped: "):
        read_space("SASRek")


def test_a_continuous_key_has_no_grid(space_of):
    space = space_of("a choice [1]\nb uniform 0,1\n")
    with pytest.raises(UserError, match="line 2: b: an exhaustive search needs a list of values"):
        next(grid(space))


@pytest.mark.parametrize("model", shipped())
def test_shipped_spaces_hold_keys_and_values_of_their_model(model, hostile):
    if model not in {*OURS, *recbole_models()}:
        pytest.skip(f"{model} is not in this checkout")
    rng = np.random.default_rng(0)
    for _ in range(20):
        keys = {"data_path": str(hostile), "topk": [1, 10], **sample(read_space(model), rng)}
        config = Config(model, "hostile", config_dict=keys)  # checks names, types and ranges
    assert config["learning_rate"] == keys["learning_rate"]


def test_main_models_have_a_space():
    assert {"DisentS2S", "TSSR", "SASRec", "BERT4Rec", "GRU4Rec", "Caser", "FPMC", "BPR", "NeuMF"} <= set(
        shipped()
    )


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ("1,3.5,1", [1, 2, 3]),
        ("0.5,2,1", [1, 2]),
        ("1,4,1", [1, 2, 3, 4]),
        ("0.1,0.3,0.1", [0.1, 0.2, 0.3]),
        ("0.15,0.35,0.1", [0.2, 0.3]),
        ("0.35,0.85,0.1", [0.4, 0.5, 0.6, 0.7, 0.8]),
        ("-1.5,1.5,1", [-1, 0, 1]),
    ],
)
def test_a_grid_has_the_values_that_draws_give(space_of, bounds, expected):
    one = space_of(f"a quniform {bounds}\n")["a"]
    assert one.grid() == pytest.approx(expected)
    rng = np.random.default_rng(0)
    assert {one.sample(rng) for _ in range(500)} == set(one.grid())


@pytest.mark.parametrize("values", ["[{1, 2}, 1]", "[b'a']", "[1j]"])
def test_values_that_no_file_of_a_trial_can_hold_are_refused(space_of, values):
    with pytest.raises(
        UserError, match=r"a\.hyper, line 1: n_layers choice: got .*, expected texts, numbers"
    ):
        space_of(f"n_layers choice {values}\n")
