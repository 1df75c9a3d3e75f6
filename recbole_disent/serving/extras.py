"""Further files of a bundle: the query encoder for other programs, and an approximate index of the items."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recbole_disent.errors import UserError
from recbole_disent.serving import approximate
from recbole_disent.serving.encode import Encoder
from recbole_disent.serving.index import FILES, KINDS, Index
from recbole_disent.serving.program import write_encoder
from recbole_disent.serving.source import Source
from recbole_disent.serving.tensors import write_tensors

ITEM_VECTORS = "item_vectors.safetensors"
# Histories that the recall of an index is measured with.
_HISTORIES = 1000


@dataclass(frozen=True)
class Extras:
    """What a bundle holds beside the model.

    Attributes:
        onnx: ``query_encoder.onnx`` and the item vectors.
        program: ``query_encoder.pt2``, for ``torch.export.load``, and the item vectors.
        index: ``faiss``, ``hnsw`` or None.
    """

    onnx: bool = False
    program: bool = False
    index: str | None = None


def write_extras(extras: Extras, source: Source, folder: Path) -> dict[str, Any]:
    """Write the further files of a bundle.

    Args:
        extras: which files.
        source: of a checkpoint.
        folder: of the bundle.

    Returns:
        Entries of ``config.json``: ``index`` with its measured recall, or nothing.

    Raises:
        UserError: the model has no vectors or cannot be traced, or a library is missing.
    """
    if extras == Extras():
        return {}
    if extras.index is not None and extras.index not in KINDS:
        raise UserError(f"index: got {extras.index!r}, expected one of {', '.join(KINDS)}")
    encoder = Encoder(source.model, source.config, source.dataset)
    if encoder.device.type != "cpu":
        raise UserError("export: --onnx, --program and --index need a model on the CPU; add --use_gpu=False")
    if extras.onnx or extras.program:
        write_encoder(encoder, source.catalogue, folder, extras.onnx, extras.program)
        assert encoder.table is not None
        write_tensors(folder / ITEM_VECTORS, {"items": encoder.table})
    return {} if extras.index is None else {"index": _write_index(extras.index, encoder, source, folder)}


def _write_index(kind: str, encoder: Encoder, source: Source, folder: Path) -> dict[str, Any]:
    if encoder.table is None:
        raise UserError(
            f"index: {encoder.name} has no item vectors, for its scores are no inner products; leave out "
            "--index"
        )
    index = Index.build(kind, encoder.table)
    vectors = _vectors_of_histories(encoder, source)
    with torch.no_grad():
        recall = approximate.tune(index, encoder.table, vectors)
    index.write(folder / FILES[kind])
    return {"kind": kind, "effort": index.effort, "recall@10": round(recall, 4), "histories": len(vectors)}


def _vectors_of_histories(encoder: Encoder, source: Source) -> Tensor:
    """Query vectors of up to 1000 users, evenly over all: float (B, K, D)."""
    store = source.catalogue.histories
    if store is None:
        raise UserError(
            "index: its recall is measured with histories, and this bundle holds none; export the checkpoint"
        )
    able = (store.offsets.diff() > 0).nonzero()[:, 0]
    users = able[torch.linspace(0, len(able) - 1, min(_HISTORIES, len(able))).long()]
    return torch.cat([encoder.queries(encoder.batch(store, part, part)) for part in users.split(256)])
