"""What a report needs of result files and of ``plan.json``, checked before anything is counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recbole_disent.config import key_rules
from recbole_disent.errors import UserError

_NONE = type(None)
# A number that is not finite stands in a result file as its text.
_NUMBER = (int, float, str)
_RESULT: dict[str, tuple[type, ...]] = {
    "model": (str,), "dataset": (str,), "seed": (int,), "config": (dict,), "test_result": (dict, _NONE),
    "best_valid_result": (dict, _NONE), "best_valid_score": (*_NUMBER, _NONE),
    "valid_score_bigger": (bool,), "best_epoch": (int, _NONE), "epochs_run": (int,), "seconds": (dict,),
    "seconds.train": (int, float), "peak_memory_mb": (dict,), "peak_memory_mb.cpu": (int, float),
    "parameters": (int,), "data_hash": (str,), "candidate_hashes": (dict,), "versions": (dict,),
    "config.MODEL_TYPE": (str,), "config.eval_args": (dict,), "config.eval_args.mode": (str, dict),
    "config.epochs": (int,), "config.stopping_step": (int,), "config.valid_metric": (str,),
}  # fmt: skip
# Keys that files of older versions lack.
_LATER: dict[str, tuple[type, ...]] = {
    "git_commit": (str, _NONE), "content_hash": (str, _NONE), "code": (str, _NONE), "refit": (dict, _NONE),
    "processes": (int, _NONE), "threads": (int, _NONE), "seconds.evaluation": (int, float),
    "peak_memory_mb.gpu": (int, float), "config.filter_history": (bool, _NONE),
    "config.repeatable": (bool, _NONE), "config.repeat_gate": (bool, _NONE),
    "config.score_dtype": (str, _NONE), "intentions": (dict, _NONE),
}  # fmt: skip
_PLAN: dict[str, tuple[type, ...]] = {
    "runs": (list,), "trials": (list,), "searches": (list,), "options": (dict,), "sweep": (str, _NONE),
    "command": (list, _NONE),
}  # fmt: skip
_RUN: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("id", "label", "dataset", "protocol"), (str,)), "seed": (int,),
    "sweep": (object, bool),  # any value
}  # fmt: skip
_SEARCH: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("label", "dataset", "protocol"), (str,)), "trials": (int,), "chosen": (dict, _NONE),
    "broken": (int,), "epochs": (int, _NONE), "space": (dict,),
}  # fmt: skip


def check_result(path: Path, result: Any) -> None:
    """Check the keys of a result file that a report uses.

    Args:
        path: of the file, for errors.
        result: its content.

    Raises:
        UserError: a key is missing, or its value is of another type.
    """
    where = f"report: {path}"
    _check(where, result, _RESULT)
    _check(where, result, _LATER, optional=True)
    for key in ("test_result", "best_valid_result"):
        for name, value in (result[key] or {}).items():
            _require_number(where, f"{key}: {name}", value)
    _check(
        f"{where}: candidate_hashes",
        result["candidate_hashes"],
        dict.fromkeys(result["candidate_hashes"], (str,)),
    )
    versions = result["versions"]
    _check(f"{where}: versions", versions, dict.fromkeys(["recbole_disent", *versions], (str, _NONE)))
    if result.get("intentions"):
        found = result["intentions"]
        _check(f"{where}: intentions", found, {"cosine": _NUMBER, "entropy": _NUMBER, "won": (list,)})
        if not found["won"]:
            raise UserError(f"{where}: intentions: won: got [], expected a share of each intention{_REMEDY}")
        for name, value in [("won", share) for share in found["won"]] + [
            (n, found[n]) for n in ("cosine", "entropy")
        ]:
            _require_number(where, f"intentions: {name}", value)
    mode = result["config"]["eval_args"]["mode"]
    if isinstance(mode, dict):
        _check(f"{where}: config.eval_args.mode", mode, {"test": (str,)})
    if result["best_valid_score"] is not None:
        _require_number(where, "best_valid_score", result["best_valid_score"])


def check_plan(path: Path, plan: Any) -> None:
    """Check ``plan.json``.

    Args:
        path: of the file, for errors.
        plan: its content.

    Raises:
        UserError: a key is missing, or its value is of another type.
    """
    where = f"report: {path}"
    _check(where, plan, _PLAN)
    for key, wanted in (("runs", _RUN), ("trials", _RUN), ("searches", _SEARCH)):
        for number, entry in enumerate(plan[key]):
            _check(f"{where}: {key}, number {number}", entry, wanted)
    rules = key_rules.of_plan()
    for key, value in plan["options"].items():
        if key in rules:
            try:
                rules[key].check(value)
            except UserError as error:
                raise UserError(f"{where}: options: {error}{_REMEDY}") from None


_REMEDY = "; restore the file, or delete it and run again"


def _require_number(where: str, key: str, value: Any) -> None:
    try:
        float(value)
    except (ValueError, TypeError, OverflowError):
        raise UserError(f"{where}: {key}: got {value!r}, expected a number{_REMEDY}") from None


def _check(where: str, values: Any, wanted: dict[str, tuple[type, ...]], optional: bool = False) -> None:
    if not isinstance(values, dict):
        raise UserError(f"{where}: got {str(values)[:40]!r}, expected a dictionary{_REMEDY}")
    for path, kinds in wanted.items():
        above, _, last = path.rpartition(".") if path not in values else ("", "", path)
        place: Any = values
        for key in above.split(".") if above else ():
            place = place[key]
        if last not in place:
            if optional:
                continue
            raise UserError(f"{where}: the key '{path}' is missing{_REMEDY}")
        value = place[last]
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            names = " or ".join("null" if kind is _NONE else kind.__name__ for kind in kinds)
            raise UserError(f"{where}: {path}: got {str(value)[:40]!r}, expected {names}{_REMEDY}")
