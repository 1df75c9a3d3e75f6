"""Makes the plots of a report as SVG, with matplotlib (extra ``plots``)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from textwrap import fill
from typing import Any

import numpy as np

from recbole_disent import pictures
from recbole_disent.leaderboard.breakdown import FIELDS, Breakdown, break_down
from recbole_disent.leaderboard.collect import ResultGroup, Row
from recbole_disent.leaderboard.tables import drawn_metric

MISSING = "This report has no plots, because matplotlib is missing: pip install 'recbole_disent[plots]'."
_WIDTH, _HEIGHT = 6.4, 3.8


@dataclass(frozen=True)
class Plot:
    """A picture with its title, the name of its file and the source of its numbers."""

    title: str
    name: str
    svg: str
    source: str


def require() -> None:
    """Check that plots can be made.

    Raises:
        UserError: matplotlib is missing.
    """
    pictures.require(MISSING)


def make_plots(group: ResultGroup, metrics: list[str], source: str) -> list[Plot]:
    """Return the plots of a group of results; a plot is left out if the results lack its numbers.

    Args:
        group: results of one data set under one protocol.
        metrics: metrics in the tables of the group.
        source: text below each plot.
    """
    metric = drawn_metric(metrics)
    wanted: list[tuple[str, str, Callable[[Any], Any] | None, str]] = []
    if group.sweep is None:
        wanted += [
            ("accuracy against training time", "time", _against_time(group, metric), ""),
            ("accuracy against diversity of the lists", "diversity", _against_diversity(group, metric), ""),
        ]
    else:
        points = [(row, row.values(metric)) for row in group.filled]
        draw = _curve(group, points, f"{metric} (test)")
        wanted += [(f"{metric} over {group.sweep}", "curve", draw, "")]
        if group.sweep == "click_noise":
            shares = _shares(group, metric)
            draw = _curve(group, shares, f"share of {metric} kept")
            note = _without_clean(group, shares)
            wanted += [(f"share of the clean {metric} kept", "kept", draw, note)]
    for field, words in FIELDS.items():
        found = break_down(group, metric, field) if group.sweep is None else None
        if found is not None:
            wanted += [(f"{metric} by {words}", field, _by_group(found), "")]
    plots = []
    for what, kind, draw, note in wanted:
        if draw is not None:
            name = re.sub(r"\W+", "-", f"{group.name}-{kind}").strip("-")
            below = source + note
            plots.append(Plot(f"{group.name}: {what}", name, _picture(draw, name, below), below))
    return plots


def _picture(draw: Callable[[Any], Any], name: str, source: str) -> str:
    """Return a drawing as SVG; the same numbers give the same bytes."""

    def draw_all(figure: Any) -> None:
        axes = figure.subplots()
        draw(axes)
        # The legend shows the markers without error bars, which would hide them at this size.
        marks: dict[str, Any] = {str(bars.get_label()): bars[0] for bars in axes.containers}
        axes.legend(marks.values(), marks.keys(), loc="center left", bbox_to_anchor=(1.01, 0.5))
        figure.supxlabel(fill(source, 150), fontsize=5.5, color="#777777", x=0.01, ha="left")

    text = pictures.picture(draw_all, (_WIDTH, _HEIGHT), name, description=source).decode()
    return text[text.index("<svg") :]


def _look(rows: list[Row]) -> dict[str, dict[str, Any]]:
    return pictures.look([row.label for row in rows])


def _spread(values: np.ndarray) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def _points(
    group: ResultGroup, metric: str, across: Callable[[Row], np.ndarray], label: str
) -> Callable[[Any], Any]:
    look = _look(group.filled)

    def draw(axes: Any) -> None:
        for row in group.filled:
            x, y = across(row), row.values(metric)
            axes.errorbar(x.mean(), y.mean(), xerr=_spread(x), yerr=_spread(y), label=row.label, linestyle="",
                          markersize=7, elinewidth=1, capsize=2, **look[row.label])  # fmt: skip
        axes.set_xlabel(label)
        axes.set_ylabel(f"{metric} (test)")

    return draw


def _against_time(group: ResultGroup, metric: str) -> Callable[[Any], Any]:
    def seconds(row: Row) -> np.ndarray:
        return np.array([max(r["seconds"]["train"], 0.01) for r in row.results])

    draw = _points(group, metric, seconds, "training time, s")

    def with_logarithm(axes: Any) -> None:
        draw(axes)
        axes.set_xscale("log")

    return with_logarithm


def _against_diversity(group: ResultGroup, metric: str) -> Callable[[Any], Any] | None:
    have = [set(r["test_result"]) for row in group.filled for r in row.results]
    common = set.intersection(*have)
    for name in ("intralistdiversity@10", "intralistdiversity@5", "itemcoverage@10"):
        if name in common:
            return _points(group, metric, lambda row: row.values(name), name)  # noqa: B023
    return None


def _shares(group: ResultGroup, metric: str) -> list[tuple[Row, np.ndarray]]:
    """Return the rows of a sweep of click_noise, each with its values divided by those of the clean data.

    A value is divided by the one with the same seed. A row without such a value is left out.
    """
    clean = {r.label: dict(zip(r.seeds, r.values(metric), strict=True)) for r in group.filled if r.sweep == 0}
    found = []
    for row in group.filled:
        first = clean.get(row.label, {})
        own = [v / first[s] for s, v in zip(row.seeds, row.values(metric), strict=True) if first.get(s)]
        if own:
            found.append((row, np.array(own)))
    return found


def _without_clean(group: ResultGroup, shares: list[tuple[Row, np.ndarray]]) -> str:
    """Return a note on the models that have no value on the clean data; empty if all have one."""
    drawn = {row.label for row, _ in shares}
    left = [label for label in dict.fromkeys(row.label for row in group.filled) if label not in drawn]
    return f" Left out, without a result at click_noise 0: {', '.join(left)}." if left else ""


def _curve(
    group: ResultGroup, points: list[tuple[Row, np.ndarray]], title: str
) -> Callable[[Any], Any] | None:
    """Return a drawing of the values of a sweep, or None without values.

    If a value is no number, such as null, all values have places in the order of the sweep. A row without a
    result at such a value has the same places.
    """
    look = _look(group.filled)
    swept = {str(row.sweep): row.sweep for row in group.rows}
    numbers = all(isinstance(value, (int, float)) for value in swept.values())
    place = swept if numbers else {name: at for at, name in enumerate(swept)}

    def draw(axes: Any) -> None:
        for label in dict.fromkeys(row.label for row, _ in points):
            rows, values = zip(*((row, own) for row, own in points if row.label == label), strict=True)
            x = [place[str(row.sweep)] for row in rows]
            axes.errorbar(x, [v.mean() for v in values], yerr=[_spread(v) for v in values], label=label,
                          markersize=5, elinewidth=1, capsize=2, **look[label])  # fmt: skip
        if not numbers:
            axes.set_xticks(range(len(place)), list(place))
        axes.set_xlabel(str(group.sweep))
        axes.set_ylabel(title)

    return draw if points else None


def _by_group(found: Breakdown) -> Callable[[Any], Any]:
    look = _look(found.rows)
    place = np.arange(len(found.groups))

    def draw(axes: Any) -> None:
        for i, (row, values) in enumerate(zip(found.rows, found.values, strict=True)):
            spread = values.std(0, ddof=1) if len(values) > 1 else None
            # The rows are side by side, so that error bars do not overlap.
            aside = 0.5 * ((i + 0.5) / len(found.rows) - 0.5)
            axes.errorbar(place + aside, values.mean(0), yerr=spread, label=row.label, markersize=5,
                          elinewidth=1, capsize=2, linewidth=1, **look[row.label])  # fmt: skip
        axes.set_xticks(place, [f"{n}\n{u} users" for n, u in zip(found.names, found.users, strict=True)],
                        fontsize=8)  # fmt: skip
        axes.set_xlabel("events of the user before the test item" if found.field == "history"
                        else "training clicks of the test item")  # fmt: skip
        axes.set_ylabel(f"{found.metric} (test)")

    return draw
