"""Loading of the data set of a configuration and of its three parts."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from recbole.utils import EvaluatorType, ModelType

from recbole_disent.config.key_rules import load_yaml
from recbole_disent.data import prepared
from recbole_disent.data.atomic_files import require_dataset
from recbole_disent.data.dataset import PartDataset, SequenceDataset
from recbole_disent.data.interactions import InteractionDataset
from recbole_disent.data.ordering import group_order
from recbole_disent.data.report import describe
from recbole_disent.data.statistics_check import check_statistics, count
from recbole_disent.errors import UserError, nearest
from recbole_disent.hashing import digest
from recbole_disent.parallel import process_group
from recbole_disent.parallel.shared_memory import build_once_per_node
from recbole_disent.registry import recbole_folder, spec_of

_KINDS = {
    ModelType.SEQUENTIAL: SequenceDataset,
    ModelType.GENERAL: InteractionDataset,
    ModelType.TRADITIONAL: InteractionDataset,
}


def create_dataset(config: Any) -> PartDataset:
    """Load and filter a data set.

    Raises:
        UserError: a file is missing or faulty, or the model is not supported.
    """
    kind = _kind(config)
    require_data(config)
    return kind(config)


def _kind(config: Any) -> type[PartDataset]:
    kind = config["MODEL_TYPE"]
    if kind not in _KINDS or not spec_of(config["model"]).supported:
        raise UserError(
            f"model '{config['model']}' is not supported, expected one of RecBole's general and sequential "
            "models; use RecBole itself for this model"
        )
    return _KINDS[kind]


def require_data(config: Any) -> None:
    """Check that the data set of a configuration is on disk or can be downloaded.

    Raises:
        UserError: the data set is not on disk and cannot be downloaded.
    """
    require_dataset(
        config["dataset"], config["data_path"], config["benchmark_filename"], _downloadable(config)
    )


def _downloadable(config: Any) -> bool:
    file = recbole_folder() / "properties" / "dataset" / "url.yaml"
    return config["dataset"] in load_yaml(file.read_text(encoding="utf-8"))


def data_hash(parts: list[PartDataset]) -> str:
    """Return a digest of the ordered events of each user, the held-out rows and the ids.

    The digest is the same for general and for sequential models, unless a user has several held-out events
    (splits by ratios, pre-split files): a general model then has one ranking for the user, and a sequential
    model one for each event, so that their metrics cannot be compared.
    """
    first = parts[0]
    n = first.item_num
    users, items = first.history
    order = group_order(users)
    keys = [users[order].astype(np.int64) * n + items[order]]
    several = False
    for part in parts[1:]:
        feat = part.inter_feat
        several |= part.count_row_users() < len(feat)
        held = feat[first.uid_field].numpy().astype(np.int64) * n + feat[first.iid_field].numpy()
        keys.append(np.sort(held))
    ids = [token for field in (first.uid_field, first.iid_field) for token in first.field2id_token[field]]
    if several and first.one_target_per_query:
        ids.append("one ranking for each held-out event")
    return digest("\n".join(map(str, ids)), *keys)


def feature_hash(config: Any, dataset: PartDataset) -> str | None:
    """Return a digest of each item's values of ``selected_features``, which are rows of embeddings.

    The rows follow the order of the file, so that a checkpoint belongs to one state of it. None for a model
    without features of the items.
    """
    fields = config["selected_features"]
    if not fields or dataset.item_feat is None:
        return None
    found = dataset.item_feat
    values = [np.asarray(found[field]) for field in fields]
    return digest("\n".join(fields), *values)


def load_parts(config: Any) -> tuple[PartDataset, list[PartDataset]]:
    """Load and split a data set, without the prepared data on disk.

    Returns:
        The data set, and its training, validation and test part.

    Raises:
        UserError: see :func:`create_dataset`, or the training part is empty.
    """
    dataset, parts = _split(config)
    _check(config, dataset)
    return dataset, parts


def _split(config: Any) -> tuple[PartDataset, list[PartDataset]]:
    dataset = create_dataset(config)
    dataset.sizes = count(dataset)
    return dataset, dataset.build()


@dataclass
class SplitData:
    """A data set, its parts and what is computed from them.

    Attributes:
        dataset: the whole data set, after the split.
        parts: training, validation and test part.
        data_hash: see :func:`data_hash`.
        report: see :func:`recbole_disent.data.report.describe`.
    """

    dataset: PartDataset
    parts: list[PartDataset]
    data_hash: str
    report: dict[str, Any]


def prepare_data(config: Any) -> SplitData:
    """Load and split a data set, or map the data that an earlier run has prepared.

    If several processes run on a machine, one process prepares the data and the others map its memory.

    Raises:
        UserError: see :func:`load_parts`.
    """
    _kind(config)

    def make() -> tuple[dict[str, Any], str | None]:
        return prepared.stored_or_made(config, _make)

    found = SplitData(**build_once_per_node(make, config, prepared.read))
    _check(config, found.dataset)
    return found


def prepare_once(config: Any) -> None:
    """Store the prepared data of a configuration before several runs need them at the same time.

    Nothing happens if they are stored already or cannot be stored. An error is left to the runs.
    """
    if not config["prepared_limit_gb"] or config["eval_args"]["order"] == "RO" or prepared.is_stored(config):
        return
    before = logging.root.manager.disable
    logging.disable()  # each run logs the warnings about the data
    try:
        with suppress(Exception):
            prepared.stored_or_made(config, _make)
    finally:
        logging.disable(before)


def _make(config: Any) -> dict[str, Any]:
    dataset, parts = _split(config)
    return {
        "dataset": dataset,
        "parts": parts,
        "data_hash": data_hash(parts),
        "report": describe(dataset, parts),
    }


def _check(config: Any, dataset: PartDataset) -> None:
    """Check a configuration against the data; each process has its own configuration."""
    if process_group.rank() == 0:
        check_statistics(config, dataset)
    check_cut_offs(config, dataset)
    _check_selected(config, dataset)


def check_cut_offs(config: Any, dataset: PartDataset) -> None:
    """Drop default cut-offs above the number of items.

    Raises:
        UserError: the user set a cut-off above the number of items.
    """
    limit = dataset.item_num - 1
    if config["eval_type"] == EvaluatorType.VALUE or max(config["topk"]) <= limit:
        return
    cut = config["valid_metric"].partition("@")[2]
    if "topk" in config.external_config_dict or int(cut) > limit:
        raise UserError(f"topk: got {max(config['topk'])}, expected at most {limit}, the number of items")
    dropped = [k for k in config["topk"] if k > limit]
    config["topk"] = [k for k in config["topk"] if k <= limit]
    if process_group.rank() == 0:
        numbers = ", ".join(map(str, dropped))
        dataset.logger.info(f"topk: {numbers} left out of the default, because the data have {limit} items")


def _check_selected(config: Any, dataset: PartDataset) -> None:
    """Check that the item columns in ``selected_features`` (SASRecF, FDSA) are loaded.

    Raises:
        UserError: a column is not loaded.
    """
    loaded = set() if dataset.item_feat is None else set(dataset.item_feat.columns)
    for field in config["selected_features"] or []:
        if field not in loaded:
            raise UserError(
                f"selected_features: got '{field}', which is not a loaded column of the items"
                f"{nearest(field, loaded)}; load the column, for example by load_col={{'inter': "
                f"{config['load_col']['inter'] if config['load_col'] else '[...]'}, 'item': "
                f"['{config['ITEM_ID_FIELD']}', '{field}']}}"
            )
