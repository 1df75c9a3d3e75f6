"""The key ``refit``: training on the training and the validation part, after the best epoch is known.

The first training chooses the epoch on the validation part. The second training starts from new weights
of the same seed, or from the weights of the key ``warm_start``. It takes as many steps as the first training
took to its best epoch, and uses no item of the test part. The model of the second training is then
tested once.
"""

from __future__ import annotations

from logging import getLogger
from typing import Any

from recbole.utils import ModelType

from recbole_disent.build import RunData, build_model, build_trainer
from recbole_disent.errors import UserError
from recbole_disent.loaders.build import make_train_loader
from recbole_disent.warm_start import warm_start

# End of the name of the checkpoint of a second training.
REFIT = ".refit.pth"


def check_refit(data: RunData, saved: bool) -> None:
    """Check before the training that a run can be refitted.

    Args:
        data: data of the run.
        saved: whether the run writes a checkpoint.

    Raises:
        UserError: there is no validation, or the run writes no checkpoint.
    """
    if not data.loaders[1]:
        raise UserError(
            "refit: got True, but the split has no validation part to choose the epoch on; leave refit out, "
            "or set the eval_args split to {'LS': 'valid_and_test'}"
        )
    if not data.config["eval_step"]:
        raise UserError(
            "refit: got True with eval_step=0, expected eval_step of at least 1, because validation scores "
            "choose the epoch"
        )
    if not saved:
        raise UserError(
            "refit: got True with saved=False, expected saved=True, because a file keeps the best epoch"
        )


def refit(data: RunData, first: Any) -> tuple[Any, Any, dict[str, Any]]:
    """Train a new model on the training and the validation part, with the number of steps to the best epoch.

    Args:
        data: data of the run; the function does not use the test part.
        first: trainer of the first training, which is finished.

    Returns:
        The new model, its trainer, and the entry ``refit`` of the result file.
    """
    config, logger = data.config, getLogger()
    steps, rows = first.best_steps, len(data.loaders[0]._dataset.inter_feat)
    train = data.train_with_validation()
    logger.info(f"refit: {steps} steps on {len(train.inter_feat)} rows ({rows} without the validation part)")
    model = build_model(data, train)
    warm_start(data, model)
    trainer = build_trainer(data, model, resume=False)
    trainer.ranking = first.ranking  # both trainings use the same candidates and statistics
    loader = make_train_loader(config, train)
    if config["MODEL_TYPE"] == ModelType.TRADITIONAL:
        steps = len(loader)  # such a model (Pop) has to see every event once
    trainer.take_steps(steps)
    trainer.saved_model_file = first.saved_model_file.removesuffix(".pth") + REFIT
    trainer.fit(loader, None, saved=True, show_progress=config["show_progress"])
    trainer.seconds = {key: value + trainer.seconds[key] for key, value in first.seconds.items()}
    trainer.curves = first.curves
    trainer.best_epoch, trainer.resumed_from = first.best_epoch, first.resumed_from
    entry = {"steps": steps, "epochs": trainer.epochs_run, "rows": len(train.inter_feat)}
    trainer.epochs_run += first.epochs_run
    return model, trainer, entry
