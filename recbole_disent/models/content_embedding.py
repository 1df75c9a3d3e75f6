"""Embeddings of items by their content, projected to the width of a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from recbole_disent.content.matrix import Content, TextEncoder
from recbole_disent.errors import UserError

# A checkpoint keeps _PROBES random combinations of the rows of the content matrix. The combinations
# of a matrix that was computed again may differ by _TOLERANCE, relative to their size.
_PROBES, _TOLERANCE = 4, 1e-3


class ContentEmbedding(nn.Module):
    """A linear layer on the content vector of an item: e^con of TSSR.

    The content matrix is not part of the weights. A checkpoint holds the hash of the matrix and a few
    random combinations of its rows instead. Loading a checkpoint into a model with other content fails.

    Args:
        content: content of all items.
        width: D.
    """

    matrix: Tensor

    def __init__(self, content: Content, width: int) -> None:
        super().__init__()
        self.content_hash, self.cache_path = content.hash, content.cache_path
        self.register_buffer("matrix", content.matrix, persistent=False)
        self.linear = nn.Linear(self._features(), width)
        self._table: Tensor | None = None

    def _features(self) -> int:
        return self.matrix.shape[1]

    def forward(self, items: Tensor) -> Tensor:
        """Content embeddings of item ids, any shape: (..., D)."""
        # Outside of training there is a table. In training, project each row of the matrix once, or each
        # element of *items*, whichever is cheaper.
        if not (self.training or torch.is_grad_enabled()) or items.numel() >= len(self.matrix):
            return self.table()[items]
        return self.linear(self.matrix[items])

    def table(self) -> Tensor:
        """Content embeddings of all items, padding included: (n_items, D)."""
        if self.training or torch.is_grad_enabled():
            return self._make_table()
        if self._table is None:
            self._table = self._make_table()
        return self._table

    def _make_table(self) -> Tensor:
        return self.linear(self.matrix)

    def vectors(self) -> Tensor:
        """Content vectors of all items, before the projection to the width D: float (n_items, F)."""
        return self.matrix

    # -- the table is computed again as soon as weights can change -----------------------

    def train(self, mode: bool = True) -> ContentEmbedding:
        """Set training or evaluation mode and discard the table."""
        self._table = None
        return super().train(mode)

    def _apply(self, *args: Any, **options: Any) -> Any:
        self._table = None
        return super()._apply(*args, **options)

    # -- checkpoints -------------------------------------------------------------------

    def _sketch(self) -> Tensor:
        n, features = self.matrix.shape
        generator = torch.Generator().manual_seed(0)
        signs = torch.randint(2, (_PROBES, n), generator=generator).double() * 2 - 1
        return (signs @ self.matrix.detach().double().cpu()) if features else signs.new_zeros(_PROBES, 0)

    def get_extra_state(self) -> Tensor:
        """Return the hash and the random combinations as bytes: uint8 (8 + 4 * F * 8,)."""
        code = torch.tensor(list(bytes.fromhex(self.content_hash)), dtype=torch.uint8)
        return torch.cat([code, self._sketch().flatten().view(torch.uint8)])

    def set_extra_state(self, state: Tensor) -> None:
        """Check that a checkpoint was trained with the content of this model.

        Args:
            state: value of :meth:`get_extra_state` when the checkpoint was saved.

        Raises:
            UserError: the checkpoint was trained with other content.
        """
        self._table = None
        ours, theirs = self.get_extra_state(), state.cpu()
        code = len(self.content_hash) // 2
        stored = bytes(theirs[:code].tolist()).hex()
        if stored != self.content_hash:
            raise UserError(
                f"checkpoint: the model was trained with other item content (hash {stored}, here "
                f"{self.content_hash}); use the same .item file or content_file, columns, "
                "encoder and content_* keys, or train again"
            )
        if ours.shape == theirs.shape:
            a, b = (part[code:].clone().view(torch.float64) for part in (ours, theirs))
            if torch.allclose(a, b, rtol=0, atol=_TOLERANCE * float(len(self.matrix)) ** 0.5):
                return
        raise UserError(
            f"checkpoint: the same item content gives other vectors here (another version of numpy, "
            f"scikit-learn or the encoder); copy {self.cache_path} from the training machine, or train again"
        )


class TrainedContentEmbedding(ContentEmbedding):
    """A linear layer on a text encoder's vector of an item's text.

    The encoder is trained with the rest of the model, as TSSR's authors do.

    Args:
        content: content with a text encoder.
        encoder: the text encoder of *content*.
        width: D.
    """

    tokens: Tensor
    mask: Tensor
    empty: Tensor

    def __init__(self, content: Content, encoder: TextEncoder, width: int) -> None:
        self._width, self.batch = encoder.width, encoder.batch_size
        super().__init__(content, width)
        self.encoder = encoder.module
        self.register_buffer("tokens", encoder.tokens, persistent=False)
        self.register_buffer("mask", encoder.mask, persistent=False)
        self.register_buffer("empty", encoder.empty, persistent=False)

    def _features(self) -> int:
        return self._width

    def apply(self, fn: Callable[[nn.Module], None]) -> TrainedContentEmbedding:
        """Apply *fn* to the linear layer only, because the encoder has pretrained weights."""
        self.linear.apply(fn)
        return self

    def forward(self, items: Tensor) -> Tensor:
        """Content embeddings of item ids, any shape: (..., D). Each distinct item is encoded once."""
        if self.training or torch.is_grad_enabled():
            distinct, place = items.unique(return_inverse=True)
            return self._embed(distinct)[place]
        return self.table()[items]

    def _make_table(self) -> Tensor:
        return self._embed(torch.arange(len(self.tokens), device=self.tokens.device))

    def vectors(self) -> Tensor:
        """Vectors of all texts from the encoder's current weights: float (n_items, F)."""
        return self._encode(torch.arange(len(self.tokens), device=self.tokens.device))

    def _embed(self, items: Tensor) -> Tensor:
        if not len(items):  # a process without a window
            return self.linear(self.linear.weight.new_zeros(0, self._width))
        return self.linear(self._encode(items))

    def _encode(self, items: Tensor) -> Tensor:
        found = []
        for part in items.split(self.batch):
            longest = max(int(self.mask[part].sum(1).max()), 1)
            features = {"input_ids": self.tokens[part, :longest], "attention_mask": self.mask[part, :longest]}
            vectors = nn.functional.normalize(self.encoder(features)["sentence_embedding"], dim=-1)
            found.append(vectors.masked_fill(self.empty[part, None], 0.0))
        return torch.cat(found)


def content_embedding(content: Content, width: int) -> ContentEmbedding:
    """Return the embedding of *content*; its text encoder, if there is one, is trained with the model."""
    if content.encoder is not None:
        return TrainedContentEmbedding(content, content.encoder, width)
    return ContentEmbedding(content, width)
