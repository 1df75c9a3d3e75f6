"""RecBole's BERT4Rec: checks of its keys, and a softmax that leaves out unused masks."""

from __future__ import annotations

from functools import cache
from typing import Any

from torch import Tensor

from recbole_disent.errors import UserError
from recbole_disent.models import item_loss
from recbole_disent.recbole.full_softmax import OverAllItems, require_recboles_class
from recbole_disent.recbole.full_softmax import check as check_softmax


def check(config: Any) -> None:
    """Check the keys of BERT4Rec that depend on each other.

    Raises:
        UserError: RecBole would keep no mask of a row, or a class of that name that is not RecBole's
            would train on whole sequences.
    """
    length, ratio = config["MAX_ITEM_LIST_LENGTH"], config["mask_ratio"]
    if length < 2 or int(ratio * length) < 1:
        raise UserError(
            f"mask_ratio: got {ratio} with MAX_ITEM_LIST_LENGTH={length}, expected at least two items "
            "and mask_ratio * MAX_ITEM_LIST_LENGTH >= 1, the number of masks that RecBole keeps of each row"
        )
    if config["train_mode"] == "sequences":
        require_recboles_class(config, "train_mode", "pairs")
    check_softmax(config)
    if config["chunked_softmax"]:
        item_loss.check(config)
    else:
        item_loss.require_defaults(config, "chunked_softmax", True)


def adapt(config: Any, model_class: Any) -> type[Any]:
    """Return :func:`chunked` of RecBole's class with ``chunked_softmax``, else RecBole's class itself."""
    return chunked(model_class) if config["chunked_softmax"] else model_class


@cache
def chunked(model_class: type[Any]) -> type[Any]:
    """Return RecBole's BERT4Rec with the same loss, which scores items only at the masks that count.

    RecBole gives each row ``mask_ratio * MAX_ITEM_LIST_LENGTH`` places for masks and scores all items at
    each place. It multiplies the loss by 0 at places without a mask, and at a mask in the first position.
    """

    class Chunked(OverAllItems, model_class):
        __doc__ = model_class.__doc__

        def calculate_loss(self, interaction: Any) -> Tensor:
            """Mean loss at the masks that count, float (); 0 without such masks.

            The key ``negatives`` selects the items of the cross-entropy, or ``loss`` selects gBCE.

            With ``softmax_learns: lift``, ln p(item) is added to the score of an item, as in
            :func:`recbole_disent.recbole.causal.on_sequences`.
            """
            places = interaction[self.MASK_INDEX]
            rows, slots = (places > 0).nonzero(as_tuple=True)
            states = self.forward(interaction[self.MASK_ITEM_SEQ])[rows, places[rows, slots]]
            targets = interaction[self.POS_ITEMS][rows, slots]
            users = interaction[self.USER_ID][rows]
            return self._item_loss(states, targets, users, self._item_vectors(self.output_bias))

    Chunked.__name__ = Chunked.__qualname__ = model_class.__name__
    return Chunked
