"""One sentence where RecBole is missing, or is not the release that this package is for.

pip cannot check it: RecBole is installed apart, without the dependencies that it asks for.
"""

from __future__ import annotations

import sys
from importlib import metadata
from typing import Any

from recbole_disent.errors import UserError

RECBOLE_VERSION = "1.2.1"


class RecBoleMissing(UserError, ImportError):
    """RecBole cannot be imported as it has to be."""


class _Explain:
    """A finder that refuses to import RecBole, with a sentence."""

    def __init__(self, found: str) -> None:
        self.found = found

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        """Refuse RecBole; leave all other modules to the finders behind this one."""
        if name.partition(".")[0] == "recbole":
            raise RecBoleMissing(
                f"recbole_disent needs RecBole {RECBOLE_VERSION}, but {self.found}: "
                f"pip install --no-deps recbole=={RECBOLE_VERSION}"
            )


def require_recbole() -> bool:
    """Return whether the right RecBole is installed.

    Where it is not, each later import of it raises :class:`RecBoleMissing`; what does without RecBole,
    such as ``--help``, still works.
    """
    try:
        found = metadata.version("recbole")
    except metadata.PackageNotFoundError:
        found = ""
    if found == RECBOLE_VERSION:
        return True
    if not any(isinstance(finder, _Explain) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Explain(f"{found} is installed" if found else "it is not installed"))
    return False
