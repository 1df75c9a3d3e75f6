"""A check for RecBole's LDiffRec, which unpickles a file of the data set."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from recbole_disent.errors import UserError


def check_data(config: Any, train: Any) -> None:
    """Check that the item vectors of the data set are an array of numbers.

    RecBole reads ``item_emb.npy`` with ``allow_pickle=True``, so that a data set from elsewhere could
    execute code.

    Raises:
        UserError: ``n_cate`` is above 1, and the file does not exist or is not an array of numbers.
    """
    if config["n_cate"] <= 1:
        return
    path = os.path.join(train.dataset_path, "item_emb.npy")
    try:
        np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(
            f"n_cate: got {config['n_cate']}, which needs item vectors in '{path}' ({error}); write the file "
            "with numpy.save from an array of numbers, or set n_cate=1"
        ) from error
