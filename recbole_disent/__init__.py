"""Sequential recommenders that learn from the future of a user and from content, for RecBole.

The public names are imported when they are first used, so that ``import recbole_disent`` takes
no time: :func:`run`, :func:`compare`, :func:`tune`, :func:`load`, :class:`Recommender`, :class:`UserError`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from recbole_disent.requirement import require_recbole

if TYPE_CHECKING:
    from recbole_disent.errors import UserError as UserError
    from recbole_disent.leaderboard.compare import compare_plan as compare
    from recbole_disent.recommender import Recommender as Recommender
    from recbole_disent.recommender import load as load
    from recbole_disent.session import run as run
    from recbole_disent.tuning.tune import tune as tune

__version__ = "0.2.0"

require_recbole()

_PUBLIC = {
    "UserError": "recbole_disent.errors:UserError",
    "Recommender": "recbole_disent.recommender:Recommender",
    "compare": "recbole_disent.leaderboard.compare:compare_plan",
    "load": "recbole_disent.recommender:load",
    "run": "recbole_disent.session:run",
    "tune": "recbole_disent.tuning.tune:tune",
}
__all__ = ["Recommender", "UserError", "__version__", "compare", "load", "run", "tune"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'recbole_disent' has no attribute '{name}'")
    from importlib import import_module

    module, _, attribute = _PUBLIC[name].partition(":")
    value = getattr(import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
