"""The parts of a run: the functions here build the data, the model and the trainer of a configuration."""

from __future__ import annotations

import json
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
from recbole_disent.data.loading import create_dataset, feature_hash, prepare_data
from recbole_disent.data.report import describe
from recbole_disent.errors import UserError, wrap_errors
from recbole_disent.evaluation.evaluator import RankingEvaluator
from recbole_disent.loaders.build import make_loaders
from recbole_disent.parallel import process_group
from recbole_disent.training.trainer import make_trainer

_DTYPES = {"single": torch.float32, "double": torch.float64}


@dataclass
class RunData:
    """The configuration, the data set and the loaders of a run.

    Attributes:
        config: the configuration.
        dataset: the whole data set (after the split).
        loaders: training, validation and test loader.
        data_hash: digest of the data and the split.
        feature_hash: see :func:`recbole_disent.data.loading.feature_hash`.
        report: statistics of the files and of the data set (:mod:`recbole_disent.data.report`).
        seconds: duration of loading and splitting.
    """

    config: Config
    dataset: Any
    loaders: tuple[Any, Any, Any]
    data_hash: str
    feature_hash: str | None
    report: dict[str, Any]
    seconds: float

    def train_with_validation(self) -> Any:
        """Return the training and the validation part joined to one training part (for the key ``refit``)."""
        train, valid = (loader._dataset for loader in self.loaders[:2])
        return train.joined_with(valid)


def build_data(config: Config) -> RunData:
    """Load and split the data set of a configuration.

    Raises:
        UserError: a file is missing or faulty, or a key is wrong.
    """
    start = perf_counter()
    with wrap_errors(f"dataset '{config['dataset']}'"):
        data = prepare_data(config)
        config.choose_preset(data.parts[0])
        registry.check_data(config, data.parts[0])
        loaders = make_loaders(config, data.parts)
        features = feature_hash(config, data.parts[0])
    seconds = perf_counter() - start
    return RunData(config, data.dataset, loaders, data.data_hash, features, data.report, seconds)


def data_report(dataset: str, model: str, config_files: list[str], words: list[str]) -> dict[str, Any]:
    """Read and split a data set, and describe it.

    Args:
        dataset: name of the data set.
        model: name of the model for which the data are read, a sequential or a general model.
        config_files: paths of YAML files.
        words: command-line words ``--key=value``.

    Returns:
        The report; see :func:`recbole_disent.data.report.describe`.

    Raises:
        UserError: a file is missing or faulty, or a key is wrong.
    """
    config = Config(model, dataset, config_files, cmd_args=words)
    init_seed(config["seed"], config["reproducibility"])  # a random split depends on the seed
    with wrap_errors(f"dataset '{dataset}'"):
        data = create_dataset(config)
        return describe(data, data.build())


def build_model(data: RunData, train: Any = None) -> Any:
    """Create a model with randomly initialised weights on the configured device.

    Args:
        data: data of the run.
        train: training part; None means the training part of the split.

    Raises:
        UserError: a key or the item content does not suit the model.
    """
    config = data.config
    train = data.loaders[0]._dataset if train is None else train
    with wrap_errors(f"model '{config['model']}'"), arithmetic(config):
        given = {}
        if registry.spec_of(config["model"]).content != "never":
            given["content"] = build_content(config, train) if registry.uses_content(config) else None
        init_seed(config["seed"] + config["local_rank"], config["reproducibility"])
        model = config.model_class(config, train, **given)
    if state := registry.spec_of(config["model"]).training_state:
        # RecBole's list of the attributes that are saved and loaded with the weights.
        model.other_parameter_name = [*getattr(model, "other_parameter_name", ()), *state]
    if config["precision"] == "double":  # RecBole's models take some weights from numpy
        model = model.double()
    return process_group.broadcast_model(model.to(config["device"]))


def build_trainer(data: RunData, model: Any, resume: bool = True) -> Any:
    """Create the trainer of a model.

    Args:
        data: data of the run.
        model: the model.
        resume: whether the trainer continues from the checkpoint ``resume_file``, if the key is set.

    Raises:
        UserError: a training key is wrong, or the checkpoint does not fit the run.
    """
    with wrap_errors("training settings"):
        trainer = make_trainer(data.config, model)
    trainer.data_hash, trainer.feature_hash = data.data_hash, data.feature_hash
    trainer.ids = _ids(data.loaders[0]._dataset)
    trainer.ranking = RankingEvaluator(data.config, data.loaders[0]._dataset)
    if resume and data.config["resume_file"]:
        trainer.resume_checkpoint(data.config["resume_file"])
    return trainer


def _ids(dataset: Any) -> dict[str, str]:
    """External ids of items and users, and training events of items, as JSON, for the key ``warm_start``."""
    fields = {"items": dataset.iid_field, "users": dataset.uid_field}
    ids = {
        name: json.dumps([str(token) for token in dataset.field2id_token[field][1:]])
        for name, field in fields.items()
    }
    return {**ids, "clicks": json.dumps(dataset.training_counts()[1:].tolist())}


@contextmanager
def arithmetic(config: Config) -> Iterator[None]:
    """Set torch's default dtype to the configured precision inside the ``with`` block.

    Tensors that a model creates in its forward pass then have the dtype of its weights.

    Raises:
        UserError: the precision is double, and the model creates tensors of single precision itself.
    """
    usual = torch.get_default_dtype()
    torch.set_default_dtype(_DTYPES[config["precision"]])
    try:
        yield
    except RuntimeError as error:
        if config["precision"] == "single" or not re.search("dtype|scalar type|Float|Double", str(error)):
            raise
        raise UserError(
            f"precision: got double, but {config['model']} creates numbers in single precision itself and "
            f"cannot be computed in double ({str(error).splitlines()[0]}); set precision=single"
        ) from error
    finally:
        torch.set_default_dtype(usual)
