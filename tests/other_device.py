"""A second device without a GPU: torch's ``meta`` device by name, with values that live on the CPU.

Torch's own ``meta`` tensors have no values, and products of matrices accept one of each device. Here a
tensor of the other device wraps a tensor of the CPU. Each operation is checked first as CUDA checks
it: its tensors must be on one device, apart from copies, numbers (tensors without an axis), and
indices on the CPU. Operations that read values, for which a GPU has to be waited for, are recorded.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import torch
from torch import nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

DEVICE = torch.device("meta")
_aten = torch.ops.aten
_COPIES = {_aten._to_copy, _aten.copy_}
_INDEXED = {_aten.index, _aten.index_put, _aten.index_put_, _aten._index_put_impl_}
_READS = {_aten._local_scalar_dense, _aten.nonzero, _aten.masked_select, _aten._unique2, _aten.unique_dim,
          _aten.equal, _aten.bincount}  # fmt: skip


class FarTensor(torch.Tensor):
    """A tensor on the other device."""

    near: torch.Tensor

    @staticmethod
    def __new__(cls, near: torch.Tensor) -> FarTensor:
        found = torch.Tensor._make_wrapper_subclass(
            cls, near.shape, dtype=near.dtype, device=DEVICE, strides=near.stride(),
            storage_offset=near.storage_offset(),
        )  # fmt: skip
        found.near = near
        return found

    def tolist(self) -> Any:
        current().reads.add("tolist")
        return self.near.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func} on the other device, outside of its context")


class OtherDevice(TorchDispatchMode):
    """Mode in which torch has the other device; ``reads`` lists the operations that read values."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [t for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        far = any(isinstance(t, FarTensor) for t in tensors)
        packet = func.overloadpacket
        if far:
            self._check(func, packet, args, tensors)
        wanted = kwargs.get("device")
        if wanted is not None:
            far = torch.device(wanted) == DEVICE
            kwargs["device"] = torch.device("cpu")
        elif packet is _aten.copy_:
            far = isinstance(args[0], FarTensor)
        near_args, near_kwargs = pytree.tree_map_only(FarTensor, lambda t: t.near, (args, kwargs))
        found = func(*near_args, **near_kwargs)
        return pytree.tree_map_only(torch.Tensor, FarTensor, found) if far else found

    def _check(self, func: Any, packet: Any, args: Any, tensors: list[torch.Tensor]) -> None:
        masked = packet in _INDEXED and any(t is not None and t.dtype == torch.bool for t in args[1])
        if packet in _READS or masked:
            self.reads.add(str(packet).removeprefix("aten."))
        if packet in _COPIES:
            return
        if packet in _INDEXED and isinstance(args[0], FarTensor):
            tensors = [args[0], *args[2:3]]
        wrong = [t.shape for t in tensors if t is not None and t.dim() and not isinstance(t, FarTensor)]
        if wrong:
            shapes = ", ".join(str(tuple(shape)) for shape in wrong)
            raise RuntimeError(f"{func}: tensors of two devices; on the CPU are those of shape {shapes}")


_active: list[OtherDevice] = []


def current() -> OtherDevice:
    return _active[-1]


@contextmanager
def other_device() -> Iterator[OtherDevice]:
    """Context in which tensors can be on :data:`DEVICE`."""
    autocast, tensor = torch.autocast, torch.tensor

    def without_far(device_type: str, *args: Any, **kwargs: Any) -> Any:
        if device_type != DEVICE.type:
            return autocast(device_type, *args, **kwargs)
        assert kwargs == {"enabled": False}  # torch has no mixed precision for this device
        return nullcontext()

    def tensor_there(*args: Any, device: Any = None, **kwargs: Any) -> torch.Tensor:
        found = tensor(*args, **kwargs)  # torch itself would make one of its meta tensors
        return found if device is None else found.to(device)

    patches = patch.multiple(torch, autocast=without_far, tensor=tensor_there)
    with patches, OtherDevice() as mode:
        _active.append(mode)
        try:
            yield mode
        finally:
            _active.pop()


def move(net: Any) -> Any:
    """Move a model's weights and buffers to the other device, within the context; return it."""
    for module in net.modules():
        for name, value in module._parameters.items():
            if value is not None:
                module._parameters[name] = nn.Parameter(value.detach().to(DEVICE), value.requires_grad)
        for name, value in module._buffers.items():
            if value is not None:
                module._buffers[name] = value.to(DEVICE)
    net.device = DEVICE  # RecBole's models make tensors there
    return net.train(net.training)  # as ``to`` does, this voids what evaluation keeps
