"""Checks of configuration keys that the rule of one key cannot express."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import Any

from recbole.evaluator.register import metric_types
from recbole.utils import EvaluatorType, InputType, ModelType

from recbole_disent.config import key_rules
from recbole_disent.config.intervals import check_interval
from recbole_disent.errors import UserError, nearest
from recbole_disent.registry import spec_of

_LEARNERS = ("adam", "adamw", "sgd", "adagrad", "rmsprop")
_LEAST = {
    "epochs": 1, "train_batch_size": 1, "MAX_ITEM_LIST_LENGTH": 1, "seed": 0, "weight_decay": 0,
    "stopping_step": 0, "worker": 0, "eval_step": 0, "learning_rate": 0, "metric_decimal_place": 0,
}  # fmt: skip

# The keys that each batch transform of RecBole reads, with an example value.
_TRANSFORMS = {
    "mask_itemseq": {"mask_ratio": 0.2, "ft_ratio": 0.5},
    "inverse_itemseq": {},
    "crop_itemseq": {"eta": 0.6},
    "reorder_itemseq": {"beta": 0.6},
}  # fmt: skip
# The arguments of clip_grad_norm_ and what they must be.
_CLIPPING = {
    "max_norm": "a number above 0", "norm_type": "a number above 0", "error_if_nonfinite": "True or False",
    "foreach": "True or False",
}  # fmt: skip
# Filters that RecBole does not apply to pre-split files.
_FILTERS = ("rm_dup_inter", "val_interval", "user_inter_num_interval", "item_inter_num_interval")


def check_dataset_name(name: str) -> None:
    """Check that a data set is named by its folder, not by a path or a file.

    Raises:
        UserError: the name is a path.
    """
    path = Path(name)
    if len(path.parts) < 2 and path.suffix != ".inter":
        return
    stem = path.name.removesuffix(".inter")
    folder = path.parent
    if path.suffix == ".inter" and folder.name == stem:
        folder = folder.parent
    elif path.suffix == ".inter":
        raise UserError(
            f"dataset: got the file '{name}', expected the name of a folder: put the file into "
            f"{folder / stem / path.name} and set --data_path={folder} --dataset={stem}"
        )
    raise UserError(
        f"dataset: got the path '{name}', expected the name of a folder below data_path; set "
        f"--data_path={folder} --dataset={stem}"
    )


def check_folders(given: dict[str, Any]) -> None:
    """Check that the user's folders are texts.

    Raises:
        UserError: a folder is a number, as which a name such as 2024 is read, or another value.
    """
    for key in ("data_path", "checkpoint_dir"):
        value = given.get(key)
        if value is not None and not isinstance(value, str | os.PathLike):
            raise UserError(f"{key}: got {value!r}, expected the path of a folder, such as './{value}'")


def check_given(given: dict[str, Any], model_class: type[Any]) -> None:
    """Check keys of the user whose faulty values RecBole would ignore.

    Args:
        given: the user's keys and values.
        model_class: class of the model.

    Raises:
        UserError: a value is wrong, or a key has no effect.
    """
    for key in ("user_inter_num_interval", "item_inter_num_interval"):
        if given.get(key) is not None:
            check_interval(key, given[key])
    for key in ("field_separator", "seq_separator"):
        value = given.get(key, " ")
        if not isinstance(value, str) or not value or "\n" in value or "\r" in value:
            raise UserError(f"{key}: got {value!r}, expected a text within a line, such as ','")
    values = given.get("val_interval")
    if values is not None and not isinstance(values, dict):
        raise UserError(f"val_interval: got {values!r}, expected a dict such as {{'rating': '[3,inf)'}}")
    threshold = given.get("threshold")
    if threshold is not None and not (
        isinstance(threshold, dict)
        and len(threshold) == 1
        and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in threshold.values())
    ):
        raise UserError(
            f"threshold: got {threshold!r}, expected one column and its number such as {{'rating': 4}}"
        )
    if given.get("rm_dup_inter") not in (None, "first", "last"):
        raise UserError(f"rm_dup_inter: got {given['rm_dup_inter']!r}, expected first, last or null")
    suffixes = {"inter", "user", "item", "kg", "link", "net", *(given.get("additional_feat_suffix") or [])}
    for key in ("load_col", "unload_col", "unused_col"):
        _check_columns(key, given.get(key), suffixes)
    lengths = given.get("seq_len")
    if lengths is not None and not (
        isinstance(lengths, dict)
        and all(isinstance(v, int) and not isinstance(v, bool) and v > 0 for v in lengths.values())
    ):
        raise UserError(
            f"seq_len: got {lengths!r}, expected columns and their lengths such as {{'class': 5}}"
        )
    if both := set(given.get("unload_col") or {}) & set(given.get("load_col", {"inter": None}) or {}):
        raise UserError(
            f"unload_col: got columns of {', '.join(sorted(both))}, but load_col already names the columns "
            "to load; set load_col=None, or leave out unload_col and list the columns in load_col"
        )
    if given.get("preload_weight") and not _reads_vectors(model_class):
        raise UserError(
            f"preload_weight: {model_class.__name__} reads no such vectors; leave the key out (models with "
            "item content read vectors if content_source=file)"
        )
    if given.get("benchmark_filename"):
        for key in _FILTERS:
            if given.get(key) not in (None, "[0,inf)"):
                raise UserError(
                    f"{key}: no effect on pre-split files (benchmark_filename), which RecBole never filters; "
                    "leave the key out, or filter the files"
                )


def notes_of_split_files(given: dict[str, Any]) -> list[str]:
    """Return a sentence for each of the user's ``eval_args`` that has no effect on pre-split files."""
    own = given["eval_args"] if isinstance(given.get("eval_args"), dict) else {}
    if not given.get("benchmark_filename"):
        return []
    usual = key_rules.overall()["eval_args"].default
    return [
        f"eval_args {key}: {own[key]!r} has no effect on pre-split files (benchmark_filename), which are the "
        "parts already"
        for key in ("split", "order", "group_by")
        if own.get(key, usual[key]) != usual[key]
    ]


def _reads_vectors(model_class: type[Any]) -> bool:
    try:
        return any("get_preload_weight" in inspect.getsource(base) for base in model_class.__mro__[:-1])
    except (OSError, TypeError):  # a class from a notebook has no source: assume that it reads them
        return True


def _check_columns(key: str, value: Any, suffixes: set[str]) -> None:
    good = value is None or (
        isinstance(value, dict)
        and all(
            v == "*" or (isinstance(v, (list, tuple)) and all(isinstance(c, str) for c in v))
            for v in value.values()
        )
    )
    if not good:
        raise UserError(
            f"{key}: got {value!r}, expected a dict from file suffixes to lists of columns, such as "
            "{'inter': ['user_id', 'item_id']}"
        )
    for suffix in value or {}:
        if suffix not in suffixes:
            raise UserError(
                f"{key}: got the file suffix {suffix!r}, expected inter, user, item or one of "
                f"additional_feat_suffix{nearest(suffix, suffixes)}"
            )


def check_metrics(metrics: Any, modes: Any) -> None:
    """Check that the metrics exist, are of one kind, and suit the mode of the evaluation.

    Args:
        metrics: one name, or a list of names.
        modes: the mode of the evaluation: one mode, or a dict with a mode for each part.

    Raises:
        UserError: a metric is unknown, or the metrics cannot be computed together or in this mode.
    """
    names = [metrics] if isinstance(metrics, str) else metrics
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise UserError(f"metrics: got {metrics!r}, expected a list of names such as ['Recall', 'NDCG']")
    for name in names:
        if name.lower() not in metric_types:
            raise UserError(f"metrics: there is no metric named '{name}'{nearest(name, set(metric_types))}")
    single = [name for name in names if metric_types[name.lower()] == EvaluatorType.VALUE]
    ranking = [name for name in names if name not in single]
    if single and ranking:
        raise UserError(
            f"metrics: got {names}, which cannot be used at the same time, because they mix metrics of a "
            f"ranking ({', '.join(ranking)}) and of single scores ({', '.join(single)}); keep one kind"
        )
    if single and "full" in (modes.values() if isinstance(modes, dict) else [modes]):
        raise UserError(
            f"metrics: got {names}, which measure single scores, with eval_args mode full, which ranks "
            "items; set --eval_mode=labeled for data with labels or --eval_mode=uni1 for sampled negatives, "
            "or use ranking metrics such as Recall"
        )


# Arguments of train_neg_sample_args -> smallest value, for the whole numbers among them.
_NEGATIVES = {"distribution": None, "sample_num": 1, "alpha": None, "dynamic": None, "candidate_num": 0}


def _check_negatives(arguments: dict[str, Any]) -> None:
    """Check RecBole's arguments for sampled negatives, which RecBole reads without a check."""
    key = "train_neg_sample_args"
    for name in arguments:
        if name not in _NEGATIVES:
            raise UserError(f"{key}: the key {name!r} is unknown{nearest(str(name), set(_NEGATIVES))}")
    if arguments["distribution"] == "none":
        return
    for name, value in arguments.items():
        least, number = _NEGATIVES[name], isinstance(value, (int, float)) and not isinstance(value, bool)
        if least is not None and not (number and isinstance(value, int) and value >= least):
            raise UserError(f"{key}: got {name}={value!r}, expected a whole number of at least {least}")
        if name == "alpha" and not number:
            raise UserError(f"{key}: got alpha={value!r}, expected a number")
        if name == "dynamic" and not isinstance(value, bool):
            raise UserError(f"{key}: got dynamic={value!r}, expected True or False")
    if arguments.get("dynamic") and not arguments.get("candidate_num"):
        raise UserError(
            f"{key}: got dynamic=True without candidate_num, the number of negatives that the hardest one is "
            "chosen from; add a number such as candidate_num=10"
        )


def check_like_default(source: str, key: str, value: Any, default: Any) -> None:
    """Check that the value of a RecBole key has the type of the key's default, where the default is plain.

    Raises:
        UserError: the value has another type.
    """
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


def metric_names(config: Any) -> frozenset[str]:
    """Return the names of the metrics of a result, such as ndcg@10.

    Metrics of labels, and GAUC, look at all candidates and have no cut-off.
    """
    names = [metric.lower() for metric in config["metrics"]]
    plain = {n for n in names if n == "gauc" or config["eval_type"] == EvaluatorType.VALUE}
    return frozenset(plain | {f"{n}@{k}" for n in names if n not in plain for k in config["topk"]})


def check_together(config: Any) -> None:
    """Check keys that depend on each other.

    Raises:
        UserError: the values of two keys contradict each other.
    """
    if str(config["valid_metric"]).lower() not in metric_names(config):
        raise UserError(
            f"valid_metric: got {config['valid_metric']!r}, expected one of metrics={config['metrics']} "
            f"at one of topk={config['topk']}, such as {config['metrics'][0]}@{config['topk'][0]}; GAUC and "
            "metrics of labels stand without a cut-off"
        )
    if "labeled" in config["eval_args"]["mode"].values() and config["eval_type"] == EvaluatorType.RANKING:
        raise UserError(
            f"eval_args mode: labeled has no candidates to rank, but the metrics are {config['metrics']}; "
            "set metrics of labels such as --metrics=\"['AUC', 'LogLoss']\" --valid_metric=AUC, or "
            "another mode"
        )
    _check_negatives(config["train_neg_sample_args"])
    negatives = config["train_neg_sample_args"]["distribution"]
    if config["MODEL_INPUT_TYPE"] == InputType.PAIRWISE and negatives == "none":
        raise UserError(
            f"train_neg_sample_args: got none, and {config['model']} compares clicks with negatives; leave "
            "the key out, or set it to a value such as {'distribution': 'uniform', 'sample_num': 1}"
        )
    sequential = config["MODEL_TYPE"] == ModelType.SEQUENTIAL
    if sequential and config["eval_args"]["order"] != "TO":
        raise UserError(
            f"eval_args order: got {config['eval_args']['order']}, expected TO: {config['model']} learns "
            "from sequences in time order"
        )
    if sequential and not config["repeatable"]:
        raise UserError(
            f"repeatable: got False, expected True: {config['model']} may recommend an item again"
        )
    _check_transform(config, sequential)
    bigger = config.external_config_dict.get("valid_metric_bigger")
    if bigger is not None and bigger != config["valid_metric_bigger"]:
        raise UserError(
            f"valid_metric_bigger: got {bigger}, but {config['valid_metric']} says it by itself "
            f"({config['valid_metric_bigger']}); leave the key out"
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
    if config["seed"] >= 2**32:
        raise UserError(f"seed: got {config['seed']}, expected at most 2^32 - 1 = {2**32 - 1}")
    if str(config["learner"]).lower() not in _LEARNERS:
        raise UserError(f"learner: got {config['learner']!r}, expected one of {', '.join(_LEARNERS)}")
    if config["precision"] == "double" and config["enable_amp"]:
        raise UserError("precision: got double with enable_amp=True, expected one of the two at most")
    _check_clipping(config["clip_grad_norm"])
    files = config["benchmark_filename"]
    if files is not None and (not isinstance(files, list) or len(files) not in (2, 3)):
        raise UserError(
            f"benchmark_filename: got {files!r}, expected three parts such as [train, valid, test], or the "
            "two parts [train, test]"
        )
    resume = config["resume_file"]
    if resume is not None and not os.path.isfile(resume):
        raise UserError(f"resume_file: '{resume}' is not there; give the path of a checkpoint (.pth)")
    if resume is not None and not spec_of(config["model"]).resumable:
        raise UserError(
            f"resume_file: got '{resume}', but a run of {config['model']} cannot be resumed, because a "
            "checkpoint does not hold all that its training needs; leave out resume_file and train again"
        )
    start = config["warm_start"]
    if start is not None and not os.path.exists(start):
        raise UserError(
            f"warm_start: '{start}' is not there; give the folder of a bundle or the .pth file of a run"
        )


def _check_clipping(clip: Any) -> None:
    """Check the arguments of torch's ``clip_grad_norm_``."""
    if clip is None:
        return
    if not isinstance(clip, dict):
        raise UserError(f"clip_grad_norm: got {clip!r}, expected a dict such as {{'max_norm': 5.0}}")
    values = {"max_norm": None, "norm_type": 2.0, "error_if_nonfinite": False, "foreach": None, **clip}
    if unknown := [key for key in values if key not in _CLIPPING]:
        raise UserError(
            f"clip_grad_norm: the key {unknown[0]!r} is unknown, expected {', '.join(_CLIPPING)}; leave it "
            "out or correct it"
        )
    for key, value in values.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0
        good = {
            "a number above 0": number or (key == "norm_type" and value == "inf"),
            "True or False": isinstance(value, bool) or (key == "foreach" and value is None),
        }
        if not good[_CLIPPING[key]]:
            raise UserError(
                f"clip_grad_norm: got {key}={value!r}, expected {_CLIPPING[key]}; set for example "
                "{'max_norm': 5.0}"
            )


def _check_transform(config: Any, sequential: bool) -> None:
    name = config["transform"]
    if name is None:
        return
    if name not in _TRANSFORMS:
        raise UserError(f"transform: got {name!r}, expected one of {', '.join(_TRANSFORMS)}, or null")
    if not sequential:
        raise UserError(
            f"transform: {name} changes item sequences, and {config['model']} does not use sequences; leave "
            "the key out"
        )
    missing = [key for key in _TRANSFORMS[name] if config[key] is None]
    if missing:
        example = " ".join(f"--{key}={_TRANSFORMS[name][key]}" for key in missing)
        raise UserError(f"transform: {name} needs {' and '.join(missing)}; set for example {example}")
