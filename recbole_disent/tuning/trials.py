"""Trials of a search: which ones are made, and what is stored of each."""

from __future__ import annotations

from collections.abc import Callable
from logging import getLogger
from typing import Any

from recbole_disent.errors import UserError
from recbole_disent.ops import memory
from recbole_disent.session import run
from recbole_disent.tuning import proposals
from recbole_disent.tuning.study import Study, trial_id

# Known values in a row after which a space is taken for used up.
_REPEATS = 1000


def distinct(
    study: Study, proposer: proposals.Proposer, max_evals: int, answer: Callable[[int, dict], dict | None]
) -> None:
    """Ask for *max_evals* different trials; *answer* (number, values) returns each, done or not yet.

    Args:
        study: whose finished trials are taken as they are.
        proposer: asked and told.
        max_evals: how many.
        answer: called for a trial that is not done.
    """
    met: dict[str, dict | None] = {}
    repeats = 0
    while len(met) < max_evals and repeats < _REPEATS:
        values = proposer.ask()
        if values is None:
            break
        name = trial_id(values)
        repeats = repeats + 1 if name in met else 0
        if name not in met:
            done = study.trials.get(name)
            # One that failed is tried again: what was wrong may have been corrected since.
            met[name] = done if done and done["status"] != "failed" else answer(len(met), values)
        trial = met[name]
        score = None if trial is None else trial["score"]
        proposer.tell(score if score is None or trial is None else (-score if trial["bigger"] else score))


def one_by_one(study: Study, proposer: proposals.Proposer, max_evals: int) -> None:
    """Run one trial after the other in this process."""
    logger = getLogger()

    def answer(number: int, values: dict[str, Any]) -> dict[str, Any]:
        logger.info(f"trial {number + 1} of {max_evals}: {values}")
        trial = study.add(number, values, **outcome(study.config_of(values)))
        logger.info(f"trial {number + 1}: {trial['status']}, valid score {trial['score']}")
        memory.release_memory()
        return trial

    distinct(study, proposer, max_evals, answer)


def outcome(config: dict[str, Any], on_epoch: Callable[[int, float], None] | None = None) -> dict[str, Any]:
    """Run a trial; return what is stored of it.

    Args:
        config: all keys of the run.
        on_epoch: called with the number of the epoch and its validation score.
    """
    try:
        report = run(config_dict=config, on_epoch=on_epoch)
    except UserError as error:
        # Diverged, or values that do not go together: the others go on.
        return {"status": "failed", "score": None, "bigger": True, "error": str(error)}
    if report["best_valid_score"] is None:
        raise UserError("eval_args: a search needs a validation part, and this split has none")
    return {
        "status": "done",
        "score": report["best_valid_score"],
        "bigger": report["valid_score_bigger"],
        "valid_result": report["best_valid_result"],
        "test_result": report["test_result"],
        "epochs": report["epochs_run"],
        "seconds": round(sum(report["seconds"].values()), 3),
        "data_hash": report["data_hash"],
        "parameters": report["parameters"],
    }
