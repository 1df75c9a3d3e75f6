"""From a configuration to the three loaders; in place of RecBole's, which reads pickles."""

from __future__ import annotations

from typing import Any

import numpy as np
from recbole.data import utils as recbole_data
from recbole.data.dataloader import TrainDataLoader
from recbole.data.transform import construct_transform
from recbole.sampler import RepeatableSampler, Sampler
from recbole.utils import EvaluatorType, ModelType

from recbole_disent.compat import recbole_folder
from recbole_disent.data.atomic_files import require_dataset
from recbole_disent.data.candidates import digest
from recbole_disent.data.dataloader import HeldOutLoader, build_train_loader, shared
from recbole_disent.data.dataset import InteractionDataset, LeanDataset, SequenceDataset
from recbole_disent.data.sharing import made_once
from recbole_disent.data.statistics_check import check_statistics
from recbole_disent.errors import UserError, nearest
from recbole_disent.settings import load_yaml

_KINDS = {
    ModelType.SEQUENTIAL: SequenceDataset,
    ModelType.GENERAL: InteractionDataset,
    ModelType.TRADITIONAL: InteractionDataset,
}
# RecBole gives these a data set class of its own, or trains them in two stages.
_OWN_WAY = {"DIEN", "GRU4RecKG", "KSR", "RaCT", "S3Rec"}


def create_dataset(config: Any) -> LeanDataset:
    """Load and filter a data set.

    Raises:
        UserError: missing or faulty files, or a kind of model that is not supported.
    """
    kind = config["MODEL_TYPE"]
    if kind not in _KINDS or config["model"] in _OWN_WAY:
        raise UserError(
            f"model '{config['model']}' is not run by this package: it runs RecBole's general and "
            "sequential models; use RecBole itself for this one"
        )
    require_data(config)
    return _KINDS[kind](config)


def require_data(config: Any) -> None:
    """Check that the data set of a configuration is on disk or can be downloaded.

    Raises:
        UserError: it is not.
    """
    require_dataset(
        config["dataset"], config["data_path"], config["benchmark_filename"], _downloadable(config)
    )


def _downloadable(config: Any) -> bool:
    file = recbole_folder() / "properties" / "dataset" / "url.yaml"
    return config["dataset"] in load_yaml(file.read_text(encoding="utf-8"))


def data_hash(parts: list[LeanDataset]) -> str:
    """Digest of events, held-out rows and item ids: equal for every kind of model."""
    first = parts[0]
    n = first.item_num
    users, items = first.history
    keys = [np.sort(users.astype(np.int64) * n + items)]
    for part in parts[1:]:
        feat = part.inter_feat
        held = feat[first.uid_field].numpy().astype(np.int64) * n + feat[first.iid_field].numpy()
        keys.append(np.sort(held))
    return digest("\n".join(map(str, first.field2id_token[first.iid_field])), *keys)


def load_parts(config: Any) -> tuple[LeanDataset, list[LeanDataset]]:
    """Load and split a data set; of several processes on a machine one does, the others map it.

    Returns:
        the data set and its training, validation and test part.

    Raises:
        UserError: see :func:`create_dataset`, or nothing to train on.
    """

    def make() -> tuple[LeanDataset, list[LeanDataset]]:
        dataset = create_dataset(config)
        check_statistics(config, dataset)
        _check_cut_offs(config, dataset)
        _check_selected(config, dataset)
        return dataset, dataset.build()

    return made_once(make, config)


def prepare(
    config: Any,
    dataset: LeanDataset,
    trim: bool,
    train_loader: Any = None,
    parts: list[LeanDataset] | None = None,
) -> tuple[Any, Any, Any]:
    """Make the loaders.

    Args:
        config: the configuration.
        dataset: from :func:`create_dataset`.
        trim: whether the model's result does not depend on the width of a batch.
        train_loader: function (config, dataset, sampler) -> loader; None: RecBole's for the model.
        parts: of the data set, where it is split.

    Returns:
        training, validation and test loader.
    """
    _check_cut_offs(config, dataset)
    parts = parts or dataset.build()
    for part in parts:
        part.trim = trim and (config["trim_batches"] or config["bucket_batches"])
    train, valid, test = parts
    sampler = _train_sampler(config, train)
    if train_loader is None:
        theirs = recbole_data.get_dataloader(config, "train")
        train_loader = build_train_loader
        if theirs is not TrainDataLoader:  # the auto-encoders' loader of users
            train_loader = lambda c, d, s: theirs(c, d, s, shuffle=c["shuffle"])  # noqa: E731
    loaders = [shared(train_loader(config, train, sampler))]
    transform = construct_transform(config)
    for part in (valid, test):
        mode = config["eval_args"]["mode"][part.part]
        if config["eval_type"] == EvaluatorType.VALUE or mode == "labeled":
            part.trim = False  # that loader joins rows of several batches
            loaders.append(_value_loader(config, part, parts))
        else:
            loaders.append(HeldOutLoader(config, part, transform, full=mode == "full"))
    return tuple(loaders)


def _check_cut_offs(config: Any, dataset: LeanDataset) -> None:
    """Cut-offs above the number of items: dropped from the default, an error otherwise."""
    limit = dataset.item_num - 1
    if config["eval_type"] == EvaluatorType.VALUE or max(config["topk"]) <= limit:
        return
    cut = config["valid_metric"].partition("@")[2]
    if "topk" in config.external_config_dict or int(cut) > limit:
        raise UserError(f"topk: got {max(config['topk'])}, expected at most {limit}, the number of items")
    config["topk"] = [k for k in config["topk"] if k <= limit]


def _check_selected(config: Any, dataset: LeanDataset) -> None:
    """``selected_features`` of SASRecF and FDSA: item columns, which have to be loaded."""
    loaded = set() if dataset.item_feat is None else set(dataset.item_feat.columns)
    for field in config["selected_features"] or []:
        if field not in loaded:
            raise UserError(
                f"selected_features: got '{field}', which is no loaded column of the items"
                f"{nearest(field, loaded)}; load it, such as load_col={{'inter': "
                f"{config['load_col']['inter'] if config['load_col'] else '[...]'}, 'item': "
                f"['{config['ITEM_ID_FIELD']}', '{field}']}}"
            )


def _train_sampler(config: Any, train: LeanDataset) -> Any:
    """RecBole's sampler of training negatives, from the training part alone.

    RecBole counts held-out interactions into the popularity that negatives are drawn by.
    """
    arguments = config["train_neg_sample_args"]
    if arguments["distribution"] == "none":
        return None
    kind = RepeatableSampler if config["repeatable"] else Sampler
    sampler = kind(["train"], train, arguments["distribution"], arguments["alpha"])
    return sampler.set_phase("train")


def _value_loader(config: Any, part: LeanDataset, parts: list[LeanDataset]) -> Any:
    """RecBole's loader for metrics of single scores (AUC, RMSE, ...)."""
    arguments = config[f"{part.part}_neg_sample_args"]
    label = config["LABEL_FIELD"]
    if arguments["distribution"] == "none" and label not in part.inter_feat:
        raise UserError(
            f"eval_args mode: labeled, but the interactions have no column '{label}' (LABEL_FIELD); name it "
            "in load_col, or make it by a threshold such as threshold={'rating': 4} with rating in load_col"
        )
    sampler = None
    if arguments["distribution"] != "none":
        phases = ["train", "valid", "test"]
        if config["repeatable"]:
            sampler = RepeatableSampler(phases, part, arguments["distribution"])
        else:
            sampler = Sampler(phases, parts, arguments["distribution"])
        sampler = sampler.set_phase(part.part)
    loader = recbole_data.NegSampleEvalDataLoader
    return loader(config, part, sampler, shuffle=False)
