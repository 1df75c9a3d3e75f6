"""The states of all random generators of a training, for checkpoints."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

from recbole_disent.parallel import process_group


def get(loader: torch.Generator, device: torch.device) -> dict[str, Any]:
    """Return the states as tensors and plain values.

    Args:
        loader: generator of the training loader.
        device: device of the model.
    """
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    found: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": [kind, np.asarray(keys).astype(np.int64), position, has_gauss, gauss],
        "torch": torch.get_rng_state(),
        "loader": loader.get_state(),
    }
    if device.type == "cuda":
        found["cuda"] = torch.cuda.get_rng_state(device)
    return found


def put(state: dict[str, Any], loader: torch.Generator, device: torch.device) -> None:
    """Set all generators to the states that :func:`get` returned."""
    random.setstate(state["python"])
    np.random.set_state(_of_numpy(state))
    if process_group.rank() == 0:  # the other processes start each epoch from a seed
        torch.set_rng_state(state["torch"].cpu())
    loader.set_state(state["loader"].cpu())
    if "cuda" in state and device.type == "cuda" and process_group.rank() == 0:
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)


def check(state: dict[str, Any]) -> None:
    """Raise an exception of any type if a state of the CPU cannot be set."""
    random.Random().setstate(state["python"])
    np.random.RandomState().set_state(_of_numpy(state))
    for key in ("torch", "loader"):
        torch.Generator().set_state(state[key].cpu())


def _of_numpy(state: dict[str, Any]) -> tuple[Any, ...]:
    kind, keys, position, has_gauss, gauss = state["numpy"]
    return kind, keys.cpu().numpy().astype(np.uint32), position, has_gauss, gauss
