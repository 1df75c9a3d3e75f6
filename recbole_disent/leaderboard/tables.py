"""The tables of a report, as cells: a text, a number to sort by, bold or not."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from recbole_disent.leaderboard import statistics
from recbole_disent.leaderboard.breakdown import FIELDS, Breakdown
from recbole_disent.leaderboard.collect import Collection, ResultGroup, Row
from recbole_disent.leaderboard.comparisons import (
    Comparison,
    has_users,
    significantly_best,
    title,
    values_of_users,
)

_FULL = ["recall@10", "recall@20", "recall@50", "ndcg@10", "ndcg@20", "mrr@10"]
_SAMPLED = ["recall@1", "recall@5", "recall@10", "ndcg@5", "ndcg@10", "mrr"]
_BEYOND = {
    "itemcoverage": "share of all items that stand in some list",
    "intralistdiversity": "mean of 1 - cosine over pairs of a list, of the items' training-click vectors",
    "averagepopularity": "mean training clicks of a list's items",
    "repeatshare": "share of a list that the user has met before",
    "giniindex": "inequality of how often items are listed",
    "shannonentropy": "entropy of what is listed",
    "tailpercentage": "share of a list that is long-tail",
}


@dataclass(frozen=True)
class Cell:
    """A cell.

    Attributes:
        text: as printed.
        value: number to sort by; None sorts by text.
        bold: significantly the best of its column.
    """

    text: str
    value: float | None = None
    bold: bool = False


@dataclass
class Table:
    """A table with its title and what must be known to read it."""

    title: str
    head: list[str]
    rows: list[list[Cell]]
    notes: list[str] = field(default_factory=list)


def table_metrics(setting: ResultGroup, wanted: list[str] | None) -> list[str]:
    """Return the metric columns of a table: those wanted, or the usual ones that the results have.

    Raises:
        UserError: a wanted metric that a result lacks.
    """
    common = _common_metrics(setting)
    if wanted:
        statistics.require_metrics(wanted, common, f"not every result of {setting.name} has", "they have")
        return [metric.lower() for metric in wanted]
    usual = _FULL if setting.protocol.startswith("full") else _SAMPLED
    largest = max((int(m.partition("@")[2]) for m in common if m.startswith("mrr@")), default=0)
    found = [f"mrr@{largest}" if m == "mrr" else m for m in usual]
    rest = sorted(common, key=lambda m: (not statistics.is_of_ranks(m), m))
    return [m for m in found if m in common] or rest[:6]


def _common_metrics(setting: ResultGroup) -> set[str]:
    """Metrics that every result has."""
    have = [set(r["test_result"]) for row in setting.filled for r in row.results]
    return set.intersection(*have) if have else set()


def number(value: float) -> str:
    """Four decimals, or four digits where that says more."""
    if math.isnan(value):
        return "-"
    return f"{value:.4f}" if abs(value) < 100 else f"{value:.1f}"


def mean_and_spread(values: np.ndarray, bold: bool = False) -> Cell:
    """Mean and sample standard deviation over seeds."""
    mean = float(values.mean())
    spread = f" ± {number(float(values.std(ddof=1)))}" if len(values) > 1 else ""
    return Cell(number(mean) + spread, mean, bold)


def name_cells(setting: ResultGroup, row: Row) -> list[Cell]:
    """Name of a row, and the value of the swept key."""
    value = row.sweep
    sort = float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
    return [Cell(row.label), *([Cell(str(value), sort)] if setting.sweep else [])]


def name_head(setting: ResultGroup) -> list[str]:
    """Heads of these columns."""
    return ["model", *([setting.sweep] if setting.sweep else [])]


def main_table(setting: ResultGroup, metrics: list[str], options: dict[str, Any]) -> Table:
    """Accuracy of each model with the care that it was given."""
    best = {m: significantly_best(setting, m, options) for m in metrics}
    rows = []
    for row in setting.filled:
        config = row.results[0]["config"]
        epochs = [r["epochs_run"] for r in row.results]
        # RecBole counts for models such as Pop, in one pass, whatever epochs says.
        most = 1 if config["MODEL_TYPE"] == "TRADITIONAL" else config["epochs"]
        stopped = sum(e < most for e in epochs)
        seconds = [r["seconds"]["train"] for r in row.results]
        memory = [r["peak_memory_mb"].get("gpu", r["peak_memory_mb"]["cpu"]) for r in row.results]
        seeds = ", ".join(map(str, row.seeds))
        trials = row.search["trials"] if row.search else 1
        rows.append([
            *name_cells(setting, row),
            *(mean_and_spread(row.values(m), row in best[m]) for m in metrics),
            Cell(seeds if not row.errors else f"{seeds} ({len(row.errors)} missing)", len(row.seeds)),
            Cell(str(trials) if trials > 1 else "none", trials),
            Cell(f"{np.mean(epochs):.0f} of {most}", float(np.mean(epochs))),
            Cell(f"{stopped} of {len(epochs)}", stopped),
            Cell(f"{np.mean(seconds):.0f}", float(np.mean(seconds))),
            Cell(str(row.results[0]["parameters"]), row.results[0]["parameters"]),
            Cell(f"{np.mean(memory):.0f}", float(np.mean(memory))),
        ])  # fmt: skip
    head = [*name_head(setting), *metrics, "seeds", "trials", "epochs", "stopped early", "training, s",
            "parameters", "memory, MiB"]  # fmt: skip
    notes = [
        "Test part; mean ± standard deviation over seeds. Bold: better than every other row of the column, "
        f"over users and over seeds, each test at {options['alpha']:g} / (rows - 1); a row with one seed is "
        "never bold.",
    ]
    notes += [f"Not in the table: {title(row)}, seed {seed}: {error}."
              for row in setting.rows for seed, error in row.errors.items()]  # fmt: skip
    return Table(f"{setting.name}: accuracy", head, rows, notes)


def beyond_accuracy_table(setting: ResultGroup) -> Table | None:
    """Coverage, diversity and popularity of the lists, beside accuracy."""
    common = _common_metrics(setting)
    found = [f"{name}@{k}" for name in _BEYOND for k in (10, 5, 20, 50) if f"{name}@{k}" in common]
    # One cut-off a metric is enough to read.
    metrics = list({m.partition("@")[0]: m for m in reversed(found)}.values())[::-1]
    if not metrics:
        return None
    accuracy = next((m for m in ("ndcg@10", "ndcg@5", "recall@10") if m in common), None)
    columns = [*([accuracy] if accuracy else []), *metrics]
    rows = [[*name_cells(setting, row), *(mean_and_spread(row.values(m)) for m in columns)]
            for row in setting.filled]  # fmt: skip
    notes = [f"{m}: {_BEYOND[m.partition('@')[0]]}." for m in metrics]
    return Table(f"{setting.name}: beyond accuracy", [*name_head(setting), *columns], rows, notes)


def comparison_table(setting: ResultGroup, found: list[Comparison], options: dict[str, Any]) -> Table | None:
    """Differences to the reference with intervals and p-values."""
    if not found:
        return None
    rows = []
    for c in found:
        percent = 100 * c.difference / c.other_mean if c.other_mean else math.nan
        rows.append([
            Cell(c.reference), Cell(c.other), Cell(c.metric),
            Cell(f"{c.difference:+.4f}", c.difference),
            Cell("-" if math.isnan(percent) else f"{percent:+.1f} %", percent),
            Cell(f"[{c.low:+.4f}, {c.high:+.4f}]", c.low),
            _p(c.p_users), _p(c.p_seeds), _p(c.p_holm, c.p_seeds is not None and c.p_holm < options["alpha"]),
        ])  # fmt: skip
    level = f"{100 * (1 - options['alpha']):g} %"
    head = ["reference", "against", "metric", "difference", "relative", f"{level} interval", "p, users",
            "p, seeds", "p, Holm"]  # fmt: skip
    notes = [
        f"Differences of users' values, averaged over seeds; {options['resamples']} resamples. Interval: "
        "paired bootstrap over users, percentiles. p, users: paired randomisation test (signs of users' "
        "differences). p, seeds: Welch's t-test between the seeds' means ('-' where a model has one seed: "
        "nothing is known of other seeds then). p, Holm: the larger of the two, with Holm's correction over "
        f"the comparisons at that metric. Bold: below {options['alpha']:g}, with two seeds of both at least.",
    ]
    return Table(f"{setting.name}: comparisons", head, rows, notes)


def _p(value: float | None, bold: bool = False) -> Cell:
    return Cell("-") if value is None else Cell(f"{value:.4f}", value, bold)


def kept_table(setting: ResultGroup, metrics: list[str]) -> Table | None:
    """Share of the value at the first point of a sweep that is kept at the others: noise curves."""
    if setting.sweep is None:
        return None
    rows = []
    for row in setting.filled:
        clean = [r for r in setting.filled if r.label == row.label and r.sweep == setting.rows[0].sweep]
        if not clean:
            continue
        common = [s for s in row.seeds if s in clean[0].seeds]
        cells = []
        for metric in metrics:
            first = dict(zip(clean[0].seeds, clean[0].values(metric), strict=True))
            own = dict(zip(row.seeds, row.values(metric), strict=True))
            shares = np.array([own[s] / first[s] if first[s] else math.nan for s in common])
            cells.append(mean_and_spread(shares) if len(shares) else Cell("-"))
        rows.append([*name_cells(setting, row), *cells])
    note = (f"Value divided by that at {setting.sweep} = {setting.rows[0].sweep} with the same seed; mean ± "
            "standard deviation over seeds.")  # fmt: skip
    return Table(f"{setting.name}: share kept", [*name_head(setting), *metrics], rows, [note])


def drawn_metric(metrics: list[str]) -> str:
    """Return the metric of plots and of tables by group: NDCG@10, other NDCG, another of ranks, or any."""
    ranked = [m for m in metrics if statistics.is_of_ranks(m)]
    best = [m for m in ranked if m == "ndcg@10"] + [m for m in ranked if m.startswith("ndcg")]
    return [*best, *ranked, *metrics][0]


def breakdown_table(setting: ResultGroup, found: Breakdown | None) -> Table | None:
    """A metric for groups of users."""
    if found is None:
        return None
    rows = [
        [*name_cells(setting, row), *(mean_and_spread(values[:, g]) for g in range(len(found.groups)))]
        for row, values in zip(found.rows, found.values, strict=True)
    ]
    head = [f"{name} ({users})" for name, users in zip(found.names, found.users, strict=True)]
    what = {
        "history": "events of a user before the test item",
        "popularity": "training clicks of the test item",
    }
    note = f"Columns: {what[found.field]} (number of users). Mean ± standard deviation over seeds."
    return Table(
        f"{setting.name}: {found.metric} by {FIELDS[found.field]}", [*name_head(setting), *head], rows, [note]
    )


def cold_table(setting: ResultGroup, metrics: list[str], below: int) -> Table | None:
    """All metrics of ranks, of the users whose test item has fewer than *below* training clicks."""
    rows = [row for row in setting.filled if has_users(row)]
    ranked = [metric for metric in metrics if statistics.is_of_ranks(metric)]
    if not rows or not ranked:
        return None
    cold = rows[0].users[0]["popularity"] < below
    if not cold.any():
        return None
    cells = [
        [
            *name_cells(setting, row),
            *(mean_and_spread(values_of_users(row, m)[:, cold].mean(1)) for m in ranked),
        ]
        for row in rows
    ]
    who = f"Test items with fewer than {below} training clicks: {cold.sum()} of {len(cold)} users."
    note = f"{who} Mean ± standard deviation over seeds."
    return Table(f"{setting.name}: cold test items", [*name_head(setting), *ranked], cells, [note])


def _chosen(found: dict[str, Any] | None) -> str:
    """Return in words what a search has found."""
    if found is None:
        return "none: every trial is broken"
    keys = [f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in found["keys"].items()]
    return "; ".join(keys) or "as given"


def search_budget_table(collection: Collection) -> Table:
    """How each model was tuned: the same question for all."""
    rows = []
    for setting in collection.settings:
        seen = set()
        failed = [row for row in setting.rows if row.search and row.search["chosen"] is None]
        for row in [*setting.filled, *failed]:
            if row.label in seen:
                continue
            seen.add(row.label)
            search, most, stop = row.search, Cell("-"), "-"
            if row.results:
                config = row.results[0]["config"]
                most = Cell(str(config["epochs"]), config["epochs"])
                stop = f"{config['stopping_step']} epochs without gain of {config['valid_metric']}"
            if search is None:
                cells = ["none", "-", "as given", "-"]
            else:
                broken = f" ({search['broken']} broken)" if search["broken"] else ""
                cells = [
                    f"{search['trials']}{broken}",
                    f"{search['epochs'] or '-'}",
                    _chosen(search["chosen"]),
                    "; ".join(f"{k}: {v}" for k, v in search["space"].items()),
                ]
            trials, trial_epochs, chosen, space = map(Cell, cells)
            rows.append([Cell(setting.name), Cell(row.label), trials, trial_epochs, most, Cell(stop), chosen,
                         space])  # fmt: skip
    head = ["setting", "model", "trials", "epochs of a trial", "most epochs", "early stop after", "chosen",
            "search space"]  # fmt: skip
    notes = [
        "Trials: settings tried with one seed, the given one first, then random draws; the best on the "
        "validation part is run with every seed."
    ]
    return Table("Care given to each model", head, rows, notes)
