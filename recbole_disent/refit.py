"""The key ``refit``: once the epoch is chosen on the validation part, train on both parts and test once.

The number of training steps is the one that led to the best epoch of the first training. The second
training starts from new weights of the same seed and looks at no held-out item until it is tested.
"""

from __future__ import annotations

from logging import getLogger
from typing import Any

from recbole_disent.build import RunData, build_model, build_trainer
from recbole_disent.errors import UserError
from recbole_disent.loaders.build import make_train_loader


def check_refit(data: RunData, saved: bool) -> None:
    """Check that a run can be refitted, before any time is spent on training.

    Raises:
        UserError: there is no validation part, or no checkpoint is written.
    """
    if not data.loaders[1]:
        raise UserError(
            "refit: got True, but the split has no validation part to choose the epoch on; leave refit out, "
            "or hold out with eval_args split {'LS': 'valid_and_test'}"
        )
    if not saved:
        raise UserError("refit: got True with saved=False, expected saved=True: a file keeps the best epoch")


def refit(data: RunData, first: Any) -> tuple[Any, Any, dict[str, Any]]:
    """Train a new model on the training and the validation part, for as many steps as the best epoch took.

    Args:
        data: of the run; its test part is not looked at.
        first: the trainer of the first training, after it.

    Returns:
        The new model, its trainer, and what the result file tells of the refit.
    """
    config, logger = data.config, getLogger()
    steps, rows = first.best_steps, len(data.loaders[0]._dataset.inter_feat)
    train = data.train_with_validation()
    logger.info(f"refit: {steps} steps on {len(train.inter_feat)} rows ({rows} without the validation part)")
    model = build_model(data, train)
    trainer = build_trainer(data, model, resume=False)
    trainer.ranking = first.ranking  # the same candidates and statistics for both
    trainer.take_steps(steps)
    trainer.saved_model_file = first.saved_model_file.removesuffix(".pth") + ".refit.pth"
    trainer.fit(make_train_loader(config, train), None, saved=True, show_progress=config["show_progress"])
    trainer.seconds = {key: value + trainer.seconds[key] for key, value in first.seconds.items()}
    trainer.best_epoch, trainer.resumed_from = first.best_epoch, first.resumed_from
    told = {"steps": steps, "epochs": trainer.epochs_run, "rows": len(train.inter_feat)}
    trainer.epochs_run += first.epochs_run
    return model, trainer, told
