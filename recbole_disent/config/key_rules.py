"""Configuration keys: default values, rules and meanings, read from ``properties/*.yaml``.

Default values are defined only in these files. A line of a file is::

    key: value  # (MARKS: TYPE in RANGE) meaning [source] {needs OTHER=VALUE|VALUE}

TYPE and RANGE form the rule that a user's value must satisfy. The part in braces is optional. It says that
the key has an effect only if another key has one of these values, or, with ``!=``, none of them. MARKS are
optional, too. They give the scope
of the key (``result``, ``place`` or ``speed``) and further flags:

* ``result`` (the default scope): the key affects the results of a run. The key is part of the name of
  a run in a plan, and a checkpoint keeps its value.
* ``place``: the key decides where a run reads and writes files, and on which devices it runs.
* ``speed``: the key affects how fast a run is or how much memory it needs.
* ``own``: every run of a plan or of a search needs a different value.
* ``path``: the value is the path of a file or folder, relative to the working directory.
* ``name``: the value of a ``path`` key may also be the name of something published.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from recbole_disent.errors import UserError
from recbole_disent.registry import spec_of

_PACKAGE = Path(__file__).resolve().parent.parent
_RANGE = re.compile(r"^([\[(])\s*([^,]+),\s*([^\])]+)([\])])$")
_NOTE = re.compile(r"#\s*\((.*?[\])]?)\)\s+(.*?)(?:\s*\{needs (\w+)(!?=)(\S+)\})?$")
_TYPES = {"int": int, "float": float, "bool": bool, "str": str, "list": list, "dict": dict}
SCOPES = ("result", "place", "speed")
_FLAGS = ("own", "path", "name")


def folder(name: str) -> Path:
    """Return the path of the folder ``properties`` or ``dataset_configs``.

    The folder is inside the package in a wheel, and beside the package in a checkout.
    """
    for base in (_PACKAGE, _PACKAGE.parent):
        if (base / name).is_dir():
            return base / name
    raise FileNotFoundError(f"the installed package lacks its folder '{name}': install it again")


@dataclass(frozen=True)
class Need:
    """A condition on another key, without which a key has no effect.

    Attributes:
        key: name of the other key.
        values: the values that fulfil the condition, or do not, as texts.
        fulfilled: whether *values* fulfil the condition.
    """

    key: str
    values: tuple[str, ...]
    fulfilled: bool = True

    def met_by(self, value: Any) -> bool:
        """Return whether a value of the other key fulfils the condition; of a list, one element has to."""
        parts = value if isinstance(value, list) else [value]
        return any((str(part) in self.values) == self.fulfilled for part in parts)

    def __str__(self) -> str:
        """The condition in words."""
        return f"{self.key}{'=' if self.fulfilled else ' other than '}{' or '.join(self.values)}"


@dataclass(frozen=True)
class KeyRule:
    """A configuration key of this package: its default, its rule and its meaning.

    Attributes:
        key: name of the key.
        default: value that is used if the user gives none.
        types: names of the Python types that a value may have; empty if there are *choices*.
        choices: texts that are valid values; empty if there are *types*.
        bounds: range of a number such as ``[0, 1)``, or ``""``.
        meaning: description of the key for users.
        scope: ``result``, ``place`` or ``speed``; see the module.
        flags: the other marks; see the module.
        need: condition on another key, without which this key has no effect; None: there is none.
    """

    key: str
    default: Any
    types: tuple[str, ...]
    choices: tuple[str, ...]
    bounds: str
    meaning: str
    scope: str = "result"
    flags: tuple[str, ...] = ()
    need: Need | None = None

    @property
    def rule(self) -> str:
        """The rule in words, as it is written in the file."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        return " or ".join(self.types) + (f" in {self.bounds}" if self.bounds else "")

    def check(self, value: Any) -> Any:
        """Check a value and return it; an int becomes a float if the rule asks for a float.

        Raises:
            UserError: the value does not satisfy the rule.
        """
        if self.choices:
            if value not in self.choices:
                raise self._error(value)
            return value
        for name in self.types:
            if name == "null" and value is None:
                return value
            if name == "float" and isinstance(value, int) and not isinstance(value, bool):
                value = float(value)
            wanted = _TYPES.get(name)
            if wanted and isinstance(value, wanted) and (wanted is bool) == isinstance(value, bool):
                if not self._inside(value):
                    raise self._error(value)
                return value
        raise self._error(value)

    def accepts(self, value: Any) -> bool:
        """Return whether the value satisfies the rule."""
        try:
            self.check(value)
        except UserError:
            return False
        return True

    def _error(self, value: Any) -> UserError:
        return UserError(f"{self.key}: got {value!r}, expected {self.rule} (default {self.default!r})")

    def _inside(self, value: Any) -> bool:
        match = _RANGE.match(self.bounds)
        if not match or not isinstance(value, (int, float)):
            return True
        low, high = float(match[2]), float(match[3])
        above = value >= low if match[1] == "[" else value > low
        below = value <= high if match[4] == "]" else value < high
        return above and below and not math.isnan(value)


def _parse_marks(key: str, text: str) -> tuple[str, tuple[str, ...], str]:
    """Split ``MARKS: rule`` into the scope, the other marks and the rule."""
    match = re.match(r"^([a-z]+(?:, [a-z]+)*): (.*)$", text)
    if not match:
        return "result", (), text
    marks = match[1].split(", ")
    unknown = set(marks) - {*SCOPES, *_FLAGS}
    scopes = [mark for mark in marks if mark in SCOPES]
    if unknown or len(scopes) > 1:
        raise ValueError(f"properties: the marks '{match[1]}' of key '{key}' are not understood")
    flags = tuple(mark for mark in marks if mark in _FLAGS)
    return (scopes or ["result"])[0], flags, match[2]


def _parse_rule(key: str, rule: str) -> tuple[tuple[str, ...], tuple[str, ...], str]:
    if rule.startswith("one of "):
        return (), tuple(c.strip() for c in rule[len("one of ") :].split(",")), ""
    kinds, _, bounds = rule.partition(" in ")
    types = tuple(t.strip() for t in kinds.split(" or "))
    unknown = set(types) - set(_TYPES) - {"null"}
    if unknown or (bounds and not _RANGE.match(bounds)):
        raise ValueError(f"properties: the rule '({rule})' of key '{key}' is not understood")
    return types, (), bounds


def read_rules(path: Path) -> dict[str, KeyRule]:
    """Read one properties file.

    Raises:
        ValueError: the file is faulty: a key has no rule, or its rule or its condition is not understood.
    """
    text = path.read_text(encoding="utf-8")
    values = load_yaml(text)
    found: dict[str, KeyRule] = {}
    for line in text.splitlines():
        match = re.match(r"^(\w+):", line)
        if not match:
            continue
        key = match[1]
        note = _NOTE.search(line)
        if not note:
            raise ValueError(f"{path.name}: key '{key}' has no '# (type in range) meaning'")
        scope, flags, rule = _parse_marks(key, note[1])
        types, choices, bounds = _parse_rule(key, rule)
        if "{needs" in note[2]:
            raise ValueError(f"{path.name}: the condition of key '{key}' is not understood")
        need = Need(note[3], tuple(note[5].split("|")), note[4] == "=") if note[3] else None
        found[key] = KeyRule(key, values[key], types, choices, bounds, note[2].strip(), scope, flags, need)
    return found


_MOST_VALUES = 1_000_000


class _Loader(yaml.SafeLoader):
    """PyYAML's loader, which also refuses a key that is given twice; PyYAML takes the last value."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    line = key.start_mark.line + 1
                    raise yaml.YAMLError(f"line {line}: the key '{key.value}' is given twice; remove one")
                seen.add((key.tag, key.value))
        return node


def load_yaml(text: str) -> dict[str, Any]:
    """Parse YAML as RecBole does (``1e-4`` is a float), but without changing PyYAML's global loader.

    Raises:
        yaml.YAMLError: the text is not YAML, gives a key twice, contains itself, or holds more than a
            million values.
    """
    loader: Any = type("Loader", (_Loader,), {})
    loader.yaml_implicit_resolvers = {k: list(v) for k, v in yaml.SafeLoader.yaml_implicit_resolvers.items()}
    loader.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9_]+)[eE][-+]?[0-9]+$"),
        list("-+0123456789."),
    )
    try:
        found = yaml.load(text, Loader=loader) or {}
        _count_values(found, {})
    except (ValueError, RecursionError) as error:  # a date such as 2021-99-99, or 1000 brackets
        raise yaml.YAMLError(str(error)) from error
    return found


def _count_values(value: Any, known: dict[int, int]) -> int:
    """Count the values of a document; a few lines of aliases can stand for more than a memory holds."""
    if not isinstance(value, (dict, list)):
        return 1
    if id(value) not in known:
        known[id(value)] = _MOST_VALUES  # should it hold itself
        parts = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_count_values(part, known) for part in parts)
    if known[id(value)] >= _MOST_VALUES:
        raise ValueError(f"it holds itself, or more than {_MOST_VALUES} values")
    return known[id(value)]


@cache
def of_file(name: str) -> dict[str, KeyRule]:
    """Return the rules of a file.

    Args:
        name: path of a file below ``properties``, such as ``content.yaml``, or an absolute path.
    """
    return read_rules(folder("properties") / name)


def overall() -> dict[str, KeyRule]:
    """Return the rules of the keys that every model has."""
    return {**of_file("overall.yaml"), **of_file("table.yaml")}


def of_plan() -> dict[str, KeyRule]:
    """Return the rules of the keys of a plan."""
    return of_file("leaderboard.yaml")


def of_tuning() -> dict[str, KeyRule]:
    """Return the rules of the options of a search."""
    return of_file("tune.yaml")


def of_model(name: str) -> dict[str, KeyRule]:
    """Return the rules of a model's own keys, which its :class:`ModelSpec` lists in ``properties``."""
    return {key: rule for file in spec_of(name).properties for key, rule in of_file(file).items()}


def of_run(model: str) -> dict[str, KeyRule]:
    """Return the rules of all keys of this package that apply to a run of a model."""
    return {**overall(), **of_model(model)}


@cache
def recbole_keys() -> dict[str, dict[str, str]]:
    """Return RecBole's documented keys, each with its ``status``, ``note``, ``test`` and ``scope``.

    The note says what the key does in this package.
    """
    return load_yaml((folder("properties") / "recbole_keys.yaml").read_text(encoding="utf-8"))


def recbole_scopes() -> dict[str, str]:
    """Return the scope of RecBole's documented keys: ``result``, ``place`` or ``speed``."""
    return {key: row["scope"] for key, row in recbole_keys().items()}


def decides_result(model: str, key: str) -> bool:
    """Return whether a key of this package, of the model or of RecBole affects the results of a run."""
    rules = of_run(model)
    scope = rules[key].scope if key in rules else recbole_scopes().get(key, "result")
    return scope == "result"


def absolute_paths(model: str, given: dict[str, Any]) -> dict[str, str]:
    """Return the keys of *given* whose values are paths, with the paths made absolute."""
    rules, found = of_run(model), {}
    for key in flagged(model, "path"):
        path = given.get(key)
        if path and ("name" not in rules[key].flags or Path(path).is_dir()):
            found[key] = str(Path(path).absolute())
    return found


def flagged(model: str, flag: str) -> list[str]:
    """Return the keys of a run that carry a mark such as ``own`` or ``path``."""
    return [key for key, rule in of_run(model).items() if flag in rule.flags]


def without_effect(model: str, given: dict[str, Any], final: Mapping[str, Any]) -> dict[str, str]:
    """Return key -> sentence for each key that has no effect because of the value of another key.

    Args:
        model: name of the model.
        given: the user's keys and values.
        final: all keys and values of the run. A condition on a key that the model does not have is met.
    """
    rules, found = of_run(model), {}
    for key, value in given.items():
        need = None if key not in rules or value == rules[key].default else _unmet(rules, key, final)
        if need is not None:
            found[key] = (
                f"{key}: {value!r} has no effect with {need.key}={final[need.key]}; the key needs {need}"
            )
    return found


def _unmet(rules: dict[str, KeyRule], key: str, final: Mapping[str, Any]) -> Need | None:
    """Return the first condition in the chain of *key* that is not met."""
    need = rules[key].need
    if need is None or need.key not in final:
        return None
    return _unmet(rules, need.key, final) if need.met_by(final[need.key]) else need


def defaults(rules: dict[str, KeyRule]) -> dict[str, Any]:
    """Return a dict from each key to its default value."""
    return {key: rule.default for key, rule in rules.items()}
