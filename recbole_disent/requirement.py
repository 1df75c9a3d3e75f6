"""Reports in one sentence that RecBole is missing or has another version than this package needs.

pip cannot check the version, because RecBole is installed separately, without its dependencies.
"""

from __future__ import annotations

import sys
from importlib import metadata
from typing import Any

from recbole_disent.errors import UserError

RECBOLE_VERSION = "1.2.1"


class RecBoleMissing(UserError, ImportError):
    """RecBole is missing, or has the wrong version."""


class _Explain:
    """A finder of modules that raises :class:`RecBoleMissing` when RecBole is imported."""

    def __init__(self, found: str) -> None:
        self.found = found

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        """Refuse to import RecBole, and leave all other modules to the other finders."""
        if name.partition(".")[0] == "recbole":
            raise RecBoleMissing(
                f"recbole_disent needs RecBole {RECBOLE_VERSION}, but {self.found}: "
                f"pip install --no-deps recbole=={RECBOLE_VERSION}"
            )


def require_recbole() -> bool:
    """Return whether the required version of RecBole is installed.

    If it is not, each later import of RecBole raises :class:`RecBoleMissing`. Commands that do not need
    RecBole, such as ``--help``, still work.
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
