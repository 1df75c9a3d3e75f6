"""Small data sets for the tests of faults, with 8 users and 6 items, separated by tabs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from recbole_disent.config.config import Config
from recbole_disent.data.loading import data_hash, load_parts
from recbole_disent.session import run

HEAD = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
LOAD = {"inter": ["user_id", "item_id", "rating", "timestamp"]}
KEYS: dict[str, Any] = {"data_path": ".", "topk": [1, 3], "valid_metric": "NDCG@3", "show_progress": False,
                        "epochs": 1, "MAX_ITEM_LIST_LENGTH": 5, "load_col": LOAD}  # fmt: skip
SPLIT = ["train", "valid", "test"]


def small_rows() -> list[tuple[str, str, int, int]]:
    """Return six events of each user; the first item of user n is item n, and the others follow in order."""
    return [
        (f"u{u}", f"i{(u + step) % 6}", 1 + (u + step) % 5, 10 * step) for u in range(8) for step in range(6)
    ]


def write(name: str, suffix: str, rows: list[Any], head: str = HEAD, **options: Any) -> Path:
    """Write ``name/name.suffix`` below the working directory; *rows* are tuples of cells, or lines."""
    folder = Path(name)
    folder.mkdir(exist_ok=True)
    lines = [row if isinstance(row, str) else "\t".join(map(str, row)) for row in rows]
    path = folder / f"{name}.{suffix}"
    path.write_text("\n".join([head, *lines]) + "\n", **{"encoding": "utf-8", **options})
    return path


def config(model: str = "SASRec", name: str = "small", **keys: Any) -> Config:
    """Return a configuration on a data set of the working directory."""
    return Config(model, name, config_dict={**KEYS, **keys})


def load(model: str = "SASRec", name: str = "small", **keys: Any) -> Any:
    """Return the data set and its parts."""
    return load_parts(config(model, name, **keys))


def hash_of(model: str = "SASRec", name: str = "small", **keys: Any) -> str:
    """Return the data hash."""
    return data_hash(load(model, name, **keys)[1])


def small_run(model: str = "GRU4Rec", name: str = "small", **keys: Any) -> dict[str, Any]:
    """Run on a data set of the working directory, without files."""
    return run(model, name, config_dict={**KEYS, **keys}, saved=False)


def sequences(dataset: Any) -> dict[str, list[str]]:
    """Return user -> items in the order of the store of a sequential data set."""
    store = dataset.store
    found = {}
    for user in range(1, dataset.user_num):
        items = store.items[store.offsets[user] : store.offsets[user + 1]].long()
        found[str(dataset.id2token("user_id", user))] = [str(t) for t in dataset.id2token("item_id", items)]
    return found


def rows_of(part: Any) -> list[tuple[str, list[str], str]]:
    """Return (user, history, target) of each row of a part."""
    batch = part[np.arange(len(part.inter_feat))]
    iid, uid = part.iid_field, part.uid_field
    lists = batch[part.history_field]
    return [
        (
            str(part.id2token(uid, int(user))),
            [str(t) for t in part.id2token(iid, row[row > 0])],
            str(part.id2token(iid, int(item))),
        )
        for user, row, item in zip(batch[uid], lists, batch[iid], strict=True)
    ]
