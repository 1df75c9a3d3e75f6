"""Makes a report from result files, as Markdown, CSV, LaTeX, an HTML page and plots."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from recbole_disent.config import key_rules
from recbole_disent.errors import UserError
from recbole_disent.files import write_text
from recbole_disent.leaderboard import formats, plots
from recbole_disent.leaderboard.breakdown import FIELDS, break_down
from recbole_disent.leaderboard.collect import Collection, ResultGroup, collect
from recbole_disent.leaderboard.comparisons import compare, has_users
from recbole_disent.leaderboard.page import page
from recbole_disent.leaderboard.tables import (
    Table,
    beyond_accuracy_table,
    breakdown_table,
    cold_table,
    comparison_table,
    drawn_metric,
    intentions_table,
    kept_table,
    main_table,
    search_budget_table,
    table_metrics,
)


def write(
    folder: Path,
    metrics: list[str] | None = None,
    by: list[str] | None = None,
    out: Path | None = None,
    say: Callable[[str], None] = print,
    reference: str | None = None,
) -> list[Path]:
    """Make the report of a folder, and write it to this folder or to *out*.

    Args:
        folder: folder of a plan, or folder with result files.
        metrics: columns of the tables; None takes the metrics of the plan.
        by: configuration keys whose values are part of the name of a row, for a folder without a plan.
        out: folder for the files of the report.
        say: function that prints a line.
        reference: label of the row that the other rows are tested against; None takes the reference of the
            plan.

    Returns:
        the paths of the files: report.md, report.csv, report.tex, report.html and plots/*.svg.

    Raises:
        UserError: the folder has no results, results that cannot be compared, or no row *reference*.
    """
    collection = collect(folder, by)
    options = {**key_rules.defaults(key_rules.of_plan()), **collection.options}
    if metrics:
        options["metrics"] = metrics
    if not any(group.filled for group in collection.groups):
        raise UserError(f"report: '{folder}' has no result yet; run the plan, with --retry after broken runs")
    if reference is not None:
        labels = {row.label: None for group in collection.groups for row in group.filled}
        if reference not in labels:
            raise UserError(f"--reference: got '{reference}', expected one of {', '.join(labels)}")
        options["reference"] = reference
    tables = make_tables(collection, options)
    notes = provenance(collection)
    pictures = _pictures(collection, options, notes)
    out = out or folder
    texts = {f"report.{name}": make(tables, notes) for name, make in formats.FORMATS.items()}
    texts["report.html"] = page(options["title"] or folder.resolve().name, tables, pictures, notes)
    texts |= {f"plots/{plot.name}.svg": plot.svg for plot in pictures}
    for name, text in texts.items():
        write_text(out / name, text)
    say(f"report: {out / 'report.html'} (also .md, .csv, .tex; {len(pictures)} plots)")
    if plots.MISSING in notes:
        say(plots.MISSING)
    return [out / name for name in texts]


def _pictures(collection: Collection, options: dict[str, Any], notes: list[str]) -> list[plots.Plot]:
    """Return all plots; without matplotlib, return none and add a note."""
    try:
        plots.require()
    except UserError as error:
        notes.insert(0, str(error))
        return []
    filled = [group for group in collection.groups if group.filled]
    found = []
    for group in filled:
        metrics = table_metrics(group, options["metrics"])
        found += plots.make_plots(group, metrics, source_of(group))
    return found


def make_tables(collection: Collection, options: dict[str, Any]) -> list[Table]:
    """Return all tables of a report; the last note of a table names the source of its numbers."""
    found: list[Table] = []
    for group in collection.groups:
        if not group.filled:
            continue
        metrics = table_metrics(group, options["metrics"])
        main = main_table(group, metrics, options)
        if not all(map(has_users, group.filled)):
            main.notes.append("Rows without stored ranks of users have no tests.")
        made = [
            main,
            comparison_table(group, compare(group, metrics, options), options),
            kept_table(group, metrics),
            beyond_accuracy_table(group),
            intentions_table(group),
            *(breakdown_table(group, break_down(group, drawn_metric(metrics), f)) for f in FIELDS),
            cold_table(group, metrics, options["cold_below"]),
        ]
        for table in made:
            if table is not None:
                table.notes.append(source_of(group))
                found.append(table)
    return [*found, search_budget_table(collection)]


def source_of(group: ResultGroup) -> str:
    """Return the data, candidates, version and commits behind the results of a group."""
    results = [result for row in group.filled for result in row.results]
    first = results[0]
    candidates = ", ".join(f"{k} {v}" for k, v in sorted(first["candidate_hashes"].items())) or "all items"
    commits = sorted({_short(result.get("git_commit")) for result in results})
    return (f"Data {first['data_hash']}; candidates: {candidates}; recbole_disent "
            f"{first['versions']['recbole_disent']}, commit {', '.join(commits)}.")  # fmt: skip


def _short(commit: str | None) -> str:
    """Return the first digits of a commit; ``+`` marks a work tree with changes."""
    return "unknown" if commit is None else commit[:10] + "+" * commit.endswith("+")


def provenance(collection: Collection) -> list[str]:
    """Return the command, versions, devices and threads behind a report."""
    results = [r for group in collection.groups for row in group.filled for r in row.results]
    found = []
    if collection.command:
        found.append(f"Command: {' '.join(map(str, collection.command))}")
    versions = sorted({", ".join(f"{k} {v}" for k, v in r["versions"].items() if v) for r in results})
    found += [f"Versions: {v}." for v in versions]
    devices = sorted({str(r["config"].get("device")) for r in results})
    threads = sorted({str(r["threads"]) for r in results if "threads" in r})
    of_threads = f"; threads per run: {', '.join(threads)}" if threads else ""
    found.append(f"Device: {', '.join(devices)}{of_threads}.")
    return found
