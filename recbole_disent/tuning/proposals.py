"""Proposers, which choose the values of the next trial.

The proposals depend only on the seed and on the results so far. When a stopped search continues, it asks
for all proposals from the start and reads finished trials from their files. It therefore makes the same
proposals as a search without a stop.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from recbole_disent.config.search_space import (
    Choice,
    Distribution,
    LogUniform,
    QUniform,
    Uniform,
    grid,
    sample,
)
from recbole_disent.errors import UserError

ALGORITHMS = ("exhaustive", "random", "bayes")


class Proposer(Protocol):
    """Interface of a proposer; calls of ``ask`` and ``tell`` alternate."""

    def ask(self) -> dict[str, Any] | None:
        """Return the values of the next trial, or None if there are no more values."""

    def tell(self, loss: float | None) -> None:
        """Receive the loss of the last values, where smaller is better; None means that the trial failed."""


class Random:
    """Proposes independent random draws from the space."""

    def __init__(self, space: dict[str, Distribution], seed: int) -> None:
        self._space, self._rng = space, np.random.default_rng(np.random.SeedSequence([seed]))

    def ask(self) -> dict[str, Any] | None:
        """See :class:`Proposer`."""
        return sample(self._space, self._rng)

    def tell(self, loss: float | None) -> None:
        """Ignore the loss, because draws are independent of results."""


class Exhaustive:
    """Proposes every combination once, in random order, so that any first part is a random sample."""

    def __init__(self, space: dict[str, Distribution], seed: int) -> None:
        combinations = list(grid(space))
        order = np.random.default_rng(np.random.SeedSequence([seed])).permutation(len(combinations))
        self._rest = iter([combinations[i] for i in order])

    def ask(self) -> dict[str, Any] | None:
        """See :class:`Proposer`."""
        return next(self._rest, None)

    def tell(self, loss: float | None) -> None:
        """Ignore the loss, because the order is independent of results."""


class Hyperopt:
    """Proposes values by hyperopt's random search or tree of Parzen estimators (TPE)."""

    def __init__(self, space: dict[str, Distribution], seed: int, algo: str) -> None:
        hyperopt = import_hyperopt()
        from hyperopt.base import Domain

        self._hyperopt, self._space, self._seed = hyperopt, space, seed
        self._suggest = {"random": hyperopt.rand, "bayes": hyperopt.tpe}[algo].suggest
        self._domain = Domain(lambda values: None, hyperopt_space(space, indices=True))
        self._trials = hyperopt.Trials()

    def ask(self) -> dict[str, Any] | None:
        """See :class:`Proposer`."""
        number = len(self._trials.trials)
        seed = int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0])
        (self._asked,) = self._suggest([number], self._domain, self._trials, seed)
        drawn = self._asked["misc"]["vals"]
        return {key: _value(d, drawn[key][0]) for key, d in self._space.items()}

    def tell(self, loss: float | None) -> None:
        """See :class:`Proposer`."""
        failed = {"status": self._hyperopt.STATUS_FAIL}
        done = {"status": self._hyperopt.STATUS_OK, "loss": loss}
        self._asked.update(state=self._hyperopt.JOB_STATE_DONE, result=failed if loss is None else done)
        self._trials.insert_trial_docs([self._asked])
        self._trials.refresh()


def import_hyperopt() -> Any:
    """Return the module hyperopt.

    Raises:
        UserError: hyperopt is not installed.
    """
    try:
        import hyperopt
        import hyperopt.rand  # noqa: F401
        import hyperopt.tpe  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"tool 'hyperopt' needs the package {error.name}: pip install 'recbole_disent[tune]', "
            "or search with --tool=random"
        ) from error
    return hyperopt


def hyperopt_space(space: dict[str, Distribution], indices: bool = False) -> dict[str, Any]:
    """Return the space in hyperopt's format.

    Args:
        space: distribution of each key.
        indices: whether a choice gives the index of a value instead of the value, because hyperopt turns
            lists into tuples.
    """
    from hyperopt import hp
    from hyperopt.pyll import scope

    found: dict[str, Any] = {}
    for key, d in space.items():
        if isinstance(d, Choice):
            # RecBole's exhaustive search reads plain values only, so a list is passed as text.
            values = [str(v) if isinstance(v, (list, tuple)) else v for v in d.values]
            found[key] = hp.choice(key, list(range(len(values))) if indices else values)
        elif isinstance(d, Uniform):
            found[key] = hp.uniform(key, d.low, d.high)
        elif isinstance(d, LogUniform):
            found[key] = hp.loguniform(key, d.low, d.high)
        elif isinstance(d, QUniform):
            drawn = hp.quniform(key, d.low, d.high, d.step)
            found[key] = scope.int(drawn) if d.whole else drawn
    return found


def _value(distribution: Distribution, drawn: Any) -> Any:
    if isinstance(distribution, Choice):
        return distribution.values[int(drawn)]
    return distribution.nearest(float(drawn)) if isinstance(distribution, QUniform) else float(drawn)


def make(space: dict[str, Distribution], tool: str, algo: str | None, seed: int) -> Proposer:
    """Return the proposer of a tool and an algorithm.

    Raises:
        UserError: the tool does not have the algorithm, or hyperopt is not installed.
    """
    algo = algo or default_algorithm(tool)
    if algo not in ALGORITHMS:
        raise UserError(f"algo: got {algo!r}, expected one of {', '.join(ALGORITHMS)}")
    if algo == "exhaustive":
        return Exhaustive(space, seed)
    if tool == "hyperopt":
        return Hyperopt(space, seed, algo)
    if algo == "bayes":
        raise UserError(f"algo: got 'bayes' with tool '{tool}', expected tool hyperopt; or use algo=random")
    return Random(space, seed)


def default_algorithm(tool: str) -> str:
    """Return the default algorithm of a tool."""
    return "bayes" if tool == "hyperopt" else "random"
