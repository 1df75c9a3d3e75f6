"""Makes a report from result files: Markdown, CSV, LaTeX, one HTML page, plots."""

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
) -> list[Path]:
    """Make the report of a folder and write it there, or into *out*.

    Args:
        folder: of a plan, or with result files.
        metrics: columns of the tables; None: as the plan says.
        by: configuration keys that name a row, for a folder without plan.
        out: folder of the report's files.
        say: prints a line.

    Returns:
        the files: report.md, .csv, .tex, .html and plots/*.svg.

    Raises:
        UserError: nothing to report, or results that cannot be compared.
    """
    collection = collect(folder, by)
    options = {**key_rules.defaults(key_rules.of_plan()), **collection.options}
    if metrics:
        options["metrics"] = metrics
    if not any(setting.filled for setting in collection.settings):
        raise UserError(f"report: '{folder}' has no result yet; run the plan (again, with --retry)")
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
    return [out / name for name in texts]


def _pictures(collection: Collection, options: dict[str, Any], notes: list[str]) -> list[plots.Plot]:
    """Return all plots; without matplotlib none, and a note."""
    try:
        plots.require()
    except UserError as error:
        notes.insert(0, str(error))
        return []
    filled = [setting for setting in collection.settings if setting.filled]
    found = []
    for setting in filled:
        metrics = table_metrics(setting, options["metrics"])
        found += plots.make_plots(setting, metrics, source_of(setting))
    return found


def make_tables(collection: Collection, options: dict[str, Any]) -> list[Table]:
    """Return all tables of a report, each with where its numbers come from."""
    found: list[Table] = []
    for setting in collection.settings:
        if not setting.filled:
            continue
        metrics = table_metrics(setting, options["metrics"])
        main = main_table(setting, metrics, options)
        if not all(map(has_users, setting.filled)):
            main.notes.append("Ranks of single users are not stored for every row: no tests for the others.")
        made = [
            main,
            comparison_table(setting, compare(setting, metrics, options), options),
            kept_table(setting, metrics),
            beyond_accuracy_table(setting),
            *(breakdown_table(setting, break_down(setting, drawn_metric(metrics), f)) for f in FIELDS),
            cold_table(setting, metrics, options["cold_below"]),
        ]
        for table in made:
            if table is not None:
                table.notes.append(source_of(setting))
                found.append(table)
    return [*found, search_budget_table(collection)]


def source_of(setting: ResultGroup) -> str:
    """Return what the results of a setting were measured on and made by."""
    results = [result for row in setting.filled for result in row.results]
    first = results[0]
    candidates = ", ".join(f"{k} {v}" for k, v in sorted(first["candidate_hashes"].items())) or "all items"
    commits = sorted({_short(result["git_commit"]) for result in results})
    return (f"Data {first['data_hash']}; candidates: {candidates}; recbole_disent "
            f"{first['versions']['recbole_disent']}, commit {', '.join(commits)}.")  # fmt: skip


def _short(commit: str | None) -> str:
    """First letters of a commit; + marks a changed work tree."""
    return "unknown" if commit is None else commit[:10] + "+" * commit.endswith("+")


def provenance(collection: Collection) -> list[str]:
    """Return the command, versions and commits behind a whole report."""
    results = [r for setting in collection.settings for row in setting.filled for r in row.results]
    found = []
    if collection.command:
        found.append(f"Command: {' '.join(collection.command)}")
    versions = sorted({", ".join(f"{k} {v}" for k, v in r["versions"].items() if v) for r in results})
    found += [f"Versions: {v}." for v in versions]
    devices = sorted({str(r["config"].get("device")) for r in results})
    threads = sorted({str(r["threads"]) for r in results if "threads" in r})
    of_threads = f"; threads a run: {', '.join(threads)}" if threads else ""
    found.append(f"Device: {', '.join(devices)}{of_threads}.")
    return found
