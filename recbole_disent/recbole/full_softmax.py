"""Checks and a mixin for RecBole's models with this package's softmax over all items."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from recbole_disent.errors import UserError
from recbole_disent.models.item_loss import ItemLoss, ItemVectors


def require_recboles_class(config: Any, key: str, otherwise: Any) -> None:
    """Check that a model's class is RecBole's, because a key relies on how RecBole's class works.

    Args:
        config: a configuration.
        key: key that makes this package train the model in another way.
        otherwise: value of the key with which the model trains in its own way.

    Raises:
        UserError: the class is another one of the same name.
    """
    model_class = config.model_class
    if not model_class.__module__.startswith("recbole.model."):
        raise UserError(
            f"{key}: got {config[key]} for the class {model_class.__name__} of {model_class.__module__}, "
            f"expected {otherwise}: the class is not RecBole's"
        )


def require_recboles(config: Any, key: str, otherwise: Any) -> None:
    """Check that a model has RecBole's class and cross-entropy, which a key computes in another way.

    The arguments are those of :func:`require_recboles_class`.

    Raises:
        UserError: the class is not RecBole's, or the loss is not cross-entropy.
    """
    require_recboles_class(config, key, otherwise)
    if config["loss_type"] != "CE":
        raise UserError(
            f"loss_type: got {config['loss_type']!r} with {key}={config[key]}, expected CE "
            f"({key}={otherwise} takes RecBole's other losses)"
        )


def check(config: Any) -> None:
    """Check the keys of a model of RecBole that can have a chunked softmax.

    Raises:
        UserError: ``softmax_learns`` with RecBole's own loss; ``chunked_softmax`` with a class that is not
            RecBole's or with a loss that is not cross-entropy.
    """
    if config["chunked_softmax"]:
        require_recboles(config, "chunked_softmax", False)
    elif config["softmax_learns"] != "probability":
        raise UserError(
            f"softmax_learns: got {config['softmax_learns']} with chunked_softmax=False, expected "
            "chunked_softmax=True"
        )


class OverAllItems:
    """Mixin that adds this package's loss over items to a model of RecBole.

    The mixin comes before RecBole's class in the list of base classes.

    Attributes:
        chosen: what the keys with the value ``auto`` became, for the result file.
        cross_rank_negatives: whether all processes share the items that the loss draws.
    """

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)  # type: ignore[call-arg]
        self._item_loss = ItemLoss(config, dataset, padding=True)
        self.chosen = self._item_loss.chosen
        self.cross_rank_negatives = self._item_loss.draws

    def row_tables(self) -> dict[nn.Embedding, int]:
        """RecBole's item table, if the loss draws items."""
        table: nn.Embedding = self.item_embedding  # type: ignore[attr-defined]
        return {table: self._item_loss.rows_of_a_step} if self._item_loss.draws else {}

    def _item_vectors(self, bias: Tensor | None = None) -> ItemVectors:
        """Rows of RecBole's item table; further rows of the table, such as a mask's, are left out."""
        table: nn.Embedding = self.item_embedding  # type: ignore[attr-defined]
        n_items: int = self.n_items  # type: ignore[attr-defined]
        return ItemVectors(lambda: table.weight[:n_items], table, bias)
