"""Trials on Ray Tune: several at once, bad ones stopped early by ASHA, on one machine or a cluster.

The values of all trials are drawn beforehand (seeded, independent of results), so that a search
that was stopped knows which are done; those that were running start again, from their checkpoint
where the trial's machine sees the folder of the search. Halts of ASHA compare the trials of one
command only.
"""

from __future__ import annotations

import os
from logging import getLogger
from typing import Any

from recbole_disent.config import key_rules
from recbole_disent.errors import UserError, wrap_errors
from recbole_disent.tuning.proposals import Proposer
from recbole_disent.tuning.study import Study, trial_id
from recbole_disent.tuning.trials import distinct, outcome


def search(study: Study, proposer: Proposer, options: dict[str, Any], base: Any) -> None:
    """Run the trials of a study that are not done.

    Args:
        study: gets the trials, written by this process.
        proposer: one that does not ask for results.
        options: of ``properties/tune.yaml``.
        base: the configuration that all trials share.

    Raises:
        UserError: Ray is missing, or there is no cluster at the address.
    """
    ray = _ray()
    open_trials: list[dict[str, Any]] = []

    def later(number: int, values: dict[str, Any]) -> None:
        config = _from_anywhere(study.config_of(values), base)
        open_trials.append({"id": trial_id(values), "number": number, "values": values, "config": config})

    distinct(study, proposer, options["max_evals"], later)
    if not open_trials:
        return
    ours = not ray.is_initialized()
    if ours:
        with wrap_errors(f"ray_address '{options['ray_address']}'"):
            ray.init(**_start_options(options["ray_address"]))
    try:
        _run(study, open_trials, options, base)
    finally:
        if ours:
            ray.shutdown()


def _run(study: Study, trials: list[dict[str, Any]], options: dict[str, Any], base: Any) -> None:
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler

    scheduler = ASHAScheduler(
        time_attr="epochs",
        # Out of reach: the last report of a trial comes behind its last epoch.
        max_t=max(base["epochs"], options["grace_epochs"]) + 1,
        grace_period=options["grace_epochs"],
        reduction_factor=options["reduction_factor"],
    )
    bigger = bool(base["valid_metric_bigger"])
    tune.run(
        _trial,
        config={"trial": tune.grid_search(trials), "bigger": bigger},
        metric="best_score",
        mode="max" if bigger else "min",
        scheduler=scheduler,
        resources_per_trial={"cpu": options["cpus_per_trial"], "gpu": options["gpus_per_trial"]},
        callbacks=[_recorder(study, bigger)],
        name="search",
        storage_path=os.path.abspath(os.path.join(study.folder, "ray")),
        verbose=0,
        raise_on_failed_trial=False,
        # A worker lost with its machine is no verdict on the values.
        max_failures=1,
    )
    missing = [trial for trial in trials if trial["id"] not in study.trials]
    if missing:
        raise UserError(
            f"ray: {len(missing)} of {len(trials)} trials ended without a result; their errors are below "
            f"{os.path.join(study.folder, 'ray')}; repeat the command to make them again"
        )


def _trial(config: dict[str, Any]) -> None:
    """Run in a worker of Ray: report the score of each epoch, then the outcome."""
    from ray import tune

    worst = float("-inf") if config["bigger"] else float("inf")
    best, last = worst, 0

    def on_epoch(epoch: int, score: float) -> None:
        nonlocal best, last
        best, last = (max if config["bigger"] else min)(best, float(score)), epoch + 1
        tune.report({"best_score": best, "epochs": last})

    found = outcome(config["trial"]["config"], on_epoch)
    score = worst if found["score"] is None else found["score"]
    tune.report({"best_score": score, "epochs": last, "outcome": found})


def _recorder(study: Study, bigger: bool) -> Any:
    from ray.tune import Callback

    class Recorder(Callback):
        """Writes a trial down as soon as it has ended, on the machine of the search."""

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            asked, last = trial.config["trial"], trial.last_result
            found = last.get("outcome")
            if found is None:  # halted by ASHA: its best epoch so far, not tested
                found = {
                    "status": "stopped",
                    "score": last["best_score"],
                    "bigger": bigger,
                    "epochs": last["epochs"],
                    "seconds": round(last["time_total_s"], 3),
                }
            study.add(asked["number"], asked["values"], **found)
            getLogger().info(f"trial {asked['number'] + 1}: {found['status']}, score {found['score']}")

    return Recorder()


def _from_anywhere(config: dict[str, Any], base: Any) -> dict[str, Any]:
    """Trials run in working directories of Ray's: paths of this one become absolute."""
    found = dict(config)
    if "data_path" in config or os.path.isdir(base["data_path"]):
        found["data_path"] = os.path.dirname(os.path.abspath(base["data_path"]))
    if found.get("checkpoint_dir"):
        found["checkpoint_dir"] = os.path.abspath(found["checkpoint_dir"])
    return {**found, **key_rules.absolute_paths(base["model"], found)}


def _start_options(address: str | None) -> dict[str, Any]:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is not None:
        return {"address": address, **quiet}
    return {"include_dashboard": False, **quiet}


def _ray() -> Any:
    """Return the module.

    Raises:
        UserError: it is not installed.
    """
    # Ray's own output tables; the search logs a line for each trial.
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    try:
        import ray
        import ray.tune
    except ImportError as error:
        # ray.tune names what it lacks in the cause.
        missing = error.name or f"ray[tune] ({error.__cause__ or error})"
        raise UserError(
            f"tool 'ray' needs the package {missing}: pip install 'recbole_disent[tune]', "
            "or search with --tool=random or hyperopt"
        ) from error
    return ray
