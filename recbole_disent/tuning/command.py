"""The command ``tune``: proposals -> trials -> table, plot and best configuration."""

from __future__ import annotations

import os
from collections.abc import Callable
from logging import getLogger
from typing import Any

from recbole_disent import compat, settings
from recbole_disent.config import Config
from recbole_disent.data.preparation import require_data
from recbole_disent.errors import UserError, nearest
from recbole_disent.evaluation.metrics import register_metrics
from recbole_disent.quick_start import run
from recbole_disent.search_space import read_space
from recbole_disent.tuning import proposals
from recbole_disent.tuning.study import FILES_OF_A_RUN, Study, trial_id

# Known values in a row after which a space is taken for used up.
_REPEATS = 1000


def options_of(given: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a search: ``properties/tune.yaml``, replaced by what is given.

    Raises:
        UserError: an unknown option or a wrong value.
    """
    known = settings.of_tuning()
    for key in given:
        if key not in known:
            raise UserError(f"tune: the option '{key}' is not known{nearest(key, set(known))}")
    return {key: s.check(given[key]) if key in given else s.default for key, s in known.items()}


def tune(
    model: str | None = None,
    dataset: str | None = None,
    config_file_list: list[str] | None = None,
    config_dict: dict[str, Any] | None = None,
    cmd_args: list[str] | None = None,
    **given: Any,
) -> Study:
    """Search for the best values of some configuration keys.

    The validation score decides; test results are written down and take no part. The same
    call goes on with a search that was stopped: no trial is lost or made twice.

    Args:
        model, dataset, config_file_list, config_dict, cmd_args: what all trials share; see
            :class:`Config`. ``seed`` is the seed of the search and of each trial.
        given: the options of ``properties/tune.yaml``.

    Returns:
        The finished study; its folder holds ``best.yaml`` and the table.

    Raises:
        UserError: wrong settings, or no trial that succeeded.
    """
    options = options_of(given)
    register_metrics()
    base = Config(model, dataset, config_file_list, config_dict, cmd_args)
    model, dataset, seed = base["model"], base["dataset"], base["seed"]
    require_data(base)
    given_keys = base.external_config_dict
    _check_own_keys(given_keys)
    space = read_space(options["params_file"] or model)
    space = {key: values for key, values in space.items() if key not in given_keys}
    if not space:
        raise UserError("tune: nothing is left to search: every key of the search space is given")
    algo = options["algo"] or proposals.default_algorithm(options["tool"])
    proposer = proposals.make(space, options["tool"], algo, seed)
    study = Study(
        options["output"] or os.path.join("tuning", f"{model}-{dataset}"),
        model,
        dataset,
        given_keys,
        space,
        {"tool": options["tool"], "algo": algo, "seed": seed},
    )
    if options["tool"] == "ray":
        from recbole_disent.tuning.ray_trials import search

        search(study, proposer, options, base)
    else:
        one_by_one(study, proposer, options["max_evals"])
    study.report()
    from recbole_disent.tuning.plot import plot

    plot(study)
    best = study.best
    getLogger().info(
        f"best of {len(study.trials)} trials: {best['values']}, valid score {best['score']:.4f}; "
        f"to use it: recbole-disent run --config_files={os.path.join(study.folder, 'best.yaml')}"
    )
    return study


def _check_own_keys(given: dict[str, Any]) -> None:
    for key in FILES_OF_A_RUN:
        if given.get(key) is not None:
            raise UserError(
                f"{key}: got {given[key]!r}, but each trial has its own; leave it out, trials go to --output"
            )


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
            # One that failed is tried again: what was wrong may have been mended since.
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
        compat.release_memory()
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
