"""What RecBole's models need for this package's softmax over all items: keys, checks and a mixin."""

from __future__ import annotations

from typing import Any

from recbole_disent.errors import UserError
from recbole_disent.models.popularity import learns_lift, log_popularity
from recbole_disent.ops.chunked_softmax import max_scores


def require_recboles_class(config: Any, key: str, otherwise: Any) -> None:
    """Check that a model's class is RecBole's, where a key relies on how that works.

    Args:
        config: a configuration.
        key: is set so that this package trains the model in another way.
        otherwise: value of the key that leaves all to the model.

    Raises:
        UserError: it is another class of that name.
    """
    model_class = config.model_class
    if not model_class.__module__.startswith("recbole.model."):
        raise UserError(
            f"{key}: got {config[key]} for the class {model_class.__name__} of {model_class.__module__}, "
            f"expected {otherwise}: it is not RecBole's"
        )


def require_recboles(config: Any, key: str, otherwise: Any) -> None:
    """Check that a key stands for another way to RecBole's cross-entropy: class and loss.

    Args and errors are those of :func:`require_recboles_class`, and another loss.
    """
    require_recboles_class(config, key, otherwise)
    if config["loss_type"] != "CE":
        raise UserError(
            f"loss_type: got {config['loss_type']!r} with {key}={config[key]}, expected CE "
            f"({key}={otherwise} takes RecBole's other losses)"
        )


def check(config: Any) -> None:
    """Check the keys of a model of RecBole that can have a chunked softmax together.

    Raises:
        UserError: ``softmax_learns`` with RecBole's own loss; another class of that name or another
            loss than cross-entropy for ``chunked_softmax``.
    """
    if config["chunked_softmax"]:
        require_recboles(config, "chunked_softmax", False)
    elif config["softmax_learns"] != "probability":
        raise UserError(
            f"softmax_learns: got {config['softmax_learns']} with chunked_softmax=False, expected "
            "chunked_softmax=True"
        )


class OverAllItems:
    """What this package's softmax adds to a model of RecBole: a limit of memory and ``softmax_learns``.

    To be put before RecBole's class among the bases.
    """

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)  # type: ignore[call-arg]
        self._max_scores = max_scores(config)
        bias = log_popularity(dataset) if learns_lift(config) else None
        self.register_buffer("_log_popularity", bias, persistent=False)  # type: ignore[attr-defined]
