"""All knowledge of what is wrong with which version of what.

``tests/test_compat.py`` pins every upstream behaviour named here, so that an upgrade of
RecBole, numpy or ray shows up as a failing test and not as a wrong result.
"""

from __future__ import annotations

import ctypes
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import recbole
import torch
from scipy.sparse import dok_matrix

RECBOLE_VERSION = "1.2.1"

# RecBole 1.2.1 reads these names all over its code; Config.compatibility_settings sets
# the first group from the second, which numpy 2 removed (AttributeError on every run).
_ALIASES = {
    "bool": np.bool_,
    "int": np.int_,
    "float": np.float64,
    "complex": np.complex128,
    "object": np.object_,
    "str": np.str_,
    "long": np.int_,
    "unicode": np.str_,
    "float_": np.float64,
    "complex_": np.complex128,
    "unicode_": np.str_,
}


def prepare() -> None:
    """Give numpy the names that RecBole 1.2.1 expects. Idempotent; overwrites nothing.

    ``np.long`` means C long in numpy 2 and has the same width as ``np.int_`` on the
    platforms RecBole uses it for (index arrays), so an existing name is left alone.
    """
    for name, value in _ALIASES.items():
        if name not in np.__dict__:
            setattr(np, name, value)
    # scipy 1.13 dropped what RecBole's graph models fill their matrices with.
    if not hasattr(dok_matrix, "_update"):
        dok_matrix._update = lambda self, data: self._dict.update(data)
    # RecBole's column-wise fillna(inplace=True) (pandas 3 is excluded for it) and its
    # torch.cuda.amp.GradScaler: nothing a user could do about them, printed on every run.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"recbole\.")


@contextmanager
def anomaly_detection_kept() -> Iterator[None]:
    """Import models of RecBole without their effect on all others.

    Its SINE turns torch's anomaly detection on where it is imported, which is with any sequential
    model: every gradient is searched for NaN, at up to twice the time of a step.
    """
    wanted = torch.is_anomaly_enabled()
    try:
        yield
    finally:
        torch.autograd.set_detect_anomaly(wanted)


@cache
def mended(model_class: type[Any]) -> type[Any]:
    """Return a model of RecBole, without its fault where it has one that changes results.

    Pop counts an item of several rows of a batch once, and the sampled negatives too, so that
    its ranking depends on the batches and the seed.
    """
    if model_class.__module__ != "recbole.model.general_recommender.pop":
        return model_class

    class Pop(model_class):
        def __init__(self, config: Any, dataset: Any) -> None:
            super().__init__(config, dataset)
            self.label = config["LABEL_FIELD"]

        def calculate_loss(self, interaction: Any) -> torch.Tensor:
            items = interaction[self.ITEM_ID]
            if self.label in interaction:
                items = items[interaction[self.label] > 0]
            self.item_cnt.index_add_(0, items, torch.ones_like(items)[:, None])
            self.max_cnt = self.item_cnt.max(0)[0]
            return torch.nn.Parameter(torch.zeros(1)).to(self.device)

    return Pop


class _NumpyOfTuning:
    """numpy for RecBole's ``hyper_tuning``, with the generator that hyperopt has needed since 0.2.6.

    hyperopt calls ``rng.integers``, which the ``RandomState`` that RecBole gives it lacks.
    """

    class random:
        RandomState = staticmethod(np.random.default_rng)

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def prepare_tuning() -> None:
    """Make RecBole's ``HyperTuning`` run with today's hyperopt. Idempotent.

    Its params files are read by :mod:`recbole_disent.search_space`: RecBole's reader evaluates
    their text as code and knows no comments.
    """
    from recbole.trainer import hyper_tuning

    hyper_tuning.np = _NumpyOfTuning()
    hyper_tuning.HyperTuning._build_space_from_file = staticmethod(_hyperopt_space)


def _hyperopt_space(file: str) -> dict[str, Any]:
    from recbole_disent.search_space import read_space
    from recbole_disent.tuning.proposals import hyperopt_space

    return hyperopt_space(read_space(file))


class _Silent:
    """A tensorboard writer that writes nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **options: None


def silence(config: Any) -> None:
    """Keep a process that is not the first from writing: RecBole's logs, tensorboard, wandb, bars."""
    from recbole.trainer import trainer

    trainer.get_tensorboard = lambda logger: _Silent()
    logging.getLogger().setLevel(logging.ERROR)
    config["log_wandb"] = config["show_progress"] = False


def release_memory() -> None:
    """Give freed memory back to the system (glibc; nothing elsewhere).

    Batches of changing widths leave the heap in pieces that glibc keeps: several gigabytes
    after some hundred steps, of which the program uses a fifth. One call takes about 30 ms.
    """
    if _LIBC is not None:
        _LIBC.malloc_trim(0)


def _glibc() -> Any:
    try:
        library = ctypes.CDLL("libc.so.6")
        return library if hasattr(library, "malloc_trim") else None
    except OSError:
        return None


_LIBC = _glibc()


def recbole_folder() -> Path:
    """Return the folder of the installed RecBole: its properties and sources."""
    return Path(recbole.__file__).parent
