"""Construction of the training, the validation and the test loader from the parts of a data set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from recbole.data import utils as recbole_data
from recbole.data.dataloader import TrainDataLoader
from recbole.data.transform import construct_transform
from recbole.sampler import RepeatableSampler, Sampler
from recbole.utils import EvaluatorType

from recbole_disent import registry
from recbole_disent.data.dataset import PartDataset
from recbole_disent.errors import UserError
from recbole_disent.loaders.evaluation import EvalLoader
from recbole_disent.loaders.prefixes import build_train_loader
from recbole_disent.loaders.sharding import check_divide_users, sharded


def make_loaders(config: Any, parts: list[PartDataset]) -> tuple[Any, Any, Any]:
    """Make the training, the validation and the test loader.

    Args:
        config: the configuration.
        parts: training, validation and test part of the data set.

    Raises:
        UserError: the parts or the keys do not suit the model or the metrics.
    """
    trim = registry.spec_of(config["model"]).trim_safe
    for part in parts:
        part.trim = trim and (config["trim_batches"] or config["bucket_batches"])
    train, valid, test = parts
    loaders = [make_train_loader(config, train)]
    transform = construct_transform(config)
    for part in (valid, test):
        mode = config["eval_args"]["mode"][part.part]
        if config["eval_type"] == EvaluatorType.VALUE or mode == "labeled":
            part.trim = False  # the loader concatenates rows of several batches
            loaders.append(_value_loader(config, part, parts))
        else:
            loaders.append(EvalLoader(config, part, transform, full=mode == "full"))
    return tuple(loaders)


def make_train_loader(config: Any, train: PartDataset) -> Any:
    """Make the training loader of a configuration's model for a training part."""
    sampler = _train_sampler(config, train)
    train_loader = registry.train_loader(config)
    if train_loader is None:
        theirs = recbole_data.get_dataloader(config, "train")
        train_loader = build_train_loader
        if theirs is not TrainDataLoader:  # auto-encoders have a loader of users
            train_loader = lambda c, d, s: theirs(c, d, s, shuffle=c["shuffle"])  # noqa: E731
    loader = train_loader(config, train, sampler)
    check_divide_users(config, loader)
    return sharded(loader)


def _train_sampler(config: Any, train: PartDataset) -> Any:
    """Return RecBole's sampler of training negatives, built from the training part only.

    RecBole itself also counts held-out interactions when it draws negatives by popularity.
    """
    arguments = config["train_neg_sample_args"]
    if arguments["distribution"] == "none":
        return None
    kind = RepeatableSampler if config["repeatable"] else Sampler
    if arguments["distribution"] == "popularity" and not config["repeatable"]:
        users, items = (train.inter_feat[field].numpy() for field in (train.uid_field, train.iid_field))
        way = "set the distribution uniform, or leave such users out by user_inter_num_interval"
        _require_negatives(train, (users, items), np.bincount(items), "train_neg_sample_args", way)
    sampler = kind(["train"], train, arguments["distribution"], arguments["alpha"])
    return sampler.set_phase("train")


def _value_loader(config: Any, part: PartDataset, parts: list[PartDataset]) -> Any:
    """Return RecBole's loader for metrics of single scores (AUC, RMSE, ...)."""
    arguments = config[f"{part.part}_neg_sample_args"]
    label = config["LABEL_FIELD"]
    if arguments["distribution"] == "none" and label not in part.inter_feat:
        raise UserError(
            f"eval_args mode: got labeled, but the interactions have no column '{label}' (LABEL_FIELD); add "
            "the column to load_col, or derive labels by threshold={'rating': 4} with rating in load_col"
        )
    sampler = None
    if arguments["distribution"] != "none":
        phases = ["train", "valid", "test"]
        kind, source = (RepeatableSampler, part) if config["repeatable"] else (Sampler, parts)
        if arguments["distribution"] == "popularity" and config["candidate_popularity"] == "train":
            if not config["repeatable"]:
                way = "use uniN, or candidate_popularity=all"
                _require_negatives(part, part.history, part.training_counts(), "eval_mode", way)
            kind = _drawing_from(kind, parts[0].training_items().tolist())
        sampler = kind(phases, source, arguments["distribution"]).set_phase(part.part)
    return _ValueLoader(config, part, sampler, shuffle=False)


def _require_negatives(
    part: PartDataset, events: tuple[np.ndarray, np.ndarray], counts: np.ndarray, found: str, way: str
) -> None:
    """Check that no user of a part has met all items that negatives are drawn from: RecBole draws for ever.

    Args:
        part: part whose rows get negatives.
        events: users and items of the events whose items are no negatives of their users.
        counts: int (n_items,), events of each item among those that decide its popularity.
        found, way: begin and end of the error.

    Raises:
        UserError: a user has met all of them.
    """
    users, items = events
    drawn = counts > 0
    pairs = np.unique(np.stack([users, items])[:, drawn[items]], axis=1)
    met = np.bincount(pairs[0], minlength=part.user_num)
    wanted = part.inter_feat[part.uid_field].unique().numpy()
    if full := wanted[met[wanted] >= drawn.sum()].tolist():
        user = part.id2token(part.uid_field, full[0])
        raise UserError(
            f"{found}: no negative is left for the user '{user}', who has met every item with a training "
            f"event; {way}"
        )


def _drawing_from(kind: type[Any], items: list[int]) -> type[Any]:
    """Return a sampler of RecBole that draws by the popularity in *items*, not in the events of all parts."""

    class Counted(kind):
        def _get_candidates_list(self) -> list[int]:
            return items

    return Counted


class _ValueLoader(recbole_data.NegSampleEvalDataLoader):
    """RecBole's loader for metrics of single scores, whose negatives are the same in every evaluation."""

    def __init__(self, config: Any, part: PartDataset, sampler: Any, shuffle: bool) -> None:
        super().__init__(config, part, sampler, shuffle=shuffle)
        self.num_workers = 0  # torch would give each worker other random numbers in every evaluation
        self.seed = [config["candidate_seed"], ("valid", "test").index(part.part)]

    def __iter__(self) -> Iterator[Any]:
        batches = super().__iter__()
        own = np.random.RandomState(self.seed).get_state()
        while True:
            others = np.random.get_state()
            np.random.set_state(own)
            try:
                batch = next(batches)
            except StopIteration:
                return
            finally:
                own = np.random.get_state()
                np.random.set_state(others)
            yield batch
