"""Makes RecBole's ``HyperTuning`` run with current hyperopt, and reads its params files safely."""

from __future__ import annotations

from typing import Any

import numpy as np

from recbole_disent.config.search_space import read_space
from recbole_disent.tuning.proposals import hyperopt_space


class _NumpyOfTuning:
    """Stands for numpy in RecBole's ``hyper_tuning``, with the random generator that hyperopt needs.

    Since release 0.2.6 hyperopt calls ``rng.integers``. RecBole passes a ``RandomState``, which lacks this
    method.
    """

    class random:
        RandomState = staticmethod(np.random.default_rng)

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def patch() -> None:
    """Patch RecBole's ``HyperTuning``; a second call changes nothing.

    :mod:`recbole_disent.config.search_space` reads the params files, because RecBole's reader evaluates
    their text as code and does not support comments.
    """
    from recbole.trainer import hyper_tuning

    hyper_tuning.np = _NumpyOfTuning()
    hyper_tuning.HyperTuning._build_space_from_file = staticmethod(_space_of_file)


def _space_of_file(file: str) -> dict[str, Any]:
    return hyperopt_space(read_space(file))
