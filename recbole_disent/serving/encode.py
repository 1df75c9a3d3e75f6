"""Users and sequences as query vectors, items as a table; scores of all items where there are no vectors."""

from __future__ import annotations

from typing import Any

import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_disent.data.store import SequenceStore
from recbole_disent.errors import UserError
from recbole_disent.evaluation.scoring import Scorer, item_vectors
from recbole_disent.registry import spec_of
from recbole_disent.serving.dtype import default_dtype
from recbole_disent.serving.select import padded_width


def pad_rows(table: Tensor) -> Tensor:
    """Add rows of zeros up to whole blocks: float (n, D) -> (n', D)."""
    more = padded_width(len(table)) - len(table)
    return torch.nn.functional.pad(table.detach(), (0, 0, 0, more)).contiguous()


class Encoder:
    """One trained model, as serving uses it.

    Args:
        model: in evaluation mode.
        config: of the model: anything with ``config[key]``.
        dataset: the data set or its stand-in, for the features of items.

    Attributes:
        dtype: of the scores.
        sequential: whether the model reads a history; otherwise it knows a user by an embedding.
        table: float (n_items, D), vectors of all items, padding included; None for a model whose scores
            are no inner products.
        query_function: batch -> query vectors, float (B, K, D); None for such a model.
        history_columns: names of the columns of a batch with the items and with their number.
        padded: *table* with rows of zeros behind it, up to whole blocks of :mod:`select`.
    """

    def __init__(self, model: Any, config: Any, dataset: Any) -> None:
        self.model, self.config = model, config
        self.name: str = config["model"]
        self.device = torch.device(config["device"])
        kind = config["MODEL_TYPE"]
        self.sequential = getattr(kind, "name", kind) == "SEQUENTIAL"
        self.max_length: int = config["MAX_ITEM_LIST_LENGTH"]
        self.trim = spec_of(self.name).trim_safe
        self._uid, self._iid = config["USER_ID_FIELD"], config["ITEM_ID_FIELD"]
        self._list = self._iid + config["LIST_SUFFIX"]
        self._length = config["ITEM_LIST_LENGTH_FIELD"]
        self.dtype = torch.float64 if config["precision"] == "double" else torch.float32
        self._scorer = Scorer(model, dataset, self.device)
        self.padded, self.query_function = self._vectors()
        self.history_columns = (self._list, self._length)
        self.table = None if self.padded is None else self.padded[: self._scorer.n_items]

    def _vectors(self) -> tuple[Tensor | None, Any]:
        with default_dtype(self.dtype):
            found = item_vectors(self.model, self.name)
        return (None, None) if found is None else (pad_rows(found[0]), found[1])

    def batch(self, store: SequenceStore, rows: Tensor, users: Tensor | None) -> Interaction:
        """Make what a model is given for rows of a store.

        Args:
            store: histories.
            rows: int64 (B,), "users" of the store; each has an event, unless the model reads none.
            users: int64 (B,), internal user ids; None for sequences of nobody known.
        """
        columns = {} if users is None else {self._uid: users}
        if self.sequential:
            items, lengths = store.last_histories(rows, self.max_length)
            if not self.trim and items.shape[1] < self.max_length:
                items = torch.nn.functional.pad(items, (0, self.max_length - items.shape[1]))
            columns |= {self._list: items, self._length: lengths}
        return Interaction(columns).to(self.device)

    def queries(self, batch: Interaction) -> Tensor:
        """Query vectors of a batch: float (B, K, D).

        Raises:
            UserError: the model has no vectors, or it needs a column that the batch lacks.
        """
        if self.query_function is None:
            raise UserError(
                f"{self.name} has no vectors of users and items, for its scores are no inner products; "
                "use recommend, which works with every model"
            )
        return self._call(self.query_function, batch)

    def shares(self, batch: Interaction, n_vectors: int) -> Tensor:
        """Share of each query vector in a history, rows sum to 1: float (B, K).

        A model that does not say which events feed which vector gives all of them the same share.
        """
        if not hasattr(self.model, "intention_weights"):
            return torch.full((len(batch), n_vectors), 1 / n_vectors, device=self.device)
        clusters, weights = self.explain(batch)
        return torch.einsum("blk,bl->bk", clusters, weights)

    def explain(self, batch: Interaction) -> tuple[Tensor, Tensor]:
        """p(k|i), float (B, L, K), and p(i), float (B, L), of a model with ``intention_weights``."""
        return self._call(self.model.intention_weights, batch)

    def scores(self, batch: Interaction) -> Tensor:
        """Scores of all items, padding included, by the model itself: float (B, n_items)."""
        return self._call(self._scorer.all_items, batch)

    def _call(self, function: Any, batch: Interaction) -> Any:
        try:
            with torch.no_grad(), default_dtype(self.dtype):
                return function(batch)
        except KeyError as error:
            field = error.args[0] if error.args else None
            if not isinstance(field, str) or field in batch:
                raise  # no column of a batch: a fault of the model
            if field == self._uid:
                raise UserError(
                    f"{self.name} scores by an embedding of the user, so that it can recommend to known "
                    "users only; use recommend(users=...), or train a model that reads sequences alone"
                ) from error
            raise UserError(
                f"{self.name} needs the column '{field}' of each event, which histories for serving do not "
                "hold; train a model that reads item ids"
            ) from error
