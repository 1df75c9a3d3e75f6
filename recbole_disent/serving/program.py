"""The query encoder of a model as a file for other programs: by ``torch.export``, and in ONNX.

The encoder maps histories to query vectors. The score of an item is the greatest inner product of its vector
with one of them.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from recbole_disent.errors import UserError
from recbole_disent.serving.catalogue import Catalogue
from recbole_disent.serving.encode import Encoder

PROGRAM, ONNX = "query_encoder.pt2", "query_encoder.onnx"
# Greatest difference from the model that the file is made of, absolute and relative.
TOLERANCE = 1e-5
_ROWS = 64
_LARGEST = 2**31  # bytes of an ONNX file


class QueryEncoder(nn.Module):
    """Histories to query vectors, as a module of tensors.

    Args:
        encoder: of the model.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.model = encoder.model
        self._columns, self._function = encoder.history_columns, encoder.query_function

    def forward(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Compute query vectors.

        Args:
            items: int64 (B, L), rows of the item table, oldest first, then 0; L is the longest history.
            lengths: int64 (B,), items of each history, 1 to L.

        Returns:
            float (B, K, D).
        """
        items_column, length_column = self._columns
        assert self._function is not None
        return self._function({items_column: items, length_column: lengths})


def write_encoder(encoder: Encoder, catalogue: Catalogue, folder: Path, onnx: bool, program: bool) -> None:
    """Write the query encoder of a model, and compare each file with the model.

    Args:
        encoder: of the model, on the CPU.
        catalogue: for histories to compare with.
        folder: gets ``query_encoder.onnx`` and ``query_encoder.pt2``.
        onnx, program: which of the two.

    Raises:
        UserError: the model has no query vectors or cannot be traced, a library is missing, or a file gives
            other vectors than the model.
    """
    name = encoder.name
    if not encoder.sequential or encoder.query_function is None:
        raise UserError(
            f"export: {name} does not encode histories as query vectors, so that there is no encoder to "
            "export; leave out --onnx and --program"
        )
    module = QueryEncoder(encoder).eval()
    inputs = _inputs(encoder, catalogue)
    rows = torch.export.Dim("batch", min=1, max=2**20)
    try:
        with torch.no_grad(), _quiet():
            expected = module(*inputs)
            exported = torch.export.export(module, inputs, dynamic_shapes=({0: rows}, {0: rows}))
    except KeyError as error:
        raise UserError(
            f"export: the query encoder of {name} needs the column '{error.args[0]}' beside the history, "
            "which an exported encoder does not have; leave out --onnx and --program"
        ) from error
    except Exception as error:  # the forward pass of any model
        first = (str(error).strip().splitlines() or [""])[0]
        raise UserError(
            f"export: torch.export cannot trace the query encoder of {name} ({type(error).__name__}: "
            f"{first}); leave out --onnx and --program"
        ) from error
    if program:
        torch.export.save(exported, folder / PROGRAM)
        loaded = torch.export.load(folder / PROGRAM).module()
        _compare(PROGRAM, loaded, inputs, expected)
    if onnx:
        _write_onnx(exported, inputs, folder / ONNX)
        _compare(ONNX, _runner(folder / ONNX), inputs, expected)


def _inputs(encoder: Encoder, catalogue: Catalogue) -> tuple[Tensor, Tensor]:
    """Histories of all lengths: int64 (B, L) and (B,)."""
    generator = torch.Generator().manual_seed(0)
    longest, n_items = encoder.max_length, len(catalogue.items)
    lengths = torch.randint(1, longest + 1, (_ROWS,), generator=generator)
    lengths[:2] = torch.tensor([1, longest])
    items = torch.randint(1, n_items, (_ROWS, longest), generator=generator)
    items[torch.arange(longest) >= lengths[:, None]] = 0
    return items, lengths


def _write_onnx(exported: Any, inputs: tuple[Tensor, Tensor], path: Path) -> None:
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"--onnx needs the package '{error.name}': pip install 'recbole_disent[onnx]'"
        ) from error
    size = sum(value.numel() * value.element_size() for value in exported.state_dict.values())
    if size > _LARGEST:
        raise UserError(
            f"--onnx: the weights have {size / 2**30:.1f} GiB, and a file in ONNX holds 2 GiB at the most; "
            "use --program"
        )
    names = {"input_names": ["items", "lengths"], "output_names": ["queries"]}
    with _quiet():
        made = torch.onnx.export(exported, inputs, dynamo=True, verbose=False, **names)  # type: ignore[arg-type]
    assert made is not None
    made.save(str(path), external_data=False)


def _runner(path: Path) -> Callable[..., Tensor]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def call(items: Tensor, lengths: Tensor) -> Tensor:
        given = {"items": items.numpy(), "lengths": lengths.numpy()}
        return torch.from_numpy(session.run(None, given)[0])

    return call


def _compare(file: str, call: Callable[..., Tensor], inputs: tuple[Tensor, Tensor], expected: Tensor) -> None:
    """Compare a file with the model, for one history and for many at once."""
    for rows in (slice(0, 1), slice(0, 3), slice(None)):
        with torch.no_grad():
            found = call(inputs[0][rows], inputs[1][rows])
        if not torch.allclose(found, expected[rows], rtol=TOLERANCE, atol=TOLERANCE):
            error = float((found - expected[rows]).abs().max())
            raise UserError(
                f"export: {file} gives vectors that differ from the vectors of the model by {error:.2g}, "
                f"expected at most {TOLERANCE:g}; leave it out"
            )


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out the notes of the exporters, which are for their developers."""
    loggers = [logging.getLogger(name) for name in ("torch.export", "torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
