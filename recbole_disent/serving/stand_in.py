"""Configuration and data set of a model that is built where neither is at hand.

They answer what the constructors of models ask for, from what a bundle holds.
"""

from __future__ import annotations

import json
from logging import getLogger
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.utils import FeatureType, ModelType
from torch import Tensor

from recbole_disent import registry
from recbole_disent.content.matrix import Content
from recbole_disent.data.interactions import InteractionDataset
from recbole_disent.errors import UserError
from recbole_disent.recbole import patches
from recbole_disent.serving.dtype import default_dtype
from recbole_disent.training.checkpoint import config_to_dict


class StandInConfig:
    """The keys of a configuration; as with RecBole's, a key that is not there is None.

    Args:
        keys: of the configuration that the model was trained with.
        device: where the model computes.
    """

    def __init__(self, keys: dict[str, Any], device: str) -> None:
        patches.apply()
        kind = keys.get("MODEL_TYPE")
        if kind not in ModelType.__members__:
            raise UserError(
                f"config.json: MODEL_TYPE is {kind!r}, expected one of {', '.join(ModelType.__members__)}"
            )
        longest = keys.get("MAX_ITEM_LIST_LENGTH")
        if not isinstance(longest, int) or longest < 1:
            raise UserError(f"config.json: MAX_ITEM_LIST_LENGTH is {longest!r}, expected an integer above 0")
        self.final_config_dict = {**keys, "MODEL_TYPE": ModelType[kind], "device": torch.device(device)}
        self.external_config_dict: dict[str, Any] = {}
        self.model_class = registry.get_model(keys["model"])

    def __getitem__(self, key: str) -> Any:
        return self.final_config_dict.get(key)

    def __getattr__(self, key: str) -> Any:
        found = self.__dict__.get("final_config_dict", {})
        if key not in found:
            raise AttributeError(key)
        return found[key]

    def __contains__(self, key: object) -> bool:
        return key in self.final_config_dict


class StandInDataset(InteractionDataset):
    """A data set of counts and ids, without the files.

    Args:
        config: the stand-in of the configuration.
        items, users: object (n,), external ids, that of the padding first.
        counts: int64 (n_items,), training clicks of each item.
        features: columns of the items by RecBole, with the type and the number of values of each.
        interactions: int64 (N,) users and items of the training part, for models that are built from
            them; None for all others.
    """

    def __init__(
        self,
        config: StandInConfig,
        items: np.ndarray,
        users: np.ndarray,
        counts: np.ndarray,
        features: dict[str, tuple[Tensor, str, int]],
        interactions: tuple[Tensor, Tensor] | None,
    ) -> None:
        self.config, self._counts, self.logger = config, counts, getLogger()
        self.dataset_name = config["dataset"]
        self.uid_field, self.iid_field = config["USER_ID_FIELD"], config["ITEM_ID_FIELD"]
        self.label_field, self.time_field = config["LABEL_FIELD"], config["TIME_FIELD"]
        self.field2id_token = {self.uid_field: users, self.iid_field: items}
        self.field2type = dict.fromkeys(self.field2id_token, FeatureType.TOKEN)
        self.field2seqlen = dict.fromkeys(self.field2id_token, 1)
        self.item_id_list_field = f"{self.iid_field}{config['LIST_SUFFIX']}"
        self.item_list_length_field = config["ITEM_LIST_LENGTH_FIELD"]
        self.field2seqlen[self.item_id_list_field] = config["MAX_ITEM_LIST_LENGTH"]
        self.field2bucketnum: dict[str, int] = {}
        self.user_feat = None
        self.item_feat = None
        if features:
            columns = {self.iid_field: torch.arange(len(items))}
            for name, (values, kind, size) in features.items():
                columns[name] = values
                self.field2type[name] = FeatureType[kind]
                self.field2id_token[name] = np.empty(size, dtype=object)
                self.field2seqlen[name] = self.field2bucketnum[name] = size
            self.item_feat = Interaction(columns)
        if interactions is not None:
            self.inter_feat = Interaction({self.uid_field: interactions[0], self.iid_field: interactions[1]})

    def training_counts(self) -> np.ndarray:
        """Number of training clicks of each item: int64 (n_items,)."""
        return self._counts


def build_model(config: StandInConfig, dataset: StandInDataset, content: Content | None) -> Any:
    """Build a model whose weights are then loaded.

    Raises:
        AttributeError, KeyError: the constructor asks for something that the stand-ins lack.
    """
    spec = registry.spec_of(config["model"])
    cls = config.model_class
    if spec.adapter:
        cls = registry.resolve(spec.adapter)(config, cls)
    given = {} if spec.content == "never" else {"content": content}
    double = config["precision"] == "double"
    # The weights that it draws are replaced.
    with torch.random.fork_rng(devices=[]), default_dtype(torch.float64 if double else torch.float32):
        model = cls(config, dataset, **given)
    return (model.double() if double else model).to(config["device"]).eval()


def features_of(dataset: Any) -> dict[str, tuple[Tensor, str, int]]:
    """Columns of the items that RecBole hands to models, as :class:`StandInDataset` takes them."""
    if dataset.item_feat is None:
        return {}
    found = {}
    for name in dataset.item_feat:
        if name == dataset.iid_field:
            continue
        kind = dataset.field2type[name]
        if kind in (FeatureType.TOKEN, FeatureType.TOKEN_SEQ):
            size = len(dataset.field2id_token[name])
        else:
            size = dataset.num(name)
        found[name] = (dataset.item_feat[name], kind.name, size)
    return found


def is_path_or_place(model: str, key: str, value: Any) -> bool:
    """Whether a configuration key says something of a machine and nothing of the model."""
    from recbole_disent.config import key_rules

    rule = key_rules.of_run(model).get(key)
    if rule is not None and (rule.scope == "place" or "path" in rule.flags):
        return True
    name = key.lower()
    folders = name.endswith(("_path", "_dir", "_file", "path")) and isinstance(value, str)
    return folders or name in _OF_A_RUN


def storable_keys(config: Any) -> dict[str, Any]:
    """Return the keys of a configuration that JSON can hold and that say nothing of a machine."""
    return {
        key: value
        for key, value in config_to_dict(config).items()
        if not is_path_or_place(config["model"], key, value) and _is_json(value)
    }


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


# Keys of RecBole about devices, processes, logs and searches.
_OF_A_RUN = {
    *("device", "gpu_id", "use_gpu", "local_rank", "world_size", "nproc", "ip", "port", "offset", "backend"),
    *("single_spec", "log_wandb", "wandb_project", "worker", "show_progress", "state", "config_files"),
}
