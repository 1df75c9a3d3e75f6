"""RecBole's causal models, trained on whole sequences: one pass for all pairs of a window."""

from __future__ import annotations

from functools import cache
from typing import Any

from torch import Tensor

from recbole_disent.errors import UserError
from recbole_disent.loaders.batch import WindowBatch
from recbole_disent.ops.full_softmax import full_softmax
from recbole_disent.ops.jagged import JaggedBatch
from recbole_disent.recbole.full_softmax import OverAllItems, require_recboles


def check(config: Any) -> None:
    """Check the keys of a causal model of RecBole together.

    Raises:
        UserError: another class of that name or another loss than cross-entropy for whole sequences;
            a key for whole sequences with pairs.
    """
    if config["train_mode"] == "pairs":
        for key, default in (("train_windows", "all"), ("softmax_learns", "probability")):
            if config[key] != default:
                raise UserError(
                    f"{key}: got {config[key]} with train_mode=pairs, expected train_mode=sequences"
                )
        return
    require_recboles(config, "train_mode", "pairs")


def adapt(config: Any, model_class: Any) -> type[Any]:
    """Return the class for ``train_mode``: RecBole's for pairs, :func:`on_sequences` of it otherwise."""
    return on_sequences(model_class) if config["train_mode"] == "sequences" else model_class


@cache
def on_sequences(model_class: type[Any]) -> type[Any]:
    """Return a causal model of RecBole that learns from windows of whole sequences, without margins.

    RecBole encodes each pair (first t items of a user, item t + 1) by itself and keeps the state at
    the last of the t places. In a causal model that is the state at place t of any longer sequence,
    so that one pass gives the states of all pairs. Scores are RecBole's, unchanged.
    """

    class OnSequences(OverAllItems, model_class):
        __doc__ = model_class.__doc__
        _at_all_places = False

        def gather_indexes(self, output: Tensor, gather_index: Tensor) -> Tensor:
            """RecBole's choice of the last state, (B, L, D) -> (B, D); all states of a window."""
            return output if self._at_all_places else super().gather_indexes(output, gather_index)

        def calculate_loss(self, interaction: WindowBatch) -> Tensor:
            """Mean over the pairs of a batch of the cross-entropy over all items, float ().

            With ``softmax_learns: lift`` the score of an item is raised by ln p(item) in training, so that
            the score learns ln p(item | sequence) / p(item), up to a constant (A. K. Menon et al., Long-tail
            learning via logit adjustment, ICLR 2021, equation 10 with tau = 1).
            """
            items = interaction.items
            last = interaction.pairs()[2].to(items.device, non_blocking=True)
            jagged = JaggedBatch(interaction.counts, items.device)
            states = jagged.map(self._states, items[last][:, None])
            table, bias = self.item_embedding.weight, self._log_popularity
            total = full_softmax(states, items[last + 1], table, bias, self._max_scores, padding=True)
            return total / len(states)

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
