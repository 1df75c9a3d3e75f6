"""Configuration keys that a plan sets for each run itself."""

from __future__ import annotations

from typing import Any

from recbole_disent.errors import UserError

_OUT = "use the key out of the plan, the folder for all files of its runs"
_TABLE = (
    "a plan names data sets: make one by 'recbole-disent convert FILE data/NAME', then give "
    "data_path: data and datasets: [NAME]"
)
_PROTOCOLS = "use the key protocols of the plan, such as protocols: [full, uni100]"
# Key -> the way to set it.
_TAKEN = {
    "seed": "use the key seeds of the plan, such as seeds: [1, 2]",
    "model": "use the key models of the plan, such as models: [FIRST_MODEL, SECOND_MODEL]",
    "dataset": "use the key datasets of the plan, such as datasets: [ml-100k]",
    "data": _TABLE,
    "resume_file": "repeat the same command to continue the runs that were stopped",
    **dict.fromkeys(("checkpoint_dir", "result_dir", "per_user_file", "candidate_dir"), _OUT),
}


def check_keys(where: str, keys: dict[str, Any], mode: bool = False) -> None:
    """Check that configuration keys of a plan have an effect.

    Args:
        where: the part of the plan that holds the keys, for messages.
        keys: the keys and their values.
        mode: whether the keys may set the mode of the evaluation, which names the table of a result.

    Raises:
        UserError: the plan sets one of the keys itself.
    """
    for key, value in keys.items():
        if key in _TAKEN:
            raise UserError(f"plan: {where}: the key '{key}' has no effect here; {_TAKEN[key]}")
        sets_mode = key == "eval_mode" or (key == "eval_args" and isinstance(value, dict) and "mode" in value)
        if sets_mode and not mode:
            what = key if key == "eval_mode" else "eval_args: mode"
            raise UserError(f"plan: {where}: the key '{what}' is not for this place; {_PROTOCOLS}")
