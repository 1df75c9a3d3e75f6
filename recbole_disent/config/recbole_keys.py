"""Which configuration keys RecBole itself reads, so that a misspelt one can be told."""

from __future__ import annotations

import inspect
import re
from functools import lru_cache
from typing import Any

from recbole_disent.registry import recbole_folder

_READ = re.compile(
    r"""config(?:_dict)?(?:\[|\.get\()\s*["'](\w+)["']|["'](\w+)["']\s+in\s+(?:self\.)?config"""
)
# The parts of RecBole that every run passes through.
_FRAMEWORK = ("config", "data", "evaluator", "sampler", "trainer", "utils")
# Read through other spellings than the pattern above knows.
_EXTRA = {"model", "dataset", "config_files", "numerical_features"}
# Read by the framework on behalf of models, which of_class finds in those that know it.
_OF_MODELS = {"loss_type"}


def _keys_in(text: str) -> set[str]:
    return {a or b for a, b in _READ.findall(text)}


@lru_cache(maxsize=1)
def of_framework() -> frozenset[str]:
    """Return the keys that RecBole's framework reads, found in its source."""
    root = recbole_folder()
    files = [f for part in _FRAMEWORK for f in sorted((root / part).rglob("*.py"))]
    files += [root / "model" / "abstract_recommender.py", root / "model" / "layers.py"]
    keys = set(_EXTRA)
    for file in files:
        if file.name == "transform.py":  # keys of batch transforms: see of_transforms
            continue
        keys |= _keys_in(file.read_text(encoding="utf-8"))
    return frozenset(keys - _OF_MODELS)


def of_transforms() -> set[str]:
    """Return the keys that RecBole's batch transforms read, for a run that has one."""
    file = recbole_folder() / "data" / "transform.py"
    return _keys_in(file.read_text(encoding="utf-8"))


def of_class(model_class: type[Any]) -> set[str]:
    """Return the keys that the source of a model class and of its bases reads."""
    keys: set[str] = set()
    for base in model_class.__mro__:
        if base.__module__.startswith("recbole.model") or base is model_class:
            try:
                keys |= _keys_in(inspect.getsource(base))
            except (OSError, TypeError):  # a class typed into a notebook has no source file
                continue
    return keys
