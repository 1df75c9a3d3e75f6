"""The command ``tune``, which runs a search and writes a table, a plot and the best configuration."""

from __future__ import annotations

import os
from logging import getLogger
from pathlib import Path
from typing import Any

from recbole_disent.config import key_rules, table_dataset
from recbole_disent.config.config import Config
from recbole_disent.config.literals import plain_value
from recbole_disent.config.measures import check_space
from recbole_disent.config.search_space import Distribution, read_space
from recbole_disent.config.space_checks import without_effect
from recbole_disent.data.loading import require_data
from recbole_disent.errors import UserError, nearest
from recbole_disent.files import locked
from recbole_disent.tuning import plot, proposals, ray_trials
from recbole_disent.tuning.study import Study
from recbole_disent.tuning.trials import one_by_one

# Keys that the search sets for each trial, besides the keys with the mark "own".
_SET = ("model", "dataset", "data", "seed", "checkpoint_dir", "prepared_dir", "show_progress")


class _Base(Config):
    """The configuration that all trials share."""

    options = frozenset(key_rules.of_tuning())


def options_of(given: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a search: the given ones, and the defaults of ``properties/tune.yaml``.

    Raises:
        UserError: an option is unknown, or a value is wrong.
    """
    known = key_rules.of_tuning()
    for key in given:
        if key not in known:
            raise UserError(f"tune: the option '{key}' is not known{nearest(key, set(known))}")
    return {key: s.check(given[key]) if key in given else s.default for key, s in known.items()}


def tune(
    model: str | None = None,
    dataset: str | None = None,
    config_file_list: list[str] | None = None,
    config_dict: dict[str, Any] | None = None,
    cmd_args: list[str] | None = None,
    **given: Any,
) -> Study:
    """Search for the best values of some configuration keys.

    The validation score decides. Test results are stored, but the search does not use them. The same
    call continues a stopped search; it neither loses nor repeats a finished trial.

    Args:
        model: name of a model.
        dataset: name of a data set.
        config_file_list: YAML files with configuration keys of all trials.
        config_dict: configuration keys of all trials. ``seed`` is the seed of the search and of each trial.
        cmd_args: arguments ``--key=value`` of a command line, which replace all other keys.
        given: options of the search, such as ``max_evals`` and ``tool``; ``properties/tune.yaml`` lists them.

    Returns:
        The finished study; its folder holds ``best.yaml`` and the table.

    Raises:
        UserError: a key or a file is wrong, another command uses the folder, or no trial succeeded.
    """
    options = options_of(given)
    base = _Base(model, dataset, config_file_list, config_dict, cmd_args)
    model, dataset, seed = base["model"], base["dataset"], base["seed"]
    require_data(base)
    given_keys = dict(base.external_config_dict)
    table_dataset.stored_table(dataset, given_keys)  # a trial reads the data set that the table has become
    given_keys = plain_value(given_keys, "configuration")
    _check_own_keys(model, given_keys)
    if not base["eval_step"]:
        raise UserError("eval_step: got 0, expected at least 1, because a search compares validation scores")
    space = _space(options["params_file"] or model, base, given_keys)
    algo = options["algo"] or proposals.default_algorithm(options["tool"])
    proposer = proposals.make(space, options["tool"], algo, seed)
    folder = options["output"] or os.path.join("tuning", f"{model}-{dataset}")
    about = {"tool": options["tool"], "algo": algo, "seed": seed}
    busy = f"another search uses '{folder}'; wait until it ends, or give another --output"
    with locked(Path(folder) / ".lock", "output", busy):
        study = Study(folder, model, dataset, given_keys, space, about)
        if options["tool"] == "ray":
            ray_trials.search(study, proposer, options, base)
        else:
            one_by_one(study, proposer, options["max_evals"], base["show_progress"])
        study.report()
        plot.plot(study)
    best = study.best
    getLogger().info(
        f"best of {len(study.trials)} trials: {best['values']}, valid score {best['score']:.4f}; "
        f"to use it: recbole-disent run --config_files={os.path.join(study.folder, 'best.yaml')}"
    )
    return study


def _space(path_or_model: str, base: Config, given: dict[str, Any]) -> dict[str, Distribution]:
    """Return the keys to search for and their distributions, or refuse what would fail in each trial."""
    space = read_space(path_or_model)
    base.require_known({key: found.where for key, found in space.items()})
    space = {key: found for key, found in space.items() if key not in given}
    if not space:
        raise UserError(
            "tune: every key of the search space is given; leave out at least one to search for it"
        )
    check_space(space, (*key_rules.flagged(base["model"], "own"), *_SET))
    idle = without_effect(path_or_model, base["model"], space, base.final_config_dict)
    for sentence in idle.values():
        if len(idle) == len(space):
            raise UserError(f"tune: no key of the search space can change a trial: {sentence}")
        getLogger().warning(f"the search leaves a key out: {sentence}")
    return {key: found for key, found in space.items() if key not in idle}


def _check_own_keys(model: str, given: dict[str, Any]) -> None:
    for key in (*key_rules.flagged(model, "own"), "checkpoint_dir"):
        if given.get(key) is not None:
            raise UserError(
                f"{key}: got {given[key]!r}, but the search sets this key for each trial; leave it out, and "
                "use --output for the folder of the trials"
            )
