"""All knowledge of what is wrong with which version of what.

``tests/test_patches.py`` pins every upstream behaviour named here, so that an upgrade of
RecBole, numpy or ray shows up as a failing test and not as a wrong result.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from scipy.sparse import dok_matrix

from recbole_disent.errors import UserError

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


def apply() -> None:
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
def anomaly_detection_unchanged() -> Iterator[None]:
    """Import models of RecBole without their effect on all others.

    Its SINE turns torch's anomaly detection on where it is imported, which is with any sequential
    model: every gradient is searched for NaN, at up to twice the time of a step.
    """
    wanted = torch.is_anomaly_enabled()
    try:
        yield
    finally:
        torch.autograd.set_detect_anomaly(wanted)


def recbole_class(name: str) -> type[Any]:
    """Return RecBole's class of a model.

    Raises:
        UserError: a library that the model needs is not installed.
    """
    from recbole.utils import get_model

    try:
        with anomaly_detection_unchanged():
            return get_model(name)
    except ImportError as error:
        raise UserError(
            f"model '{name}' needs the package '{error.name}': pip install {error.name}"
        ) from error
