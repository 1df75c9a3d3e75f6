"""Approximate search for the items with the greatest inner products, by faiss or hnswlib.

Both libraries search by Euclidean distance here. Each item vector x gets one more coordinate,
sqrt(M^2 - |x|^2), where M is the greatest length of an item vector, and a query q gets a 0. Then
|q - x|^2 = |q|^2 + M^2 - 2 <q, x>, so that the nearest item is the item with the greatest inner product, and
neither lengths nor popularity are lost, as they are with a cosine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recbole_disent.errors import UserError
from recbole_disent.serving.select import refuse_nan

KINDS = ("faiss", "hnsw")
FILES = {"faiss": "index.faiss", "hnsw": "index.hnsw"}
_SEED = 2020
# hnswlib: neighbours of an item, and candidates while the graph is built.
_NEIGHBOURS, _BUILD = 24, 150
# faiss: rows of the table per list, from which the lists are trained.
_ROWS_PER_LIST = 64


class Index:
    """An approximate index of the vectors of all items.

    Args:
        kind: ``faiss`` (lists of near vectors) or ``hnsw`` (a graph of near vectors).
        native: index of the library.
        n_items: rows of the item table, padding included.
        width: D.

    Attributes:
        effort: how much of the index a search looks at: lists (faiss) or candidates (hnsw).
    """

    def __init__(self, kind: str, native: Any, n_items: int, width: int) -> None:
        self.kind, self.n_items, self.width = kind, n_items, width
        self._native, self.effort = native, 1

    @classmethod
    def build(cls, kind: str, table: Tensor) -> Index:
        """Build an index from a fixed seed; hnswlib uses one thread, so that its graph is always the same.

        Args:
            kind: ``faiss`` or ``hnsw``.
            table: float (n_items, D), vectors of all items; row 0 (padding) is left out.

        Raises:
            UserError: the library is not installed, or a vector is not finite.
        """
        vectors = table.detach().float().cpu().numpy()[1:]
        refuse_nan(not np.isfinite(vectors).all())
        # In float64, because the root of a small difference keeps few digits of it.
        squares = (vectors.astype(np.float64) ** 2).sum(1)
        longer = np.sqrt(np.maximum(squares.max() - squares, 0.0))[:, None].astype(np.float32)
        points = np.ascontiguousarray(np.concatenate([vectors, longer], 1))
        n_items, width = table.shape
        numbers = np.arange(1, n_items)
        if kind == "faiss":
            faiss = _library(kind)
            lists = max(1, min(int(4 * len(points) ** 0.5), len(points) // _ROWS_PER_LIST))
            native = faiss.IndexIVFFlat(faiss.IndexFlatL2(width + 1), width + 1, lists)
            native.cp.seed = _SEED
            native.cp.max_points_per_centroid = _ROWS_PER_LIST
            native.cp.min_points_per_centroid = 1  # a table can be small
            native.train(points)
            native.add_with_ids(points, numbers)
        else:
            native = _library(kind).Index("l2", width + 1)
            native.init_index(len(points), M=_NEIGHBOURS, ef_construction=_BUILD, random_seed=_SEED)
            native.add_items(points, numbers, num_threads=1)
        return cls(kind, native, n_items, width)

    def write(self, path: Path) -> None:
        """Write the index to a file of the library."""
        if self.kind == "faiss":
            _library(self.kind).write_index(self._native, str(path))
        else:
            self._native.save_index(str(path))

    @classmethod
    def read(cls, kind: str, path: Path, n_items: int, width: int) -> Index:
        """Read a file that :meth:`write` wrote.

        Args:
            kind: ``faiss`` or ``hnsw``.
            path: of the file.
            n_items, width: shape of the item table.

        Raises:
            UserError: the library is not installed, or the file is damaged or is of another table.
        """
        library = _library(kind)
        try:
            if kind == "faiss":
                native = library.read_index(str(path))
                fits = (native.ntotal, native.d) == (n_items - 1, width + 1)
            else:
                native = library.Index("l2", width + 1)
                native.load_index(str(path))
                fits = native.element_count == n_items - 1
        except (RuntimeError, OSError, ValueError, AttributeError) as error:
            first = " ".join(str(error).split())
            raise UserError(f"index: '{path.name}' cannot be read ({first}); export it again") from error
        if not fits:
            raise UserError(f"index: '{path.name}' is of another table of items; export it again")
        return cls(kind, native, n_items, width)

    def search(self, queries: Tensor, count: int) -> Tensor:
        """Find items with great inner products.

        Args:
            queries: float (Q, D).
            count: items of each.

        Returns:
            int64 (Q, count), rows of the item table; 0 where fewer were found.
        """
        more = max(0, count - (self.n_items - 1))
        count -= more
        points = torch.nn.functional.pad(queries.detach().float().cpu(), (0, 1)).numpy()
        if self.kind == "faiss":
            self._native.nprobe = min(self.effort, self._native.nlist)
            found = self._native.search(points, count)[1]
        else:
            self._native.set_ef(max(self.effort, count))
            try:
                found = self._native.knn_query(points, k=count, num_threads=1)[0].astype(np.int64)
            except RuntimeError:  # a part of the graph with fewer items than that: nothing is found
                found = np.zeros((len(points), count), np.int64)
        return torch.nn.functional.pad(torch.from_numpy(found).clamp_(min=0), (0, more))

    def efforts(self) -> list[int]:
        """Values of :attr:`effort` to try, from fast to exact or nearly so."""
        if self.kind == "faiss":
            lists = int(self._native.nlist)
            return [*(2**i for i in range(lists.bit_length()) if 2**i < lists), lists]
        return [16, 32, 64, 128, 256, 512, 1024]


def _library(kind: str) -> Any:
    try:
        if kind == "faiss":
            import faiss

            return faiss
        import hnswlib

        return hnswlib
    except ImportError as error:
        raise UserError(
            f"index: {kind} needs the package '{error.name}': pip install 'recbole_disent[index]'"
        ) from error
