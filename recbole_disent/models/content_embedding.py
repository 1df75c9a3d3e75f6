"""Content vectors of items, brought to the width of a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from recbole_disent.content.matrix import Content, TextEncoder
from recbole_disent.errors import UserError

# Random combinations of the rows of a matrix that a checkpoint keeps, and how far those of a
# matrix that was made again may be off, in units of their own size.
_PROBES, _TOLERANCE = 4, 1e-3


class ContentEmbedding(nn.Module):
    """Linear(content vector of an item): e^con of TSSR.

    The matrix is no part of the weights. A checkpoint holds its hash and a few random
    combinations of its rows instead; loading it into a model with other content fails.

    Args:
        content: of all items.
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
        # The cheaper of two orders: a projection of each item, or of each place.
        if items.numel() >= len(self.matrix):
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
        """Content vectors of all items, before they are brought to the width D: float (n_items, F)."""
        return self.matrix

    # -- what evaluation keeps is void as soon as weights can change ---------------------

    def train(self, mode: bool = True) -> ContentEmbedding:
        """As of any module."""
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
        """Hash and sketch as bytes: uint8 (8 + 4 * F * 8,)."""
        code = torch.tensor(list(bytes.fromhex(self.content_hash)), dtype=torch.uint8)
        return torch.cat([code, self._sketch().flatten().view(torch.uint8)])

    def set_extra_state(self, state: Tensor) -> None:
        """Compare with what a checkpoint was trained with.

        Raises:
            UserError: it is not the content of this model.
        """
        self._table = None
        ours, theirs = self.get_extra_state(), state.cpu()
        code = len(self.content_hash) // 2
        stored = bytes(theirs[:code].tolist()).hex()
        if stored != self.content_hash:
            raise UserError(
                f"checkpoint: it was trained with other item content (hash {stored}, here "
                f"{self.content_hash}); use the same .item file or content_file, columns, "
                "encoder and content_* keys, or train again"
            )
        if ours.shape == theirs.shape:
            a, b = (part[code:].clone().view(torch.float64) for part in (ours, theirs))
            if torch.allclose(a, b, rtol=0, atol=_TOLERANCE * float(len(self.matrix)) ** 0.5):
                return
        raise UserError(
            f"checkpoint: the same item content gave other vectors here (another version of numpy, "
            f"scikit-learn or the encoder); copy {self.cache_path} from where it was trained, or train again"
        )


class TrainedContentEmbedding(ContentEmbedding):
    """Linear(text encoder(text of an item)); the encoder is trained along, as TSSR's authors do.

    Args:
        content: with an encoder.
        encoder: of the content.
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
        """As of any module, but for the encoder, which brings its weights with it."""
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
        """Vectors of all texts by the encoder as it is now: float (n_items, F)."""
        return self._encode(torch.arange(len(self.tokens), device=self.tokens.device))

    def _embed(self, items: Tensor) -> Tensor:
        if not len(items):  # the share of a process without a window
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
    """Make the embedding of content: of vectors, or of texts whose encoder is trained."""
    if content.encoder is not None:
        return TrainedContentEmbedding(content, content.encoder, width)
    return ContentEmbedding(content, width)
