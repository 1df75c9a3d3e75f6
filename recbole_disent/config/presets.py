"""Presets: named sets of configuration keys in ``properties/presets``.

A preset for one model is in ``presets/<model>/<name>.yaml``, a preset for every model in
``presets/protocols/<name>.yaml``. A preset overrides default values. Keys that the user sets override
the preset.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recbole_disent.config import key_rules
from recbole_disent.errors import UserError, nearest

# The value of the key ``preset`` that lets the model choose by the data (see ModelSpec.choose_preset).
AUTO = "auto"


def names_in(value: Any) -> list[str]:
    """Return the names of the presets in a value of the key ``preset``, without ``auto``."""
    names = [value] if isinstance(value, str) else list(value or [])
    return [str(name) for name in names if name != AUTO]


def is_auto(value: Any) -> bool:
    """Return whether a value of the key ``preset`` lets the model choose a preset by the data."""
    return value == AUTO or (isinstance(value, list) and AUTO in value)


def available(model: str) -> dict[str, Path]:
    """Return a dict from the name of each preset that a model has to its file."""
    base = key_rules.folder("properties") / "presets"
    files = [*base.glob("protocols/*.yaml"), *base.glob(f"{model}/*.yaml")]
    return {file.stem: file for file in sorted(files)}


def read(name: str, model: str) -> dict[str, Any]:
    """Return the keys and values of a preset.

    Raises:
        UserError: the model has no preset of that name.
    """
    found = available(model)
    if name not in found:
        raise UserError(
            f"preset: got '{name}', expected one of {', '.join([AUTO, *found])} for {model}"
            f"{nearest(name, set(found))}"
        )
    return key_rules.load_yaml(found[name].read_text(encoding="utf-8"))
