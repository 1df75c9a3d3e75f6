"""The configuration keys that RecBole reads, so that a misspelt key can be detected."""

from __future__ import annotations

import inspect
import re
from functools import lru_cache
from typing import Any

from recbole_disent.registry import recbole_folder

_READ = re.compile(
    r"""config(?:_dict)?(?:\[|\.get\()\s*["'](\w+)["']|["'](\w+)["']\s+in\s+(?:self\.)?config"""
)
# The subpackages of RecBole that every run uses.
_FRAMEWORK = ("config", "data", "evaluator", "sampler", "trainer", "utils")
# Keys that RecBole reads in a way that the pattern above does not match.
_EXTRA = {"model", "dataset", "config_files", "numerical_features"}
# Keys that the framework reads only for some models; of_class finds these keys in the models' source.
_OF_MODELS = {"loss_type"}


def _keys_in(text: str) -> set[str]:
    return {a or b for a, b in _READ.findall(text)}


@lru_cache(maxsize=1)
def of_framework() -> frozenset[str]:
    """Return the keys that RecBole's framework reads, according to its source.

    The base classes of models are no part of it, because each reads keys for its own models.
    """
    root = recbole_folder()
    files = [f for part in _FRAMEWORK for f in sorted((root / part).rglob("*.py"))]
    files.append(root / "model" / "layers.py")
    keys = set(_EXTRA)
    for file in files:
        if file.name == "transform.py":  # of_transforms returns the keys of batch transforms
            continue
        keys |= _keys_in(file.read_text(encoding="utf-8"))
    return frozenset(keys - _OF_MODELS)


def of_transforms() -> set[str]:
    """Return the keys that RecBole's batch transforms read; they are valid in a run with a transform."""
    file = recbole_folder() / "data" / "transform.py"
    return _keys_in(file.read_text(encoding="utf-8"))


def of_class(model_class: type[Any]) -> set[str]:
    """Return the keys that a model class and its base classes read, according to their source."""
    keys: set[str] = set()
    for base in model_class.__mro__:
        if base.__module__.startswith("recbole.model") or base is model_class:
            try:
                keys |= _keys_in(inspect.getsource(base))
            except (OSError, TypeError):  # a class that was defined in a notebook has no source file
                continue
    return keys
