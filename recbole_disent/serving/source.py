"""What serving is made of, from the checkpoint of a run. A bundle gives the same: see :mod:`bundle`."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole_disent import result_file
from recbole_disent.data.item_file import read_items
from recbole_disent.errors import UserError
from recbole_disent.hashing import file_digest
from recbole_disent.serving.catalogue import Catalogue, histories_of
from recbole_disent.serving.index import FILES, Index
from recbole_disent.session import load_checkpoint
from recbole_disent.training import checkpoint


@dataclass
class Source:
    """A trained model and what it is about.

    Attributes:
        model: in evaluation mode.
        config: of the model, a Config or its stand-in.
        dataset: what the model was trained on, or its stand-in.
        catalogue: ids, popularity, texts and histories.
        about: facts for the reader: ``data_hash``, ``metrics``, ``versions`` and others.
        folder: of a bundle; None for a checkpoint.
    """

    model: Any
    config: Any
    dataset: Any
    catalogue: Catalogue
    about: dict[str, Any]
    folder: Path | None = None
    _index: Index | None = None

    def index(self, n_items: int, width: int) -> Index:
        """Return the approximate index of a bundle; it is read when it is first asked for.

        Args:
            n_items, width: shape of the item table.

        Raises:
            UserError: there is none, its library is missing, its file is damaged, or the bundle was
                replaced since it was loaded.
        """
        if self._index is None:
            entry = self.about.get("index")
            if self.folder is None or not isinstance(entry, dict):
                raise UserError("index: there is none here; export a bundle with --index faiss or hnsw")
            kind, effort = entry.get("kind"), entry.get("effort")
            file = FILES.get(str(kind))
            if file not in self.about["files"] or not isinstance(effort, int) or effort < 1:
                raise UserError(
                    f"index: config.json says {entry}, which is no index; export the bundle again"
                )
            path = self.folder / str(file)
            # Many calls may lie between loading and this one: the index of a later model would fit this one.
            if not path.is_file() or file_digest(path) != self.about["files"][file]:
                raise UserError(
                    f"index: the bundle in '{self.folder.name}' is another one than was loaded; load it again"
                )
            self._index = Index.read(str(kind), path, n_items, width)
            self._index.effort = effort
        return self._index


def from_checkpoint(path: str | os.PathLike[str], config_dict: dict[str, Any] | None = None) -> Source:
    """Load a checkpoint and the data set that it was trained on.

    Args:
        path: a ``.pth`` file of a run.
        config_dict: keys that differ here, such as ``data_path``.

    Raises:
        UserError: no checkpoint, or other data than it was trained on.
    """
    model, data = load_checkpoint(str(path), config_dict)
    state = checkpoint.load(str(path))
    train = data.train_with_validation() if state.get("refit") else data.loaders[0]._dataset
    items = train.field2id_token[train.iid_field].astype(str).astype(object)
    users = train.field2id_token[train.uid_field].astype(str).astype(object)
    histories = histories_of([loader.dataset for loader in data.loaders])
    catalogue = Catalogue(items, train.training_counts(), users, histories, _texts(train, items))
    about = {
        "model": data.config["model"],
        "dataset": data.config["dataset"],
        "data_hash": data.data_hash,
        "epoch": state.get("epoch"),
        "best_valid_result": state.get("best_valid_result"),
        "refit": bool(state.get("refit")),
        "digest": file_digest(path),
        "test_result": _test_result(str(path), data.config),
    }
    return Source(model, data.config, train, catalogue, about)


def _test_result(path: str, config: Any) -> dict[str, float] | None:
    """Metrics of the test part from the result file of the run, where it is still there."""
    file = result_file.path_for(path, config["result_dir"])
    try:
        found = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(found, dict) or found.get("model") != config["model"]:
        return None
    tested = found.get("test_result")
    return tested if isinstance(tested, dict) else None


def _texts(dataset: Any, items: Any) -> list[str] | None:
    """Text of each item: the columns of the item file that are titles or names, else all of them."""
    path = Path(dataset.dataset_path) / f"{dataset.dataset_name}.item"
    if not path.is_file():
        return None
    config = dataset.config
    try:
        table = read_items(
            str(path), dataset.iid_field, None, config["field_separator"], config["encoding"], "item texts"
        )
    except UserError as error:  # texts are for the reader only
        dataset.logger.warning(f"items are shown without their texts: {error}")
        return None
    names = list(table.kinds)
    titles = [n for n in names if "title" in n.lower() or "name" in n.lower()] or names
    chosen = [names.index(name) for name in titles]
    empty = [""] * len(names)
    return [" · ".join(filter(None, (table.cells.get(i, empty)[c] for c in chosen))) for i in items]
