"""Draws a picture of a search: parallel coordinates, and the score of each trial."""

from __future__ import annotations

import os
from logging import getLogger
from typing import Any

import numpy as np

from recbole_disent import pictures
from recbole_disent.config.search_space import LogUniform
from recbole_disent.errors import UserError
from recbole_disent.files import write_atomically
from recbole_disent.tuning.study import Study


def plot(study: Study) -> str | None:
    """Write ``trials.svg``; without matplotlib, log a warning instead.

    Returns:
        The path of the file, or None without matplotlib.
    """
    try:
        pictures.require(
            "the plot of the trials needs matplotlib: pip install 'recbole_disent[plots]' and repeat "
            "the command, which keeps all finished trials"
        )
    except UserError as error:
        getLogger().warning(str(error))
        return None
    import matplotlib

    trials = [trial for trial in study.ranked() if trial["score"] is not None]

    def draw(figure: Any) -> None:
        upper, lower = figure.subplots(2, 1, height_ratios=[3, 2])
        _coordinates(upper, study, trials, matplotlib.colormaps["viridis"])
        _progress(lower, trials)
        figure.suptitle(f"{study.model} on {study.dataset}: {len(trials)} trials")

    size = (max(6.0, 1.4 * (len(study.space) + 1)), 7.5)
    path = os.path.join(study.folder, "trials.svg")
    with write_atomically(path) as file:
        file.write(pictures.picture(draw, size, style={"font.size": 9}))
    return path


def _coordinates(axes: Any, study: Study, trials: list[dict[str, Any]], colours: Any) -> None:
    names = [*study.space, "valid score"]
    columns = []
    for x, key in enumerate(names):
        values = [trial["score"] if x == len(study.space) else trial["values"][key] for trial in trials]
        logarithmic = isinstance(study.space.get(key), LogUniform)
        heights, labels = _heights(values, logarithmic)
        columns.append(heights)
        axes.axvline(x, color="0.8", zorder=0)
        for height, label in labels:
            axes.annotate(label, (x, height), xytext=(3, 0), textcoords="offset points", fontsize=7,
                          va="center", color="0.3", zorder=3)  # fmt: skip
    shade = columns[-1] if not trials or trials[0]["bigger"] else 1 - columns[-1]
    for row, brightness in zip(
        np.stack(columns, 1)[::-1], shade[::-1], strict=True
    ):  # the best trial is drawn last, on top
        axes.plot(range(len(names)), row, color=colours(1 - float(brightness)), alpha=0.8, linewidth=1.2)
    if trials:
        axes.plot(range(len(names)), [c[0] for c in columns], color="#d55e00", linewidth=2.5, label="best")
        axes.legend(loc="upper left", fontsize=8)
    axes.set_xticks(range(len(names)), names, rotation=25, ha="right")
    axes.set_yticks([])
    axes.set_xlim(-0.2, len(names) - 0.4)
    axes.set_frame_on(False)


def _heights(values: list[Any], logarithmic: bool) -> tuple[np.ndarray, list[tuple[float, str]]]:
    """Return the heights in [0, 1] of the values on an axis, and the (height, text) of its labels."""
    if not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
        names = sorted({str(v) for v in values})
        step = {name: (i + 0.5) / len(names) for i, name in enumerate(names)}
        return np.array([step[str(v)] for v in values]), [(h, name) for name, h in step.items()]
    raw = np.array(values, dtype=float)
    scaled = np.log(raw) if logarithmic else raw
    low, width = scaled.min(initial=np.inf), np.ptp(scaled) if len(scaled) else 0.0
    heights = (scaled - low) / width if width > 0 else np.full(len(raw), 0.5)
    ends = {float(h): f"{v:.3g}" for h, v in zip(heights, raw, strict=True) if h in (0.0, 0.5, 1.0)}
    return heights, list(ends.items())


def _progress(axes: Any, trials: list[dict[str, Any]]) -> None:
    ordered = sorted(trials, key=lambda trial: trial["number"])
    numbers = [trial["number"] + 1 for trial in ordered]
    scores = [trial["score"] for trial in ordered]
    bigger = not trials or trials[0]["bigger"]
    best = (np.maximum if bigger else np.minimum).accumulate(np.array(scores, dtype=float))
    axes.plot(numbers, scores, "o", color="#0072b2", markersize=4, label="trial")
    axes.step(numbers, best, where="post", color="#d55e00", label="best so far")
    axes.set_xlabel("trial")
    axes.set_ylabel("valid score")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
