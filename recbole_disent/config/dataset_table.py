"""What is known of data sets by name: aliases, how to get them, published statistics."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from recbole_disent.config import key_rules

# RecBole's default of ``data_path``.
_DATA_PATH = "dataset"


@cache
def _table() -> dict[str, dict[str, Any]]:
    file = key_rules.folder("dataset_configs") / "_datasets.yaml"
    return key_rules.load_yaml(file.read_text(encoding="utf-8"))


def entry(name: str) -> dict[str, Any]:
    """Return the entry of a data set in ``dataset_configs/_datasets.yaml``: empty where there is none.

    Its keys are ``aliases``, ``obtain``, ``item_file_id`` and ``statistics``, each of which can be missing.
    """
    return _table().get(name, {})


def resolve(name: str, data_path: str | None) -> str:
    """Return the name of the data set that *name* stands for.

    A folder with the name itself comes first, so that nobody's own data are passed over.

    Args:
        name: of a data set, or an alias.
        data_path: the folder of the data sets; None: RecBole's default.

    Example:
        >>> resolve("steam", "no-such-folder")
        'steam-not-merged'
    """
    if os.path.isdir(os.path.join(str(data_path or _DATA_PATH), name)):
        return name
    return next((known for known, found in _table().items() if name in found.get("aliases", [])), name)
