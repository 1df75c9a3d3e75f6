"""All knowledge of what is wrong with which version of what.

``tests/test_patches.py`` pins every upstream behaviour named here, so that an upgrade of
RecBole, numpy or pandas shows up as a failing test and not as a wrong result.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.sparse import dok_matrix

from recbole_disent.errors import UserError

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
    # Nothing a user could do about them, printed on every run: RecBole's column-wise
    # fillna(inplace=True), its torch.cuda.amp.GradScaler, and tensors on columns that pandas 3
    # calls read-only, which nobody writes to.
    for category in (FutureWarning, pd.errors.ChainedAssignmentError):
        warnings.filterwarnings("ignore", category=category, module=r"recbole\.")
    warnings.filterwarnings("ignore", "The given NumPy array is not writable", module=r"recbole\.")
    # Backslashes in docstrings, which Python 3.12 and newer warn of where a file is compiled.
    warnings.filterwarnings("ignore", category=SyntaxWarning, module=r".*[/\\]recbole[/\\]")


class _PandasOfDatasets:
    """pandas for RecBole's data sets: text columns as Python strings, on any release.

    pandas 3 reads text as a type of its own and fills no column in place, so that a missing cell of
    a sequence column would stay NaN, which RecBole cannot split.
    """

    def __getattr__(self, name: str) -> Any:
        return getattr(pd, name)

    @staticmethod
    def read_csv(*args: Any, dtype: dict[str, Any], **options: Any) -> pd.DataFrame:
        frame = pd.read_csv(*args, dtype=dtype, **options)
        for name, kind in dtype.items():
            if kind is str:
                frame[name] = frame[name].astype(object)
                if name.endswith("_seq"):
                    frame[name] = frame[name].fillna("")
        return frame


def _lengths(values: Any) -> Any:
    """``len`` for RecBole's ``column.agg(len)``: pandas 3 gives it the column, not each cell."""
    return values.map(len) if isinstance(values, pd.Series) else len(values)


def _fill_nan(self: Any) -> None:
    """Fill missing tokens with 0, numbers with the column's mean, sequences with an empty one.

    RecBole's ``fillna(inplace=True)`` on a column does nothing in pandas 3, without an error.
    """
    from recbole.utils import FeatureType

    for name in self.feat_name_list:
        feat = getattr(self, name)
        for field in feat:
            kind, column = self.field2type[field], feat[field]
            if kind == FeatureType.TOKEN:
                feat[field] = column.fillna(0)
            elif kind == FeatureType.FLOAT:
                feat[field] = column.fillna(column.mean())
            else:
                empty = np.array([], dtype=np.int64 if kind == FeatureType.TOKEN_SEQ else np.float64)
                feat[field] = column.map(lambda cell, empty=empty: empty if isinstance(cell, float) else cell)


def patch_datasets() -> None:
    """Make RecBole's data sets the same with pandas 2 and 3. Idempotent.

    Knowledge graphs are left out: no model of this package or that it runs reads them.
    """
    from recbole.data.dataset import dataset, sequential_dataset

    dataset.pd = _PandasOfDatasets()
    dataset.len = sequential_dataset.len = _lengths
    dataset.Dataset._fill_nan = _fill_nan


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
