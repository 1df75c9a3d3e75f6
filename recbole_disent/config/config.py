"""The configuration of a run: RecBole's, extended by this package's models, keys, data sets and checks."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from logging import getLogger
from pathlib import Path
from typing import Any

import yaml
from recbole.config import Config as RecBoleConfig
from recbole.utils import InputType, ModelType

import recbole_disent.recbole  # noqa: F401  (patches numpy for RecBole)
from recbole_disent import registry
from recbole_disent.config import dataset_table, key_rules, presets, recbole_keys, table_dataset
from recbole_disent.config.checks import (
    check_dataset_name,
    check_folders,
    check_given,
    check_like_default,
    check_metrics,
    check_together,
    notes_of_split_files,
)
from recbole_disent.config.fitting import fit_cut_offs, fit_load_columns
from recbole_disent.config.literals import key_values, literal
from recbole_disent.config.protocol import merged_eval_args, merged_parts
from recbole_disent.errors import UserError, nearest, shortened, wrap_errors
from recbole_disent.evaluation.metrics import register_metrics
from recbole_disent.parallel import process_group
from recbole_disent.recbole import patches


def _contradiction(key: str, value: Any, argument: str) -> UserError:
    return UserError(
        f"config_dict: {key}: got {value!r}, but the argument is {argument}; give only one of the two"
    )


class Config(RecBoleConfig):
    """RecBole's configuration with this package's defaults and checks.

    The priority of the sources is: command line > ``config_dict`` > files (a later file overrides an
    earlier one) > presets > configuration of the data set > properties of the model > overall properties.
    The class checks all keys before any data are read.

    Args:
        model: name of a model, or a model class.
        dataset: name of a data set, which is a folder below ``data_path``, or an alias of the name.
        config_file_list: paths of YAML files.
        config_dict: configuration keys and their values.
        cmd_args: command-line words ``--key=value``. Unlike RecBole's class, this class does not read
            ``sys.argv``, so that any program can use it.
        data, items: tables of events and of items, in memory or as paths, in place of the keys of the same
            names.

    An argument overrides a key of a file. The command line overrides an argument.

    Raises:
        UserError: a key is unknown, a value is wrong, the model or the data set is unknown, or an argument
            contradicts ``config_dict``.
    """

    final_config_dict: dict[str, Any]
    # Options of the command that are no keys of a run, but that a misspelt key may stand for.
    options: Collection[str] = ()

    def __init__(
        self,
        model: Any = None,
        dataset: str | None = None,
        config_file_list: list[str] | None = None,
        config_dict: dict[str, Any] | None = None,
        cmd_args: list[str] | None = None,
        data: Any = None,
        items: Any = None,
    ) -> None:
        register_metrics()
        self._tables = {"data": data, "items": items}
        self._cmd_args = list(cmd_args or [])
        self._sources: dict[str, str] = {}
        # Sentences for the log of the run. The log does not exist yet when the configuration is made.
        self.notes: list[str] = []
        with wrap_errors("configuration"):
            super().__init__(model, dataset, config_file_list, dict(config_dict or {}))
        check_together(self)
        self.model_class = registry.model_class(self)

    # -- reading -----------------------------------------------------------------------

    def compatibility_settings(self) -> None:
        """Apply this package's patches in place of RecBole's settings, which fail on numpy 2."""
        patches.apply()

    def _load_config_files(self, file_list: list[str] | None) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for file in file_list or []:
            try:
                found = key_rules.load_yaml(Path(file).read_text(encoding="utf-8-sig"))
            except OSError as error:
                raise UserError(f"config file '{file}': {error.strerror}") from error
            except UnicodeError as error:
                raise UserError(f"config file '{file}': it is no UTF-8 text; save it as UTF-8") from error
            except yaml.YAMLError as error:
                raise UserError(
                    f"config file '{file}': the file is not valid YAML: {' '.join(str(error).split())}"
                ) from error
            if not isinstance(found, dict):
                raise UserError(f"config file '{file}': got {shortened(found)}, expected lines 'key: value'")
            self._sources.update(dict.fromkeys(found, f"file '{file}'"))
            if isinstance(found.get("eval_args"), dict):
                found["eval_args"] = merged_parts([merged.get("eval_args"), found["eval_args"]])
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
        """Turn texts into Python values. Unlike RecBole, which calls ``eval``, this accepts literals only."""
        for key, value in config_dict.items():
            if isinstance(value, str):
                config_dict[key] = literal(value)
        return config_dict

    # -- merging -----------------------------------------------------------------------

    def _merge_external_config_dict(self) -> None:
        super()._merge_external_config_dict()
        # eval_args of a higher priority are merged into those of a lower one; RecBole replaces them whole.
        if isinstance(self.external_config_dict.get("eval_args"), dict):
            given = (self.file_config_dict, self.variable_config_dict, self.cmd_config_dict)
            self.external_config_dict["eval_args"] = merged_parts(d.get("eval_args") for d in given)

    def _get_model_and_dataset(self, model: Any, dataset: str | None) -> tuple[str, type, str]:
        given = self.external_config_dict
        check_folders(given)
        self.given_model = model = self._choose("model", model)
        dataset = self._take_tables(self._choose("dataset", dataset))
        if file := given.get("model_file"):
            spec = registry.load_model_file(str(file))
            model = spec.name if model is None else model
        for name, value in (("model", model), ("dataset", dataset)):
            if value is None:
                raise UserError(f"{name}: not given; set --{name}=NAME")
        model_class = registry.get_model(str(model)) if not isinstance(model, type) else model
        check_dataset_name(str(dataset))
        # The user may have given an alias.
        self.given_dataset = str(dataset)
        name = dataset_table.resolve(self.given_dataset, given.get("data_path"))
        self._check_arguments(model_class, name)
        return model_class.__name__, model_class, name

    def _choose(self, key: str, argument: Any) -> Any:
        """Return the value of a key that is also an argument; only the command line overrides an argument."""
        first = self.cmd_config_dict.get(key)
        first = argument if first is None else first
        return self.external_config_dict.get(key) if first is None else first

    def _take_tables(self, dataset: Any) -> Any:
        """Return the name of the data set, which a table may become now."""
        given = self.external_config_dict
        for key, argument in self._tables.items():
            if argument is None:
                continue
            argument = str(argument) if isinstance(argument, os.PathLike) else argument
            other = self.variable_config_dict.get(key)
            if other is not None and table_dataset.shown(other) != table_dataset.shown(argument):
                raise _contradiction(key, other, table_dataset.shown(argument))
            given[key] = self._choose(key, argument)
        encoding = str(given.get("encoding")).lower()
        own = self._sources.get("encoding") == "config_dict"  # which may be the same for all tables
        if encoding not in ("utf-8", "none") and not own and table_dataset.decoded(given):
            raise UserError(
                f"encoding: got {given['encoding']!r} with a table in memory, whose texts are decoded "
                "already; leave the key out"
            )
        return table_dataset.take_table(dataset, given, self.notes)

    def _check_arguments(self, model_class: type, dataset: str) -> None:
        """Refuse another model or data set in ``config_dict``, which nothing would use."""
        own = {k: v for k, v in self.variable_config_dict.items() if k not in self.cmd_config_dict}
        if (other := own.get("model")) is not None:
            found = other if isinstance(other, type) else registry.get_model(str(other))
            if found.__name__ != model_class.__name__:
                raise _contradiction("model", other, repr(model_class.__name__))
        other, path = own.get("dataset"), self.external_config_dict.get("data_path")
        if other is not None and dataset_table.resolve(str(other), path) != dataset:
            raise _contradiction("dataset", other, repr(self.given_dataset))

    def _load_internal_config_dict(self, model: str, model_class: type, dataset: str) -> None:
        super()._load_internal_config_dict(model, model_class, dataset)
        internal = self.internal_config_dict
        # SINE has this loss and its own sampled negatives.
        pairwise = getattr(model_class, "input_type", None) == InputType.PAIRWISE
        sequential = internal["MODEL_TYPE"] == ModelType.SEQUENTIAL
        if sequential and internal.get("loss_type") == "CE" and not pairwise:
            # RecBole's default is one sampled negative, which RecBole then refuses for this loss.
            internal["train_neg_sample_args"] = None
        internal.update(key_rules.defaults(key_rules.of_run(model)))
        file = key_rules.folder("dataset_configs") / f"{dataset}.yaml"
        if file.is_file():
            own = key_rules.load_yaml(file.read_text(encoding="utf-8"))
            own["eval_args"] = {**internal["eval_args"], **own.get("eval_args", {})}
            internal.update(own)
        for name in presets.names_in(self.external_config_dict.get("preset", internal["preset"])):
            internal.update(presets.read(name, model))

    def _get_final_config_dict(self) -> dict[str, Any]:
        self._check_external_keys()
        check_given(self.external_config_dict, self.model_class)
        self.notes += notes_of_split_files(self.external_config_dict)
        final = super()._get_final_config_dict()
        final["eval_args"] = merged_eval_args(
            self.internal_config_dict["eval_args"],
            self.external_config_dict.get("eval_args"),
            final["eval_mode"],
        )
        fit_load_columns(final, self.external_config_dict)
        check_metrics(final["metrics"], final["eval_args"]["mode"])
        fit_cut_offs(final, self.external_config_dict)
        # RecBole 1.2.1 reads only gpu_id; the empty text means the CPU.
        final["gpu_id"] = process_group.own_gpu(final["gpu_id"]) if final["use_gpu"] else ""
        given = self.external_config_dict
        bpr = "loss_type" in given and final["loss_type"] != "CE"
        if bpr and not final["train_neg_sample_args"] and "train_neg_sample_args" not in given:
            # SASRec needs a sampled negative with loss_type=BPR, and must not have one with CE.
            final["train_neg_sample_args"] = {"distribution": "uniform", "sample_num": 1}
        self.without_effect = key_rules.without_effect(self.model, given, final)
        self.notes += self.without_effect.values()
        return final

    def _check_external_keys(self) -> None:
        given = self.external_config_dict
        self.require_known({key: self._sources.get(key, "configuration") for key in given})
        ours, internal = key_rules.of_run(self.model), self.internal_config_dict
        for key, value in given.items():
            source = self._sources.get(key, "configuration")
            refused = key_rules.recbole_keys().get(key)
            without_effect = value in (None, False) or value == internal.get(key)
            if refused and refused["status"] == "refused" and not without_effect:
                raise UserError(f"{source}: '{key}' is not supported: {refused['note']}")
            if key in ours:
                try:
                    self.external_config_dict[key] = ours[key].check(value)
                except UserError as error:
                    raise UserError(f"{source}: {error}") from None
            elif key in internal:
                check_like_default(source, key, value, internal[key])

    def require_known(self, places: Mapping[str, str]) -> None:
        """Check that keys are known to RecBole, to this package or to the model.

        Args:
            places: key -> the place that names it, for messages.

        Raises:
            UserError: a key is unknown.
        """
        given, internal = self.external_config_dict, self.internal_config_dict
        known = {*internal, *recbole_keys.of_framework(), *recbole_keys.of_class(self.model_class)}
        known |= {*key_rules.recbole_keys()}
        transformed = given.get("transform", internal.get("transform"))
        if transformed or "transform" in places.keys() - given.keys():  # a search space may have the key
            known |= recbole_keys.of_transforms()
        for key, place in places.items():
            if key in known:
                continue
            if key == "train_mode":
                both = ", ".join(sorted(n for n, s in registry.model_names().items() if len(s.modes) > 1))
                raise UserError(
                    f"{place}: train_mode: {self.model} has only one training mode; leave the key out "
                    f"(models with two training modes: {both})"
                )
            if key in self.options:
                raise UserError(
                    f"{place}: '{key}' is no key of a run, but an option of the search; give it as "
                    f"--{key}=VALUE, or as an argument of the function"
                )
            raise UserError(
                f"{place}: the key '{key}' is known neither to RecBole nor to {self.model}"
                f"{nearest(key, {*known, *self.options})}"
            )

    def choose_preset(self, train: Any) -> None:
        """Apply the preset that the model chooses for the data if ``preset`` is ``auto``.

        Keys that the user or a named preset sets keep their values. The preset is left out, with a warning,
        if its keys contradict them.

        Args:
            train: training part of the data set.
        """
        path = registry.spec_of(self["model"]).choose_preset
        if path is None or not presets.is_auto(self["preset"]):
            return
        name, reason = registry.resolve(path)(train)
        named = {k for other in presets.names_in(self["preset"]) for k in presets.read(other, self.model)}
        taken = {
            key: value
            for key, value in presets.read(name, self.model).items()
            if key not in self.external_config_dict and key not in named
        }
        if not taken:  # all its keys are given, as in the configuration of a saved model
            return
        before = dict(self.final_config_dict)
        self.final_config_dict.update(taken)
        try:
            check_together(self)
            registry.check_keys(self)
        except UserError as error:
            self.final_config_dict = before
            getLogger().warning(f"preset: {name} is not used, because its keys do not fit yours ({error})")
            return
        getLogger().info(f"preset: {name}, because {reason}; it sets {taken}")

    def _set_default_parameters(self) -> None:
        super()._set_default_parameters()
        final = self.final_config_dict
        folder = self.external_config_dict.get("data_path")
        if folder and os.path.isdir(os.path.join(folder, self.dataset)):
            # RecBole uses its own copy of ml-100k and ignores the path.
            final["data_path"] = os.path.join(folder, self.dataset)
        final["data_path"] = os.path.normpath(final["data_path"])
