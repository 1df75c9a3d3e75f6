"""Presets: named sets of configuration keys, below ``properties/presets``.

``presets/<model>/<name>.yaml`` holds a preset of one model, ``presets/protocols/<name>.yaml`` one
of every model. A preset replaces defaults; whatever the user gives replaces the preset.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recbole_disent.config import key_rules
from recbole_disent.errors import UserError, nearest

# The preset of a model that is chosen by the data (see ModelSpec.choose_preset).
AUTO = "auto"


def names_in(value: Any) -> list[str]:
    """Return the presets that a value of the key ``preset`` names, without ``auto``."""
    names = [value] if isinstance(value, str) else list(value or [])
    return [str(name) for name in names if name != AUTO]


def is_auto(value: Any) -> bool:
    """Whether a value of the key ``preset`` leaves the choice to the data."""
    return value == AUTO or (isinstance(value, list) and AUTO in value)


def available(model: str) -> dict[str, Path]:
    """Return name -> file of the presets that a model has."""
    base = key_rules.folder("properties") / "presets"
    files = [*base.glob("protocols/*.yaml"), *base.glob(f"{model}/*.yaml")]
    return {file.stem: file for file in sorted(files)}


def read(name: str, model: str) -> dict[str, Any]:
    """Return the keys of a preset.

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
