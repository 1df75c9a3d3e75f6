"""The experiments of the papers as plans, read from ``properties/paper/NAME.yaml``."""

from __future__ import annotations

from typing import Any

from recbole_disent.config import key_rules
from recbole_disent.errors import UserError, nearest

SCALES = ("quick", "full")


def names() -> dict[str, str]:
    """Return name -> description of every experiment."""
    folder = key_rules.folder("properties") / "paper"
    return {file.stem: _read(file.stem)["about"] for file in sorted(folder.glob("*.yaml"))}


def experiment(name: str, scale: str) -> dict[str, Any]:
    """Return the keys of a plan.

    Args:
        name: name of a file in ``properties/paper``, without its suffix.
        scale: ``full``, or ``quick`` for a short run that only shows that the experiment works.

    Raises:
        UserError: there is no such experiment or scale.
    """
    known = names()
    if name not in known:
        raise UserError(
            f"paper: the experiment '{name}' is unknown{nearest(name, set(known))} "
            f"(known: {', '.join(known)})"
        )
    if scale not in SCALES:
        raise UserError(f"paper: scale: got '{scale}', expected one of {', '.join(SCALES)}")
    found = _read(name)
    plan = dict(found["plan"])
    if scale == "quick":
        quick = found["quick"]
        config = {**plan.get("config", {}), **quick.get("config", {})}
        plan = {**plan, **quick, "config": config}
    return plan


def _read(name: str) -> dict[str, Any]:
    file = key_rules.folder("properties") / "paper" / f"{name}.yaml"
    return key_rules.load_yaml(file.read_text(encoding="utf-8"))
