"""Tests that a damaged file of candidates is replaced and does not stop a run."""

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
