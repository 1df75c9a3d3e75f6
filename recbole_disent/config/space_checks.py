"""Checks of a search space against the configuration that the trials share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_disent.config import key_rules
from recbole_disent.config.search_space import Choice, Distribution, is_own
from recbole_disent.errors import UserError


def without_effect(
    path_or_model: str | Path,
    model: str,
    space: dict[str, Distribution],
    final: Mapping[str, Any],
    swept: str | None = None,
) -> dict[str, str]:
    """Find the keys of a space that cannot change a trial, and refuse a file that has one.

    A condition on another key of the space is met if one of the values of that key meets it.

    Args:
        path_or_model: what :func:`~recbole_disent.config.search_space.read_space` has read.
        model: name of the model.
        space: distribution of each key.
        final: all keys and values that the trials share.
        swept: key of the sweep of a plan, whose first value the trials have; or None.

    Returns:
        key -> sentence. Only a space of this package can have such keys, because it serves many
        configurations.

    Raises:
        UserError: the space is a file of the user, and a key has no effect.
    """
    rules, found = key_rules.of_run(model), {}
    if "preset" in space:  # which may set any other key
        return {}
    for key in space:
        need = rules[key].need if key in rules else None
        while need is not None and _can_be_met(rules, need, space, final):
            need = rules[need.key].need if need.key in rules else None
        if need is not None:
            value = "each of its values here" if need.key in space else final[need.key]
            found[key] = f"{key} has no effect with {need.key}={value}; the key needs {need}"
            if is_own(path_or_model):
                way = "set that key for all trials"
                if need.key == swept:
                    way = "put another value first in the sweep, because trials use the first one"
                raise UserError(
                    f"{space[key].where}: {found[key]}, so {way}, or take {key} out of the search space"
                )
    return found


def _can_be_met(
    rules: dict[str, key_rules.KeyRule],
    need: key_rules.Need,
    space: dict[str, Distribution],
    final: Mapping[str, Any],
) -> bool:
    searched = space.get(need.key)
    if searched is None:
        return need.key not in final or need.met_by(final[need.key])
    if not isinstance(searched, Choice):
        return True  # a range has many numbers
    rule = rules.get(need.key)
    values = [rule.check(value) if rule and rule.accepts(value) else value for value in searched.values]
    return any(need.met_by(value) for value in values)
