"""The default dtype of torch while a model is built or used, which is one for the whole process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

import torch

_LOCK = RLock()


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Set the default dtype inside the ``with`` block; other threads that want one wait.

    A server builds the model of a new bundle in one thread while another thread makes lists.
    """
    with _LOCK:
        usual = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            yield
        finally:
            torch.set_default_dtype(usual)
