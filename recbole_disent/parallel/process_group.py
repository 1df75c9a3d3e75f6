"""Several processes that compute what one would: process group, gathers, gradients, shares of a batch.

Every process runs the same seeded order of batches and takes its share of each *global* batch, so
that the global batch is the one that a single process would see.

**Losses over the batch.** A softmax over the batch compares every sample with every other. Each
process computes its own rows of the score matrix against the columns of all processes, which
:meth:`Blocks.gather` brings together with their gradients; so the matrix and its time are divided
by the number of processes. A model says ``cross_rank_negatives = True`` when its ``calculate_loss`` returns
this process's *part of the sum* that makes the loss of the global batch. Then

    loss = sum over processes r of loss_r,     d loss / d w = sum over r of d loss_r / d w,

where d loss_r / d w contains what the rows of r do to the columns of others: the backward pass of
a gather sums, over all processes, the gradients of each block and hands it to its owner. No
division by the number of processes takes place anywhere.

**Independent rows.** For the other models (SASRec, RecBole's) the loss is a mean over rows; a share
of n_r of N rows counts n_r / N, which is right for unequal shares, too.

Gradients are summed over processes once per step, in one buffer, before they are clipped. All
processes hold the same weights to the last bit, as all take the same step.

**Random numbers.** Python's and numpy's generators and the loader's have the same state in every
process: they decide on batches, negatives and masks, which all processes must agree on. torch's
generator is each process's own and decides on dropout; process 0 keeps the stream that a single
process would have, process r > 0 starts each epoch from ``SeedSequence([seed, r, epoch])``. Draws
of torch's that all must share are made by process 0 (:func:`from_first`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from recbole_disent.errors import UserError

_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
# Numbers of a message about losses: four of its head, and most parts that a tuple of losses may have.
_HEAD, _PARTS = 4, 12
# Gloo group for numbers and objects where the gradients go by nccl.
_control: Any = None


# -- the group -------------------------------------------------------------------------


def active() -> bool:
    """Whether this process is one of several."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if active() else 0


def world() -> int:
    """Number of processes."""
    return dist.get_world_size() if active() else 1


def local_rank() -> int:
    """Number of this process on its machine."""
    return int(os.environ.get("LOCAL_RANK", "0")) if active() else 0


def started_as_one_of_several() -> bool:
    """Whether torchrun, or the launcher of this package, started this process."""
    return all(name in os.environ for name in _VARIABLES) and int(os.environ["WORLD_SIZE"]) > 1


def own_gpu(ids: Any) -> str:
    """Return the id of this process's GPU among those of ``gpu_id``; alone: *ids* as they are.

    Raises:
        UserError: fewer ids than processes, where there are GPUs at all.
    """
    text = ",".join(map(str, ids)) if isinstance(ids, (list, tuple)) else str(ids)
    if not started_as_one_of_several():
        return text
    each, count = text.split(","), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if len(each) >= count:
        return each[int(os.environ["LOCAL_RANK"])].strip()
    if text.strip() and torch.cuda.is_available():
        raise UserError(
            f"gpu_id: got '{text}', expected an id for each of {count} processes, such as "
            f"'{','.join(map(str, range(count)))}', or '' for the CPU"
        )
    return text


@contextmanager
def joined(device: torch.device, timeout: float) -> Iterator[None]:
    """Be a member of the process group that the environment names; alone: nothing.

    Args:
        device: of the model: nccl on a GPU, gloo on a CPU.
        timeout: seconds after which waiting for another process is an error.
    """
    global _control
    if not started_as_one_of_several():
        yield
        return
    limit = timedelta(seconds=timeout)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=limit)
    _control = dist.new_group(backend="gloo", timeout=limit) if device.type == "cuda" else dist.group.WORLD
    try:
        yield
    finally:
        _control = None
        dist.destroy_process_group()


def barrier() -> None:
    """Wait until all processes are here."""
    if active():
        dist.barrier(group=_control)


@contextmanager
def rank_zero_first() -> Iterator[None]:
    """Run a block in process 0, then in the others, which find the files it wrote."""
    if rank() > 0:
        barrier()
    yield
    if rank() == 0:
        barrier()


def all_objects(value: Any) -> list[Any]:
    """Return the value of every process, in their order, in every process."""
    if not active():
        return [value]
    found: list[Any] = [None] * world()
    dist.all_gather_object(found, value, group=_control)
    return found


def object_from_first(make: Callable[[], Any]) -> Any:
    """Return in every process what process 0 makes."""
    if not active():
        return make()
    box = [make() if rank() == 0 else None]
    dist.broadcast_object_list(box, src=0, group=_control)
    return box[0]


def from_first(value: Tensor) -> Tensor:
    """Return the tensor of process 0; the others give one of the same shape and dtype."""
    if active():
        dist.broadcast(value, src=0)
    return value


def broadcast_model(model: torch.nn.Module) -> torch.nn.Module:
    """Give every process the weights and buffers of process 0; alone: nothing.

    Raises:
        UserError: batch normalisation, whose statistics cannot be shared on a CPU.
    """
    if not active():
        return model
    if any(isinstance(module, torch.nn.modules.batchnorm._BatchNorm) for module in model.modules()):
        if next(model.parameters()).device.type != "cuda":
            raise UserError(
                f"nproc: {type(model).__name__} normalises over the batch, which several processes can "
                "do on GPUs only; run it in one process"
            )
        model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for value in [*model.parameters(), *model.buffers()]:
        from_first(value.data)
    return model


# -- shares of a batch -----------------------------------------------------------------


def local_slice(n: int) -> slice:
    """Return this process's part of n rows: in order, sizes differ by one at most, first ones larger."""
    base, more = divmod(n, world())
    begin = rank() * base + min(rank(), more)
    return slice(begin, begin + base + (rank() < more))


def seed_of_epoch(seed: int, epoch: int) -> int | None:
    """Return the seed of torch's generator in this process; None for process 0, which keeps its own."""
    if rank() == 0:
        return None
    return int(np.random.SeedSequence([seed, rank(), epoch]).generate_state(1)[0])


# -- gathers with gradients ------------------------------------------------------------


class Blocks:
    """Blocks of rows, one of each process, that make up a global batch.

    Attributes:
        sizes: rows of each process.
        begin: number of this process's first row in the global batch.
        total: rows of all.
    """

    def __init__(self, rows: int, device: torch.device) -> None:
        if active():
            mine = torch.tensor([rows], device=device)
            every = [torch.empty_like(mine) for _ in range(world())]
            dist.all_gather(every, mine)
            self.sizes = [int(size) for size in every]
        else:
            self.sizes = [rows]
        self.begin, self.total = sum(self.sizes[: rank()]), sum(self.sizes)
        self._device = device

    def gather(self, block: Tensor) -> Tensor:
        """Bring the blocks of all processes together, with their gradients.

        Args:
            block: (own rows, ...), any dtype, the same further shape in every process. Where it
                has a gradient it must have one in every process, also with no rows
                (:func:`empty_with_grad`): its backward pass is a meeting of all.

        Returns:
            (total, ...): in the order of the processes. Alone: *block* itself.
        """
        if len(self.sizes) == 1:
            return block
        return _Gather.apply(block, self)

    def row_index(self) -> Tensor | None:
        """Number in the global batch of each own row, int64 (own rows,); None where there is one process."""
        if len(self.sizes) == 1:
            return None
        return torch.arange(self.begin, self.begin + self.sizes[rank()], device=self._device)

    def own_sum(self, values: Tensor) -> Tensor:
        """Sum of the own rows of values of the global batch, (total,) -> ()."""
        rows = self.row_index()
        return (values if rows is None else values[rows]).sum()


class _Gather(torch.autograd.Function):
    """Blocks of unequal sizes: padded to the largest on the way there, summed on the way back."""

    @staticmethod
    def forward(ctx: Any, block: Tensor, blocks: Blocks) -> Tensor:
        ctx.blocks = blocks
        largest = max(blocks.sizes)
        padded = block.new_zeros(largest, *block.shape[1:])
        padded[: len(block)] = block
        every = [torch.empty_like(padded) for _ in blocks.sizes]
        dist.all_gather(every, padded)
        return torch.cat([part[:size] for part, size in zip(every, blocks.sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        begin = ctx.blocks.begin
        return total[begin : begin + ctx.blocks.sizes[rank()]], None


def empty_with_grad(empty: Tensor, weight: Tensor) -> Tensor:
    """Return an empty tensor that has a gradient, so that its backward pass meets those of others."""
    return empty + weight.sum() * 0


# -- gradients -------------------------------------------------------------------------


def loss_of_all(
    model: torch.nn.Module, loss_of: Callable[[Any], Any], rows_of: Callable[[Any], float]
) -> Callable[[Any], Any]:
    """Return a function batch -> loss of the global batch, with the gradients of the global batch.

    Args:
        model: whose parameters get the gradients; see the module for ``cross_rank_negatives``.
        loss_of: batch -> loss or tuple of losses, of this process's share.
        rows_of: batch -> the weight of the share: its rows; 0 for none.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    whole = getattr(model, "cross_rank_negatives", False)

    def calculate(batch: Any) -> Any:
        rows = 1.0 if whole else float(rows_of(batch))
        found = loss_of(batch) if rows else ()
        parts = found if isinstance(found, tuple) else (found,)
        if len(parts) > _PARTS:
            raise UserError(f"nproc: the model has {len(parts)} losses, expected at most {_PARTS}")
        # A process without a share learns from the others how many losses there are.
        numbers = torch.zeros(_HEAD + _PARTS, dtype=torch.float64)
        numbers[:_HEAD] = torch.tensor(
            [rows, bool(rows), len(parts), isinstance(found, tuple) and bool(rows)]
        )
        for i, part in enumerate(parts):
            numbers[_HEAD + i] = part.item() * rows
        numbers = numbers.to(parameters[0].device)
        dist.all_reduce(numbers)
        all_rows, sharers, all_parts, tuples = numbers[:_HEAD].tolist()
        all_rows = 1.0 if whole else all_rows
        count = round(all_parts / max(1.0, sharers)) or 1
        values = (numbers[_HEAD : _HEAD + count] / all_rows).to(parameters[0].dtype)
        own = sum(parts) * (rows / all_rows) if parts else None
        first = _Summed.apply(values[0], [own], *parameters)
        return (first, *values[1:]) if tuples else first

    return calculate


class _Summed(torch.autograd.Function):
    """The loss of the global batch, whose gradient is the sum of those of all processes.

    The own gradient is taken in the backward pass, where a scaled loss (mixed precision) is known.
    """

    @staticmethod
    def forward(ctx: Any, value: Tensor, own: list[Tensor | None], *parameters: Tensor) -> Tensor:
        ctx.own = own
        ctx.parameters = parameters
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        parameters, own = ctx.parameters, ctx.own.pop()
        found: Any = [None] * len(parameters)
        if own is not None:
            found = torch.autograd.grad(own, parameters, gradients[0].to(own.dtype), allow_unused=True)
        return None, None, *sum_gradients(parameters, found)


def sum_gradients(parameters: Any, gradients: Any) -> list[Tensor | None]:
    """Sum gradients over all processes, in one buffer; None where no process has one."""
    used = torch.tensor([g is not None for g in gradients])
    pieces = [
        torch.zeros_like(p).flatten() if g is None else g.detach().to(p.dtype).flatten()
        for p, g in zip(parameters, gradients, strict=True)
    ]
    buffer = torch.cat([*pieces, used.to(pieces[0])])
    dist.all_reduce(buffer)
    found: list[Tensor | None] = []
    begin = 0
    counts = buffer[-len(pieces) :].tolist()
    for p, count in zip(parameters, counts, strict=True):
        found.append(buffer[begin : begin + p.numel()].view_as(p) if count else None)
        begin += p.numel()
    return found
