"""A bundle: a folder with a trained model and its items that needs neither the data set nor this machine.

* ``config.json``: format, model, configuration keys, facts, and the digest of each other file;
* ``model.safetensors``: the weights; ``data.safetensors``: histories, item content and the like;
* ``items.parquet`` or ``items.csv``: id, training clicks and text of each item; ``users``: ids;
* ``README.md``: what the model is and how to use it;
* where they are asked for, the query encoder for other programs and an index (:mod:`extras`).

Nothing in it is unpickled or executed when it is loaded.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recbole_disent import registry
from recbole_disent.content.matrix import Content
from recbole_disent.errors import UserError
from recbole_disent.files import temporary_folder, writing
from recbole_disent.hashing import file_digest
from recbole_disent.models.content_embedding import ContentEmbedding
from recbole_disent.result_file import versions
from recbole_disent.serving import id_tables
from recbole_disent.serving.bundle_files import CONFIG, FILES, FORMAT, VERSION, check_free, verified
from recbole_disent.serving.card import card
from recbole_disent.serving.catalogue import Catalogue, store_of
from recbole_disent.serving.extras import Extras, write_extras
from recbole_disent.serving.source import Source
from recbole_disent.serving.stand_in import (
    StandInConfig,
    StandInDataset,
    build_model,
    features_of,
    is_path_or_place,
    storable_keys,
)
from recbole_disent.serving.tensors import join, read_tensors, split, write_tensors
from recbole_disent.training.checkpoint import plain, restored

_NOTHING = Extras()
# Facts of a loaded bundle about its own files, which a bundle made of it does not have.
_OF_A_BUNDLE = ("index", "files", "digest")


def write(
    source: Source,
    out: str | os.PathLike[str],
    histories: bool = True,
    overwrite: bool = False,
    extras: Extras = _NOTHING,
) -> Path:
    """Write a bundle: complete or not at all.

    The bundle is loaded again before it gets its name, and has to give the scores of *source*.

    Args:
        source: of a checkpoint, or of a bundle.
        out: folder to be made.
        histories: whether it holds the histories of users. Without them a sequential model knows no users
            and recommends for sequences of items only; a model with a row for each user keeps their ids.
        overwrite: whether a bundle of that name is replaced; a folder with other files never is.
        extras: further files.

    Returns:
        The folder.

    Raises:
        UserError: *out* is there already, or is a link; a library is missing; the model keeps a state that
            a bundle cannot hold, or it cannot do without the histories; *source* has no histories.
    """
    out = Path(out).absolute()
    check_free(out, overwrite)
    if histories and source.catalogue.histories is None:
        raise UserError(
            "histories: got True, but the bundle that this one is made of holds no histories; set "
            "histories=False, or export the checkpoint"
        )
    with ExitStack() as stack:
        with writing(out):
            temporary = stack.enter_context(temporary_folder(out))
        _fill(source, temporary, histories, extras)
        _require_same_scores(source, read(temporary))
        if out.exists():
            with temporary_folder(out) as old:
                os.replace(out, old)
                try:
                    os.replace(temporary, out)
                except OSError:
                    os.replace(old, out)  # the block would delete the former bundle
                    raise
        else:
            os.replace(temporary, out)
    return out


def _fill(source: Source, folder: Path, histories: bool, extras: Extras) -> None:
    catalogue, dataset = source.catalogue, source.dataset
    model_name = source.config["model"]
    content = next((m for m in source.model.modules() if isinstance(m, ContentEmbedding)), None)
    weights, others = _state(source.model)
    write_tensors(folder / "model.safetensors", weights)
    data: dict[str, Tensor] = {}
    if content is not None:
        with torch.no_grad():
            data["content"] = content.vectors()
    features = features_of(dataset)
    data |= {f"feature.{name}": values for name, (values, _, _) in features.items()}
    if histories and catalogue.histories is not None:
        data["history.offsets"] = catalogue.histories.offsets
        data["history.items"] = catalogue.histories.items
    keys = storable_keys(source.config)
    kind = keys["MODEL_TYPE"]
    has_users = histories or kind != "SEQUENTIAL"
    described = {
        "format": FORMAT,
        "format_version": VERSION,
        **{key: value for key, value in source.about.items() if key not in _OF_A_BUNDLE},
        "n_items": len(catalogue.items) - 1,
        "n_users": dataset.user_num - 1,
        "config": keys,
        "other_parameters": others,
        "content_hash": None if content is None else content.content_hash,
        "features": {name: [kind, size] for name, (_, kind, size) in features.items()},
        "versions": versions(),
    }
    reads_sequences = kind == "SEQUENTIAL" and _scores_sequences(source)
    if kind == "SEQUENTIAL" and not (histories or reads_sequences):
        raise UserError(
            f"--no-histories: {model_name} cannot score the items of a sequence alone, so that its bundle "
            "could recommend to nobody; leave the option out"
        )
    if _fault_of_building(described, catalogue, data):
        feat = dataset.inter_feat
        data["train.users"], data["train.items"] = feat[dataset.uid_field], feat[dataset.iid_field]
        if fault := _fault_of_building(described, catalogue, data):
            raise UserError(
                f"export: {model_name} is built from more of a data set than a bundle holds "
                f"({type(fault).__name__}: {fault}); load its checkpoint instead"
            )
        if not histories:
            raise UserError(
                f"--no-histories: {model_name} is built from the events of the users, so that its bundle "
                "holds them; leave the option out"
            )
    write_tensors(folder / "data.safetensors", data)
    columns: dict[str, list[Any]] = {
        "item": catalogue.items[1:].tolist(),
        "clicks": catalogue.counts[1:].tolist(),
    }
    if catalogue.texts is not None:
        columns["text"] = catalogue.texts[1:]
    id_tables.write(folder, "items", columns)
    if has_users:
        assert catalogue.users is not None
        id_tables.write(folder, "users", {"user": catalogue.users[1:].tolist()})
    described |= write_extras(extras, source, folder)
    readme = card(described, reads_sequences, has_users, "history.offsets" in data, content is not None)
    (folder / "README.md").write_text(readme, encoding="utf-8")
    described["files"] = {name: file_digest(folder / name) for name in FILES if (folder / name).exists()}
    text = json.dumps(described, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")


def _state(model: Any) -> tuple[dict[str, Tensor], Any]:
    """Weights and other parameters: tensors by name, and the structure of the latter."""
    trained = [name for name, m in model.named_modules() if isinstance(m, ContentEmbedding)]
    skipped = tuple(f"{name}.encoder." for name in trained)  # its vectors are kept in its place
    weights = {
        name: value
        for name, value in model.state_dict().items()
        if not name.endswith("_extra_state") and not name.startswith(skipped or ("\0",))
    }
    other = {k: v for k, v in model.other_parameter().items() if not isinstance(v, torch.nn.Module)}
    structure = split(plain(other), "other_parameter", weights)
    return weights, structure


def _scores_sequences(source: Source) -> bool:
    """Whether a model scores for the items of a sequence, without a user."""
    from recbole_disent.serving.encode import Encoder

    encoder = Encoder(source.model, source.config, source.dataset)
    one = store_of(np.zeros(1, np.int64), np.ones(1, np.int64), 1)
    try:
        encoder.scores(encoder.batch(one, torch.zeros(1, dtype=torch.int64), None))
    except UserError:
        return False
    return True


def _fault_of_building(
    described: dict[str, Any], catalogue: Catalogue, data: dict[str, Tensor]
) -> Exception | None:
    """Why the model cannot be built from what the bundle would hold; None: it can."""
    try:
        _build(described, catalogue, data, "cpu")
    except (AttributeError, KeyError, ValueError, TypeError) as error:
        return error
    return None


def _build(described: dict[str, Any], catalogue: Catalogue, data: dict[str, Tensor], device: str) -> Any:
    # A bundle may come from anyone: no file that it names is read, such as RecBole's pretrained weights.
    name, keys = described["config"].get("model"), described["config"]
    keys = {key: value for key, value in keys.items() if not is_path_or_place(name, key, value)}
    config = StandInConfig(keys, device)
    users = catalogue.users
    if users is None:
        users = np.empty(described["n_users"] + 1, dtype=object)
    features = {n: (data[f"feature.{n}"], kind, size) for n, (kind, size) in described["features"].items()}
    pairs = (data["train.users"], data["train.items"]) if "train.users" in data else None
    dataset = StandInDataset(config, catalogue.items, users, catalogue.counts, features, pairs)
    content = None
    if "content" in data:
        content = Content(data["content"], None, described["content_hash"], "")
    return build_model(config, dataset, content), config, dataset


def read(folder: str | os.PathLike[str], device: str = "cpu") -> Source:
    """Load a bundle from any place.

    Args:
        folder: of the bundle.
        device: where the model computes.

    Raises:
        UserError: no bundle, one of a later format, a file that is missing, damaged or changed, or a
            library that is missing.
    """
    folder = Path(folder)
    described = verified(folder)
    where = f"bundle '{folder.name}'"
    weights = read_tensors(folder / "model.safetensors")
    data = read_tensors(folder / "data.safetensors")
    items = id_tables.read(folder, "items", described["files"])
    users = id_tables.read(folder, "users", described["files"])
    with _fitting(where, described):
        name = described["config"].get("model")
        if name not in registry.model_names() and name not in registry.recbole_models():
            raise UserError(
                f"{where}: its model '{name}' is neither of this package nor of RecBole; give the Python "
                "file that defines the model as model_file"
            )
        catalogue = _catalogue(items, users, data)
        try:
            model, config, dataset = _build(described, catalogue, data, device)
        except (AttributeError, KeyError, TypeError) as error:
            raise UserError(
                f"{where}: this version of the package cannot build its model ({type(error).__name__}: "
                f"{error}); it was exported with {described['versions']}"
            ) from error
        others = join(described["other_parameters"], weights)
        found = model.load_state_dict({k: v for k, v in weights.items() if "\0" not in k}, strict=False)
        missing = [key for key in found.missing_keys if not key.endswith("_extra_state")]
        if missing or found.unexpected_keys:
            raise UserError(
                f"{where}: its weights are of another model (missing: {missing}, unexpected: "
                f"{found.unexpected_keys})"
            )
        model.load_other_parameter(restored(others, device))
    facts = {key: value for key, value in described.items() if key not in ("config", "other_parameters")}
    facts["digest"] = file_digest(folder / CONFIG)
    return Source(model.eval(), config, dataset, catalogue, facts, folder)


@contextmanager
def _fitting(where: str, described: dict[str, Any]) -> Iterator[None]:
    """Turn an error on files that contradict each other, which can be any, into a :class:`UserError`."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{where}: its files do not fit together ({type(error).__name__}, "
            f"{' '.join(str(error).split())}); it was exported with {described['versions']}; copy or export "
            "it again"
        ) from error


def _catalogue(items: Any, users: Any, data: dict[str, Tensor]) -> Catalogue:
    tokens = np.array(["[PAD]", *items["item"]], dtype=object)
    counts = np.array([0, *map(int, items["clicks"])], dtype=np.int64)
    texts = ["", *items["text"]] if "text" in items else None
    names = None if users is None else np.array(["[PAD]", *users["user"]], dtype=object)
    store = None
    if "history.offsets" in data:
        lengths, events = data["history.offsets"].diff(), data["history.items"]
        if len(events) and not 0 < int(events.min()) <= int(events.max()) < len(tokens):
            raise ValueError("a history has an item that the table of items does not have")
        if names is not None and len(lengths) != len(names):
            raise ValueError(f"there are histories of {len(lengths) - 1} users, and ids of {len(names) - 1}")
        owners = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
        store = store_of(owners.numpy(), events.numpy(), len(lengths))
    return Catalogue(tokens, counts, names, store, texts)


def _require_same_scores(source: Source, again: Source) -> None:
    """Check that a written bundle scores as the model that it was made of."""
    from recbole_disent.serving.encode import Encoder

    store = source.catalogue.histories
    if store is None:
        return
    able = (store.offsets.diff() > 0).nonzero()[:, 0]
    users = able[:: max(1, len(able) // 32)][:32]
    found = []
    for side in (source, again):
        encoder = Encoder(side.model, side.config, side.dataset)
        batch = encoder.batch(store, users, users)
        found.append(encoder.scores(batch).cpu())
    if not torch.allclose(found[0], found[1], rtol=1e-4, atol=1e-5, equal_nan=True):
        raise UserError(
            f"export: {source.config['model']} gives other scores when it is built from its weights alone, "
            "for it keeps a state elsewhere; load its checkpoint instead"
        )
