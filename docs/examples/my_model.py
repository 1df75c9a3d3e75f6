"""A model of one's own, from outside the package: a GRU that learns from whole sequences.

Train it with::

    recbole-disent run --model_file=my_model.py --model=MyGRU --dataset=ml-100k
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from recbole_disent.loaders.batch import WindowBatch
from recbole_disent.models.base import VectorRecommender
from recbole_disent.ops.full_softmax import full_softmax
from recbole_disent.ops.jagged import JaggedBatch
from recbole_disent.specs import ModelSpec

# What the package has to know of the model. The properties file stands beside this file.
SPEC = ModelSpec(
    "MyGRU",  # the name of the class
    cls=f"{__name__}:MyGRU",
    properties=(str(Path(__file__).resolve().with_name("my_model.yaml")),),
    # One way to train: the loader of whole sequences, train_batch_size of them in a batch.
    modes={"sequences": "recbole_disent.loaders.windows:build_user_loader"},
    # Nothing in this model depends on the padding behind a sequence.
    trim_safe=True,
)


class MyGRU(VectorRecommender):
    """The state of a GRU after the last item scores the next item by an inner product."""

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)  # sets n_items, ITEM_SEQ, ITEM_SEQ_LEN and more
        width = config["hidden_size"]
        self.items = nn.Embedding(self.n_items, width, padding_idx=0)
        self.gru = nn.GRU(width, width, batch_first=True)
        self.max_scores = config["loss_chunk_mb"] * 2**18  # float32 numbers of four bytes

    def states(self, vectors: Tensor) -> Tensor:
        """State after each item of padded sequences: float (B, L, D) -> (B, L, D)."""
        return self.gru(vectors)[0]

    def calculate_loss(self, batch: WindowBatch) -> Tensor:
        """Mean cross-entropy over all items, at every position that has a next item."""
        # batch.items holds the sequences one after another. `last` is the index of the last item
        # of each history; the item that is to be predicted stands right behind it.
        last = batch.pairs()[2].to(batch.items.device)
        jagged = JaggedBatch(batch.counts, batch.items.device)
        states = jagged.map(self.states, self.items(batch.items[last]))
        targets = batch.items[last + 1]
        return full_softmax(states, targets, self.item_table(), None, self.max_scores) / len(targets)

    def item_table(self) -> Tensor:
        """One vector an item: float (n_items, D)."""
        return self.items.weight

    def query_vectors(self, batch: Any) -> Tensor:
        """One vector a history: float (B, 1, D). Models with several intentions return (B, K, D)."""
        states = self.states(self.items(batch[self.ITEM_SEQ]))
        return self.gather_indexes(states, batch[self.ITEM_SEQ_LEN] - 1)[:, None]
