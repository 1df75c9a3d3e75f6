"""RecBole's Caser with a softmax over all items that is computed in slices."""

from __future__ import annotations

from functools import cache
from typing import Any

from torch import Tensor

from recbole_disent.recbole.full_softmax import OverAllItems


def adapt(config: Any, model_class: Any) -> type[Any]:
    """Return :func:`chunked` of RecBole's class with ``chunked_softmax``, else RecBole's class itself."""
    return chunked(model_class) if config["chunked_softmax"] else model_class


@cache
def chunked(model_class: type[Any]) -> type[Any]:
    """Return RecBole's Caser with the same loss, which never keeps all scores in memory."""

    class Chunked(OverAllItems, model_class):
        __doc__ = model_class.__doc__

        def calculate_loss(self, interaction: Any) -> Tensor:
            """Mean cross-entropy over all items of the rows, plus RecBole's norms, float ().

            With ``softmax_learns: lift``, ln p(item) is added to the score of an item, as in
            :func:`recbole_disent.recbole.causal.on_sequences`.
            """
            states = self.forward(interaction[self.USER_ID], interaction[self.ITEM_SEQ])
            targets, users = interaction[self.POS_ITEM_ID], interaction[self.USER_ID]
            loss = self._item_loss(states, targets, users, self._item_vectors())
            layers = (self.user_embedding, self.item_embedding, self.conv_v, self.fc1, self.fc2)
            norms = self.reg_loss([layer.weight for layer in layers])
            return loss + self.reg_weight * norms + self.reg_loss_conv_h()

    Chunked.__name__ = Chunked.__qualname__ = model_class.__name__
    return Chunked
