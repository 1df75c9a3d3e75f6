"""Draws the training curves and the test result of result files as one picture (extra ``plots``)."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from logging import getLogger
from os import PathLike
from pathlib import Path
from typing import Any

from recbole_disent import pictures
from recbole_disent.errors import UserError
from recbole_disent.files import write_for_user
from recbole_disent.leaderboard.statistics import is_of_ranks

KINDS = ("svg", "png")
# Keys of a result file that a picture needs, with their types.
_NEEDED = {"model": str, "dataset": str, "seed": int, "config": dict, "curves": dict}
_COLUMNS = ("epoch", "train_loss", "valid_score")


def plot(results: Sequence[str | PathLike[str]], out: str | PathLike[str]) -> Path:
    """Draw the training loss and the validation score of each epoch, and the test result.

    A ring marks the epoch that was kept. A part of the picture is left out if no result has its numbers.
    The bars show the rank metrics at the cut-off of the first result's ``valid_metric``, or all metrics
    that the results have in common if there is no such metric.

    Args:
        results: paths of one or more result files.
        out: path of the picture, with the ending ``.svg`` or ``.png``.

    Returns:
        The path of the picture.

    Raises:
        UserError: matplotlib is missing, a file is no result file with curves, or the ending is another one.

    Example:
        >>> plot(["saved/first.json", "saved/second.json"], "curves.svg")  # doctest: +SKIP
    """
    out = Path(out)
    if out.suffix[1:] not in KINDS:
        raise UserError(f"out: got '{out}', expected a file that ends with .svg or .png")
    if not results:
        raise UserError("plot: got no result file, expected at least one, such as saved/NAME.json")
    pictures.require("plot needs the package matplotlib: pip install 'recbole_disent[plots]'")
    files = [Path(file) for file in results]
    found = [_read(file) for file in files]
    labels = _labels(found, files)
    metrics = _metrics(found)
    parts = [_draw_losses] if any(_losses(result) for result in found) else []
    parts += [_draw_scores] if any(_scores(result) for result in found) else []
    parts += [_draw_tests] if metrics else []
    if not parts:
        raise UserError(
            f"plot: '{files[0]}' has no epoch and no test result, so that there is nothing to draw; give the "
            "result file of a run that trained or tested a model"
        )

    def draw(figure: Any) -> None:
        look = pictures.look(labels)
        every = figure.subplots(1, len(parts), squeeze=False)[0]
        for axes, part in zip(every, parts, strict=True):
            part(axes, found, labels, look, metrics)
        # The lines come last and so stay, because they show the markers.
        handles = {h.get_label(): h for axes in every[::-1] for h in axes.get_legend_handles_labels()[0]}
        figure.legend([handles[name] for name in labels if name in handles],
                      [name for name in labels if name in handles],
                      loc="outside lower center", ncols=min(3, len(labels)))  # fmt: skip
        models, datasets = ({result[key] for result in found} for key in ("model", "dataset"))
        title = models.pop() if len(models) == 1 else f"{len(found)} results"
        figure.suptitle(f"{title} on {datasets.pop()}" if len(datasets) == 1 else title)

    # Dollar signs in names are no formulas.
    style = {**pictures.STYLE, "text.parse_math": False}
    content = pictures.picture(draw, (4.4 * len(parts), 4.2), kind=out.suffix[1:], style=style)
    with write_for_user(out) as file:
        file.write(content)
    return out


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"plot: '{file}' cannot be read ({error.strerror}); give a result file") from error
    except ValueError as error:
        raise UserError(f"plot: '{file}' is not JSON ({error}); give the result file of a run") from error
    expected = "expected the result file of a run, such as saved/NAME.json"
    if not isinstance(found, dict):
        raise UserError(f"plot: '{file}' holds a {type(found).__name__}, {expected}")
    if "curves" not in found and "test_result" in found:
        raise UserError(
            f"plot: '{file}' has no key 'curves', because an older version wrote it; repeat the run"
        )
    for key, kind in _NEEDED.items():
        if not isinstance(found.get(key), kind):
            raise UserError(f"plot: '{file}' has no key '{key}' of the type {kind.__name__}; {expected}")
    columns = [found["curves"].get(name) for name in _COLUMNS]
    if not all(isinstance(column, list) and len(column) == len(columns[0]) for column in columns):
        raise UserError(
            f"plot: '{file}': curves: expected the lists {', '.join(_COLUMNS)} of equal length; "
            "repeat the run"
        )
    try:
        for numbers in (_losses, _scores, _tested):
            numbers(found)
    except (TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"plot: '{file}': curves or test_result: expected numbers ({error}); repeat the run"
        ) from error
    return found


def _number(value: Any) -> float:
    """Return a number of a result file, which writes inf and NaN as text; infinity cannot be drawn."""
    number = float(value)
    return number if math.isfinite(number) else math.nan


def _losses(result: dict[str, Any]) -> list[tuple[int, list[float]]]:
    """Return the epochs with the parts of their loss."""
    curves = result["curves"]
    return [
        (int(epoch), [_number(part) for part in (loss if isinstance(loss, list) else [loss])])
        for epoch, loss in zip(curves["epoch"], curves["train_loss"], strict=True)
    ]


def _scores(result: dict[str, Any]) -> list[tuple[int, float]]:
    """Return the epochs that were validated, with their scores."""
    curves = result["curves"]
    return [
        (int(epoch), _number(score))
        for epoch, score in zip(curves["epoch"], curves["valid_score"], strict=True)
        if score is not None
    ]


def _tested(result: dict[str, Any]) -> dict[str, float]:
    return {name: _number(value) for name, value in (result.get("test_result") or {}).items()}


def _valid_metric(result: dict[str, Any]) -> str:
    return str(result["config"].get("valid_metric")).lower()


def _labels(found: list[dict[str, Any]], files: list[Path]) -> list[str]:
    """Return a different label for each result: the model, and what else distinguishes it."""
    parts = [[str(result["model"])] for result in found]
    for key, prefix in (("dataset", ""), ("seed", "seed ")):
        if len({result[key] for result in found}) > 1:
            parts = [[*p, f"{prefix}{r[key]}"] for p, r in zip(parts, found, strict=True)]
    labels = [", ".join(p) for p in parts]
    times = Counter(labels)
    labels = [f"{x} ({file.stem})" if times[x] > 1 else x for x, file in zip(labels, files, strict=True)]
    times = Counter(labels)
    return [f"{x} {i + 1}" if times[x] > 1 else x for i, x in enumerate(labels)]


def _metrics(found: list[dict[str, Any]]) -> list[str]:
    """Return the metrics of the bars; none if no result was tested."""
    tested = [_tested(result) for result in found if result.get("test_result")]
    if not tested:
        return []
    common = [name for name in tested[0] if all(name in other for other in tested)]
    if not common:
        getLogger().warning("plot: the results have no test metric in common, so their tests are left out")
    cut = _valid_metric(found[0]).partition("@")[2]
    return [name for name in common if is_of_ranks(name) and name.partition("@")[2] == cut] or common


# -- parts of the picture --------------------------------------------------------------


def _whole_epochs(axes: Any) -> None:
    axes.set_xlabel("epoch")
    axes.xaxis.get_major_locator().set_params(integer=True)


def _draw_losses(axes: Any, found: list[Any], labels: list[str], look: Any, metrics: list[str]) -> None:
    for result, label in zip(found, labels, strict=True):
        losses = _losses(result)
        epochs = [epoch for epoch, _ in losses]
        axes.plot(epochs, [sum(parts) for _, parts in losses], label=label, markersize=4, **look[label])
        width = max((len(parts) for _, parts in losses), default=0)
        if len(found) == 1 and width > 1:  # with several results these lines would hide each other
            for number in range(width):
                # Some models have a part in some epochs only.
                points = [(epoch, parts[number]) for epoch, parts in losses if len(parts) > number]
                axes.plot(*zip(*points, strict=True), linestyle="--", linewidth=1,
                          color=pictures.COLOURS[1 + number % 7])  # fmt: skip
                axes.annotate(f"part {number + 1}", points[-1], fontsize=8,
                              xytext=(0, 3), textcoords="offset points", ha="right")  # fmt: skip
    axes.set_ylabel("training loss (sum over batches)")
    _whole_epochs(axes)


def _draw_scores(axes: Any, found: list[Any], labels: list[str], look: Any, metrics: list[str]) -> None:
    for result, label in zip(found, labels, strict=True):
        scores = _scores(result)
        epochs, values = [epoch for epoch, _ in scores], [score for _, score in scores]
        axes.plot(epochs, values, label=label, markersize=4, **look[label])
        kept = [point for point in scores if point[0] == result.get("best_epoch")]
        if kept:
            axes.plot(*kept[0], "o", markersize=11, fillstyle="none", color=look[label]["color"])
    names = dict.fromkeys(_valid_metric(result) for result in found)
    axes.set_ylabel(f"{', '.join(names)} (validation)")
    _whole_epochs(axes)


def _draw_tests(axes: Any, found: list[Any], labels: list[str], look: Any, metrics: list[str]) -> None:
    tested = [(label, _tested(result)) for label, result in zip(labels, found, strict=True)]
    tested = [(label, values) for label, values in tested if values]
    height = 0.8 / len(tested)
    for i, (label, values) in enumerate(tested):
        places = [place - 0.4 + (i + 0.5) * height for place in range(len(metrics))]
        bars = axes.barh(
            places, [values[m] for m in metrics], height, color=look[label]["color"], label=label
        )
        if len(tested) * len(metrics) <= 24:
            axes.bar_label(bars, fmt="%.4g", fontsize=7, padding=2)
    axes.margins(x=0.15)
    axes.set_yticks(range(len(metrics)), metrics)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("test result")
