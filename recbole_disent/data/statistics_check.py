"""Comparison of the size of a data set with the statistics in papers."""

from __future__ import annotations

from typing import Any

import numpy as np

from recbole_disent.config import dataset_table

# Relative difference above which the check warns.
TOLERANCE = 0.01


def check_statistics(config: Any, dataset: Any) -> None:
    """Log the use of an alias, and warn if a data set differs from its published statistics.

    Args:
        config: the configuration.
        dataset: the data set, whose ``sizes`` are the result of :func:`count`.
    """
    name = config["dataset"]
    if config.given_dataset != name:
        dataset.logger.info(f"dataset '{config.given_dataset}' is an alias: '{name}' is used")
    expected = dataset_table.entry(name).get("statistics")
    if expected:
        message = difference(expected, dataset.sizes)
        if message:
            dataset.logger.warning(f"dataset '{name}': {message}")


def count(dataset: Any) -> dict[str, int]:
    """Return the numbers of users, items and interactions after RecBole's filters, before the split."""
    events = dataset.inter_feat
    users, items = (np.asarray(events[field]) for field in (dataset.uid_field, dataset.iid_field))
    return {
        "users": int(np.count_nonzero(np.bincount(users))),
        "items": int(np.count_nonzero(np.bincount(items))),
        "interactions": len(users),
    }


def difference(expected: dict[str, Any], found: dict[str, int]) -> str:
    """Describe in one sentence the numbers that differ by more than 1 %.

    Args:
        expected: published numbers for some of the keys ``users``, ``items`` and ``interactions``, and
            their ``source``.
        found: numbers of the data set for all three keys.

    Returns:
        The sentence, or ``""`` if no number differs.

    Example:
        >>> found = {"users": 90, "items": 5, "interactions": 300}
        >>> difference({"users": 100, "source": "a paper"}, found)[:56]
        'the prepared data have 90 users (10.0 % less than 100), '
    """
    parts = []
    for key, number in found.items():
        wanted = expected.get(key)
        if wanted and abs(number - wanted) > TOLERANCE * wanted:
            share = 100 * abs(number - wanted) / wanted
            more = "more" if number > wanted else "less"
            parts.append(f"{number:,} {key} ({share:.1f} % {more} than {wanted:,})")
    if not parts:
        return ""
    return (
        f"the prepared data have {', '.join(parts)}, the numbers of {expected['source']}; check the version "
        "of the files and the filters (user_inter_num_interval, item_inter_num_interval, val_interval) "
        "before you compare results with published ones"
    )
