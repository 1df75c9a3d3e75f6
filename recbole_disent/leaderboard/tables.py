"""Makes the tables of a report; a cell has a text and a number to sort by, and can be bold."""

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

_MEAN = "Values: mean ± standard deviation over seeds."
_FULL = ["recall@10", "recall@20", "recall@50", "ndcg@10", "ndcg@20", "mrr@10"]
_SAMPLED = ["recall@1", "recall@5", "recall@10", "ndcg@5", "ndcg@10", "mrr"]
_BEYOND = {
    "itemcoverage": "share of all items that occur in at least one list",
    "intralistdiversity": "mean of 1 - cosine over pairs of items in a list, with vectors made from clicks",
    "averagepopularity": "mean number of training clicks of the items in a list",
    "repeatshare": "share of a list that is in the history of the user",
    "giniindex": "inequality of the numbers of lists that items occur in",
    "shannonentropy": "entropy of the distribution of items over all lists",
    "tailpercentage": "share of a list that belongs to the long tail of items",
}


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: printed text.
        value: number to sort by; None sorts by the text.
        bold: whether the value is significantly the best of its column, or a p-value is significant.
    """

    text: str
    value: float | None = None
    bold: bool = False


@dataclass
class Table:
    """A table with its title and the notes that explain it."""

    title: str
    head: list[str]
    rows: list[list[Cell]]
    notes: list[str] = field(default_factory=list)


def table_metrics(group: ResultGroup, wanted: list[str] | None) -> list[str]:
    """Return the metrics of a table: the wanted ones, or the usual ones that all results have.

    Raises:
        UserError: a result lacks a wanted metric.
    """
    common = _common_metrics(group)
    if wanted:
        statistics.require_metrics(wanted, common, f"not every result of {group.name} has", "they have")
        return list(dict.fromkeys(metric.lower() for metric in wanted))
    usual = _FULL if group.protocol.startswith("full") else _SAMPLED
    largest = max((int(m.partition("@")[2]) for m in common if m.startswith("mrr@")), default=0)
    found = [f"mrr@{largest}" if m == "mrr" else m for m in usual]
    rest = sorted(common, key=lambda m: (not statistics.is_of_ranks(m), m))
    return [m for m in found if m in common] or rest[:6]


def _common_metrics(group: ResultGroup) -> set[str]:
    """Return the metrics that every result has."""
    have = [set(r["test_result"]) for row in group.filled for r in row.results]
    return set.intersection(*have) if have else set()


def number(value: float) -> str:
    """Return a number with four decimals, or with one decimal from 100 on; ``-`` for NaN."""
    if math.isnan(value):
        return "-"
    return f"{value:.4f}" if abs(value) < 100 else f"{value:.1f}"


def mean_and_spread(values: np.ndarray, bold: bool = False) -> Cell:
    """Return a cell with the mean and the sample standard deviation over seeds."""
    mean = float(values.mean())
    spread = f" ± {number(float(values.std(ddof=1)))}" if len(values) > 1 else ""
    return Cell(number(mean) + spread, mean, bold)


def name_cells(group: ResultGroup, row: Row) -> list[Cell]:
    """Return the cells with the name of a row and, in a sweep, the value of the swept key."""
    value = row.sweep
    sort = float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
    return [Cell(row.label), *([Cell(str(value), sort)] if group.sweep else [])]


def name_head(group: ResultGroup) -> list[str]:
    """Return the heads of the columns of :func:`name_cells`."""
    return ["model", *([group.sweep] if group.sweep else [])]


def main_table(group: ResultGroup, metrics: list[str], options: dict[str, Any]) -> Table:
    """Return the table of the accuracy and the training effort of each row."""
    best = {m: significantly_best(group, m, options) for m in metrics}
    rows = []
    # Times and memory of different devices must not be compared.
    several_devices = len({device for row in group.filled for device in _devices(row)}) > 1
    for row in group.filled:
        config = row.results[0]["config"]
        again = [(r.get("refit") or {}).get("epochs", 0) for r in row.results]
        epochs = [r["epochs_run"] - more for r, more in zip(row.results, again, strict=True)]
        refitted = f" + {np.mean(again):.0f} refit" if any(again) else ""
        most = _most_epochs(config)
        stopped = sum(e < most for e in epochs)
        seconds = [r["seconds"]["train"] for r in row.results]
        memory = [r["peak_memory_mb"].get("gpu", r["peak_memory_mb"]["cpu"]) for r in row.results]
        seeds = ", ".join(map(str, row.seeds))
        trials = row.search["trials"] if row.search else 1
        rows.append([
            *name_cells(group, row),
            *(mean_and_spread(row.values(m), row in best[m]) for m in metrics),
            Cell(seeds if not row.errors else f"{seeds} ({len(row.errors)} missing)", len(row.seeds)),
            Cell(str(trials) if trials > 1 else "none", trials),
            Cell(f"{np.mean(epochs):.0f} of {most}{refitted}", float(np.mean(epochs))),
            Cell(f"{stopped} of {len(epochs)}", stopped),
            Cell(f"{np.mean(seconds):.0f}", float(np.mean(seconds))),
            Cell(str(row.results[0]["parameters"]), row.results[0]["parameters"]),
            Cell(f"{np.mean(memory):.0f}", float(np.mean(memory))),
            *([Cell(", ".join(_devices(row)))] if several_devices else []),
        ])  # fmt: skip
    head = [*name_head(group), *metrics, "seeds", "trials", "epochs", "stopped early", "training, s",
            "parameters", "memory, MiB", *(["device"] if several_devices else [])]  # fmt: skip
    notes = [
        "Values are from the test part: mean ± standard deviation over seeds. A bold value is significantly "
        "better than every other value of the column, over users and over seeds; the level of each test is "
        f"{options['alpha']:g} / (rows - 1). A row with one seed is never bold.",
    ]
    notes += [f"Not in the table: {title(row)}, seed {seed}: {error}."
              for row in group.rows for seed, error in row.errors.items()]  # fmt: skip
    return Table(f"{group.name}: accuracy", head, rows, notes)


def _most_epochs(config: dict[str, Any]) -> int:
    """Return the largest number of epochs; models such as Pop make one pass, whatever the key says."""
    return 1 if _one_pass(config) else config["epochs"]


def _one_pass(config: dict[str, Any]) -> bool:
    return config["MODEL_TYPE"] == "TRADITIONAL"


def _devices(row: Row) -> list[str]:
    """Return the devices that the runs of a row had, such as cpu and cuda."""
    return sorted({str(result["config"].get("device")) for result in row.results})


def beyond_accuracy_table(group: ResultGroup) -> Table | None:
    """Return the table of coverage, diversity and popularity of the lists, beside accuracy."""
    common = _common_metrics(group)
    found = [f"{name}@{k}" for name in _BEYOND for k in (10, 5, 20, 50) if f"{name}@{k}" in common]
    # The table has one cut-off for each metric.
    metrics = list({m.partition("@")[0]: m for m in reversed(found)}.values())[::-1]
    if not metrics:
        return None
    accuracy = next((m for m in ("ndcg@10", "ndcg@5", "recall@10") if m in common), None)
    columns = [*([accuracy] if accuracy else []), *metrics]
    rows = [[*name_cells(group, row), *(mean_and_spread(row.values(m)) for m in columns)]
            for row in group.filled]  # fmt: skip
    notes = [f"{m}: {_BEYOND[m.partition('@')[0]]}." for m in metrics]
    return Table(f"{group.name}: beyond accuracy", [*name_head(group), *columns], rows, notes)


def intentions_table(group: ResultGroup) -> Table | None:
    """Return the table of how much the intention vectors of each row differ; None without such vectors."""
    rows = []
    for row in group.filled:
        found = [r["intentions"] for r in row.results if r.get("intentions")]
        if not found:
            continue
        won = [np.array(list(map(float, f["won"]))) for f in found]
        numbers = sorted({len(shares) for shares in won})
        cosine, entropy = ([float(f[name]) for f in found] for name in ("cosine", "entropy"))
        values = (cosine, entropy, [w.min() for w in won], [w.max() for w in won])
        rows.append([
            *name_cells(group, row),
            Cell(", ".join(map(str, numbers)), numbers[0]),
            *(mean_and_spread(np.array(v)) for v in values),
        ])  # fmt: skip
    if not rows:
        return None
    head = [*name_head(group), "K", "mean cosine", "entropy of use", "least share won", "largest share won"]
    notes = [
        "Measured on the validation part, or on the test part where the split has no validation part. The "
        "cosine is the mean over two different intention vectors of a history: 1 means that they are equal. "
        "An intention wins a target if it gives the target's best "
        "score; the entropy of these shares is divided by ln K. A model that is not in the table has no "
        "intentions, or one, with which nothing is disentangled.",
    ]
    return Table(f"{group.name}: intentions", head, rows, notes)


def comparison_table(group: ResultGroup, found: list[Comparison], options: dict[str, Any]) -> Table | None:
    """Return the table of differences to the reference, with intervals and p-values."""
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
        "A difference is the mean over users of the value of the reference minus the value of the other row; "
        "values are averaged over seeds first. The interval is a percentile interval of the paired bootstrap "
        "over users. p, users: paired randomisation test over users, which draws the signs of the "
        "differences. p, seeds: Welch's t-test between the means of the seeds; '-' means that a row has one "
        "seed, which tells nothing about other seeds. p, Holm: larger of the two p-values, with Holm's "
        "correction over the comparisons with this metric. "
        f"Bold: below {options['alpha']:g}, and both rows have two seeds at least. The "
        f"bootstrap and the randomisation test use {options['resamples']} resamples.",
    ]
    return Table(f"{group.name}: comparisons", head, rows, notes)


def _p(value: float | None, bold: bool = False) -> Cell:
    return Cell("-") if value is None else Cell(f"{value:.4f}", value, bold)


def kept_table(group: ResultGroup, metrics: list[str]) -> Table | None:
    """Return the table of values in a sweep, as shares of the value at its first point."""
    if group.sweep is None:
        return None
    rows = []
    for row in group.filled:
        clean = [r for r in group.filled if r.label == row.label and r.sweep == group.rows[0].sweep]
        if not clean:
            continue
        common = [s for s in row.seeds if s in clean[0].seeds]
        cells = []
        for metric in metrics:
            first = dict(zip(clean[0].seeds, clean[0].values(metric), strict=True))
            own = dict(zip(row.seeds, row.values(metric), strict=True))
            shares = np.array([own[s] / first[s] if first[s] else math.nan for s in common])
            cells.append(mean_and_spread(shares) if len(shares) else Cell("-"))
        rows.append([*name_cells(group, row), *cells])
    note = (f"The value divided by the value at {group.sweep} = {group.rows[0].sweep} with the same seed: "
            "mean ± standard deviation over seeds.")  # fmt: skip
    return Table(f"{group.name}: share kept", [*name_head(group), *metrics], rows, [note])


def drawn_metric(metrics: list[str]) -> str:
    """Return the metric for plots and for tables by groups of users.

    The order of preference is NDCG@10, NDCG at another cut-off, another metric of ranks, any metric.
    """
    ranked = [m for m in metrics if statistics.is_of_ranks(m)]
    best = [m for m in ranked if m == "ndcg@10"] + [m for m in ranked if m.startswith("ndcg")]
    return [*best, *ranked, *metrics][0]


def breakdown_table(group: ResultGroup, found: Breakdown | None) -> Table | None:
    """Return the table of a metric for groups of users."""
    if found is None:
        return None
    rows = [
        [*name_cells(group, row), *(mean_and_spread(values[:, g]) for g in range(len(found.groups)))]
        for row, values in zip(found.rows, found.values, strict=True)
    ]
    head = [f"{name} ({users})" for name, users in zip(found.names, found.users, strict=True)]
    what = {
        "history": "number of events of a user before the test item",
        "popularity": "number of training clicks of the test item",
    }
    note = f"Columns: {what[found.field]}, with the number of users in parentheses. {_MEAN}"
    return Table(
        f"{group.name}: {found.metric} by {FIELDS[found.field]}", [*name_head(group), *head], rows, [note]
    )


def cold_table(group: ResultGroup, metrics: list[str], below: int) -> Table | None:
    """Return the table of metrics of users whose test item has fewer than *below* training clicks."""
    rows = [row for row in group.filled if has_users(row)]
    ranked = [metric for metric in metrics if statistics.is_of_ranks(metric)]
    if not rows or not ranked:
        return None
    cold = rows[0].users[0]["popularity"] < below
    if not cold.any():
        return None
    cells = [
        [
            *name_cells(group, row),
            *(mean_and_spread(values_of_users(row, m)[:, cold].mean(1)) for m in ranked),
        ]
        for row in rows
    ]
    note = (f"The test items of {cold.sum()} of {len(cold)} users have fewer than {below} training clicks. "
            f"{_MEAN}")  # fmt: skip
    return Table(f"{group.name}: cold test items", [*name_head(group), *ranked], cells, [note])


def _chosen(found: dict[str, Any] | None) -> str:
    """Return a description of the configuration that a search chose."""
    if found is None:
        return "none, because every trial is broken"
    keys = [f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in found["keys"].items()]
    return "; ".join(keys) or "as given"


def search_budget_table(collection: Collection) -> Table:
    """Return the table of the search and training budget of each model."""
    rows = []
    for group in collection.groups:
        seen = set()
        failed = [row for row in group.rows if row.search and row.search["chosen"] is None]
        for row in [*group.filled, *failed]:
            if row.label in seen:
                continue
            seen.add(row.label)
            search, most, stop = row.search, Cell("-"), "-"
            if row.results:
                config = row.results[0]["config"]
                most = Cell(str(_most_epochs(config)), _most_epochs(config))
                # RecBole stops as soon as there are more validations in succession than stopping_step.
                validations = f"{config['stopping_step'] + 1} validations without improvement of"
                stop = "one pass" if _one_pass(config) else f"{validations} {config['valid_metric']}"
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
            rows.append([Cell(group.name), Cell(row.label), trials, trial_epochs, most, Cell(stop), chosen,
                         space])  # fmt: skip
    head = ["data set, protocol", "model", "trials", "epochs of a trial", "most epochs", "early stop after",
            "chosen values", "search space"]  # fmt: skip
    notes = [
        "Trials: number of configurations that were tried with one seed. The first one is the given "
        "configuration, the others are random draws. The configuration with the best validation score is run "
        "with every seed."
    ]
    return Table("Search and training budget of each model", head, rows, notes)
