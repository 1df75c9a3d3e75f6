"""The loss of the next item for models with one state per position, which configuration keys select."""

from __future__ import annotations

from collections.abc import Callable
from logging import getLogger
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from recbole_disent.errors import UserError
from recbole_disent.models.popularity import learns_lift, log_popularity
from recbole_disent.ops.chunked_softmax import max_scores
from recbole_disent.ops.full_softmax import full_softmax
from recbole_disent.ops.gbce import draw_negatives, gbce, power
from recbole_disent.ops.intention_softmax import sample
from recbole_disent.ops.sampled_softmax import sampled_softmax
from recbole_disent.parallel import process_group


def check(config: Any) -> None:
    """Check the keys of ``properties/negatives.yaml`` together.

    Raises:
        UserError: gBCE with a key of the softmax.
    """
    if config["loss"] != "gbce":
        return
    if config["negatives"] != "auto":
        raise UserError(
            f"negatives: got {config['negatives']} with loss=gbce, expected auto: the negatives of gBCE are "
            "gbce_negatives random items of each target"
        )
    if learns_lift(config):
        raise UserError(
            f"softmax_learns: got {config['softmax_learns']} with loss=gbce, expected probability: gBCE is "
            "not a softmax"
        )


def require_defaults(config: Any, key: str, expected: Any) -> None:
    """Check that the loss is not chosen where another key leaves it to RecBole.

    Args:
        config: a configuration.
        key: key that leaves the loss to RecBole.
        expected: value of *key* with which this package computes the loss.

    Raises:
        UserError: ``loss`` or ``negatives`` has another value than its default.
    """
    for name, default in (("loss", "softmax"), ("negatives", "auto")):
        if config[name] != default:
            raise UserError(
                f"{name}: got {config[name]} with {key}={config[key]}, expected {key}={expected}: otherwise "
                "the loss is RecBole's"
            )


def resolve(config: Any, n_items: int) -> str:
    """Return ``all`` or ``sampled``: the value of ``negatives``, or the choice of ``auto``.

    Args:
        config: a configuration; a model without the key has a softmax over all items.
        n_items: rows of the item table, padding included.
    """
    wanted: str = config["negatives"] or "all"
    if wanted != "auto":
        return wanted
    return "all" if n_items - 1 <= config["sampled_negatives"] else "sampled"


class ItemVectors(NamedTuple):
    """Vectors and biases of items, which a loss multiplies with states.

    Attributes:
        table: () -> float (n_items, D), vectors of all items, padding included.
        of: int64 (C,) -> float (C, D), vectors of some items. Only these rows get a gradient.
        bias: float (n_items,), added to the scores; None: 0.
    """

    table: Callable[[], Tensor]
    of: Callable[[Tensor], Tensor]
    bias: Tensor | None = None


class ItemLoss(nn.Module):
    """Softmax over all items, softmax over a sample of the items, or gBCE.

    A model whose loss :attr:`draws` sets ``cross_rank_negatives`` to this value, because all processes use
    the same draws (``recbole_disent/parallel/process_group.py``).

    Args:
        config: a configuration.
        dataset: training part, for the popularity of items.
        padding: whether the padding item is a class of the softmax over all items, as in RecBole.

    Attributes:
        kind: ``all``, ``sampled`` or ``gbce``.
        chosen: what the keys with the value ``auto`` became, for the result file; None without such keys.
        limit: largest number of scores in memory at a time.
        rows_of_a_step: how many items a training step looks up at most, about and with repeats, apart from a
            softmax over all items.

    Raises:
        UserError: gBCE with a single item, which has no negatives.
    """

    lift: Tensor | None
    shares: Tensor | None

    def __init__(self, config: Any, dataset: Any, padding: bool = False) -> None:
        super().__init__()
        self.padding, self.n_items = padding, dataset.item_num
        self.kind = "gbce" if config["loss"] == "gbce" else resolve(config, self.n_items)
        # What the result file says about the keys with the value auto; RecBole's loss has no such keys.
        self.chosen = None if config["negatives"] is None else {"negatives": self.kind}
        if self.kind == "sampled" and config["negatives"] == "auto":
            getLogger().info(
                f"negatives: auto is sampled, because there are {self.n_items - 1} items, more than "
                f"sampled_negatives={config['sampled_negatives']}; set negatives=all for all items"
            )
        self.limit = max_scores(config)
        self.sampled_negatives: int = config["sampled_negatives"]
        self.register_buffer("lift", log_popularity(dataset) if learns_lift(config) else None, False)
        self.register_buffer("shares", log_popularity(dataset) if self.kind == "sampled" else None, False)
        targets = config["train_batch_size"] * config["MAX_ITEM_LIST_LENGTH"]
        drawn = {
            "all": 0,
            "sampled": self.sampled_negatives,
            "gbce": (config["gbce_negatives"] or 0) * targets,
        }
        self.rows_of_a_step: int = 2 * targets + drawn[self.kind]
        if self.kind == "gbce":
            if self.n_items < 3:
                raise UserError(
                    f"loss: got gbce, but the data have {self.n_items - 1} item, expected at least 2, "
                    "because a negative is another item than the target; set loss=softmax, or use more data"
                )
            self.gbce_negatives: int = config["gbce_negatives"]
            self.beta = power(self.gbce_negatives, self.n_items - 1, config["gbce_t"])

    @property
    def draws(self) -> bool:
        """Whether the loss draws items, which are the same in all processes."""
        return self.kind != "all"

    def forward(
        self,
        states: Tensor,
        targets: Tensor,
        users: Tensor,
        items: ItemVectors,
        rows: Tensor | None = None,
        blocks: process_group.Blocks | None = None,
    ) -> Tensor:
        """Mean loss of P positions.

        Args:
            states: float (P, D).
            targets: int64 (P,), next items >= 1.
            users: int64 (P,), users of the positions.
            items: vectors of the items.
            rows: int64 (P,), number of each position in the global batch; None: the positions of all
                processes follow each other.
            blocks: division of the global batch, for a model whose loss always is a part of the loss of the
                global batch.

        Returns:
            float (): the mean over these positions. If the loss draws or there are *blocks*, the part of
            this process in the mean over the global batch.
        """
        if self.draws and blocks is None:
            blocks = process_group.Blocks(len(targets), targets.device)
        bias = items.bias
        if self.lift is not None:
            bias = self.lift if bias is None else bias + self.lift
        if blocks is None or self.kind == "all":
            total = full_softmax(states, targets, items.table(), bias, self.limit, self.padding)
        else:
            states, vectors_of = _with_bias(states, items.of, bias)
            if self.kind == "sampled":
                total = self._sampled(states, targets, users, vectors_of, blocks)
            else:
                total = self._gbce(states, targets, vectors_of, rows, blocks)
        return total / max(1, len(targets) if blocks is None else blocks.total)

    def _sampled(
        self,
        states: Tensor,
        targets: Tensor,
        users: Tensor,
        vectors_of: Callable[[Tensor], Tensor],
        blocks: process_group.Blocks,
    ) -> Tensor:
        assert self.shares is not None
        columns = sample(
            self.n_items, self.sampled_negatives, targets, users, blocks, self.shares, vectors_of
        )
        return sampled_softmax(states, columns, self.limit)

    def _gbce(
        self,
        states: Tensor,
        targets: Tensor,
        vectors_of: Callable[[Tensor], Tensor],
        rows: Tensor | None,
        blocks: process_group.Blocks,
    ) -> Tensor:
        seed = process_group.from_first(torch.randint(2**62, (1,), device=targets.device))
        rows = blocks.row_index() if rows is None else rows
        drawn = draw_negatives(targets, self.gbce_negatives, self.n_items, rows, blocks.total, seed)
        return gbce(states, targets, drawn, self.n_items, vectors_of, self.beta, self.limit)


def _with_bias(
    states: Tensor, vectors_of: Callable[[Tensor], Tensor], bias: Tensor | None
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Append the constant 1 to the states and the bias of an item to its vector: (P, D) -> (P, D + 1)."""
    if bias is None:
        return states, vectors_of

    def extended(items: Tensor) -> Tensor:
        return torch.cat([vectors_of(items), bias.index_select(0, items)[:, None]], 1)

    return torch.cat([states, states.new_ones(len(states), 1)], 1), extended
