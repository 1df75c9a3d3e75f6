"""The table of known data sets: their aliases, how to get them, and their published statistics."""

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
    """Return the entry of a data set in ``dataset_configs/_datasets.yaml``.

    The entry may have the keys ``aliases``, ``obtain``, ``item_file_id`` and ``statistics``. It is empty
    for a data set that the table does not list.
    """
    return _table().get(name, {})


def resolve(name: str, data_path: str | None) -> str:
    """Return the name of the data set that *name* stands for.

    A folder named *name* takes precedence over an alias, so that the user's own data are not ignored.

    Args:
        name: name or alias of a data set.
        data_path: folder of the data sets; None means RecBole's default.

    Example:
        >>> resolve("steam", "no-such-folder")
        'steam-not-merged'
    """
    if os.path.isdir(os.path.join(str(data_path or _DATA_PATH), name)):
        return name
    return next((known for known, found in _table().items() if name in found.get("aliases", [])), name)
