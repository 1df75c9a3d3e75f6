"""From a configuration to a data set and its three parts."""

from __future__ import annotations

from typing import Any

import numpy as np
from recbole.utils import EvaluatorType, ModelType

from recbole_disent.config.key_rules import load_yaml
from recbole_disent.data.atomic_files import require_dataset
from recbole_disent.data.dataset import InteractionDataset, PartDataset, SequenceDataset
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
        UserError: missing or faulty files, or a kind of model that is not supported.
    """
    kind = config["MODEL_TYPE"]
    if kind not in _KINDS or not spec_of(config["model"]).supported:
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


def data_hash(parts: list[PartDataset]) -> str:
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


def load_parts(config: Any) -> tuple[PartDataset, list[PartDataset]]:
    """Load and split a data set; of several processes on a machine one does, the others map it.

    Returns:
        the data set and its training, validation and test part.

    Raises:
        UserError: see :func:`create_dataset`, or nothing to train on.
    """

    def make() -> tuple[PartDataset, list[PartDataset]]:
        dataset = create_dataset(config)
        check_statistics(config, dataset)
        check_cut_offs(config, dataset)
        _check_selected(config, dataset)
        return dataset, dataset.build()

    dataset, parts = build_once_per_node(make, config)
    check_cut_offs(config, dataset)  # in each process, which has a configuration of its own
    return dataset, parts


def check_cut_offs(config: Any, dataset: PartDataset) -> None:
    """Cut-offs above the number of items: dropped from the default, an error otherwise."""
    limit = dataset.item_num - 1
    if config["eval_type"] == EvaluatorType.VALUE or max(config["topk"]) <= limit:
        return
    cut = config["valid_metric"].partition("@")[2]
    if "topk" in config.external_config_dict or int(cut) > limit:
        raise UserError(f"topk: got {max(config['topk'])}, expected at most {limit}, the number of items")
    config["topk"] = [k for k in config["topk"] if k <= limit]


def _check_selected(config: Any, dataset: PartDataset) -> None:
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
