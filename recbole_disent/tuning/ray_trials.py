"""Runs trials on Ray Tune, several at a time, on one machine or on a cluster; ASHA stops bad trials early.

The values of all trials are drawn beforehand with a seed, independent of results. A search that continues
after a stop therefore knows the finished trials. A trial that was running continues from its checkpoint,
if its machine can read the folder of the search. ASHA compares only the trials of the same command.
"""

from __future__ import annotations

import os
from logging import getLogger
from typing import Any

from recbole_disent.config import key_rules
from recbole_disent.config.config import Config
from recbole_disent.data.loading import prepare_once
from recbole_disent.errors import UserError, wrap_errors
from recbole_disent.progress import bar
from recbole_disent.tuning.proposals import Proposer
from recbole_disent.tuning.study import Study, trial_id
from recbole_disent.tuning.trials import distinct, outcome


def search(study: Study, proposer: Proposer, options: dict[str, Any], base: Any) -> None:
    """Run the trials of a study that are not done.

    Args:
        study: search that the trials belong to; this process writes the finished trials.
        proposer: proposer that does not use results.
        options: values of the keys of ``properties/tune.yaml``.
        base: configuration that all trials share.

    Raises:
        UserError: Ray is not installed, there is no cluster at the address, or a trial has no result.
    """
    ray = _ray()
    open_trials: list[dict[str, Any]] = []

    def later(number: int, values: dict[str, Any]) -> None:
        config = _from_anywhere(study.config_of(values), base)
        open_trials.append({"id": trial_id(values), "number": number, "values": values, "config": config})

    distinct(study, proposer, options["max_evals"], later)
    if not open_trials:
        return
    first = open_trials[0]["config"]
    prepare_once(Config(base["model"], base["dataset"], config_dict=dict(first)))
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
        # A trial must not reach max_t, because ASHA would then stop it before its last report.
        max_t=max(base["epochs"], options["grace_epochs"]) + 1,
        grace_period=options["grace_epochs"],
        reduction_factor=options["reduction_factor"],
    )
    bigger = bool(base["valid_metric_bigger"])
    with bar("trials", len(trials), base["show_progress"]) as shown:
        tune.run(
            _trial,
            config={"trial": tune.grid_search(trials), "bigger": bigger},
            metric="best_score",
            mode="max" if bigger else "min",
            scheduler=scheduler,
            resources_per_trial={"cpu": options["cpus_per_trial"], "gpu": options["gpus_per_trial"]},
            callbacks=[_recorder(study, bigger, shown)],
            name="search",
            storage_path=os.path.abspath(os.path.join(study.folder, "ray")),
            verbose=0,
            raise_on_failed_trial=False,
            # Repeat a trial once if its worker is lost, which says nothing about the values.
            max_failures=1,
        )
    missing = [trial for trial in trials if trial["id"] not in study.trials]
    if missing:
        raise UserError(
            f"ray: {len(missing)} of {len(trials)} trials ended without a result; their errors are in "
            f"{os.path.join(study.folder, 'ray')}; repeat the command to repeat these trials"
        )


def _trial(config: dict[str, Any]) -> None:
    """Run a trial in a worker of Ray; report the score of each epoch, then the outcome."""
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


def _recorder(study: Study, bigger: bool, shown: Any) -> Any:
    from ray.tune import Callback

    class Recorder(Callback):
        """Writes the file of a trial as soon as the trial has ended, on the machine of the search."""

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
            shown.update()
            getLogger().info(f"trial {asked['number'] + 1}: {found['status']}, score {found['score']}")

    return Recorder()


def _from_anywhere(config: dict[str, Any], base: Any) -> dict[str, Any]:
    """Make paths absolute, because trials run in working directories of Ray."""
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
    """Return the module ray.

    Raises:
        UserError: Ray is not installed.
    """
    # Turn off Ray's output tables, because the search logs a line for each trial.
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    try:
        import ray
        import ray.tune  # noqa: F401
    except ImportError as error:
        # The cause of the error of ray.tune names the missing package.
        missing = error.name or f"ray[tune] ({error.__cause__ or error})"
        raise UserError(
            f"tool 'ray' needs the package {missing}: pip install 'recbole_disent[tune]', "
            "or search with --tool=random or hyperopt"
        ) from error
    return ray
