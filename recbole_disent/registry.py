"""One table of models. What is not in it is RecBole's own."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from recbole_disent.compat import anomaly_detection_kept, mended, recbole_folder
from recbole_disent.errors import UserError, nearest


@dataclass(frozen=True)
class ModelSpec:
    """What a model of this package is made of; each value is ``module:name``."""

    model: str
    train_loader: str
    # Function of a configuration for checks of several keys at once.
    check: str


MODELS = {
    "DisentS2S": ModelSpec(
        model="recbole_disent.model.disents2s:DisentS2S",
        train_loader="recbole_disent.data.dataloader:build_disents2s_loader",
        check="recbole_disent.model.disents2s:check",
    ),
    "TSSR": ModelSpec(
        model="recbole_disent.model.tssr:TSSR",
        train_loader="recbole_disent.data.window_loader:build_user_loader",
        check="recbole_disent.model.tssr:check",
    ),
    "SASRecContent": ModelSpec(
        model="recbole_disent.model.sasrec_content:SASRecContent",
        train_loader="recbole_disent.data.window_loader:build_user_loader",
        check="recbole_disent.model.sasrec_content:check",
    ),
}

# RecBole's sequential models whose loss, gradients and scores do not change when the
# padding after the longest history of a batch is cut off (tests/test_dataloader.py shows
# it for each). Models that convolve over, pool over or size a layer by the full width
# (Caser, NextItNet, LightSANs, ...) are not here and keep it.
TRIMMABLE = frozenset(
    {"SASRec", "SASRecF", "FDSA", "GRU4Rec", "GRU4RecF", "NARM", "BERT4Rec", "CORE", "FPMC", "STAMP"}
)

# RecBole's sequential models whose state at a place knows earlier places only: they can learn from
# whole sequences, too (tests/test_causal.py shows for each that the loss and its gradients are those
# of the pairs one by one).
CAUSAL = frozenset({"SASRec", "SASRecF", "FDSA", "GRU4Rec", "GRU4RecF"})

# RecBole's models that learn masked items, with the field of the masks' places. Their loss is a mean over
# the places above 0, not over rows. They can learn from windows of whole sequences, too.
MASKED = {"BERT4Rec": "MASK_INDEX"}

# RecBole's models with `train_mode`.
TWO_WAYS = CAUSAL.union(MASKED)

# RecBole's models whose softmax over all items can be had in a part of its time and memory, with the
# function that returns such a class (tests/test_masked.py, tests/test_caser.py).
LEAN = {
    "BERT4Rec": "recbole_disent.model.masked:lean",
    "Caser": "recbole_disent.model.caser:lean",
}


def load(path: str) -> Any:
    """Import ``module:name``."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


def recbole_models() -> list[str]:
    """Return the names of RecBole's models: those with default values in its properties."""
    folder = recbole_folder() / "properties" / "model"
    return sorted(file.stem for file in folder.glob("*.yaml"))


def get_model(name: str) -> type[Any]:
    """Return the class of a model of this package or of RecBole.

    Raises:
        UserError: no such model, or one whose library is not installed.
    """
    if name in MODELS:
        return load(MODELS[name].model)
    names = recbole_models()
    if name not in names:
        ours = ", ".join(MODELS)
        raise UserError(
            f"model '{name}' is not known{nearest(name, {*MODELS, *names})} "
            f"(this package: {ours}; RecBole: {', '.join(names)})"
        )
    from recbole.utils import get_model as recbole_model

    try:
        with anomaly_detection_kept():
            return mended(recbole_model(name))
    except ImportError as error:
        raise UserError(
            f"model '{name}' needs the package '{error.name}': pip install {error.name}"
        ) from error


def learns_from_sequences(config: Any) -> bool:
    """Whether a model of RecBole is asked to learn from whole sequences."""
    return config["model"] in TWO_WAYS and config["train_mode"] == "sequences"


def model_class(config: Any) -> type[Any]:
    """Return the class of a configuration's model for the way it is trained, its keys checked together.

    Raises:
        UserError: keys that do not fit together.
    """
    if config["model"] in MODELS:
        load(MODELS[config["model"]].check)(config)
    if config["model"] in CAUSAL:
        load("recbole_disent.model.causal:check")(config)
        if learns_from_sequences(config):
            return load("recbole_disent.model.causal:on_sequences")(config.model_class)
    if config["model"] in MASKED:
        load("recbole_disent.model.masked:check")(config)
    if config["model"] in LEAN:
        load("recbole_disent.model.next_item:check")(config)
        if config["lean_softmax"]:
            return load(LEAN[config["model"]])(config.model_class)
    return config.model_class


def train_loader(config: Any) -> Any:
    """Return the function (config, dataset, sampler) -> training loader; None: RecBole's for the model."""
    name = config["model"]
    if name in MODELS:
        return load(MODELS[name].train_loader)
    if learns_from_sequences(config):
        kind = "masked" if name in MASKED else "window"
        return load(f"recbole_disent.data.window_loader:build_{kind}_loader")
    return None
