"""Candidates in files: a damaged file is replaced, and a seed always gives the same candidates."""

from __future__ import annotations

import numpy as np
import pytest

from recbole_disent.data import candidates as drawing
from tests.test_evaluation import history


@pytest.mark.parametrize("damage", ["empty", "text", "cut early", "cut late", "other bytes"])
def test_candidates_of_a_damaged_file_are_drawn_again(tmp_path, caplog, damage):
    users, items = history()
    path = tmp_path / "c.npz"
    make = lambda: drawing.draw(users[:9], items[:9], (users, items), np.ones(80), 5, [1])  # noqa: E731
    first = drawing.cached(str(path), make)
    whole = path.read_bytes()
    assert not caplog.text
    path.write_bytes(
        {
            "empty": b"",
            "text": b"text",
            "cut early": whole[:200],
            "cut late": whole[:-9],
            "other bytes": whole[:80] + bytes(40) + whole[120:],
        }[damage]
    )
    assert drawing.cached(str(path), make).hash == first.hash
    assert f"{path}: the file cannot be read (" in caplog.text
    assert path.read_bytes() == whole
    assert drawing.cached(str(path), lambda: pytest.fail("drawn again")).hash == first.hash


def test_the_draw_of_a_seed_is_the_same_in_every_version():
    """Stored results name the hash of their candidates, so a seed always has to give the same ones."""
    users = np.repeat([1, 2, 3], 4)
    items = np.array([1, 2, 3, 4, 2, 5, 6, 7, 8, 9, 1, 3])
    drawn = drawing.draw(users[3::4], items[3::4], (users, items), np.arange(41.0), 6, [2020, 1])
    assert drawn.negatives.tolist() == [
        [17, 40, 23, 18, 21, 30], [31, 37, 39, 26, 13, 36], [30, 40, 20, 39, 4, 33],
    ]  # fmt: skip
    assert drawn.hash == "03cd099f50a2852e"
