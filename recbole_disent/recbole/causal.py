"""RecBole's causal models, trained on whole sequences: one pass for all pairs of a window."""

from __future__ import annotations

from functools import cache
from typing import Any

from torch import Tensor

from recbole_disent.errors import UserError
from recbole_disent.loaders.batch import WindowBatch
from recbole_disent.models import item_loss
from recbole_disent.ops.dropout import use_fast_dropout
from recbole_disent.ops.jagged import JaggedBatch
from recbole_disent.recbole import sasrec
from recbole_disent.recbole.full_softmax import OverAllItems, require_recboles


def check(config: Any) -> None:
    """Check the keys of a causal model of RecBole that depend on each other.

    Raises:
        UserError: whole sequences with a class that is not RecBole's or with a loss that is not
            cross-entropy; pairs with a key for whole sequences.
    """
    if config["train_mode"] == "pairs":
        for key, default in (("train_windows", "all"), ("softmax_learns", "probability")):
            if config[key] != default:
                raise UserError(
                    f"{key}: got {config[key]} with train_mode=pairs, expected train_mode=sequences"
                )
        item_loss.require_defaults(config, "train_mode", "sequences")
        return
    require_recboles(config, "train_mode", "pairs")
    item_loss.check(config)


def adapt(config: Any, model_class: Any) -> type[Any]:
    """Return :func:`on_sequences` of RecBole's class for whole sequences, else RecBole's class itself."""
    return on_sequences(model_class) if config["train_mode"] == "sequences" else model_class


@cache
def on_sequences(model_class: type[Any]) -> type[Any]:
    """Return a causal model of RecBole that learns from windows of whole sequences, without margins.

    RecBole encodes each pair (first t items of a user, item t + 1) separately and keeps the state at
    the last of the t places. In a causal model this state equals the state at place t of any longer
    sequence, so one pass gives the states of all pairs. The scores of RecBole do not change.
    """

    class OnSequences(OverAllItems, model_class):
        __doc__ = model_class.__doc__
        _at_all_places = False

        def __init__(self, config: Any, dataset: Any) -> None:
            super().__init__(config, dataset)
            use_fast_dropout(self)

        def gather_indexes(self, output: Tensor, gather_index: Tensor) -> Tensor:
            """Select the last state as RecBole does, (B, L, D) -> (B, D), or keep all states of a window."""
            return output if self._at_all_places else super().gather_indexes(output, gather_index)

        def calculate_loss(self, interaction: WindowBatch) -> Tensor:
            """Mean loss of the pairs of a batch, float ().

            The key ``negatives`` selects the items of the cross-entropy, or ``loss`` selects gBCE. With
            ``softmax_learns: lift``, ln p(item) is added to the score of an item in training, so that
            the score learns ln p(item | sequence) / p(item), up to a constant (A. K. Menon et al., Long-tail
            learning via logit adjustment, ICLR 2021, equation 10 with tau = 1).
            """
            items = interaction.items
            window, _, last = (part.to(items.device, non_blocking=True) for part in interaction.pairs())
            if len(interaction.lengths):
                jagged = JaggedBatch(interaction.counts, items.device)
                if sasrec.has_its_forward(self):
                    states = sasrec.states_of_sequences(self, items[last], jagged)
                else:
                    states = jagged.map(self._states, items[last][:, None])
            else:  # a process without a window takes part in the draws of the others
                states = self.item_embedding.weight.new_zeros(0, self.item_embedding.weight.shape[1])
            users, rows = interaction.users[window], interaction.number
            return self._item_loss(states, items[last + 1], users, self._item_vectors(), rows)

        def _states(self, item_seq: Tensor) -> Tensor:
            """States after each item: int64 (B, L, 1), padded with 0 -> float (B, L, D)."""
            item_seq = item_seq[:, :, 0]
            self._at_all_places = True
            try:
                return self.forward(item_seq, item_seq.count_nonzero(1))
            finally:
                self._at_all_places = False

    OnSequences.__name__ = OnSequences.__qualname__ = model_class.__name__
    return OnSequences
