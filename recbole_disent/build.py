"""From a configuration to data, model and trainer: the parts of a run, made one after the other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from recbole.utils import init_seed

from recbole_disent import registry
from recbole_disent.config.config import Config
from recbole_disent.content.build import build_content
from recbole_disent.data.loading import data_hash, load_parts
from recbole_disent.errors import UserError, wrap_errors
from recbole_disent.evaluation.evaluator import RankingEvaluator
from recbole_disent.loaders.build import make_loaders
from recbole_disent.parallel import process_group
from recbole_disent.training.trainer import make_trainer

_DTYPES = {"single": torch.float32, "double": torch.float64}


@dataclass
class RunData:
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

    def train_with_validation(self) -> Any:
        """Return the training and the validation part as one training part (the key ``refit``)."""
        train, valid = (loader._dataset for loader in self.loaders[:2])
        return train.joined_with(valid)


def build_data(config: Config) -> RunData:
    """Load and split the data set of a configuration.

    Raises:
        UserError: missing or faulty files or settings.
    """
    start = perf_counter()
    with wrap_errors(f"dataset '{config['dataset']}'"):
        dataset, parts = load_parts(config)
        config.choose_preset(parts[0])
        loaders = make_loaders(config, parts)
    return RunData(config, dataset, loaders, data_hash(parts), perf_counter() - start)


def build_model(data: RunData, train: Any = None) -> Any:
    """Make a model with freshly drawn weights, on the configured device.

    Args:
        data: of the run.
        train: the training part; None: the one of the split.

    Raises:
        UserError: settings or item content that do not suit the model.
    """
    config = data.config
    train = data.loaders[0]._dataset if train is None else train
    with wrap_errors(f"model '{config['model']}'"), arithmetic(config):
        given = {}
        if registry.spec_of(config["model"]).content != "never":
            given["content"] = build_content(config, train) if registry.uses_content(config) else None
        init_seed(config["seed"] + config["local_rank"], config["reproducibility"])
        model = config.model_class(config, train, **given)
    if config["precision"] == "double":  # RecBole's models draw some weights from numpy
        model = model.double()
    return process_group.broadcast_model(model.to(config["device"]))


def build_trainer(data: RunData, model: Any, resume: bool = True) -> Any:
    """Make the trainer of a model and, unless *resume* is False, continue from ``resume_file``."""
    with wrap_errors("training settings"):
        trainer = make_trainer(data.config, model)
    trainer.data_hash = data.data_hash
    trainer.ranking = RankingEvaluator(data.config, data.loaders[0]._dataset)
    if resume and data.config["resume_file"]:
        trainer.resume_checkpoint(data.config["resume_file"])
    return trainer


@contextmanager
def arithmetic(config: Config) -> Iterator[None]:
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
