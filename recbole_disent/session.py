"""One run: it builds the configuration, the data and the model, trains, tests and writes the result file."""

from __future__ import annotations

import os
from collections.abc import Callable
from logging import getLogger
from typing import Any

from recbole.utils import init_logger, init_seed

from recbole_disent import result_file
from recbole_disent.build import RunData, arithmetic, build_data, build_model, build_trainer
from recbole_disent.config import key_rules
from recbole_disent.config.config import Config
from recbole_disent.config.table_dataset import OPTIONS, stored_table
from recbole_disent.data.report import as_text
from recbole_disent.errors import UserError, wrap_errors
from recbole_disent.evaluation import intentions
from recbole_disent.evaluation.per_user import check_one_each, check_place, one_each, write_per_user
from recbole_disent.loaders.evaluation import EvalLoader
from recbole_disent.parallel import launcher, process_group, silence
from recbole_disent.refit import check_refit, refit
from recbole_disent.training import checkpoint
from recbole_disent.training.checkpoint import require_same_data
from recbole_disent.warm_start import warm_start


def run(
    model: Any = None,
    dataset: str | None = None,
    config_file_list: list[str] | None = None,
    config_dict: dict[str, Any] | None = None,
    saved: bool = True,
    cmd_args: list[str] | None = None,
    on_epoch: Callable[[int, float], None] | None = None,
    test: bool = True,
    data: Any = None,
    items: Any = None,
    ranks_file: str | None = None,
) -> dict[str, Any]:
    """Train a model, keep its best epoch, test the model and write the result file.

    Args:
        model: name of a model, or a model class.
        dataset: name of a data set, which is a folder below the key ``data_path``, or an alias of one.
        config_file_list: YAML files with configuration keys; a later file overrides an earlier file.
        config_dict: configuration keys, which override the keys of the files.
        saved: whether to write the checkpoint and the result file. Without a checkpoint the last
            epoch is tested, as in RecBole.
        cmd_args: command-line words ``--key=value``, which override all other keys and the arguments
            *model*, *dataset*, *data* and *items*.
        on_epoch: function that is called after each validation with the number of the epoch, from 0, and
            the validation score.
        test: whether to test the model; if False, ``test_result`` is None and no ``per_user_file`` is
            written.
        data: table of events that is used in place of a data set: a path, or a pandas, Polars or Arrow
            table.
        items: table of the items in *data*, of the same kinds.
        ranks_file: path for the file of the key ``per_user_file``. Unlike with the key, no file is
            written, and no error is raised, if a user has several test items or nothing is ranked.

    Returns:
        The content of the result file; ``checkpoint`` and ``result_file`` are the paths of the files.

    Raises:
        UserError: a key or a file is wrong, or an argument contradicts another one or *config_dict*.

    Example:
        >>> report = run("BPR", "ml-100k", config_dict={"epochs": 1})  # doctest: +SKIP
        >>> report["test_result"]["ndcg@10"]  # doctest: +SKIP
    """
    config = Config(model, dataset, config_file_list, config_dict, cmd_args, data, items)
    if launcher.wanted(config):
        if on_epoch is not None:
            raise UserError(
                "nproc: got several processes, but a call after each epoch (tuning) needs a run of one "
                "process; set nproc=1"
            )
        paths = {key: str(table) for key, table in (("data", data), ("items", items))
                 if isinstance(table, str | os.PathLike)}  # fmt: skip
        call = {"model": model, "dataset": dataset, "config_file_list": config_file_list,
                "config_dict": config_dict, "saved": saved, "cmd_args": cmd_args,
                "test": test, "ranks_file": ranks_file, **paths}  # fmt: skip
        keys = config.external_config_dict
        if (data is not None or items is not None) and keys.get("data") is None:
            # The other processes read the data set that the tables in memory have become.
            left = {key: value for key, value in keys.items() if key not in ("model", "dataset", *paths)}
            call |= {"model": config.given_model, "dataset": config.dataset, "config_file_list": None,
                     "config_dict": left, "cmd_args": None, **dict.fromkeys(paths)}  # fmt: skip
        return launcher.launch(config, call)
    with process_group.joined(config["device"], config["process_timeout"]), arithmetic(config):
        return _run(config, saved, on_epoch, test, ranks_file)


def _run(
    config: Config,
    saved: bool,
    on_epoch: Callable[[int, float], None] | None,
    test: bool,
    ranks_file: str | None,
) -> dict[str, Any]:
    """Run in this process, which may be one of several."""
    first = process_group.rank() == 0
    init_seed(config["seed"], config["reproducibility"])
    if first:
        with wrap_errors("output folders"):
            for folder in (config["result_dir"], config["checkpoint_dir"]):
                os.makedirs(folder, exist_ok=True)
            init_logger(config)
    else:
        silence.silence(config)
    logger = getLogger()
    logger.info(config)
    for note in config.notes:
        logger.info(note)
    data = build_data(config)
    logger.info(data.dataset)
    logger.info(as_text(data.report))
    per_user = config["per_user_file"] if test else None
    if per_user:
        check_one_each(data.loaders[2])
    elif test and ranks_file and one_each(data.loaders[2]):
        per_user = ranks_file
    if per_user and first:
        check_place(per_user)
    if config["refit"]:
        check_refit(data, saved)
    net = build_model(data)
    started = warm_start(data, net)
    logger.info(net)
    trainer = build_trainer(data, net)
    train, valid, held_out = data.loaders
    score, best = trainer.fit(
        train, valid, saved=saved, show_progress=config["show_progress"], callback_fn=on_epoch
    )
    if isinstance(valid, EvalLoader) and valid:
        # A run that is resumed after its last epoch has not ranked the validation part yet, and the result
        # file holds the hash of the candidates.
        trainer.ranking.candidates(valid._dataset)
    tested, again = None, None
    if config["refit"]:
        net, trainer, again = refit(data, trainer)
    if test and not held_out:
        logger.warning("there is no test part: the test result is None (eval_args, benchmark_filename)")
    if test:
        tested = trainer.evaluate(held_out, load_best_model=saved, show_progress=config["show_progress"])
    logger.info(f"best valid: {_as_text(best)}")
    if test:
        logger.info(f"test result: {_as_text(tested)}")
    report = result_file.describe(data, trainer, net, score, best, tested)
    report["refit"], report["warm_start"] = again, started
    if saved and not (test and held_out) and hasattr(net, "query_vectors"):
        trainer.load_weights(trainer.saved_model_file)  # no test has loaded the kept epoch
    report["intentions"] = _intentions(trainer, net, valid or held_out if test else valid)
    if saved:
        report["checkpoint"] = trainer.saved_model_file
        report["result_file"] = result_file.path_for(trainer.saved_model_file, config["result_dir"])
        if first:
            result_file.write(report["result_file"], report)
        logger.info(f"result file: {report['result_file']}")
    if per_user and first:
        write_per_user(per_user, trainer.ranking, held_out)
    return report


def _as_text(result: Any) -> str:
    """Return metrics as RecBole's log shows them, or None."""
    return "    ".join(f"{name}: {float(value)}" for name, value in (result or {}).items()) or "None"


def _intentions(trainer: Any, net: Any, loader: Any) -> dict[str, Any] | None:
    """Return statistics of the intentions of a trained model; warn in the log if the intentions collapsed."""
    with trainer.averaged():
        figures = intentions.of_model(net, loader)
    if figures and (warning := intentions.warning_of(figures)):
        getLogger().warning(warning)
    return figures


# Keys that a loaded checkpoint does not repeat.
_NOT_AGAIN = {"resume_file": None, "warm_start": None, "model_file": None}
# Keys of RecBole about what is written, or about a service.
_WRITTEN = {"checkpoint_dir", "log_wandb", "wandb_project"}


def load_checkpoint(path: str, config_dict: dict[str, Any] | None = None) -> tuple[Any, RunData]:
    """Rebuild the data and the model of a checkpoint.

    Args:
        path: path of a checkpoint that a run saved.
        config_dict: keys that override the stored configuration, such as ``data_path``.

    Returns:
        The model in evaluation mode, and the data of its run.

    Raises:
        UserError: the file is not a checkpoint, the data differ from the training data of the model, or
            the model is one of a file that *config_dict* does not name as ``model_file``.
    """
    state = checkpoint.load(path)
    stored = state["config"]
    # Keys that affect results keep their stored values, even if the defaults have changed since. RecBole
    # rewrites some values (such as train_neg_sample_args) to forms that the key's rule does not accept.
    rules = key_rules.of_run(stored["model"])
    kept = {
        key: stored[key]
        for key, rule in rules.items()
        if rule.scope == "result" and key in stored and rule.accepts(stored[key])
    }
    # A checkpoint may come from anyone, so that it does not say where files are written or who gets the log.
    # The places in table.yaml are read only.
    places = {key for key, rule in key_rules.of_file("overall.yaml").items() if rule.scope == "place"}
    read = {key: value for key, value in state["given"].items() if key not in places | _WRITTEN}
    given = {**kept, **read, **_NOT_AGAIN, **(config_dict or {})}
    if given["model_file"] is None and stored.get("model_file"):
        # Only the user says which file is run.
        raise UserError(
            f"checkpoint '{path}' is of a model of the file '{stored['model_file']}'; give that file as "
            "config_dict={'model_file': FILE}, or --model_file=FILE, if you trust it"
        )
    config = Config(stored["model"], stored_table(stored["dataset"], given), config_dict=given)
    if stored.get("data") is not None:
        # What the data set was made by has no effect on it, but a bundle tells it to a later warm_start.
        config.final_config_dict.update({k: stored[k] for k in OPTIONS if k in stored and k not in given})
    init_seed(config["seed"], config["reproducibility"])
    data = build_data(config)
    require_same_data(state, path, config["model"], data.data_hash, data.feature_hash)
    model = build_model(data, data.train_with_validation() if state.get("refit") else None)
    checkpoint.load_into(model, state, config["device"])
    return model.eval(), data


__all__ = ["RunData", "build_data", "build_model", "build_trainer", "load_checkpoint", "run"]
