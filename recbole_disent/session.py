"""One run: configuration -> data -> model -> training -> test -> result file."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from logging import getLogger
from time import perf_counter
from typing import Any

import torch
from recbole.utils import init_logger, init_seed

from recbole_disent import registry, result_file
from recbole_disent.config import key_rules
from recbole_disent.config.config import Config
from recbole_disent.content.build import build_content
from recbole_disent.data.loading import data_hash, load_parts
from recbole_disent.data.report import as_text, describe
from recbole_disent.errors import UserError, wrap_errors
from recbole_disent.evaluation.evaluator import RankingEvaluator
from recbole_disent.evaluation.per_user import check_one_each, one_each, write_per_user
from recbole_disent.loaders.build import make_loaders
from recbole_disent.parallel import launcher, process_group, silence
from recbole_disent.training import checkpoint
from recbole_disent.training.trainer import make_trainer, validate_checkpoint

_DTYPES = {"single": torch.float32, "double": torch.float64}


@dataclass
class RunData:
    """What a run works with.

    Attributes:
        config: the configuration.
        dataset: the whole data set (after the split).
        loaders: training, validation and test loader.
        data_hash: digest of data and split.
        report: what the files hold and what became of it (:mod:`recbole_disent.data.report`).
        seconds: time that loading and splitting took.
    """

    config: Config
    dataset: Any
    loaders: tuple[Any, Any, Any]
    data_hash: str
    report: dict[str, Any]
    seconds: float


def build_data(config: Config) -> RunData:
    """Load and split the data set of a configuration.

    Raises:
        UserError: missing or faulty files or settings.
    """
    start = perf_counter()
    with wrap_errors(f"dataset '{config['dataset']}'"):
        dataset, parts = load_parts(config)
        registry.check_data(config, parts[0])
        config.choose_preset(parts[0])
        loaders = make_loaders(config, parts)
        report = describe(dataset, parts)
    return RunData(config, dataset, loaders, data_hash(parts), report, perf_counter() - start)


def build_model(data: RunData) -> Any:
    """Make a model with freshly drawn weights, on the configured device.

    Raises:
        UserError: settings or item content that do not suit the model.
    """
    config, train = data.config, data.loaders[0]._dataset
    with wrap_errors(f"model '{config['model']}'"), _arithmetic(config):
        given = {}
        if registry.spec_of(config["model"]).content != "never":
            given["content"] = build_content(config, train) if registry.uses_content(config) else None
        init_seed(config["seed"] + config["local_rank"], config["reproducibility"])
        model = config.model_class(config, train, **given)
    if config["precision"] == "double":  # RecBole's models draw some weights from numpy
        model = model.double()
    return process_group.broadcast_model(model.to(config["device"]))


def build_trainer(data: RunData, model: Any) -> Any:
    """Make the trainer of a model and continue from ``resume_file`` where one is given."""
    with wrap_errors("training settings"):
        trainer = make_trainer(data.config, model)
    trainer.data_hash = data.data_hash
    trainer.ranking = RankingEvaluator(data.config, data.loaders[0]._dataset)
    if data.config["resume_file"]:
        trainer.resume_checkpoint(data.config["resume_file"])
    return trainer


def run(
    model: Any = None,
    dataset: str | None = None,
    config_file_list: list[str] | None = None,
    config_dict: dict[str, Any] | None = None,
    saved: bool = True,
    cmd_args: list[str] | None = None,
    on_epoch: Callable[[int, float], None] | None = None,
    test: bool = True,
    ranks_file: str | None = None,
) -> dict[str, Any]:
    """Train a model, keep its best epoch, test it and write the result file.

    Args:
        model, dataset, config_file_list, config_dict, cmd_args: see :class:`Config`.
        saved: whether checkpoint and result file are written. Without a checkpoint the last
            epoch is tested, as in RecBole.
        on_epoch: called after each validation with the epoch, from 0, and its score.
        test: whether the test part is looked at; False leaves ``test_result`` None and writes no
            ``per_user_file``.
        ranks_file: as the key ``per_user_file``; no file is written, and nothing is said, where a
            user has several test items or nothing is ranked.

    Returns:
        The content of the result file; ``checkpoint`` and ``result_file`` are its paths.

    Raises:
        UserError: wrong settings or files.

    Example:
        >>> report = run("BPR", "ml-100k", config_dict={"epochs": 1})  # doctest: +SKIP
        >>> report["test_result"]["ndcg@10"]  # doctest: +SKIP
    """
    config = Config(model, dataset, config_file_list, config_dict, cmd_args)
    if launcher.wanted(config):
        if on_epoch is not None:
            raise UserError("nproc: a call after each epoch (tuning) needs a run of one process")
        call = {"model": model, "dataset": dataset, "config_file_list": config_file_list,
                "config_dict": config_dict, "saved": saved, "cmd_args": cmd_args,
                "test": test, "ranks_file": ranks_file}  # fmt: skip
        return launcher.launch(config, call)
    with process_group.joined(config["device"], config["process_timeout"]), _arithmetic(config):
        return _run(config, saved, on_epoch, test, ranks_file)


@contextmanager
def _arithmetic(config: Config) -> Iterator[None]:
    """Let tensors that a model makes as it goes be of the type of its weights.

    Raises:
        UserError: double precision, and a model that says by itself that a number is single.
    """
    usual = torch.get_default_dtype()
    torch.set_default_dtype(_DTYPES[config["precision"]])
    try:
        yield
    except RuntimeError as error:
        if config["precision"] == "single" or not re.search("dtype|scalar type|Float|Double", str(error)):
            raise
        raise UserError(
            f"precision: {config['model']} makes numbers in single precision by itself and cannot be "
            f"computed in double ({str(error).splitlines()[0]}); leave precision at single"
        ) from error
    finally:
        torch.set_default_dtype(usual)


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
    data = build_data(config)
    logger.info(data.dataset)
    logger.info(as_text(data.report))
    per_user = config["per_user_file"] if test else None
    if per_user:
        check_one_each(data.loaders[2])
    elif test and ranks_file and one_each(data.loaders[2]):
        per_user = ranks_file
    net = build_model(data)
    logger.info(net)
    trainer = build_trainer(data, net)
    train, valid, held_out = data.loaders
    score, best = trainer.fit(
        train, valid, saved=saved, show_progress=config["show_progress"], callback_fn=on_epoch
    )
    tested = None
    if test and not held_out:
        logger.warning("there is no test part: the test result is None (eval_args, benchmark_filename)")
    if test:
        tested = trainer.evaluate(held_out, load_best_model=saved, show_progress=config["show_progress"])
    if per_user and first:
        write_per_user(per_user, trainer.ranking, held_out)
    logger.info(f"best valid: {best}")
    if test:
        logger.info(f"test result: {tested}")
    report = result_file.describe(data, trainer, net, score, best, tested)
    if saved:
        report["checkpoint"] = trainer.saved_model_file
        report["result_file"] = result_file.path_for(trainer.saved_model_file, config["result_dir"])
        if first:
            result_file.write(report["result_file"], report)
        logger.info(f"result file: {report['result_file']}")
    return report


def load_checkpoint(path: str, config_dict: dict[str, Any] | None = None) -> tuple[Any, RunData]:
    """Build the data and the model of a checkpoint again.

    Args:
        path: a checkpoint that a run saved.
        config_dict: keys that differ here, such as ``data_path``.

    Returns:
        The model in evaluation mode, and its data.

    Raises:
        UserError: no checkpoint, or data that differ from those it was trained on.
    """
    state = checkpoint.load(path)
    stored = state["config"]
    # What decides a result is what it was, whatever the defaults are today. RecBole rewrites some
    # values (train_neg_sample_args, say) into forms that no user may give.
    rules = key_rules.of_run(stored["model"])
    kept = {
        key: stored[key]
        for key, rule in rules.items()
        if rule.scope == "result" and key in stored and rule.accepts(stored[key])
    }
    given = {**kept, **state["given"], "resume_file": None, **(config_dict or {})}
    config = Config(stored["model"], stored["dataset"], config_dict=given)
    init_seed(config["seed"], config["reproducibility"])
    data = build_data(config)
    validate_checkpoint(state, path, config["model"], data.data_hash)
    model = build_model(data)
    checkpoint.load_into(model, state, config["device"])
    return model.eval(), data
