"""Checks of configuration keys that the rule of one key cannot express."""

from __future__ import annotations

import os
from typing import Any

from recbole.utils import EvaluatorType, InputType

from recbole_disent.errors import UserError

_LEARNERS = ("adam", "adamw", "sgd", "adagrad", "rmsprop", "sparse_adam")
_LEAST = {
    "epochs": 1, "train_batch_size": 1, "MAX_ITEM_LIST_LENGTH": 1, "seed": 0, "weight_decay": 0,
    "stopping_step": 0, "worker": 0, "learning_rate": 0, "metric_decimal_place": 0,
}  # fmt: skip


def check_like_default(source: str, key: str, value: Any, default: Any) -> None:
    """A RecBole key with a plain default takes a value of that type."""
    kinds: tuple[type, ...]
    if isinstance(default, bool):
        kinds = (bool,)
    elif isinstance(default, int):
        kinds = (int,)
    elif isinstance(default, float):
        kinds = (int, float)
    else:
        return
    if not isinstance(value, kinds) or isinstance(value, bool) != isinstance(default, bool):
        wanted = type(default).__name__
        raise UserError(f"{source}: {key}: got {value!r}, expected {wanted} (default {default!r})")


def check_together(config: Any) -> None:
    """Checks that need more than one key."""
    metrics = [m.lower() for m in config["metrics"]]
    name, _, cut = str(config["valid_metric"]).lower().partition("@")
    if name not in metrics or (cut and not (cut.isdigit() and int(cut) in config["topk"])):
        raise UserError(
            f"valid_metric: got {config['valid_metric']!r}, expected one of metrics={config['metrics']} "
            f"at one of topk={config['topk']}, such as {config['metrics'][0]}@{config['topk'][0]}"
        )
    if "labeled" in config["eval_args"]["mode"].values() and config["eval_type"] == EvaluatorType.RANKING:
        raise UserError(
            f"eval_args mode: labeled has no candidates to rank, and metrics are {config['metrics']}; say "
            "metrics of labels such as --metrics=\"['AUC', 'LogLoss']\" --valid_metric=AUC, or another mode"
        )
    negatives = config["train_neg_sample_args"]["distribution"]
    if config["MODEL_INPUT_TYPE"] == InputType.PAIRWISE and negatives == "none":
        raise UserError(
            f"train_neg_sample_args: got none, and {config['model']} compares clicks with negatives; leave "
            "the key out, or say such as {'distribution': 'uniform', 'sample_num': 1}"
        )
    for phase in ("valid", "test"):
        k = config[f"{phase}_neg_sample_args"]["sample_num"]
        if config["eval_type"] == EvaluatorType.VALUE:
            continue  # no ranking, no cut-offs
        if k != "none" and max(config["topk"]) > k + 1:
            raise UserError(
                f"topk: got {max(config['topk'])}, expected at most {k + 1}: {phase} ranks the held-out "
                f"item among {k} candidates (eval_args mode '{config['eval_args']['mode'][phase]}')"
            )
    for key, least in _LEAST.items():
        if config[key] < least:
            raise UserError(f"{key}: got {config[key]}, expected at least {least}")
    if str(config["learner"]).lower() not in _LEARNERS:
        raise UserError(f"learner: got {config['learner']!r}, expected one of {', '.join(_LEARNERS)}")
    if config["precision"] == "double" and config["enable_amp"]:
        raise UserError("precision: got double with enable_amp=True, expected one of the two at most")
    clip = config["clip_grad_norm"]
    if clip is not None and not isinstance(clip, dict):
        raise UserError(f"clip_grad_norm: got {clip!r}, expected a dict such as {{'max_norm': 5.0}}")
    files = config["benchmark_filename"]
    if files is not None and (not isinstance(files, list) or len(files) != 3):
        raise UserError(
            f"benchmark_filename: got {files!r}, expected three parts such as [train, valid, test]"
        )
    resume = config["resume_file"]
    if resume is not None and not os.path.isfile(resume):
        raise UserError(f"resume_file: '{resume}' is not there; give the path of a checkpoint (.pth)")
