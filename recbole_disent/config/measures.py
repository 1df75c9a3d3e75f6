"""The configuration keys that say what is measured: results that differ in them cannot be compared."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from recbole_disent.config.search_space import Distribution
from recbole_disent.errors import UserError

# Keys that decide which events there are, and which of them are held out.
_EVENTS = (
    *("USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD", "benchmark_filename", "recbole_time"),
    *("rm_dup_inter", "val_interval", "user_inter_num_interval", "item_inter_num_interval"),
    *("filter_inter_by_user_or_item", "threshold"),
)
_CANDIDATES = ("candidate_seed", "candidate_popularity")
_HISTORY = ("filter_history", "repeatable")
_PLAIN = (*_EVENTS, "refit", "repeat_gate", "score_dtype")
#: Keys whose values must be the same for all results of a table.
MEASURES = frozenset({*_PLAIN, *_CANDIDATES, *_HISTORY, "eval_args", "eval_mode"})
# Keys that say which number of a trial is its score.
_SCORES = {"valid_metric", "valid_metric_bigger", "metrics", "topk", "metric_decimal_place"}


def check_space(space: dict[str, Distribution], own: Collection[str] = ()) -> None:
    """Check that a search space holds no key that says what is measured, and none that the search sets.

    Args:
        space: distribution of each key.
        own: keys that the search sets for each trial.

    Raises:
        UserError: the space has such a key.
    """
    for key, found in space.items():
        if key in MEASURES or key in _SCORES:
            raise UserError(
                f"{found.where}: {key} says what is measured, and the scores of trials that differ in it "
                "cannot be compared; take it out of the search space, and give it one value for all trials"
            )
        if key in own:
            raise UserError(
                f"{found.where}: the search sets {key} for each trial itself; take it out of the search space"
            )


def filters_history(config: dict[str, Any]) -> bool | None:
    """Return whether a run leaves the history of a user out of the ranking of its test part.

    Args:
        config: all keys of the run, as plain values.

    Returns:
        None if sampled items are ranked.
    """
    mode = config["eval_args"]["mode"]
    if (mode["test"] if isinstance(mode, dict) else mode) != "full":
        return None
    wanted = config.get("filter_history")
    repeatable = config.get("repeatable", config["MODEL_TYPE"] == "SEQUENTIAL")
    return not repeatable if wanted is None else wanted


def measured(config: dict[str, Any]) -> dict[str, str]:
    """Return what a run measures.

    Args:
        config: all keys of the run, as plain values.

    Returns:
        key -> JSON of its value, for the keys that must be the same for all results of a table.
    """
    found = {key: config.get(key) for key in _PLAIN}
    found["filter_history"] = filters_history(config)
    found["eval_args"] = config["eval_args"]
    mode = config["eval_args"]["mode"]
    if any(part != "full" for part in (mode.values() if isinstance(mode, dict) else [mode])):
        found |= {key: config.get(key) for key in _CANDIDATES}
    return {key: json.dumps(value, sort_keys=True, default=str) for key, value in found.items()}
