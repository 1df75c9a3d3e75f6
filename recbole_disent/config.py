"""Configuration: RecBole's, plus this package's models, properties, data sets and checks."""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path
from typing import Any

import yaml
from recbole.config import Config as RecBoleConfig
from recbole.utils import EvaluatorType, InputType, ModelType

from recbole_disent import compat, dataset_table, distributed, known_keys, registry, settings
from recbole_disent.errors import UserError, as_user_error, nearest

# RecBole keys that are refused, and why.
_PICKLES = "it stores Python pickles; leave it out: data are prepared in seconds"
_PLACES = "processes get their places from the launcher; say nproc"
_REFUSED = {
    **dict.fromkeys(
        ("save_dataset", "dataset_save_path", "save_dataloaders", "dataloaders_save_path"), _PICKLES
    ),
    **dict.fromkeys(("local_rank", "offset"), _PLACES),
}
_LEARNERS = ("adam", "adamw", "sgd", "adagrad", "rmsprop", "sparse_adam")
_MODE = re.compile(r"full|labeled|(?:uni|pop)[1-9][0-9]*")


class Config(RecBoleConfig):
    """RecBole's configuration with this package's defaults and checks.

    Priority: command line > ``config_dict`` > files (a later one wins) > data-set config >
    model properties > overall. All checks are done here, before any data are read.

    Args:
        model: name of a model, or a model class.
        dataset: name of a data set, the folder below ``data_path``, or an alias of one.
        config_file_list: YAML files.
        config_dict: keys and values.
        cmd_args: command-line words ``--key=value``. Unlike RecBole's, this class never
            looks at ``sys.argv`` by itself, so that it can be used from any program.

    Raises:
        UserError: unknown key, wrong value, unknown model or missing data set.
    """

    def __init__(
        self,
        model: Any = None,
        dataset: str | None = None,
        config_file_list: list[str] | None = None,
        config_dict: dict[str, Any] | None = None,
        cmd_args: list[str] | None = None,
    ) -> None:
        self._cmd_args = list(cmd_args or [])
        self._sources: dict[str, str] = {}
        with as_user_error("configuration"):
            super().__init__(model, dataset, config_file_list, dict(config_dict or {}))
        _check_fields(self)
        self.model_class = registry.model_class(self)

    # -- reading -----------------------------------------------------------------------

    def compatibility_settings(self) -> None:
        """Replace RecBole's, which fails on numpy 2."""
        compat.prepare()

    def _load_config_files(self, file_list: list[str] | None) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for file in file_list or []:
            try:
                found = settings.load_yaml(Path(file).read_text(encoding="utf-8"))
            except OSError as error:
                raise UserError(f"config file '{file}': {error.strerror}") from error
            except yaml.YAMLError as error:
                raise UserError(f"config file '{file}': no YAML: {' '.join(str(error).split())}") from error
            if not isinstance(found, dict):
                raise UserError(f"config file '{file}': expected lines 'key: value', got {found!r}")
            self._sources.update(dict.fromkeys(found, f"file '{file}'"))
            merged.update(found)
        return merged

    def _load_variable_config_dict(self, config_dict: dict[str, Any]) -> dict[str, Any]:
        self._sources.update(dict.fromkeys(config_dict, "config_dict"))
        return self._convert_config_dict(config_dict)

    def _load_cmd_line(self) -> dict[str, Any]:
        found = key_values(self._cmd_args)
        self._sources.update(dict.fromkeys(found, "command line"))
        return found

    def _convert_config_dict(self, config_dict: dict[str, Any]) -> dict[str, Any]:
        """Turn text into Python values. RecBole's ``eval`` is replaced by literals only."""
        for key, value in config_dict.items():
            if isinstance(value, str):
                config_dict[key] = literal(value)
        return config_dict

    # -- merging -----------------------------------------------------------------------

    def _merge_external_config_dict(self) -> None:
        super()._merge_external_config_dict()
        # A dictionary adds to those of lower priority; RecBole's would replace them whole.
        given = [self.file_config_dict, self.variable_config_dict, self.cmd_config_dict]
        parts = [d["eval_args"] for d in given if isinstance(d.get("eval_args"), dict)]
        if isinstance(self.external_config_dict.get("eval_args"), dict):
            merged = {key: value for part in parts for key, value in part.items()}
            self.external_config_dict["eval_args"] = merged

    def _get_model_and_dataset(self, model: Any, dataset: str | None) -> tuple[str, type, str]:
        given = self.external_config_dict
        model = model if model is not None else given.get("model")
        dataset = dataset if dataset is not None else given.get("dataset")
        for name, value in (("model", model), ("dataset", dataset)):
            if value is None:
                raise UserError(f"{name}: not given; say --{name}=NAME")
        model_class = registry.get_model(str(model)) if not isinstance(model, type) else model
        # The name that the user gave, which can be an alias.
        self.given_dataset = str(dataset)
        name = dataset_table.resolve(self.given_dataset, given.get("data_path"))
        return model_class.__name__, model_class, name

    def _load_internal_config_dict(self, model: str, model_class: type, dataset: str) -> None:
        super()._load_internal_config_dict(model, model_class, dataset)
        internal = self.internal_config_dict
        if internal["MODEL_TYPE"] == ModelType.SEQUENTIAL and internal.get("loss_type") == "CE":
            # RecBole's own default here is one sampled negative, which it then refuses.
            internal["train_neg_sample_args"] = None
        internal.update(settings.defaults(settings.overall()))
        internal.update(settings.defaults(settings.of_model(model)))
        file = settings.folder("dataset_configs") / f"{dataset}.yaml"
        if file.is_file():
            own = settings.load_yaml(file.read_text(encoding="utf-8"))
            own["eval_args"] = {**internal["eval_args"], **own.get("eval_args", {})}
            internal.update(own)

    def _get_final_config_dict(self) -> dict[str, Any]:
        self._check_external_keys()
        final = super()._get_final_config_dict()
        final["eval_args"] = _merged_eval_args(
            self.internal_config_dict["eval_args"],
            self.external_config_dict.get("eval_args"),
            final["eval_mode"],
        )
        _load_columns(final, self.external_config_dict)
        _fit_cut_offs(final, self.external_config_dict)
        if final["use_gpu"]:
            final["gpu_id"] = distributed.own_gpu(final["gpu_id"])
        given = self.external_config_dict
        bpr = "loss_type" in given and final["loss_type"] != "CE"
        if bpr and not final["train_neg_sample_args"] and "train_neg_sample_args" not in given:
            # SASRec with loss_type=BPR needs the sampled negative that CE must not have.
            final["train_neg_sample_args"] = {"distribution": "uniform", "sample_num": 1}
        return final

    def _check_external_keys(self) -> None:
        ours = {**settings.overall(), **settings.of_model(self.model)}
        internal = self.internal_config_dict
        known = {*internal, *known_keys.of_framework(), *known_keys.of_class(self.model_class)}
        known |= set(_REFUSED)
        if self.external_config_dict.get("transform", internal.get("transform")):
            known |= known_keys.of_transforms()
        for key, value in self.external_config_dict.items():
            source = self._sources.get(key, "configuration")
            if key not in known and key == "train_mode":
                both = ", ".join(("DisentS2S", *sorted(registry.TWO_WAYS)))
                raise UserError(
                    f"{source}: train_mode: {self.model} is trained in one way only; leave the key out "
                    f"(models with two ways: {both})"
                )
            if key not in known:
                raise UserError(
                    f"{source}: the key '{key}' is known neither to RecBole nor to {self.model}"
                    f"{nearest(key, known)}"
                )
            if key in _REFUSED and value:
                raise UserError(f"{source}: '{key}' is not supported: {_REFUSED[key]}")
            if key in ours:
                try:
                    self.external_config_dict[key] = ours[key].check(value)
                except UserError as error:
                    raise UserError(f"{source}: {error}") from None
            elif key in internal:
                _check_like_default(source, key, value, internal[key])

    def _set_default_parameters(self) -> None:
        super()._set_default_parameters()
        final = self.final_config_dict
        folder = self.external_config_dict.get("data_path")
        if folder and os.path.isdir(os.path.join(folder, self.dataset)):
            # RecBole takes its own copy of ml-100k, whatever the path.
            final["data_path"] = os.path.join(folder, self.dataset)
        final["data_path"] = os.path.normpath(final["data_path"])


# Columns that a default ``load_col`` names, and the keys that give them other names.
_COLUMNS = {
    "USER_ID_FIELD": "user_id", "ITEM_ID_FIELD": "item_id", "RATING_FIELD": "rating",
    "TIME_FIELD": "timestamp",
}  # fmt: skip
_LEAST = {
    "epochs": 1, "train_batch_size": 1, "MAX_ITEM_LIST_LENGTH": 1, "seed": 0, "weight_decay": 0,
    "stopping_step": 0, "worker": 0, "learning_rate": 0, "metric_decimal_place": 0,
}  # fmt: skip


def key_values(words: list[str]) -> dict[str, Any]:
    """Return the keys and values of command-line words ``--key=value``.

    Raises:
        UserError: another word, or a key with two values.
    """
    found: dict[str, str] = {}
    for word in words:
        key, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not equals or not key:
            raise UserError(f"command line: got '{word}', expected --key=value")
        if found.get(key, value) != value:
            raise UserError(f"command line: --{key} is given twice, as {found[key]} and {value}")
        found[key] = value
    return {key: literal(value) for key, value in found.items()}


def literal(text: str) -> Any:
    """Return the value that a text stands for: a literal, or the text itself."""
    lowered = text.strip().lower()
    if lowered in ("true", "false"):
        return lowered == "true"
    if text in ("None", "null", "~"):
        return None
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def _check_like_default(source: str, key: str, value: Any, default: Any) -> None:
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


def _merged_eval_args(default: dict[str, Any], given: Any, mode: str | None) -> dict[str, Any]:
    """Fill a partial ``eval_args`` from the protocol, not from RecBole's random split."""
    if given is not None and not isinstance(given, dict):
        raise UserError(f"eval_args: got {given!r}, expected a dict such as {default!r}")
    merged = {**default, **(given or {})}
    for key in merged:
        if key not in ("split", "order", "group_by", "mode"):
            raise UserError(f"eval_args: the key '{key}' is unknown; expected split, order, group_by, mode")
    if mode is not None:
        merged["mode"] = mode
    modes = merged["mode"].values() if isinstance(merged["mode"], dict) else [merged["mode"]]
    for value in modes:
        if not isinstance(value, str) or not _MODE.fullmatch(value):
            raise UserError(f"eval_args mode: got {value!r}, expected full, uniN, popN or labeled (N >= 1)")
    split = merged["split"]
    for kind in ("RS", "TS"):
        if isinstance(split, dict) and kind in split and len(split[kind]) != 3:
            raise UserError(f"eval_args split: got {split!r}, expected three ratios such as [0.8, 0.1, 0.1]")
    return merged


def _fit_cut_offs(final: dict[str, Any], given: dict[str, Any]) -> None:
    """Fit the default cut-offs to the protocol, and the default criterion to the cut-offs.

    Among k candidates a cut-off of k + 1 is added: MRR there is the one over all of them.
    """
    mode = final["eval_args"]["mode"]
    modes = mode.values() if isinstance(mode, dict) else [mode]
    sampled = [int(m[3:]) for m in map(str, modes) if m[:3] in ("uni", "pop") and m[3:].isdigit()]
    if sampled and "topk" not in given:
        limit = min(sampled) + 1
        final["topk"] = [k for k in final["topk"] if k < limit] + [limit]
    if "valid_metric" not in given and "@" in final["valid_metric"]:
        metrics = [final["metrics"]] if isinstance(final["metrics"], str) else final["metrics"]
        cuts = [final["topk"]] if isinstance(final["topk"], int) else final["topk"]
        if not cuts or not all(isinstance(k, int) for k in cuts):
            raise UserError(f"topk: got {final['topk']!r}, expected a list of integers such as [5, 10]")
        name, _, cut = final["valid_metric"].partition("@")
        name = name if name.lower() in map(str.lower, metrics) else metrics[0]
        if int(cut) not in cuts:
            cut = max([k for k in cuts if k <= 10], default=min(cuts))
        final["valid_metric"] = f"{name}@{cut}"


def _load_columns(final: dict[str, Any], given: dict[str, Any]) -> None:
    """Fit ``load_col`` to the names of the columns, and to a split in time order, which needs the time."""
    load, time = final["load_col"], final["TIME_FIELD"]
    if "load_col" not in given and load:
        names = {default: final[key] for key, default in _COLUMNS.items()}
        load = {part: [names.get(f, f) for f in fields] for part, fields in load.items()}
        final["load_col"] = load
    if final["eval_args"]["order"] == "TO" and not final["benchmark_filename"] and load:
        fields = load.get("inter")
        if fields and time not in fields:
            final["load_col"] = {**load, "inter": [*fields, time]}


def _check_fields(config: Config) -> None:
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
