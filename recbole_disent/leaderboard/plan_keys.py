"""Checks of the configuration keys of a plan: those that it sets itself, and those that it cannot vary."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from recbole_disent.config.measures import MEASURES
from recbole_disent.errors import UserError

_SAMPLED = re.compile(r"(uni|pop)[1-9][0-9]*")
# Split without the part that a run is judged by: a trial needs validation, other runs need a test.
_WITHOUT = {True: "test_only", False: "valid_only"}
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


def check_sweep(sweep: dict[str, Any] | None, places: dict[str, dict[str, Any]]) -> None:
    """Check the swept key and its values.

    Args:
        sweep: the key ``sweep`` of the plan.
        places: part of the plan, for messages -> the configuration keys that it sets for some of the runs.

    Raises:
        UserError: there is not one key, its results could not be compared, a value appears twice, or a part
            of the plan gives the key, too.
    """
    if sweep is None:
        return
    if len(sweep) != 1 or not isinstance(next(iter(sweep.values())), list) or not next(iter(sweep.values())):
        raise UserError(
            f"plan: sweep: got {sweep!r}, expected one key and a list of its values such as "
            "{click_noise: [0.0, 0.1]}"
        )
    check_keys("sweep", sweep)
    ((key, values),) = sweep.items()
    if key in MEASURES:
        raise UserError(
            f"plan: sweep: results that differ in {key} cannot be compared; give the key one value in "
            "config, and make a plan for each value"
        )
    seen = [json.dumps(value, sort_keys=True, default=str) for value in values]
    if repeated := [value for value, text in zip(values, seen, strict=True) if seen.count(text) > 1]:
        raise UserError(f"plan: sweep: {key}: the value {repeated[0]!r} appears twice; give each value once")
    for where, keys in places.items():
        if key in keys:
            raise UserError(
                f"plan: {where}: {key}: {keys[key]!r} has no effect, because sweep sets this key; leave it "
                "out here, or take it out of sweep"
            )


def check_parts(config: dict[str, Any], trial: bool) -> None:
    """Check that a split has the part that a run is judged by: validation for a trial, test for other runs.

    Args:
        config: all keys of the run, as plain values.
        trial: whether the run is a trial of a search.

    Raises:
        UserError: the split leaves the part empty.
    """
    files, split = config["benchmark_filename"], config["eval_args"]["split"]
    value = next(iter(split.values()))
    if files:  # the parts themselves: two are training and test
        found, wanted, lacks = (
            f"benchmark_filename: got {files}",
            "train, valid and test",
            trial and len(files) < 3,
        )
    else:
        found, wanted = f"eval_args split: got {split}", "a split such as {'LS': 'valid_and_test'}"
        lacks = not value[1 if trial else 2] if "LS" not in split else value == _WITHOUT[trial]
    if lacks:
        part = "validation part for the search" if trial else "test part for the report"
        more = ", or set trials: 1" if trial else ""
        raise UserError(f"{found}, which has no {part}; give {wanted}{more}")


def check_alike(runs: Sequence[tuple[str, dict[str, str]]]) -> None:
    """Check that the results of a table will be comparable.

    Args:
        runs: name and :func:`~recbole_disent.config.measures.measured` of each run of the table.

    Raises:
        UserError: two runs differ in a key that says what is measured.
    """
    first, expected = runs[0]
    for name, measured in runs:
        for key in sorted({*expected, *measured}):
            if measured.get(key) != expected.get(key):
                raise UserError(
                    f"plan: {key} is {expected.get(key)} for {first}, but {measured.get(key)} for {name}, "
                    f"and such results cannot be compared; give {key} the same value for all models, or make "
                    "a plan for each value"
                )


def keys_of_protocol(name: str) -> dict[str, Any]:
    """Return the configuration keys of a named protocol.

    Raises:
        UserError: there is no protocol of this name.
    """
    if isinstance(name, str) and (name == "full" or _SAMPLED.fullmatch(name)):
        return {"eval_mode": name}
    raise UserError(
        f"plan: protocols: got {name!r}, expected full, uniN, popN (N >= 1) or a dictionary name: keys"
    )
