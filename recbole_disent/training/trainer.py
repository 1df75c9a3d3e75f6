"""RecBole's trainers with safe checkpoints and one evaluation protocol."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from itertools import count
from time import perf_counter
from typing import Any

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
from recbole_disent.training import checkpoint, random_state
from recbole_disent.training.averaging import WeightAverage
from recbole_disent.training.checkpoint import config_to_dict
from recbole_disent.training.item_optimizer import require_same, sparse_tables, split_groups
from recbole_disent.training.optimizer_options import with_our_options
from recbole_disent.training.row_adam import RowAdam
from recbole_disent.training.same_validation import require_same_validation
from recbole_disent.training.steps import CountedLoader
from recbole_disent.training.warm_up import WarmUp

# Keys that a resumed run may change without a warning, besides the keys that do not affect the result.
_LENGTH_OF_TRAINING = {"epochs", "stopping_step"}


class _AllSteps(Exception):
    """Ends RecBole's loop over the epochs after the requested number of steps."""


# Numbers of the runs of this process, for the names of their checkpoints.
_RUNS = count(1)


class SafeTrainer:
    """Mixin for RecBole's trainers that keeps their loop and replaces checkpoints and evaluation.

    A checkpoint holds the model, the optimiser, the early-stopping state and the state of
    all random generators, so that a resumed run continues as the first run would have.
    """

    # Set by RecBole's trainer.
    config: Any
    model: Any
    logger: Any
    device: Any
    optimizer: Any
    clip_grad_norm: dict[str, Any] | None
    wandblogger: Any
    epochs: int
    eval_step: int
    start_epoch: int
    checkpoint_dir: str
    saved_model_file: str

    def __init__(self, config: Any, model: Any) -> None:
        decay = config["ema_decay"]
        self.average = WeightAverage(model, decay) if decay else None
        self.warm_ups: list[WarmUp] = []  # one for each optimiser
        super().__init__(config, model)  # type: ignore[call-arg]
        # RecBole's trainer of models without training (Pop) sets a single epoch but keeps eval_step.
        self.eval_step = min(self.eval_step, self.epochs)
        stem = os.path.basename(self.saved_model_file).removesuffix(".pth")
        stem = stem.replace(f"{config['model']}-", f"{config['model']}-{config['dataset']}-", 1)
        # The time in RecBole's names has a resolution of one second, and two runs must not share a name.
        mark = f"{os.getpid()}.{next(_RUNS)}"
        path = os.path.join(self.checkpoint_dir, f"{stem}-{mark}.pth")
        self.saved_model_file = process_group.object_from_first(lambda: path)
        self.ranking: RankingEvaluator | None = None
        self.data_hash: str | None = None
        self.feature_hash: str | None = None
        self.ids: dict[str, str] | None = None  # what the rows of the weights belong to
        self.seconds = {"train": 0.0, "evaluation": 0.0}
        self.epochs_run = 0
        self.best_epoch: int | None = None
        self.resumed_from: int | None = None
        # Three lists of equal length; a loss is a list of its parts if the model has several.
        self.curves: dict[str, list[Any]] = {"epoch": [], "train_loss": [], "valid_score": []}
        self.steps, self.best_steps = 0, 0
        self._steps_left: int | None = None
        self._train_data: Any = None
        self._random_state: dict[str, Any] | None = None

    def _build_optimizer(self, **kwargs: Any) -> Any:
        """Build RecBole's optimiser; Adam takes its step in one pass with this package's training loaders."""
        tables: dict[Any, Any] = {}
        if "params" not in kwargs:
            has_groups = hasattr(self.model, "parameter_groups")
            groups = self.model.parameter_groups() if has_groups else [{"params": [*self.model.parameters()]}]
            kwargs["params"], tables = split_groups(groups, [*sparse_tables(self.config, self.model)])
        optimizer = super()._build_optimizer(**kwargs)  # type: ignore[misc]
        if train_loader(self.config) and type(optimizer) in (torch.optim.Adam, torch.optim.AdamW):
            for group in optimizer.param_groups:
                group["fused"] = True
        if tables:
            optimizer = RowAdam(optimizer, tables, self.clip_grad_norm)
            self.clip_grad_norm = None  # torch cannot clip sparse gradients
            if self.average is not None:
                averages = self.average.leave_to_others(optimizer.row_parameters)
                optimizer.keep_average(averages, self.average.next_decay)
        if self.average is not None:
            optimizer.register_step_post_hook(self.average.update)
        chosen = getattr(self.model, "chosen", None) or {}  # what stands for a value such as null
        steps = chosen.get("learning_rate_warmup", self.config["learning_rate_warmup"])
        if steps:
            self.warm_ups.append(WarmUp(optimizer, steps))
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
        """Run RecBole's training loop; the arguments are those of RecBole's ``Trainer.fit``."""
        self._train_data = train_data
        if self._random_state is not None:
            random_state.put(self._random_state, train_data.generator, self.device)
            self._random_state = None
        if not valid_data and self._steps_left is None:  # a refit trains a given number of steps
            self.logger.warning(
                "there is no validation part: training runs through all its epochs without early stopping, "
                "and the last epoch is kept"
            )
        for warm_up in self.warm_ups:
            warm_up.begin(self.steps, len(train_data))
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
                self.model, self.model.calculate_loss, self._rows_of, self._row_parameters
            )
        counted = CountedLoader(train_data, self._steps_left)
        try:
            result = super()._train_epoch(counted, epoch_idx, *args, **options)  # type: ignore[misc]
        except RuntimeError as error:
            if "error_if_nonfinite" not in str(error):  # how torch's clip_grad_norm_ names the reason
                raise
            raise self._diverged("the norm of the gradients is not finite") from error
        if isinstance(self.optimizer, RowAdam):
            self.optimizer.flush()
        self.steps += counted.steps
        if self._steps_left is not None:
            self._steps_left -= counted.steps
        self.seconds["train"] += perf_counter() - start
        self.epochs_run += 1
        self.curves["epoch"].append(epoch_idx)
        self.curves["train_loss"].append(list(result) if isinstance(result, tuple) else result)
        self.curves["valid_score"].append(None)  # until the validation of the epoch
        return result

    def take_steps(self, steps: int) -> None:
        """Train for *steps* batches, whatever the number of epochs."""
        self._steps_left, self.epochs = steps, max(self.epochs, steps)

    @property
    def _row_parameters(self) -> list[torch.Tensor]:
        return self.optimizer.row_parameters if isinstance(self.optimizer, RowAdam) else []

    def _rows_of(self, batch: Any) -> float:
        """Weight of a share of a batch in the model's mean over the whole batch."""
        field = spec_of(self.config["model"]).loss_weight
        if field is None:
            return len(batch)
        counted = float((batch[field] > 0).sum())
        # If no share has such rows, the loss with chunked_softmax is 0. The tiny weight lets all processes
        # take the step, as a single process does.
        return counted or (1e-30 if self.config["chunked_softmax"] and len(batch) else 0.0)

    def _check_nan(self, loss: Any) -> None:
        if torch.isnan(loss):
            hint = spec_of(self.config["model"]).nan_hint
            more = f"; or {hint}" if hint else ""
            raise self._diverged("the loss is not a number", f", or set clip_grad_norm{more}")

    def _diverged(self, what: str, more: str = "") -> UserError:
        rate = self.config["learning_rate"]
        return UserError(
            f"training diverged: {what}; learning_rate is {rate}, try a tenth of this value{more}"
        )

    @torch.no_grad()
    def evaluate(
        self,
        eval_data: Any,
        load_best_model: bool = True,
        model_file: str | None = None,
        show_progress: bool = False,
    ) -> Any:
        """Return metric@k -> value of a part; None if the part is empty."""
        if not eval_data:
            return None
        if load_best_model:
            self.load_weights(model_file or self.saved_model_file)
        start = perf_counter()
        with self.averaged():
            if isinstance(eval_data, EvalLoader) and self.ranking is not None:
                self.model.eval()
                result = self.ranking.evaluate(self.model, eval_data, show_progress)
                self.wandblogger.log_eval_metrics(result, head="eval")
            else:  # value metrics such as AUC use RecBole's own loader and loop
                result = super().evaluate(eval_data, False, None, show_progress)  # type: ignore[misc]
        self.seconds["evaluation"] += perf_counter() - start
        return result

    def load_weights(self, path: str) -> None:
        """Load the weights of a checkpoint, such as the weights of the kept epoch."""
        checkpoint.load_into(self.model, self._load(path), self.device)
        if self.average is not None:
            self.average.restart()  # the loaded weights are evaluated
        self.logger.info(f"Loading model structure and parameters from {path}")

    def averaged(self) -> AbstractContextManager[None]:
        """Put the averages of the weights, if there are any, into the model for the duration of a block."""
        return nullcontext() if self.average is None else self.average.in_model()

    # -- checkpoints -------------------------------------------------------------------

    def _save_checkpoint(self, epoch: int, verbose: bool = True, **kwargs: Any) -> None:
        with self.averaged():
            self._save_model(epoch, verbose, **kwargs)

    def _save_model(self, epoch: int, verbose: bool, **kwargs: Any) -> None:
        if self._steps_left:
            return  # only the state after the last step is saved
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
                "feature_hash": self.feature_hash,
                "ids": self.ids,
                "epoch": epoch,
                "cur_step": self.cur_step,
                "best_valid_score": self.best_valid_score,
                "best_valid_result": self._last_valid_result,
                "state_dict": self.model.state_dict(),
                # Modules are in state_dict already.
                "other_parameter": {
                    name: value
                    for name, value in self.model.other_parameter().items()
                    if not isinstance(value, torch.nn.Module)
                },
                "seconds": self.seconds,
                "epochs_run": self.epochs_run,
                "curves": self.curves,
                "steps": self.steps,
                "refit": self._steps_left is not None,
                "averaged": None if self.average is None else self.average.state(),
                "optimizer": self.optimizer.state_dict(),
                "random": random_state.get(self._train_data.generator, self.device),
            },
        )
        process_group.barrier()  # no process reads the file before it is complete
        if verbose:
            self.logger.info(f"Saving current: {path}")

    def _load(self, path: str) -> dict[str, Any]:
        """Read a checkpoint in process 0 and return it in every process."""
        return process_group.object_from_first(lambda: checkpoint.load(path, self.device))

    # RecBole sets best_valid_result only after it has saved the checkpoint.
    _last_valid_result: dict[str, float] | None = None

    def _valid_epoch(self, valid_data: Any, show_progress: bool = False) -> Any:
        score, result = super()._valid_epoch(valid_data, show_progress)  # type: ignore[misc]
        self._last_valid_result = dict(result)
        if self.curves["epoch"]:  # some of RecBole's trainers have no epochs
            self.curves["valid_score"][-1] = float(score)
        return score, result

    def resume_checkpoint(self, resume_file: str) -> None:
        """Continue from a checkpoint, with a warning for each key that has changed.

        Raises:
            UserError: the file is not a checkpoint, belongs to another model, data set, learner or
                validation, or is the checkpoint of a refit.
        """
        state = self._load(str(resume_file))
        hashes = (self.data_hash, self.feature_hash)
        checkpoint.require_same_data(state, str(resume_file), self.config["model"], *hashes)
        if state.get("refit"):
            raise UserError(
                f"resume_file: '{resume_file}' is the checkpoint of a refit, which cannot be resumed; "
                "give the checkpoint of the first training, without .refit in its name"
            )
        if self.config["refit"] and "steps" not in state:
            raise UserError(
                f"resume_file: '{resume_file}' does not hold the number of steps that refit repeats, because "
                "an earlier version wrote it; leave out resume_file, or set refit=False"
            )
        ours, theirs = config_to_dict(self.config), state["config"]
        model = self.config["model"]
        theirs = {**key_rules.defaults(key_rules.of_run(model)), **theirs}  # it may lack newer keys
        for key in sorted({*ours, *theirs} - _LENGTH_OF_TRAINING):
            if ours.get(key) != theirs.get(key) and key_rules.decides_result(model, key):
                self.logger.warning(
                    f"resume: {key} is {ours.get(key)!r}, was {theirs.get(key)!r} in {resume_file}"
                )
        if theirs.get("learner") != ours["learner"]:
            raise UserError(
                f"learner: got {ours['learner']!r}, expected {theirs.get('learner')!r}, the learner of "
                f"checkpoint '{resume_file}'; resume with the same learner"
            )
        for name in spec_of(model).training_state:
            if name not in (state.get("other_parameter") or {}):
                raise UserError(
                    f"resume_file: '{resume_file}' does not hold '{name}', which changes in the training of "
                    f"{model}, because an earlier version wrote it; leave out resume_file and train again"
                )
        require_same_validation(ours, theirs, str(resume_file))
        require_same(self.optimizer, state.get("optimizer"), str(resume_file))
        self.saved_model_file = str(resume_file)
        checkpoint.load_into(self.model, state, self.device)
        with checkpoint.reading(str(resume_file)):
            self._take(state)
        self.logger.info(f"Resume training from epoch {self.start_epoch}")

    def _take(self, state: dict[str, Any]) -> None:
        """Take the progress, the averages, the optimiser and the random generators of a checkpoint."""
        self.start_epoch = state["epoch"] + 1
        self.best_epoch = state["epoch"]
        self.steps = self.best_steps = state.get("steps", 0)
        self.cur_step = state["cur_step"]
        self.best_valid_score = state["best_valid_score"]
        self.best_valid_result = state["best_valid_result"]
        self.resumed_from = self.start_epoch
        self.seconds, self.epochs_run = dict(state["seconds"]), state["epochs_run"]
        self.curves = state.get("curves") or self.curves  # older checkpoints have none
        averaged = state.get("averaged") or {"steps": 0, "values": {}}
        if self.average is not None:
            self.average.restart(averaged["steps"])
        self.model.load_state_dict(averaged["values"], strict=False)  # training continues from these weights
        self.optimizer.load_state_dict(with_our_options(state["optimizer"], self.optimizer))
        checkpoint.check_shapes(self.optimizer)
        random_state.check(state["random"])
        self._random_state = state["random"]


def make_trainer(config: Any, model: Any) -> Any:
    """Return the trainer of a model: RecBole's trainer with :class:`SafeTrainer`."""
    base = recbole_trainer(config["MODEL_TYPE"], config["model"])
    own_way = base._train_epoch is not Trainer._train_epoch or issubclass(base, TraditionalTrainer)
    if process_group.active() and own_way:
        raise UserError(
            f"nproc: {config['model']} is not trained by the gradient of one loss; run it in one process"
        )
    return type(f"Safe{base.__name__}", (SafeTrainer, base), {})(config, model)
