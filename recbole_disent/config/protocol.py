"""Checks of ``eval_args``, which decides how the data are ordered, split and ranked."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

from recbole_disent.errors import UserError

_MODE = re.compile(r"full|labeled|(?:uni|pop)[1-9][0-9]*")
_GRAMMAR = (
    "expected {'LS': 'valid_and_test'} (or valid_only, test_only), {'RS': [0.8, 0.1, 0.1]} or "
    "{'TS': [0.8, 0.1, 0.1]}"
)
_HELD_OUT = ("valid_and_test", "valid_only", "test_only")


def merged_eval_args(default: dict[str, Any], given: Any, mode: str | None) -> dict[str, Any]:
    """Complete the user's ``eval_args`` from this package's protocol, not from RecBole's random split.

    Args:
        default: ``eval_args`` of the protocol.
        given: the user's value, which may lack some keys.
        mode: value of the key ``eval_mode``, which overrides the mode of *default* and of *given*.

    Returns:
        The complete ``eval_args``.

    Raises:
        UserError: a key is unknown or a value is wrong.
    """
    if given is not None and not isinstance(given, dict):
        raise UserError(f"eval_args: got {given!r}, expected a dict such as {default!r}")
    merged = {**default, **(given or {})}
    merged["mode"] = merged_mode(default["mode"], merged["mode"])
    for key in merged:
        if key not in ("split", "order", "group_by", "mode"):
            raise UserError(f"eval_args: the key '{key}' is unknown; expected split, order, group_by, mode")
    if mode is not None:
        merged["mode"] = mode
    check_mode(merged["mode"])
    check_split(merged["split"])
    if merged["order"] not in ("TO", "RO"):
        raise UserError(
            f"eval_args order: got {merged['order']!r}, expected TO (in time order) or RO (in random order)"
        )
    group = merged["group_by"]
    if group is not None and str(group).lower() not in ("user", "none"):
        raise UserError(f"eval_args group_by: got {group!r}, expected user or none")
    if "TS" in merged["split"] and merged["order"] != "TO":
        raise UserError("eval_args order: got RO with the split TS, expected TO, because TS splits at a time")
    merged["group_by"] = "user" if str(group).lower() == "user" else None
    return merged


def merged_parts(values: Iterable[Any]) -> dict[str, Any]:
    """Merge ``eval_args`` of several sources, the lowest priority first, without values that are no dicts."""
    merged: dict[str, Any] = {}
    for part in values:
        if isinstance(part, dict):
            mode = merged_mode(merged.get("mode"), part.get("mode"))
            merged |= {**part, "mode": mode} if "mode" in part else part
    return merged


def merged_mode(lower: Any, upper: Any) -> Any:
    """Complete a mode for one part (such as ``{"valid": "uni10"}``) from a mode of lower priority."""
    if not isinstance(upper, dict) or lower is None:
        return upper
    return {**(lower if isinstance(lower, dict) else {"valid": lower, "test": lower}), **upper}


def check_mode(mode: Any) -> None:
    """Check the mode of the evaluation: one mode, or a dict with a mode for each part.

    Raises:
        UserError: the mode is unknown.
    """
    modes = mode if isinstance(mode, dict) else {"valid": mode}
    for part, value in modes.items():
        if part not in ("valid", "test"):
            raise UserError(f"eval_args mode: got the part {part!r}, expected valid and test")
        if not isinstance(value, str) or not _MODE.fullmatch(value):
            raise UserError(f"eval_args mode: got {value!r}, expected full, uniN, popN or labeled (N >= 1)")


def check_split(split: Any) -> None:
    """Check the split: leave-one-out (LS), by ratios (RS), or at one time for all users (TS).

    Raises:
        UserError: the split is none of these, or its value is wrong.
    """
    if not isinstance(split, dict) or len(split) != 1 or not set(split) <= {"LS", "RS", "TS"}:
        raise UserError(f"eval_args split: got {split!r}, {_GRAMMAR}")
    kind, value = next(iter(split.items()))
    if kind == "LS":
        if value not in _HELD_OUT:
            raise UserError(f"eval_args split: got LS {value!r}, expected one of {', '.join(_HELD_OUT)}")
        return
    numbers = isinstance(value, (list, tuple)) and all(
        isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v) and v >= 0 for v in value
    )
    if not numbers or len(value) != 3 or value[0] <= 0:
        raise UserError(
            f"eval_args split: got {kind} {value!r}, expected three ratios such as [0.8, 0.1, 0.1] for "
            "training (above 0), validation and test"
        )
