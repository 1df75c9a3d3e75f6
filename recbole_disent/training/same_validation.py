"""Whether a resumed run computes validation scores as the run that it continues computed them."""

from __future__ import annotations

from typing import Any

from recbole_disent.errors import UserError
from recbole_disent.training import checkpoint

_KEYS = (
    "filter_history", "repeatable", "repeat_gate", "candidate_seed", "candidate_popularity", "score_dtype",
)  # fmt: skip


def require_same_validation(ours: dict[str, Any], theirs: dict[str, Any], path: str) -> None:
    """Check that the best validation score of a checkpoint can be compared with the scores of this run.

    Metrics and cut-offs besides ``valid_metric`` do not affect the score.

    Args:
        ours: all keys of this run.
        theirs: all keys of the checkpoint.
        path: name of the checkpoint in an error.

    Raises:
        UserError: a key that decides the validation score has another value.
    """
    wanted = _deciding(ours)
    with checkpoint.reading(path):
        stored = _deciding(theirs)
    for key, value in wanted.items():
        if key in stored and value != stored[key]:
            raise UserError(
                f"{key}: got {value!r}, expected {stored[key]!r}, with which the best validation score in "
                f"checkpoint '{path}' was computed; train again, or use the keys of the checkpoint"
            )


def _deciding(keys: dict[str, Any]) -> dict[str, Any]:
    """Return what decides the validation score."""
    return {
        "valid_metric": keys["valid_metric"].lower(),
        "eval_args mode of valid": keys["eval_args"]["mode"]["valid"],
        **{key: keys[key] for key in _KEYS if key in keys},  # an older checkpoint lacks some
    }
