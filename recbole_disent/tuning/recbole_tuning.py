"""RecBole's own ``HyperTuning`` on today's hyperopt, with params files that are read as literals."""

from __future__ import annotations

from typing import Any

import numpy as np

from recbole_disent.config.search_space import read_space
from recbole_disent.tuning.proposals import hyperopt_space


class _NumpyOfTuning:
    """numpy for RecBole's ``hyper_tuning``, with the generator that hyperopt has needed since 0.2.6.

    hyperopt calls ``rng.integers``, which the ``RandomState`` that RecBole gives it lacks.
    """

    class random:
        RandomState = staticmethod(np.random.default_rng)

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def patch() -> None:
    """Make RecBole's ``HyperTuning`` run with today's hyperopt. Idempotent.

    :mod:`recbole_disent.config.search_space` reads the params files, because RecBole's reader
    evaluates their text as code and knows no comments.
    """
    from recbole.trainer import hyper_tuning

    hyper_tuning.np = _NumpyOfTuning()
    hyper_tuning.HyperTuning._build_space_from_file = staticmethod(_space_of_file)


def _space_of_file(file: str) -> dict[str, Any]:
    return hyperopt_space(read_space(file))
