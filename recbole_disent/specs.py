"""The table of models: one :class:`ModelSpec` for each model. This module imports nothing of the package.

A model without a specification is RecBole's model of that name, which RecBole's own code trains and scores.
To add a model, write its class and its properties file and add a specification to the table, or
register the specification from outside the package (:func:`recbole_disent.registry.register`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ModelSpec:
    """The properties of a model that the package uses.

    Functions and classes are given as paths ``module:name``, so that the table can be read without
    importing them.

    Attributes:
        name: value of the configuration key ``model``.
        cls: class of the model; None means RecBole's class of that name.
        properties: files that define the keys of the model: paths below ``properties/`` or absolute paths.
        modes: ``train_mode`` -> function (config, dataset, sampler) -> training loader; None
            means RecBole's own loader. A model with one mode has no key ``train_mode``.
        adapter: function (config, model class) -> model class, for a model of RecBole that this
            package trains or scores differently from RecBole.
        check: function (config) that checks several keys together and raises ``UserError``.
        check_data: function (config, training part) that checks keys against the data and raises
            ``UserError``.
        trim_safe: whether loss, gradients and scores stay the same when the padding after the
            longest history of a batch is cut off.
        bucketable: whether a batch may consist of histories of similar length only.
        loss_weight: column of a batch whose positive entries the loss averages over, so that their
            number is the weight of a part of the batch; None means that the loss is a mean over rows.
        nan_hint: advice for a loss that is not a number, for a model with a known cause.
        content: whether item content is built and passed to the constructor: ``always``,
            ``never``, or the name of a boolean configuration key.
        vectors: function (model) -> (item table, function batch -> query vectors), for a model of
            RecBole whose scores are inner products; None if there is no such function.
        choose_preset: function (training part) -> (name of a preset, reason), for a model whose
            defaults depend on the data.
        training_state: attributes that change in the training besides the weights, such as the step of an
            annealing, and that a checkpoint must hold.
        resumable: False if a checkpoint does not hold all that the training needs.
        supported: False for a model of RecBole that needs a special data set or training procedure.
    """

    name: str
    cls: str | None = None
    properties: tuple[str, ...] = ()
    modes: Mapping[str, str | None] = field(default_factory=dict)
    adapter: str | None = None
    check: str | None = None
    check_data: str | None = None
    trim_safe: bool = False
    bucketable: bool = True
    loss_weight: str | None = None
    nan_hint: str | None = None
    content: str = "never"
    vectors: str | None = None
    choose_preset: str | None = None
    training_state: tuple[str, ...] = ()
    resumable: bool = True
    supported: bool = True


_WINDOWS = "recbole_disent.loaders.windows:"
_USERS = {"sequences": _WINDOWS + "build_user_loader"}
_STATES = "recbole_disent.recbole.vectors:last_state"
_CAUSAL = {
    "properties": ("softmax.yaml", "negatives.yaml", "causal.yaml"),
    "modes": {"pairs": None, "sequences": _WINDOWS + "build_window_loader"},
    "adapter": "recbole_disent.recbole.causal:adapt",
    "check": "recbole_disent.recbole.causal:check",
    "trim_safe": True,
    "vectors": _STATES,
}
# The last losses of each step of the diffusion, by which the steps are drawn.
_LOSSES = ("Lt_history", "Lt_count")

_ROWS = (
    ModelSpec(
        "DisentS2S",
        cls="recbole_disent.models.disents2s.model:DisentS2S",
        properties=("content.yaml", "model/DisentS2S.yaml"),
        modes={
            "sequences": _WINDOWS + "build_window_loader",
            "pairs": "recbole_disent.loaders.prefixes:build_pair_loader",
        },
        check="recbole_disent.models.disents2s.checks:check",
        choose_preset="recbole_disent.models.choice:choose_preset",
        trim_safe=True,
        content="content",
    ),
    ModelSpec(
        "TSSR",
        cls="recbole_disent.models.tssr.model:TSSR",
        properties=("content.yaml", "negatives.yaml", "model/TSSR.yaml"),
        modes=_USERS,
        check="recbole_disent.models.tssr.checks:check",
        choose_preset="recbole_disent.models.choice:choose_preset",
        trim_safe=True,
        content="always",
    ),
    ModelSpec(
        "SASRecContent",
        cls="recbole_disent.models.sasrec_content.model:SASRecContent",
        properties=("content.yaml", "negatives.yaml", "model/SASRecContent.yaml"),
        modes=_USERS,
        check="recbole_disent.models.sasrec_content.checks:check",
        trim_safe=True,
        content="content",
    ),
    # RecBole's causal models can learn from whole sequences, because the state at a position depends
    # only on the positions up to it.
    ModelSpec("SASRec", **_CAUSAL | {"vectors": "recbole_disent.recbole.sasrec:last_state"}),  # type: ignore[arg-type]
    *(ModelSpec(name, **_CAUSAL) for name in ("SASRecF", "FDSA", "GRU4Rec", "GRU4RecF")),  # type: ignore[arg-type]
    ModelSpec(
        "BERT4Rec",
        properties=("softmax.yaml", "negatives.yaml", "chunked.yaml", "masked.yaml"),
        modes={"pairs": None, "sequences": _WINDOWS + "build_masked_loader"},
        adapter="recbole_disent.recbole.bert4rec:adapt",
        check="recbole_disent.recbole.bert4rec:check",
        trim_safe=True,
        # The loss is a mean over the masks of a batch, and one-item histories have no mask in that mean.
        bucketable=False,
        loss_weight="MASK_INDEX",
        nan_hint="a batch may have had no mask that counts: chunked_softmax=True passes over such batches",
        vectors="recbole_disent.recbole.vectors:masked_state",
    ),
    ModelSpec(
        "Caser",
        properties=("softmax.yaml", "chunked.yaml"),
        adapter="recbole_disent.recbole.caser:adapt",
        check="recbole_disent.recbole.full_softmax:check",
        vectors="recbole_disent.recbole.vectors:user_and_state",
    ),
    *(ModelSpec(name, trim_safe=True, vectors=_STATES) for name in ("NARM", "STAMP")),
    *(ModelSpec(name, trim_safe=True) for name in ("CORE", "FPMC")),
    ModelSpec("BPR", vectors="recbole_disent.recbole.vectors:user_rows"),
    *(
        ModelSpec(name, check_data="recbole_disent.recbole.cpr:check_data")
        for name in ("SASRecCPR", "GRU4RecCPR")
    ),
    *(ModelSpec(name, training_state=("update",)) for name in ("MultiVAE", "MacridVAE")),
    ModelSpec("DiffRec", training_state=_LOSSES),
    ModelSpec(
        "LDiffRec",
        check_data="recbole_disent.recbole.ldiffrec:check_data",
        training_state=(*_LOSSES, "update_count", "update_count_vae"),
    ),
    # What a checkpoint lacks: the other two optimisers; the list of random items; the clusters.
    ModelSpec("RecVAE", resumable=False),
    ModelSpec("LINE", resumable=False),
    ModelSpec("DGCF", check_data="recbole_disent.recbole.dgcf:check_data"),
    ModelSpec("NCL", resumable=False, check_data="recbole_disent.recbole.ncl:check_data"),
    ModelSpec("Pop", adapter="recbole_disent.recbole.pop:adapt"),
    *(ModelSpec(name, supported=False) for name in ("DIEN", "GRU4RecKG", "KSR", "RaCT", "S3Rec")),
)

SPECS: dict[str, ModelSpec] = {spec.name: spec for spec in _ROWS}

# The model for which a data set is loaded if a command needs only the data.
PLAIN_SEQUENTIAL = "SASRec"
