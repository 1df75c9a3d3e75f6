"""Default values and their meaning, read from ``properties/*.yaml``: the only home of defaults.

A line of such a file is ``key: value  # (type in range) meaning [source]``. The part in
parentheses is the rule that a user's value is checked against; README's tables are made
from the rest.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from recbole_disent.errors import UserError
from recbole_disent.registry import CAUSAL, LEAN, MASKED

_PACKAGE = Path(__file__).resolve().parent
_RANGE = re.compile(r"^([\[(])\s*([^,]+),\s*([^\])]+)([\])])$")
# Tables of keys in README -> file of properties/.
TABLES = {
    "every model": "overall.yaml",
    "DisentS2S": "model/DisentS2S.yaml",
    "TSSR": "model/TSSR.yaml",
    "SASRecContent": "model/SASRecContent.yaml",
    "causal models of RecBole": "causal.yaml",
    "BERT4Rec": "masked.yaml",
    "BERT4Rec and Caser": "lean.yaml",
    "softmax of RecBole's models": "softmax.yaml",
    "content": "content.yaml",
    "a plan": "leaderboard.yaml",
    "tune": "tune.yaml",
}
_TYPES = {"int": int, "float": float, "bool": bool, "str": str, "list": list, "dict": dict}


def folder(name: str) -> Path:
    """Return the folder ``properties`` or ``dataset_configs``: in the wheel, else in the checkout."""
    for base in (_PACKAGE, _PACKAGE.parent):
        if (base / name).is_dir():
            return base / name
    raise FileNotFoundError(f"the installed package lacks its folder '{name}': install it again")


@dataclass(frozen=True)
class Setting:
    """One configuration key of this package: its default, its rule and its meaning."""

    key: str
    default: Any
    types: tuple[str, ...]
    choices: tuple[str, ...]
    bounds: str
    meaning: str

    @property
    def rule(self) -> str:
        """The rule in words, as it stands in the file."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        return " or ".join(self.types) + (f" in {self.bounds}" if self.bounds else "")

    def check(self, value: Any) -> Any:
        """Return *value* (an int as float where a float is asked for).

        Raises:
            UserError: the value breaks the rule.
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


def _parse_rule(key: str, rule: str) -> tuple[tuple[str, ...], tuple[str, ...], str]:
    if rule.startswith("one of "):
        return (), tuple(c.strip() for c in rule[len("one of ") :].split(",")), ""
    kinds, _, bounds = rule.partition(" in ")
    types = tuple(t.strip() for t in kinds.split(" or "))
    unknown = set(types) - set(_TYPES) - {"null"}
    if unknown or (bounds and not _RANGE.match(bounds)):
        raise ValueError(f"properties: the rule '({rule})' of key '{key}' is not understood")
    return types, (), bounds


def read_settings(path: Path) -> dict[str, Setting]:
    """Read one properties file.

    Raises:
        ValueError: a key has no rule, or one that is not understood (a fault of the file).
    """
    text = path.read_text(encoding="utf-8")
    values = load_yaml(text)
    found: dict[str, Setting] = {}
    for line in text.splitlines():
        match = re.match(r"^(\w+):", line)
        if not match:
            continue
        key = match[1]
        note = re.search(r"#\s*\((.*?[\])]?)\)\s+(.*)$", line)
        if not note:
            raise ValueError(f"{path.name}: key '{key}' has no '# (type in range) meaning'")
        types, choices, bounds = _parse_rule(key, note[1])
        found[key] = Setting(key, values[key], types, choices, bounds, note[2].strip())
    return found


def load_yaml(text: str) -> dict[str, Any]:
    """Parse YAML as RecBole does (``1e-4`` is a float), without its effect on the global loader."""
    loader: Any = type("Loader", (yaml.SafeLoader,), {})
    loader.yaml_implicit_resolvers = {k: list(v) for k, v in yaml.SafeLoader.yaml_implicit_resolvers.items()}
    loader.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9_]+)[eE][-+]?[0-9]+$"),
        list("-+0123456789."),
    )
    return yaml.load(text, Loader=loader) or {}


@cache
def overall() -> dict[str, Setting]:
    """Return the settings of ``properties/overall.yaml``."""
    return of_file("overall.yaml")


@cache
def leaderboard() -> dict[str, Setting]:
    """Return the keys of a plan: ``properties/leaderboard.yaml``."""
    return of_file("leaderboard.yaml")


@cache
def of_model(name: str) -> dict[str, Setting]:
    """Return the settings of a model: those of ``properties/model/<name>.yaml``.

    A line ``# with FILE`` adds those of another file of ``properties``. RecBole's causal models have
    those of ``properties/causal.yaml``, its masked ones of ``masked.yaml``, others with a lean softmax of
    ``lean.yaml``, the rest none.
    """
    kinds = {"causal": CAUSAL, "masked": MASKED, "lean": LEAN}  # the first that a model is in
    file = next((f"{kind}.yaml" for kind, names in kinds.items() if name in names), f"model/{name}.yaml")
    path = folder("properties") / file
    if not path.is_file():
        return {}
    shared = re.findall(r"^# with (\S+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {k: s for part in (*shared, file) for k, s in of_file(part).items()}


def of_file(name: str) -> dict[str, Setting]:
    """Return the settings of one file of ``properties``, such as ``model/DisentS2S.yaml``."""
    return read_settings(folder("properties") / name)


@cache
def of_tuning() -> dict[str, Setting]:
    """Return the settings of ``properties/tune.yaml``: the options of a search."""
    return of_file("tune.yaml")


def defaults(settings: dict[str, Setting]) -> dict[str, Any]:
    """Return key -> default value."""
    return {key: setting.default for key, setting in settings.items()}


def markdown(settings: dict[str, Setting]) -> str:
    """Return README's table of keys."""
    lines = ["| key | default | values | meaning |", "| --- | --- | --- | --- |"]
    for s in settings.values():
        default = "null" if s.default is None else str(s.default)
        meaning = s.meaning.replace("|", "\\|")
        lines.append(f"| `{s.key}` | `{default}` | {s.rule} | {meaning} |")
    return "\n".join(lines)


if __name__ == "__main__":  # the tables of README
    for title, file in TABLES.items():
        print(f"<!-- keys: {title} -->\n{markdown(of_file(file))}\n<!-- end -->\n")
