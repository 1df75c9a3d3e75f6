"""``run_recbole``, ``objective_function`` and ``load_data_and_model`` for programs written for RecBole.

The functions have the interface of ``recbole.quick_start`` and use the configuration, data, checkpoints
and evaluation of this package. New programs should call :func:`recbole_disent.run`.
"""

from __future__ import annotations

from typing import Any

from recbole_disent.errors import UserError
from recbole_disent.session import RunData, build_data, build_model, build_trainer, load_checkpoint, run
from recbole_disent.tuning import recbole_tuning

recbole_tuning.patch()


def run_recbole(
    model: Any = None,
    dataset: str | None = None,
    config_file_list: list[str] | None = None,
    config_dict: dict[str, Any] | None = None,
    saved: bool = True,
) -> dict[str, Any]:
    """Train and test a model, and return the four keys of the report that RecBole returns.

    Args:
        model, dataset, config_file_list, config_dict: see :class:`recbole_disent.config.config.Config`.
        saved: whether to write a checkpoint and a result file.

    Raises:
        UserError: a key or a file is wrong.
    """
    return _recboles_part(run(model, dataset, config_file_list, config_dict, saved=saved))


def objective_function(
    config_dict: dict[str, Any] | None = None,
    config_file_list: list[str] | None = None,
    saved: bool = True,
) -> dict[str, Any]:
    """Run one trial of RecBole's ``HyperTuning``, and return the keys that ``HyperTuning`` reads."""
    # hyperopt turns lists into tuples.
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in (config_dict or {}).items()}
    report = run(config_file_list=config_file_list, config_dict=plain, saved=saved)
    return {"model": report["model"], **_recboles_part(report)}


def _recboles_part(report: dict[str, Any]) -> dict[str, Any]:
    wanted = ("best_valid_score", "valid_score_bigger", "best_valid_result", "test_result")
    return {key: report[key] for key in wanted}


def load_data_and_model(model_file: str) -> tuple[Any, Any, Any, Any, Any, Any]:
    """Load a checkpoint.

    Returns:
        configuration, model, data set, training loader, validation loader and test loader.

    Raises:
        UserError: the file is not a checkpoint of this package, or the data differ from the training data.
    """
    model, data = load_checkpoint(model_file)
    return data.config, model, data.dataset, *data.loaders


__all__ = ["RunData", "UserError", "build_data", "build_model", "build_trainer", "load_checkpoint",
           "load_data_and_model", "objective_function", "run", "run_recbole"]  # fmt: skip
