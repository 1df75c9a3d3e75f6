"""Search spaces in the format of RecBole's params files. Values are literals and never evaluated as code.

A line has the form ``key type values``, and ``#`` starts a comment:

    learning_rate loguniform -9.2,-4.6       # exp of a uniform draw: 1e-4 to 1e-2
    n_layers choice [1, 2, 3]
    hidden_dropout_prob uniform 0.0,0.5
    n_intentions quniform 1,8,1              # low, high, step
"""

from __future__ import annotations

import ast
import itertools
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recbole_disent.config import key_rules
from recbole_disent.errors import UserError, nearest, wrap_errors


@dataclass(frozen=True)
class Distribution:
    """The values that a configuration key can take in a search.

    Attributes:
        key: the configuration key.
        where: file and line, for error messages.
    """

    key: str
    where: str

    def sample(self, rng: np.random.Generator) -> Any:
        """Draw one value."""
        raise NotImplementedError

    def grid(self) -> list[Any]:
        """Return all values, in order.

        Raises:
            UserError: the distribution has infinitely many values.
        """
        raise UserError(
            f"{self.where}: {self.key}: an exhaustive search needs a list of values; "
            "use choice or quniform, or a random or bayes search"
        )


@dataclass(frozen=True)
class Choice(Distribution):
    """A value of a list; all values are equally likely."""

    values: tuple[Any, ...]

    def sample(self, rng: np.random.Generator) -> Any:
        """Draw one value."""
        return self.values[rng.integers(len(self.values))]

    def grid(self) -> list[Any]:
        """Return the values in the order of the list."""
        return list(self.values)


@dataclass(frozen=True)
class Uniform(Distribution):
    """A number that is distributed uniformly in [low, high)."""

    low: float
    high: float

    def sample(self, rng: np.random.Generator) -> float:
        """Draw one value."""
        return float(rng.uniform(self.low, self.high))


@dataclass(frozen=True)
class LogUniform(Distribution):
    """The exponential of a number that is distributed uniformly in [low, high).

    The bounds are natural logarithms, as in hyperopt and RecBole.
    """

    low: float
    high: float

    def sample(self, rng: np.random.Generator) -> float:
        """Draw one value."""
        return float(np.exp(rng.uniform(self.low, self.high)))


@dataclass(frozen=True)
class QUniform(Distribution):
    """round(u / step) * step of a number u that is distributed uniformly in [low, high), as in hyperopt.

    The values are integers if low, high and step are integers. The smallest and the largest value are half
    as likely as the others.
    """

    low: float
    high: float
    step: float

    @property
    def whole(self) -> bool:
        """Whether the values are integers."""
        return all(isinstance(v, int) for v in (self.low, self.high, self.step))

    def sample(self, rng: np.random.Generator) -> float:
        """Draw one value."""
        return self.nearest(rng.uniform(self.low, self.high))

    def nearest(self, value: float) -> float:
        """Return the multiple of the step that is nearest to *value*."""
        return self._multiple(round(value / self.step))

    def grid(self) -> list[float]:
        """Return the multiples of the step that a draw can give."""
        # 0.15 / 0.1 is a little less than 1.5.
        first = math.floor(self.low / self.step + 0.5 + 1e-9)
        last = math.ceil(self.high / self.step - 0.5 - 1e-9)
        return [self._multiple(n) for n in range(first, last + 1)]

    def _multiple(self, multiple: int) -> float:
        value = multiple * self.step
        # 3 * 0.1 is 0.30000000000000004; rounding makes equal values compare equal.
        return value if self.whole else float(f"{value:.12g}")


_NUMBERS = {"uniform": ("low,high", Uniform), "loguniform": ("low,high", LogUniform),
            "quniform": ("low,high,step", QUniform)}  # fmt: skip


def shipped() -> list[str]:
    """Return the names of the models that have a search space in ``properties/hyper``."""
    return sorted(file.stem for file in (key_rules.folder("properties") / "hyper").glob("*.hyper"))


def is_own(path_or_model: str | Path) -> bool:
    """Return whether a search space is a file of the user, and not the name of a model."""
    return Path(path_or_model).is_file()


def read_space(path_or_model: str | Path) -> dict[str, Distribution]:
    """Read a search space.

    Args:
        path_or_model: path of a params file, or name of a model for which the package has one.

    Returns:
        A dict from each key to its distribution, in the order of the file.

    Raises:
        UserError: the file does not exist, or a line is not understood.
    """
    path = Path(path_or_model)
    if not is_own(path):
        names = shipped()
        if str(path_or_model) not in names:
            raise UserError(
                f"search space '{path_or_model}': no such file, and no model with a shipped space"
                f"{nearest(str(path_or_model), names)} (shipped: {', '.join(names)}); give the path of a "
                "file with lines such as 'learning_rate choice [0.01, 0.001]'"
            )
        path = key_rules.folder("properties") / "hyper" / f"{path_or_model}.hyper"
    space: dict[str, Distribution] = {}
    with wrap_errors(f"search space '{path}'"), path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            text = re.split(r"(?:^|\s)#", line)[0].strip()
            if text:
                found = _read_line(f"{path}, line {number}", text)
                if found.key in space:
                    raise UserError(f"{found.where}: {found.key} is given twice ({space[found.key].where})")
                space[found.key] = found
    if not space:
        raise UserError(
            f"{path}: the file has no search space, expected lines 'key type values' such as "
            "'n_layers choice [1, 2]'"
        )
    return space


def _read_line(where: str, text: str) -> Distribution:
    words = text.split(None, 2)
    kinds = ("choice", *_NUMBERS)
    if len(words) < 3 or words[1] not in kinds:
        raise UserError(f"{where}: got '{text}', expected 'key type values' with type {', '.join(kinds)}")
    key, kind, values = words
    return _choice(where, key, values) if kind == "choice" else _numbers(where, key, kind, values)


def _choice(where: str, key: str, text: str) -> Choice:
    try:
        values = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        values = None
    if not isinstance(values, (list, tuple)) or not values:
        raise UserError(
            f"{where}: {key} choice: got {text}, expected a list of values such as [1, 2] or ['a', 'b']"
        )
    plain = tuple(_plain(value) for value in values)
    try:
        json.dumps(plain)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{where}: {key} choice: got {text}, expected texts, numbers, booleans, None, lists or dicts "
            f"({error})"
        ) from error
    return Choice(key, where, plain)


def _plain(value: Any) -> Any:
    """Convert a text that is a literal to its value, as RecBole does: '[64,32]' becomes a list."""
    if isinstance(value, str):
        try:
            return ast.literal_eval(value)
        except (ValueError, SyntaxError):
            return value
    return value


def _numbers(where: str, key: str, kind: str, text: str) -> Distribution:
    form, make = _NUMBERS[kind]
    wanted = form.count(",") + 1
    try:
        numbers = [_number(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != wanted or not all(map(math.isfinite, numbers)):
        raise UserError(f"{where}: {key} {kind}: got {text}, expected {wanted} numbers '{form}'")
    if numbers[0] >= numbers[1] or (kind == "quniform" and numbers[2] <= 0):
        rule = "low < high" + (" and step > 0" if kind == "quniform" else "")
        raise UserError(f"{where}: {key} {kind}: got {text}, expected {rule}")
    return make(key, where, *numbers)


def _number(text: str) -> float:
    try:
        return int(text)
    except ValueError:
        return float(text)


def sample(space: dict[str, Distribution], rng: np.random.Generator) -> dict[str, Any]:
    """Draw a value for each key."""
    return {key: distribution.sample(rng) for key, distribution in space.items()}


def grid(space: dict[str, Distribution]) -> Iterator[dict[str, Any]]:
    """Yield every combination of values; the value of the last key changes fastest.

    Raises:
        UserError: a key has infinitely many values.
    """
    columns = [distribution.grid() for distribution in space.values()]
    for values in itertools.product(*columns):
        yield dict(zip(space, values, strict=True))
