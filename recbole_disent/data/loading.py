"""Loading of the data set of a configuration and of its three parts."""

from __future__ import annotations

from typing import Any

import numpy as np
from recbole.utils import EvaluatorType, ModelType

from recbole_disent.config.key_rules import load_yaml
from recbole_disent.data.atomic_files import require_dataset
from recbole_disent.data.dataset import InteractionDataset, PartDataset, SequenceDataset
from recbole_disent.data.ordering import group_order
from recbole_disent.data.statistics_check import check_statistics
from recbole_disent.errors import UserError, nearest
from recbole_disent.hashing import digest
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
    kind = config["MODEL_TYPE"]
    if kind not in _KINDS or not spec_of(config["model"]).supported:
        raise UserError(
            f"model '{config['model']}' is not supported, expected one of RecBole's general and sequential "
            "models; use RecBole itself for this model"
        )
    require_data(config)
    return _KINDS[kind](config)


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

    The digest is the same for general and for sequential models.
    """
    first = parts[0]
    n = first.item_num
    users, items = first.history
    order = group_order(users)
    keys = [users[order].astype(np.int64) * n + items[order]]
    for part in parts[1:]:
        feat = part.inter_feat
        held = feat[first.uid_field].numpy().astype(np.int64) * n + feat[first.iid_field].numpy()
        keys.append(np.sort(held))
    ids = [token for field in (first.uid_field, first.iid_field) for token in first.field2id_token[field]]
    return digest("\n".join(map(str, ids)), *keys)


def load_parts(config: Any) -> tuple[PartDataset, list[PartDataset]]:
    """Load and split a data set.

    If several processes run on a machine, one process loads the data and the others map its memory.

    Returns:
        The data set, and its training, validation and test part.

    Raises:
        UserError: see :func:`create_dataset`, or the training part is empty.
    """

    def make() -> tuple[PartDataset, list[PartDataset]]:
        dataset = create_dataset(config)
        check_statistics(config, dataset)
        check_cut_offs(config, dataset)
        _check_selected(config, dataset)
        return dataset, dataset.build()

    dataset, parts = build_once_per_node(make, config)
    check_cut_offs(config, dataset)  # every process has its own configuration
    return dataset, parts


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
    config["topk"] = [k for k in config["topk"] if k <= limit]


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
