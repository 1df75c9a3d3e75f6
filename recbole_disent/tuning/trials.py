"""Chooses and runs the trials of a search, and returns the content of their files."""

from __future__ import annotations

from collections.abc import Callable
from logging import getLogger
from typing import Any

from recbole_disent.errors import UserError
from recbole_disent.ops import memory
from recbole_disent.progress import bar
from recbole_disent.session import run
from recbole_disent.tuning import proposals
from recbole_disent.tuning.study import Study, trial_id

# The search ends after this many proposals in succession that are not new.
_REPEATS = 1000


def distinct(
    study: Study, proposer: proposals.Proposer, max_evals: int, answer: Callable[[int, dict], dict | None]
) -> None:
    """Ask a proposer for *max_evals* different trials, and tell it their results.

    Args:
        study: search whose finished trials are not repeated.
        proposer: proposer of the values.
        max_evals: number of trials.
        answer: function (number, values) that is called for each unfinished trial. It returns the content
            of the file of the trial, or None if it runs the trial later.
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
            # A failed trial is repeated, because the user may have removed the cause.
            met[name] = done if done and done["status"] != "failed" else answer(len(met), values)
        trial = met[name]
        score = None if trial is None else trial["score"]
        proposer.tell(score if score is None or trial is None else (-score if trial["bigger"] else score))


def one_by_one(
    study: Study, proposer: proposals.Proposer, max_evals: int, show_progress: bool = False
) -> None:
    """Run one trial after the other in this process, with a progress bar if *show_progress* is True."""
    logger = getLogger()
    # Finished trials take no time now, so that the estimate of the time left must not count them.
    done = sum(trial["status"] != "failed" for trial in study.trials.values())
    shown = bar("trials", max_evals, show_progress, min(done, max_evals))

    def answer(number: int, values: dict[str, Any]) -> dict[str, Any]:
        logger.info(f"trial {number + 1} of {max_evals}: {values}")
        trial = study.add(number, values, **outcome(study.config_of(values)))
        logger.info(f"trial {number + 1}: {trial['status']}, valid score {trial['score']}")
        memory.release_memory()
        shown.update()
        return trial

    with shown:
        distinct(study, proposer, max_evals, answer)


def outcome(config: dict[str, Any], on_epoch: Callable[[int, float], None] | None = None) -> dict[str, Any]:
    """Run a trial, and return the results for its file.

    Args:
        config: configuration keys of the run.
        on_epoch: function that is called with the number and the validation score of each epoch.

    Raises:
        UserError: the split has no validation part.
    """
    try:
        report = run(config_dict=config, on_epoch=on_epoch)
    except UserError as error:
        # The training diverged, or the values do not fit together; the other trials continue.
        return {"status": "failed", "score": None, "bigger": True, "error": str(error)}
    if report["best_valid_score"] is None:
        raise UserError(
            "eval_args: got a split without a validation part, which a search needs; choose another split"
        )
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
