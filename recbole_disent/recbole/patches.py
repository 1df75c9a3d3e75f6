"""Fixes of faults of RecBole 1.2.1 with current versions of numpy, scipy, pandas and Python.

``tests/test_patches.py`` pins every upstream behaviour named here, so that an upgrade of
RecBole, numpy or pandas gives a failing test and not a wrong result.
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

# RecBole 1.2.1 uses these names of numpy throughout its code. Config.compatibility_settings sets the
# first group from the second group, which numpy 2 removed, so every run would end in an AttributeError.
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
    """Add the names to numpy that RecBole 1.2.1 expects. Idempotent; overwrites nothing.

    ``np.long`` means C long in numpy 2 and has the same width as ``np.int_`` on the
    platforms RecBole uses it for (index arrays), so an existing name is left alone.
    """
    for name, value in _ALIASES.items():
        if name not in np.__dict__:
            setattr(np, name, value)
    # scipy 1.13 removed the method with which RecBole's graph models fill their matrices.
    if not hasattr(dok_matrix, "_update"):
        dok_matrix._update = lambda self, data: self._dict.update(data)
    # Every run would print these warnings, and a user cannot remove their causes: RecBole's column-wise
    # fillna(inplace=True), its torch.cuda.amp.GradScaler, and tensors on columns that pandas 3 marks
    # as read-only, although RecBole does not write to them.
    for category in (FutureWarning, pd.errors.ChainedAssignmentError):
        warnings.filterwarnings("ignore", category=category, module=r"recbole\.")
    warnings.filterwarnings("ignore", "The given NumPy array is not writable", module=r"recbole\.")
    # Python 3.12 and newer warn of backslashes in RecBole's docstrings when they compile a file.
    warnings.filterwarnings("ignore", category=SyntaxWarning, module=r".*[/\\]recbole[/\\]")


class _PandasOfDatasets:
    """pandas for RecBole's data sets, with text columns as Python strings in any release.

    pandas 3 reads text as a separate dtype and does not fill columns in place. A missing cell of a
    sequence column would therefore stay NaN, which RecBole cannot split.
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
    """Fill missing tokens with 0, numbers with the column's mean, and sequences with an empty sequence.

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
    """Make RecBole's data sets equal with pandas 2 and pandas 3, and its loaders lighter. Idempotent.

    The patch leaves out knowledge graphs, because no model that this package runs reads them.
    """
    from recbole.data.dataloader import abstract_dataloader
    from recbole.data.dataset import dataset, sequential_dataset

    # The list of the indices of all rows takes a second and 700 MiB for 20 million rows.
    abstract_dataloader.list = lambda values: values if isinstance(values, range) else list(values)
    dataset.pd = _PandasOfDatasets()
    dataset.len = sequential_dataset.len = _lengths
    dataset.Dataset._fill_nan = _fill_nan


@contextmanager
def anomaly_detection_unchanged() -> Iterator[None]:
    """Keep torch's anomaly detection unchanged while a block imports models of RecBole.

    The import of RecBole's SINE, which is part of the import of any sequential model, turns anomaly
    detection on. torch then searches every gradient for NaN, and a step takes up to twice the time.
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
