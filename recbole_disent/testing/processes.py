"""A function in several processes that form a group, for tests and benchmarks."""

from __future__ import annotations

import os
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from recbole_disent.parallel.launcher import free_port


def in_processes(n: int, function: Callable[..., Any], *args: Any) -> list[Any]:
    """Return the results of a function in each of n processes that form a group on the CPU.

    Args:
        n: number of processes on this machine; with 1, this process calls the function.
        function: a function that can be pickled, as can its arguments and its result.
        args: arguments of the function.
    """
    if n == 1:
        return [function(*args)]
    from torch import multiprocessing

    port = free_port()
    with tempfile.TemporaryDirectory(prefix="recbole_disent-") as folder:
        multiprocessing.spawn(_member, (n, port, folder, function, args), nprocs=n)
        return [pickle.loads(Path(folder, str(r)).read_bytes()) for r in range(n)]


def _member(rank: int, n: int, port: int, folder: str, function: Any, args: tuple[Any, ...]) -> None:
    import torch

    from recbole_disent.parallel import process_group

    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(n), LOCAL_WORLD_SIZE=str(n),
                      MASTER_ADDR="localhost", MASTER_PORT=str(port))  # fmt: skip
    with process_group.joined(torch.device("cpu"), 120):
        Path(folder, str(rank)).write_bytes(pickle.dumps(function(*args)))
