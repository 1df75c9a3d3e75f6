"""Process group, gathers, gradients and shares of a batch for processes that compute what one would.

Every process runs the same seeded order of batches and takes its share of each *global* batch. The
global batch is the batch that a single process would see.

**Losses over the batch.** A softmax over the batch compares every sample with every other sample.
Each process computes its own rows of the score matrix against the columns of all processes.
:meth:`Blocks.gather` collects these columns with their gradients. Memory and time of the matrix are
therefore divided by the number of processes. A model sets ``cross_rank_negatives = True`` if its
``calculate_loss`` returns this process's *part of the sum* that is the loss of the global batch. Then

    loss = sum over processes r of loss_r,     d loss / d w = sum over r of d loss_r / d w,

where d loss_r / d w includes the effect of the rows of r on the columns of other processes: the
backward pass of a gather sums the gradients of each block over all processes and gives the sum to the
block's owner. No gradient is divided by the number of processes.

**Independent rows.** For the other models (SASRec, RecBole's models) the loss is a mean over rows. A
share of n_r of N rows has the weight n_r / N, which is also right for unequal shares.

Gradients are summed over processes once per step, in one buffer, before they are clipped. All
processes take the same step, so their weights are equal to the last bit.

**Random numbers.** The generators of Python, of numpy and of the loader have the same state in every
process, because they decide on batches, negatives and masks, which must be equal in all processes.
torch's generator differs between processes and decides on dropout. Process 0 keeps the stream that a
single process would have; process r > 0 starts each epoch from ``SeedSequence([seed, r, epoch])``.
Process 0 makes the draws with torch that all processes share (:func:`from_first`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from recbole_disent.errors import UserError

_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
# Numbers of a message about losses: four in the head, and the largest number of losses in a tuple.
_HEAD, _PARTS = 4, 12
DENSE_GRADIENT = (
    "item_optimizer: got sparse, but the loss of the model reads a whole table that its row_tables() "
    "declares; set item_optimizer=dense, or look up rows only"
)
# Gloo group for numbers and objects if the gradients use nccl.
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
    """Return the id of this process's GPU from ``gpu_id``; a single process gets *ids* unchanged.

    Raises:
        UserError: the machine has GPUs, and there are fewer ids than processes.
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
    """Join the process group that the environment names; a single process joins no group.

    Args:
        device: device of the model; the group uses nccl on a GPU and gloo on a CPU.
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
    """Wait until all processes have reached this call."""
    if active():
        dist.barrier(group=_control)


@contextmanager
def rank_zero_first() -> Iterator[None]:
    """Run a block in process 0, then in the other processes, which find the files of process 0."""
    if rank() > 0:
        barrier()
    yield
    if rank() == 0:
        barrier()


def all_objects(value: Any) -> list[Any]:
    """Return the values of all processes, in the order of the processes, in every process."""
    if not active():
        return [value]
    found: list[Any] = [None] * world()
    dist.all_gather_object(found, value, group=_control)
    return found


def object_from_first(make: Callable[[], Any]) -> Any:
    """Call *make* in process 0 and return its result in every process."""
    if not active():
        return make()
    box = [make() if rank() == 0 else None]
    dist.broadcast_object_list(box, src=0, group=_control)
    return box[0]


def from_first(value: Tensor) -> Tensor:
    """Copy process 0's tensor into *value*, of equal shape and dtype, in every process; return *value*."""
    if active():
        dist.broadcast(value, src=0)
    return value


def broadcast_model(model: torch.nn.Module) -> torch.nn.Module:
    """Give every process the weights and buffers of process 0, and return the model.

    Raises:
        UserError: the model has batch normalisation, whose statistics cannot be shared on a CPU.
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
    """Return this process's part of n rows. Parts are in order; their sizes differ by at most one."""
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
        sizes: number of rows of each process.
        begin: number of this process's first row in the global batch.
        total: number of rows of all processes.
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
        """Concatenate the blocks of all processes, with their gradients.

        Args:
            block: (own rows, ...), any dtype, the same further shape in every process. If it
                has a gradient, it must have one in every process, even without rows
                (:func:`empty_with_grad`), because all processes take part in the backward pass.

        Returns:
            (total, ...), in the order of the processes. A single process gets *block* itself.
        """
        if len(self.sizes) == 1:
            return block
        return _Gather.apply(block, self)

    def row_index(self) -> Tensor | None:
        """Numbers in the global batch of this process's rows, int64 (own rows,); None for one process."""
        if len(self.sizes) == 1:
            return None
        return torch.arange(self.begin, self.begin + self.sizes[rank()], device=self._device)

    def own_sum(self, values: Tensor) -> Tensor:
        """Sum of this process's rows of *values* of the global batch, (total,) -> ()."""
        rows = self.row_index()
        return (values if rows is None else values[rows]).sum()


class _Gather(torch.autograd.Function):
    """Pads blocks of unequal sizes in the forward pass; sums their gradients in the backward pass."""

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
    """Return an empty tensor with a gradient, so that this process takes part in the backward pass."""
    return empty + weight.sum() * 0


# -- gradients -------------------------------------------------------------------------


def loss_of_all(
    model: torch.nn.Module,
    loss_of: Callable[[Any], Any],
    rows_of: Callable[[Any], float],
    tables: Sequence[Tensor] = (),
) -> Callable[[Any], Any]:
    """Return a function batch -> loss of the global batch, with the gradients of the global batch.

    Args:
        model: model whose parameters get the gradients; see the module for ``cross_rank_negatives``.
        loss_of: batch -> loss or tuple of losses of this process's share.
        rows_of: batch -> weight of the share, such as its number of rows; 0 for an empty share.
        tables: parameters with sparse gradients, whose rows the processes exchange.
    """
    of_rows = {id(p) for p in tables}
    parameters = [p for p in model.parameters() if p.requires_grad and id(p) not in of_rows]
    whole = getattr(model, "cross_rank_negatives", False)

    def calculate(batch: Any) -> Any:
        rows = 1.0 if whole else float(rows_of(batch))
        found = loss_of(batch) if rows else ()
        parts = found if isinstance(found, tuple) else (found,)
        if len(parts) > _PARTS:
            raise UserError(
                f"nproc: got a model with {len(parts)} losses, expected at most {_PARTS}; use nproc=1"
            )
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
        first = _Summed.apply(values[0], [own], len(parameters), *parameters, *tables)
        return (first, *values[1:]) if tuples else first

    return calculate


class _Summed(torch.autograd.Function):
    """The loss of the global batch, whose gradient is the sum of the gradients of all processes.

    This process computes its own gradient in the backward pass, where the scale of the loss (mixed
    precision) is known.
    """

    @staticmethod
    def forward(ctx: Any, value: Tensor, own: list[Tensor | None], dense: int, *parameters: Tensor) -> Tensor:
        ctx.own, ctx.dense = own, dense
        ctx.parameters = parameters
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        parameters, own = ctx.parameters, ctx.own.pop()
        found: Any = [None] * len(parameters)
        if own is not None:
            found = torch.autograd.grad(own, parameters, gradients[0].to(own.dtype), allow_unused=True)
        dense = sum_gradients(parameters[: ctx.dense], found[: ctx.dense])
        rows = map(sum_rows, parameters[ctx.dense :], found[ctx.dense :])
        return None, None, None, *dense, *rows


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


def sum_rows(parameter: Tensor, gradient: Tensor | None) -> Tensor | None:
    """Sum a sparse gradient over all processes, which exchange its rows only.

    Args:
        parameter: float (rows, D), the table.
        gradient: sparse (rows, D), rows of this process; None: this process has no row.

    Returns:
        The coalesced sum, equal in all processes to the last bit; None where no process has a row.

    Raises:
        UserError: the gradient is dense.
    """
    ids, rows = parameter.new_zeros(0, dtype=torch.long), parameter.new_zeros(0, *parameter.shape[1:])
    if gradient is not None:
        if not gradient.is_sparse:
            raise UserError(DENSE_GRADIENT)
        gradient = gradient.coalesce()
        ids, rows = gradient.indices()[0], gradient.values()
    blocks = Blocks(len(ids), ids.device)
    if not blocks.total:
        return None
    ids, rows = blocks.gather(ids), blocks.gather(rows.to(parameter.dtype))
    return torch.sparse_coo_tensor(ids[None], rows, parameter.shape, check_invariants=False).coalesce()
