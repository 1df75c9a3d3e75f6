"""RecBole's own data set and ours on drawn data and settings: equal, or different by a documented rule.

``DIFFERENTIAL_DRAWS`` sets how many cases are drawn.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections import Counter
from pathlib import Path

import pytest

from tests import differences
from tests.differential import draw, quick_configurations

DRAWS = int(os.environ.get("DIFFERENTIAL_DRAWS", "500"))
PAGE = Path(__file__).parents[1] / "docs" / "data.md"


def test_data_sets_equal_recbole_or_differ_as_documented(tmp_path, record_property):
    counts: Counter[str] = Counter()
    unexplained = {}
    logging.disable(logging.CRITICAL)
    try:
        with quick_configurations(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for seed in range(DRAWS):
                try:
                    counts[differences.outcome(draw(seed), tmp_path)] += 1
                except Exception as error:
                    unexplained[seed] = f"{type(error).__name__}: {error}"
    finally:
        logging.disable(logging.NOTSET)
    for name, count in counts.most_common():
        print(f"{count:6d} {name}")
    assert not unexplained, f"{len(unexplained)} of {DRAWS} draws, the first: {list(unexplained.items())[:5]}"
    assert counts["equal"] > DRAWS / 2


@pytest.mark.parametrize("name", [*differences.CAUSES, *differences.RULES, *differences.REFUSALS])
def test_each_difference_is_documented(name):
    text = PAGE.read_text(encoding="utf-8")
    assert f"| {name} |" in text
