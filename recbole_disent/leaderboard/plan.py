"""Plans: models x data sets x protocols x values of one key x seeds, checked before the first run."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from recbole_disent import registry
from recbole_disent.config import key_rules, search_space
from recbole_disent.config.dataset_table import resolve
from recbole_disent.config.literals import plain_value
from recbole_disent.config.measures import check_space
from recbole_disent.config.protocol import merged_parts
from recbole_disent.config.space_checks import without_effect
from recbole_disent.errors import UserError, nearest, shortened
from recbole_disent.leaderboard.identity import resolved
from recbole_disent.leaderboard.plan_keys import (
    check_alike,
    check_keys,
    check_parts,
    check_sweep,
    keys_of_protocol,
)
from recbole_disent.leaderboard.statistics import require_metrics


@dataclass(frozen=True)
class Entry:
    """A model or a variant of a model in a plan.

    Attributes:
        label: name in the tables.
        model: name of the model.
        config: configuration keys of the model.
        trials: number of configurations that are tried on the validation part; 1 means no search.
        space: file of the search space, or name of a model whose search space the package contains.
    """

    label: str
    model: str
    config: dict[str, Any]
    trials: int
    space: str


@dataclass(frozen=True)
class RowKey:
    """The coordinates of a row of a table; the runs of a row differ in their seeds only.

    Attributes:
        sweep: value of the swept key; None without a sweep.
    """

    label: str
    dataset: str
    protocol: str
    sweep: Any = None


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
        cell: coordinates of the row that the result belongs to.
        model, seed: name of the model, and seed of the run.
        given: configuration keys of the run.
        trial: number of the trial of a search; None for a run that is reported.
        drawn: keys of a trial whose values were drawn from the search space.
        epochs: largest number of epochs.
        id: digest of everything that determines the result but the files; the name of the run's folder.
        data_path: absolute path of the folder that holds the folder of the data set.
        files: the files that the run reads; see :func:`~recbole_disent.leaderboard.inputs.files_of`.
        measured: what the run measures; see :func:`~recbole_disent.config.measures.measured`.
        idle: key -> sentence, for each key that has no effect because of another key.
    """

    cell: RowKey
    model: str
    seed: int
    given: dict[str, Any]
    trial: int | None = None
    drawn: dict[str, Any] = field(default_factory=dict)
    epochs: int = 1
    id: str = ""
    data_path: str = ""
    files: dict[str, str] = field(default_factory=dict)
    measured: dict[str, str] = field(default_factory=dict)
    idle: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the run in messages."""
        value = "" if self.cell.sweep is None else f" at {self.cell.sweep}"
        trial = "" if self.trial is None else f", trial {self.trial}"
        return f"{self.cell.label}{value}, {self.cell.dataset}, {self.cell.protocol}, seed {self.seed}{trial}"


@dataclass(frozen=True)
class Plan:
    """A checked plan; ``options`` holds every key of ``properties/leaderboard.yaml``."""

    options: dict[str, Any]
    entries: tuple[Entry, ...]
    datasets: dict[str, dict[str, Any]]
    protocols: dict[str, dict[str, Any]]

    @property
    def sweep(self) -> tuple[str | None, list[Any]]:
        """The swept key and its values; (None, [None]) without a sweep."""
        for key, values in (self.options["sweep"] or {}).items():
            return key, values
        return None, [None]

    def runs(self, chosen: dict[tuple[str, str, str], dict[str, Any]] | None = None) -> list[Run]:
        """Return the runs that are reported; the first seed of every model comes before the second seeds.

        Args:
            chosen: (label, data set, protocol) -> keys that the search found.

        Raises:
            UserError: a key of a run is wrong, or the results of a table could not be compared.
        """
        key, values = self.sweep
        found = []
        for dataset, protocol, seed, value, entry in (
            (d, p, s, v, e)
            for d in self.datasets
            for p in self.protocols
            for s in self.options["seeds"]
            for v in values
            for e in self.entries
        ):
            best = (chosen or {}).get((entry.label, dataset, protocol), {})
            given = {**self._given(entry, dataset, protocol), **best}
            if key is not None:
                given[key] = value
            found.append(self._run(entry, RowKey(entry.label, dataset, protocol, value), seed, given))
        for dataset, protocol in product(self.datasets, self.protocols):
            check_alike([(run.name, run.measured) for run in found
                         if (run.cell.dataset, run.cell.protocol) == (dataset, protocol)])  # fmt: skip
        return found

    def trials(self) -> list[Run]:
        """Return the runs of all searches: the given configuration, then distinct random configurations.

        With a sweep, trials use the first value of the swept key.
        """
        key, values = self.sweep
        found: list[Run] = []
        for dataset, protocol, entry in product(self.datasets, self.protocols, self.entries):
            if entry.trials == 1:
                continue
            base = self._given(entry, dataset, protocol)
            if key is not None:
                base[key] = values[0]
            if self.options["search_epochs"] is not None:
                base["epochs"] = self.options["search_epochs"]
            base["refit"] = False  # a trial has no test
            if base.get("eval_step") == 0:
                raise UserError(
                    f"plan, {entry.label} on {dataset}, {protocol}: got eval_step: 0 with {entry.trials} "
                    "trials, expected at least 1, because a search compares validation scores"
                )
            cell = RowKey(entry.label, dataset, protocol, values[0])
            tried: dict[str, Run] = {}
            for drawn in self._draws(entry, dataset, protocol):
                run = self._run(entry, cell, self.options["search_seed"], {**base, **drawn}, len(tried))
                if drawn.keys() & run.idle.keys():  # trials that differ only in such keys are the same run
                    drawn = {k: v for k, v in drawn.items() if k not in run.idle}
                    run = self._run(entry, cell, run.seed, {**base, **drawn}, len(tried))
                # A draw can equal the given configuration, when the drawn values are the defaults.
                tried.setdefault(run.id, replace(run, drawn=drawn))
                if len(tried) == entry.trials:
                    break
            found += tried.values()
        return found

    def _draws(self, entry: Entry, dataset: str, protocol: str) -> Iterator[dict[str, Any]]:
        """Yield the keys of the given configuration (none), then random draws, which can repeat.

        A larger number of trials only adds draws at the end.
        """
        space = self.space(entry, dataset, protocol)
        rng = np.random.default_rng(np.random.SeedSequence(self.options["search_seed"]))
        yield {}
        for _ in range(100 * entry.trials):
            yield search_space.sample(space, rng)

    def space(self, entry: Entry, dataset: str, protocol: str) -> dict[str, search_space.Distribution]:
        """Return the search space of the model without the keys that the plan sets."""
        given = {*self._given(entry, dataset, protocol), self.sweep[0]}
        return {k: v for k, v in search_space.read_space(entry.space).items() if k not in given}

    def _given(self, entry: Entry, dataset: str, protocol: str) -> dict[str, Any]:
        parts = (self.options["config"], self.datasets[dataset], self.protocols[protocol], entry.config)
        given = {key: value for part in parts for key, value in part.items()}
        if isinstance(given.get("eval_args"), dict):
            given["eval_args"] = merged_parts(part.get("eval_args") for part in parts)
        if "filter_history" not in given and _ranks_all(given):
            given["filter_history"] = _ONE_RULE
        return given

    def _run(
        self, entry: Entry, cell: RowKey, seed: int, given: dict[str, Any], trial: int | None = None
    ) -> Run:
        if self.options["data_path"] is not None:
            given = {"data_path": self.options["data_path"], **given}
        try:
            text = json.dumps(given, sort_keys=True, default=str)
        except TypeError as error:  # names of several types cannot be sorted
            raise UserError(
                f"plan, {entry.label} on {cell.dataset}, {cell.protocol}: the value of a key has names that "
                "are not all text; put the names in quotes"
            ) from error
        try:
            found = resolved(entry.model, cell.dataset, text, os.getcwd())
            check_parts(found.final, trial is not None)
            wanted = self.options["metrics"] or []
            require_metrics(wanted, found.metrics, "the results will not have", "they will have")
            if self.sweep[0] in found.without_effect:
                raise UserError(f"sweep: {found.without_effect[self.sweep[0]]}")
            if trial == 0:
                space = self.space(entry, cell.dataset, cell.protocol)
                without_effect(entry.space, entry.model, space, found.final, self.sweep[0])
        except UserError as error:
            raise UserError(f"plan, {entry.label} on {cell.dataset}, {cell.protocol}: {error}") from error
        # A trial has no test result, so its id differs from the id of a reported run with the same keys.
        kind = "" if trial is None else " trial"
        run_id = hashlib.sha256(f"{found.digest} {seed}{kind}".encode()).hexdigest()[:16]
        return Run(
            cell,
            entry.model,
            seed,
            given,
            trial,
            epochs=found.epochs,
            id=run_id,
            data_path=found.data_path,
            files=found.files,
            measured=found.measured,
            idle=found.without_effect,
        )


def read_plan(path: str) -> dict[str, Any]:
    """Read a plan file.

    Raises:
        UserError: the file does not exist or is not YAML with lines ``key: value``.
    """
    try:
        found = key_rules.load_yaml(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"plan '{path}': {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"plan '{path}': expected YAML: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict):
        raise UserError(f"plan '{path}': expected lines 'key: value', got {shortened(found)}")
    return found


def make_plan(given: dict[str, Any]) -> Plan:
    """Check the keys of a plan, and add the defaults.

    Args:
        given: keys of ``properties/leaderboard.yaml``.

    Raises:
        UserError: a key is unknown, or a value is wrong.
    """
    given = plain_value(given, "plan")
    rules = key_rules.of_plan()
    options = key_rules.defaults(rules)
    for key, value in given.items():
        if key not in rules:
            raise UserError(f"plan: the key '{key}' is unknown{nearest(key, set(rules))}")
        try:
            options[key] = rules[key].check(value)
        except UserError as error:
            raise UserError(f"plan: {error}") from None
    options["config"] = {**rules["config"].default, **options["config"]}
    check_keys("config", options["config"])
    for key in ("models", "datasets", "seeds", "protocols"):
        if not options[key]:
            raise UserError(f"plan: {key}: got an empty value; give at least one, such as {_EXAMPLES[key]}")
    seeds = options["seeds"]
    if not all(isinstance(s, int) and not isinstance(s, bool) and s >= 0 for s in seeds):
        raise UserError(f"plan: seeds: got {seeds!r}, expected whole numbers >= 0 such as [1, 2, 3]")
    options["seeds"] = list(dict.fromkeys(seeds))
    entries = tuple(_entry(value, options) for value in options["models"])
    labels = [entry.label for entry in entries]
    for label in labels:
        if labels.count(label) > 1:
            raise UserError(
                f"plan: models: two models have the label '{label}'; give each model its own label"
            )
    if options["reference"] not in (None, *labels):
        raise UserError(f"plan: reference: got '{options['reference']}', expected one of {', '.join(labels)}")
    datasets = _named("datasets", options["datasets"], lambda name: {})
    # Result files hold the name of the data set, not its alias.
    known = [{resolve(n, d.get("data_path", options["data_path"])): d} for n, d in datasets.items()]
    datasets = _named("datasets", known, None)
    protocols = _named("protocols", options["protocols"], keys_of_protocol)
    places = {
        "config": options["config"],
        **{f"models, {entry.label}, config": entry.config for entry in entries},
        **{f"datasets, {name}": keys for name, keys in datasets.items()},
        **{f"protocols, {name}": keys for name, keys in protocols.items()},
    }
    check_sweep(options["sweep"], places)
    return Plan(options, entries, datasets, protocols)


_EXAMPLES = {"models": "[FIRST_MODEL, SECOND_MODEL]", "datasets": "[ml-100k]", "seeds": "[1, 2]",
             "protocols": "[full]"}  # fmt: skip


# RecBole filters the history for general models only, but a comparison needs one rule for all models.
_ONE_RULE = True


def _ranks_all(given: dict[str, Any]) -> bool:
    """Whether a run with these keys ranks all items."""
    default = key_rules.overall()["eval_args"].default
    own = given["eval_args"] if isinstance(given.get("eval_args"), dict) else {}
    mode = given.get("eval_mode") or {**default, **own}["mode"]
    return "full" in (mode.values() if isinstance(mode, dict) else [mode])


def _named(key: str, value: Any, make: Any) -> dict[str, dict[str, Any]]:
    """Return name -> keys, from a dictionary or from a list of names and dictionaries."""
    parts = value if isinstance(value, list) else [value]
    pairs = [pair for part in parts for pair in (part.items() if isinstance(part, dict) else [(part, None)])]
    result: dict[str, dict[str, Any]] = {}
    for name, keys in pairs:
        keys = make(name) if keys is None else keys
        if not isinstance(name, str) or not isinstance(keys, dict):
            raise UserError(f"plan: {key}: got {name!r}: {keys!r}, expected name: {{key: value, ...}}")
        if result.get(name, keys) != keys:
            raise UserError(f"plan: {key}: '{name}' appears twice, with {result[name]!r} and {keys!r}")
        check_keys(f"{key}, {name}", keys, mode=key == "protocols")
        result[name] = keys
    return result


_ENTRY_KEYS = {"name", "label", "config", "trials", "space"}


def _entry(value: Any, options: dict[str, Any]) -> Entry:
    given = {"name": value} if isinstance(value, str) else value
    if not isinstance(given, dict) or not isinstance(given.get("name"), str):
        raise UserError(f"plan: models: got {value!r}, expected a name or a dictionary with name, label, ...")
    for key in given:
        if key not in _ENTRY_KEYS:
            raise UserError(
                f"plan: models, {given['name']}: the key '{key}' is unknown"
                f"{nearest(str(key), _ENTRY_KEYS)}; expected {', '.join(sorted(_ENTRY_KEYS))}"
            )
    config = given.get("config") or {}
    if not isinstance(config, dict):
        raise UserError(f"plan: models, {given['name']}, config: got {config!r}, expected a dictionary")
    check_keys(f"models, {given['name']}, config", config)
    if file := config.get("model_file", options["config"].get("model_file")):
        registry.load_model_file(str(file))
    registry.require_model(given["name"])
    trials = given.get("trials", options["trials"])
    key_rules.of_plan()["trials"].check(trials)
    space = given.get("space") or given["name"]
    if not isinstance(space, str):
        raise UserError(
            f"plan: models, {given['name']}, space: got {space!r}, expected the path of a file or the name "
            "of a model"
        )
    if trials > 1 and "space" not in given and given["name"] not in search_space.shipped():
        if "trials" in given:
            raise UserError(
                f"plan: models, {given['name']}: got trials: {trials}, but the package has no search space "
                "for this model; name the file of a search space with space, or set trials: 1"
            )
        trials = 1  # the model has nothing to search, such as Pop
    if trials > 1:
        found = search_space.read_space(space)
        check_keys(f"space {space}", found)
        check_space(found)
    return Entry(str(given.get("label") or given["name"]), given["name"], config, trials, space)
