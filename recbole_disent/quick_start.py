"""One run: configuration -> data -> training -> test -> result file."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from logging import getLogger
from time import perf_counter
from typing import Any

import torch
from recbole.utils import init_logger, init_seed

from recbole_disent import checkpoint, compat, distributed, launcher, registry, result, settings
from recbole_disent.config import Config
from recbole_disent.data.preparation import data_hash, load_parts, prepare
from recbole_disent.errors import UserError, as_user_error
from recbole_disent.evaluation.evaluator import RankingEvaluator
from recbole_disent.evaluation.metrics import register_metrics
from recbole_disent.evaluation.per_user import check_one_each, write_per_user
from recbole_disent.model.content import ContentEmbedding
from recbole_disent.trainer import check_belongs, make_trainer, plain_config

compat.prepare_tuning()

_DTYPES = {"single": torch.float32, "double": torch.float64}


@dataclass
class Prepared:
    """What a run works with.

    Attributes:
        config: the configuration.
        dataset: the whole data set (after the split).
        loaders: training, validation and test loader.
        data_hash: digest of data and split.
        seconds: time that loading and splitting took.
    """

    config: Config
    dataset: Any
    loaders: tuple[Any, Any, Any]
    data_hash: str
    seconds: float


def prepare_data(config: Config) -> Prepared:
    """Load and split the data set of a configuration.

    Raises:
        UserError: missing or faulty files or settings.
    """
    start = perf_counter()
    name = config["model"]
    with as_user_error(f"dataset '{config['dataset']}'"):
        dataset, parts = load_parts(config)
        loaders = prepare(
            config,
            dataset,
            trim=name in registry.MODELS or name in registry.TRIMMABLE,
            train_loader=registry.train_loader(config),
            parts=parts,
        )
    parts = [loader._dataset for loader in loaders]
    return Prepared(config, dataset, loaders, data_hash(parts), perf_counter() - start)


def build_model(data: Prepared) -> Any:
    """Make a model with freshly drawn weights, on the configured device."""
    config = data.config
    init_seed(config["seed"] + config["local_rank"], config["reproducibility"])
    with as_user_error(f"model '{config['model']}'"), _arithmetic(config):
        model = config.model_class(config, data.loaders[0]._dataset)
    if config["precision"] == "double":  # RecBole's draw from numpy, too
        model = model.double()
    return distributed.prepared(model.to(config["device"]))


def build_trainer(data: Prepared, model: Any) -> Any:
    """Make the trainer of a model and continue from ``resume_file`` where one is given."""
    with as_user_error("training settings"):
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
) -> dict[str, Any]:
    """Train a model, keep its best epoch, test it and write the result file.

    Args:
        model, dataset, config_file_list, config_dict, cmd_args: see :class:`Config`.
        saved: whether checkpoint and result file are written. Without a checkpoint the last
            epoch is tested, as in RecBole.
        on_epoch: called after each validation with the epoch, from 0, and its score.
        test: whether the test part is looked at; False leaves ``test_result`` None and writes no
            ``per_user_file``.

    Returns:
        The content of the result file; ``checkpoint`` and ``result_file`` are its paths.

    Raises:
        UserError: wrong settings or files.
    """
    register_metrics()
    config = Config(model, dataset, config_file_list, config_dict, cmd_args)
    if launcher.wanted(config):
        if on_epoch is not None:
            raise UserError("nproc: a call after each epoch (tuning) needs a run of one process")
        call = {"model": model, "dataset": dataset, "config_file_list": config_file_list,
                "config_dict": config_dict, "saved": saved, "cmd_args": cmd_args,
                "test": test}  # fmt: skip
        return launcher.launch(config, call)
    with distributed.joined(config["device"], config["process_timeout"]), _arithmetic(config):
        return _run(config, saved, on_epoch, test)


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
    config: Config, saved: bool, on_epoch: Callable[[int, float], None] | None, test: bool
) -> dict[str, Any]:
    """Run in this process, which may be one of several."""
    first = distributed.rank() == 0
    init_seed(config["seed"], config["reproducibility"])
    if first:
        with as_user_error("output folders"):
            for folder in (config["result_dir"], config["checkpoint_dir"]):
                os.makedirs(folder, exist_ok=True)
            init_logger(config)
    else:
        compat.silence(config)
    logger = getLogger()
    logger.info(config)
    data = prepare_data(config)
    logger.info(data.dataset)
    per_user = config["per_user_file"] if test else None
    if per_user:
        check_one_each(data.loaders[2])
    net = build_model(data)
    logger.info(net)
    trainer = build_trainer(data, net)
    train, valid, held_out = data.loaders
    score, best = trainer.fit(
        train, valid, saved=saved, show_progress=config["show_progress"], callback_fn=on_epoch
    )
    tested = None
    if test:
        tested = trainer.evaluate(held_out, load_best_model=saved, show_progress=config["show_progress"])
    if per_user and first:
        write_per_user(per_user, trainer.ranking, held_out)
    logger.info(f"best valid: {best}")
    if test:
        logger.info(f"test result: {tested}")
    report = _report(data, trainer, net, score, best, tested)
    if saved:
        report["checkpoint"] = trainer.saved_model_file
        report["result_file"] = result.path_for(trainer.saved_model_file, config["result_dir"])
        if first:
            result.write(report["result_file"], report)
        logger.info(f"result file: {report['result_file']}")
    return report


def _report(data: Prepared, trainer: Any, model: Any, score: Any, best: Any, tested: Any) -> dict[str, Any]:
    config = data.config
    return {
        "schema": result.SCHEMA,
        "model": config["model"],
        "dataset": config["dataset"],
        "seed": config["seed"],
        "best_valid_score": None if best is None else float(score),
        "valid_score_bigger": config["valid_metric_bigger"],
        "best_valid_result": _floats(best),
        "test_result": _floats(tested),
        "best_epoch": trainer.best_epoch,
        "epochs_run": trainer.epochs_run,
        "resumed_from": trainer.resumed_from,
        "seconds": {
            "data": round(data.seconds, 3),
            **{k: round(v, 3) for k, v in trainer.seconds.items()},
        },
        "peak_memory_mb": result.peak_memory_mb(),
        "processes": distributed.world(),
        "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "data_hash": data.data_hash,
        "content_hash": next((m.hash for m in model.modules() if isinstance(m, ContentEmbedding)), None),
        "candidate_hashes": trainer.ranking.candidate_hashes(),
        "short_candidate_rows": trainer.ranking.short_rows(),
        "rows": {
            name: len(loader._dataset.inter_feat)
            for name, loader in zip(("train", "valid", "test"), data.loaders, strict=True)
        },
        "versions": result.versions(),
        "git_commit": result.git_commit(),
        "command": [os.path.basename(sys.argv[0]), *sys.argv[1:]],
        # As it was given: the folder it stands for says something of this machine only.
        "config": {**plain_config(config), "data_path": config.external_config_dict.get("data_path")},
    }


def _floats(metrics: Any) -> dict[str, float] | None:
    return None if metrics is None else {name: float(value) for name, value in metrics.items()}


def objective_function(
    config_dict: dict[str, Any] | None = None,
    config_file_list: list[str] | None = None,
    saved: bool = True,
) -> dict[str, Any]:
    """One trial of RecBole's ``HyperTuning``: the keys that it reads, for any model."""
    # hyperopt makes lists to tuples.
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in (config_dict or {}).items()}
    report = run(config_file_list=config_file_list, config_dict=plain, saved=saved)
    wanted = ("model", "best_valid_score", "valid_score_bigger", "best_valid_result", "test_result")
    return {key: report[key] for key in wanted}


def load_checkpoint(path: str, config_dict: dict[str, Any] | None = None) -> tuple[Any, Prepared]:
    """Build the data and the model of a checkpoint again.

    Args:
        path: a checkpoint that a run saved.
        config_dict: keys that differ here, such as ``data_path``.

    Returns:
        The model in evaluation mode, and its data.

    Raises:
        UserError: no checkpoint, or data that differ from those it was trained on.
    """
    register_metrics()
    state = checkpoint.load(path)
    stored = state["config"]
    # The model is what it was, whatever its defaults are today; RecBole rewrites the key of negatives.
    own = settings.of_model(stored["model"]).keys() - {"train_neg_sample_args"}
    model_keys = {key: stored[key] for key in own if key in stored}
    given = {**model_keys, **state["given"], "resume_file": None, **(config_dict or {})}
    config = Config(stored["model"], stored["dataset"], config_dict=given)
    init_seed(config["seed"], config["reproducibility"])
    data = prepare_data(config)
    check_belongs(state, path, config["model"], data.data_hash)
    model = build_model(data)
    checkpoint.load_into(model, state, config["device"])
    return model.eval(), data


__all__ = ["Prepared", "UserError", "build_model", "build_trainer", "load_checkpoint",
           "objective_function", "prepare_data", "run"]  # fmt: skip
