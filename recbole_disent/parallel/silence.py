"""Keeps all processes except the first from writing logs and progress."""

from __future__ import annotations

import logging
from typing import Any


class _Silent:
    """A tensorboard writer that writes nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **options: None


def silence(config: Any) -> None:
    """Turn off RecBole's logs, tensorboard, wandb and progress bars in this process."""
    from recbole.trainer import trainer

    trainer.get_tensorboard = lambda logger: _Silent()
    logging.getLogger().setLevel(logging.ERROR)
    config["log_wandb"] = config["show_progress"] = False
