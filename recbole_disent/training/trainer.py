"""RecBole's trainers with safe checkpoints and one evaluation protocol."""

from __future__ import annotations

import os
import random
from contextlib import AbstractContextManager, nullcontext
from itertools import count
from time import perf_counter
from typing import Any

import numpy as np
import torch
from recbole.trainer import Trainer
from recbole.trainer.trainer import TraditionalTrainer
from recbole.utils import get_trainer as recbole_trainer

from recbole_disent.config import key_rules
from recbole_disent.errors import UserError
from recbole_disent.evaluation.evaluator import RankingEvaluator
from recbole_disent.loaders.evaluation import EvalLoader
from recbole_disent.parallel import process_group
from recbole_disent.registry import spec_of, train_loader
from recbole_disent.training import checkpoint
from recbole_disent.training.averaging import WeightAverage
from recbole_disent.training.checkpoint import config_to_dict
from recbole_disent.training.steps import CountedLoader

# Keys that a resumed run may change without a warning, beside those that decide no result.
_LENGTH_OF_TRAINING = {"epochs", "stopping_step"}


class _AllSteps(Exception):
    """The steps that were asked for are taken; ends RecBole's loop over the epochs."""


# Runs of this process, for their names.
_RUNS = count(1)


class SafeTrainer:
    """Mixed into a trainer of RecBole: its loop, other checkpoints, other evaluation.

    A checkpoint holds the model, the optimiser, the early-stopping state and the state of
    all random generators, so that a resumed run goes on as the first one would have.
    """

    # Set by RecBole's trainer.
    config: Any
    model: Any
    logger: Any
    device: Any
    optimizer: Any
    wandblogger: Any
    epochs: int
    start_epoch: int
    checkpoint_dir: str
    saved_model_file: str

    def __init__(self, config: Any, model: Any) -> None:
        decay = config["ema_decay"]
        self.average = WeightAverage(model, decay) if decay else None
        super().__init__(config, model)  # type: ignore[call-arg]
        stem = os.path.basename(self.saved_model_file).removesuffix(".pth")
        stem = stem.replace(f"{config['model']}-", f"{config['model']}-{config['dataset']}-", 1)
        # RecBole's names have a resolution of one second: two runs must not share one.
        mark = f"{os.getpid()}.{next(_RUNS)}"
        path = os.path.join(self.checkpoint_dir, f"{stem}-{mark}.pth")
        self.saved_model_file = process_group.object_from_first(lambda: path)
        self.ranking: RankingEvaluator | None = None
        self.data_hash: str | None = None
        self.seconds = {"train": 0.0, "evaluation": 0.0}
        self.epochs_run = 0
        self.best_epoch: int | None = None
        self.resumed_from: int | None = None
        self.steps, self.best_steps = 0, 0
        self._steps_left: int | None = None
        self._train_data: Any = None
        self._random_state: dict[str, Any] | None = None

    def _build_optimizer(self, **kwargs: Any) -> Any:
        """RecBole's; Adam in its fused form, the same step in one pass, where RecBole's rows are not used."""
        if "params" not in kwargs and hasattr(self.model, "parameter_groups"):
            kwargs["params"] = self.model.parameter_groups()
        optimizer = super()._build_optimizer(**kwargs)  # type: ignore[misc]
        if train_loader(self.config) and type(optimizer) in (torch.optim.Adam, torch.optim.AdamW):
            for group in optimizer.param_groups:
                group["fused"] = True
        if self.average is not None:
            optimizer.register_step_post_hook(self.average.update)
        return optimizer

    # -- hooks into RecBole's loop -----------------------------------------------------

    def fit(
        self,
        train_data: Any,
        valid_data: Any = None,
        verbose: bool = True,
        saved: bool = True,
        **options: Any,
    ) -> Any:
        """RecBole's loop; see there."""
        self._train_data = train_data
        if self._random_state is not None:
            self._set_random_state(self._random_state)
            self._random_state = None
        finished = self.start_epoch >= self.epochs
        # RecBole would overwrite the checkpoint of a finished run with "epoch -1".
        try:
            return super().fit(train_data, valid_data, verbose, saved and not finished, **options)  # type: ignore[misc]
        except _AllSteps:
            return self.best_valid_score, self.best_valid_result

    def _train_epoch(self, train_data: Any, epoch_idx: int, *args: Any, **options: Any) -> Any:
        if self._steps_left == 0:
            raise _AllSteps
        start = perf_counter()
        if process_group.active():
            seed = process_group.seed_of_epoch(self.config["seed"], epoch_idx)
            if seed is not None:
                torch.manual_seed(seed)
            options["loss_func"] = process_group.loss_of_all(
                self.model, self.model.calculate_loss, self._rows_of
            )
        counted = CountedLoader(train_data, self._steps_left)
        result = super()._train_epoch(counted, epoch_idx, *args, **options)  # type: ignore[misc]
        self.steps += counted.steps
        if self._steps_left is not None:
            self._steps_left -= counted.steps
        self.seconds["train"] += perf_counter() - start
        self.epochs_run += 1
        return result

    def take_steps(self, steps: int) -> None:
        """Train for so many batches, whatever the number of epochs."""
        self._steps_left, self.epochs = steps, max(self.epochs, steps)

    def _rows_of(self, batch: Any) -> float:
        """What a share of a batch weighs in a model's mean over it."""
        field = spec_of(self.config["model"]).loss_weight
        if field is None:
            return len(batch)
        counted = float((batch[field] > 0).sum())
        # Where no share has any, the losses are 0 with chunked_softmax, and one process makes the step, too.
        return counted or (1e-30 if self.config["chunked_softmax"] and len(batch) else 0.0)

    def _check_nan(self, loss: Any) -> None:
        if torch.isnan(loss):
            hint = spec_of(self.config["model"]).nan_hint
            more = f"; or {hint}" if hint else ""
            raise UserError(
                f"training diverged: the loss is not a number; learning_rate is "
                f"{self.config['learning_rate']}, try a tenth of it, or set clip_grad_norm{more}"
            )

    @torch.no_grad()
    def evaluate(
        self,
        eval_data: Any,
        load_best_model: bool = True,
        model_file: str | None = None,
        show_progress: bool = False,
    ) -> Any:
        """Return metric@k -> value of a part; None if it is empty."""
        if not eval_data:
            return None
        if load_best_model:
            path = model_file or self.saved_model_file
            checkpoint.load_into(self.model, self._load(path), self.device)
            if self.average is not None:
                self.average.restart()  # what is loaded is to be evaluated
            self.logger.info(f"Loading model structure and parameters from {path}")
        start = perf_counter()
        with self.averaged():
            if isinstance(eval_data, EvalLoader) and self.ranking is not None:
                self.model.eval()
                result = self.ranking.evaluate(self.model, eval_data)
                self.wandblogger.log_eval_metrics(result, head="eval")
            else:  # value metrics such as AUC: RecBole's own loader and loop
                result = super().evaluate(eval_data, False, None, show_progress)  # type: ignore[misc]
        self.seconds["evaluation"] += perf_counter() - start
        return result

    def averaged(self) -> AbstractContextManager[None]:
        """The model has the averages of its weights within, if there are any."""
        return nullcontext() if self.average is None else self.average.in_model()

    # -- checkpoints -------------------------------------------------------------------

    def _save_checkpoint(self, epoch: int, verbose: bool = True, **kwargs: Any) -> None:
        with self.averaged():
            self._save_model(epoch, verbose, **kwargs)

    def _save_model(self, epoch: int, verbose: bool, **kwargs: Any) -> None:
        if self._steps_left:
            return  # the last step decides
        path = kwargs.pop("saved_model_file", self.saved_model_file)
        self.best_epoch, self.best_steps = epoch, self.steps
        if process_group.rank() > 0:
            process_group.barrier()
            return
        checkpoint.save(
            path,
            {
                "format": 1,
                "config": config_to_dict(self.config),
                "given": self.config.external_config_dict,
                "data_hash": self.data_hash,
                "epoch": epoch,
                "cur_step": self.cur_step,
                "best_valid_score": self.best_valid_score,
                "best_valid_result": self._last_valid_result,
                "state_dict": self.model.state_dict(),
                # Modules among them are in state_dict already.
                "other_parameter": {
                    name: value
                    for name, value in self.model.other_parameter().items()
                    if not isinstance(value, torch.nn.Module)
                },
                "seconds": self.seconds,
                "epochs_run": self.epochs_run,
                "steps": self.steps,
                "refit": self._steps_left is not None,
                "averaged": None if self.average is None else self.average.state(),
                "optimizer": self.optimizer.state_dict(),
                "random": self._get_random_state(),
            },
        )
        process_group.barrier()  # nobody reads it before it is complete
        if verbose:
            self.logger.info(f"Saving current: {path}")

    def _load(self, path: str) -> dict[str, Any]:
        """Read a checkpoint, in process 0, for all."""
        return process_group.object_from_first(lambda: checkpoint.load(path, self.device))

    # RecBole sets best_valid_result only after it has saved the checkpoint.
    _last_valid_result: dict[str, float] | None = None

    def _valid_epoch(self, valid_data: Any, show_progress: bool = False) -> Any:
        score, result = super()._valid_epoch(valid_data, show_progress)  # type: ignore[misc]
        self._last_valid_result = dict(result)
        return score, result

    def resume_checkpoint(self, resume_file: str) -> None:
        """Go on from a checkpoint; a changed configuration is warned about, key by key.

        Raises:
            UserError: the file is no checkpoint, or of another model or data set.
        """
        state = self._load(str(resume_file))
        validate_checkpoint(state, str(resume_file), self.config["model"], self.data_hash)
        if state.get("refit"):
            raise UserError(
                f"resume_file: '{resume_file}' is the checkpoint of a refit, which is trained to its end "
                "at once; give the checkpoint of the first training, without .refit in its name"
            )
        ours, theirs = config_to_dict(self.config), state["config"]
        model = self.config["model"]
        theirs = {**key_rules.defaults(key_rules.of_run(model)), **theirs}  # it may be older than a key
        for key in sorted({*ours, *theirs} - _LENGTH_OF_TRAINING):
            if ours.get(key) != theirs.get(key) and key_rules.decides_result(model, key):
                self.logger.warning(
                    f"resume: {key} is {ours.get(key)!r}, was {theirs.get(key)!r} in {resume_file}"
                )
        self.saved_model_file = str(resume_file)
        self.start_epoch = state["epoch"] + 1
        self.best_epoch = state["epoch"]
        self.steps = self.best_steps = state.get("steps", 0)
        self.cur_step = state["cur_step"]
        self.best_valid_score = state["best_valid_score"]
        self.best_valid_result = state["best_valid_result"]
        self.resumed_from = self.start_epoch
        self.seconds, self.epochs_run = dict(state["seconds"]), state["epochs_run"]
        checkpoint.load_into(self.model, state, self.device)
        averaged = state.get("averaged") or {"steps": 0, "values": {}}
        if self.average is not None:
            self.average.restart(averaged["steps"])
        self.model.load_state_dict(averaged["values"], strict=False)  # training goes on from them
        if theirs["learner"] != ours["learner"]:
            raise UserError(
                f"checkpoint '{resume_file}' has the state of learner {theirs['learner']!r}, got "
                f"{ours['learner']!r}: resume with the same one"
            )
        self.optimizer.load_state_dict(state["optimizer"])
        self._random_state = state["random"]
        self.logger.info(f"Resume training from epoch {self.start_epoch}")

    def _get_random_state(self) -> dict[str, Any]:
        kind, keys, position, has_gauss, gauss = np.random.get_state()
        found: dict[str, Any] = {
            "python": random.getstate(),
            "numpy": [kind, np.asarray(keys).astype(np.int64), position, has_gauss, gauss],
            "torch": torch.get_rng_state(),
            "loader": self._train_data.generator.get_state(),
        }
        if self.device.type == "cuda":
            found["cuda"] = torch.cuda.get_rng_state(self.device)
        return found

    def _set_random_state(self, state: dict[str, Any]) -> None:
        random.setstate(state["python"])
        kind, keys, position, has_gauss, gauss = state["numpy"]
        np.random.set_state((kind, keys.cpu().numpy().astype(np.uint32), position, has_gauss, gauss))
        if process_group.rank() == 0:  # the others start each epoch from a seed
            torch.set_rng_state(state["torch"].cpu())
        self._train_data.generator.set_state(state["loader"].cpu())
        if "cuda" in state and self.device.type == "cuda" and process_group.rank() == 0:
            torch.cuda.set_rng_state(state["cuda"].cpu(), self.device)


def validate_checkpoint(state: dict[str, Any], path: str, model: str, data_hash: str | None) -> None:
    """Check that a checkpoint is of this model and of this data.

    Raises:
        UserError: it is not.
    """
    theirs = state["config"]["model"]
    if theirs != model:
        raise UserError(f"checkpoint '{path}' is of the model {theirs}, expected {model}")
    if None not in (data_hash, state["data_hash"]) and state["data_hash"] != data_hash:
        raise UserError(
            f"checkpoint '{path}' was trained on other data or another split (data hash "
            f"{state['data_hash']}, here {data_hash}); use the same files, filters and eval_args"
        )


def make_trainer(config: Any, model: Any) -> Any:
    """Return RecBole's trainer of a model, made safe."""
    base = recbole_trainer(config["MODEL_TYPE"], config["model"])
    own_way = base._train_epoch is not Trainer._train_epoch or issubclass(base, TraditionalTrainer)
    if process_group.active() and own_way:
        raise UserError(
            f"nproc: {config['model']} is not trained by the gradient of one loss; run it in one process"
        )
    return type(f"Safe{base.__name__}", (SafeTrainer, base), {})(config, model)
