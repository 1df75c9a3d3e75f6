"""Makes a report as one HTML page with sortable tables and plots; the page loads nothing else."""

from __future__ import annotations

from html import escape
from pathlib import Path
from string import Template

from recbole_disent.leaderboard.plots import Plot
from recbole_disent.leaderboard.tables import Cell, Table

_TEMPLATE = Path(__file__).with_name("page.html")
# Longer texts are sentences, which the browser may break into lines.
_SHORT = 40


def page(title: str, tables: list[Table], plots: list[Plot], notes: list[str]) -> str:
    """Return the page: all plots first, then the tables and the notes."""
    parts = [_table(number, table) for number, table in enumerate(tables)]
    pictures = "".join(
        f"<figure><figcaption>{escape(plot.title)}</figcaption>{plot.svg}</figure>" for plot in plots
    )
    links = [f'<a href="#t{number}">{escape(table.title)}</a>' for number, table in enumerate(tables)]
    if plots:
        links.insert(0, '<a href="#plots">plots</a>')
        parts.insert(0, f'<h2 id="plots">Plots</h2><div class="plots">{pictures}</div>')
    return Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=escape(title),
        contents=" ".join(links),
        body="\n".join(parts),
        notes="".join(f'<p class="note">{escape(note)}</p>' for note in notes),
    )


def _table(number: int, table: Table) -> str:
    head = "".join(f'<th scope="col"><button type="button">{escape(h)}</button></th>' for h in table.head)
    rows = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in table.rows)
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in table.notes)
    return (f'<h2 id="t{number}">{escape(table.title)}</h2><div class="wide"><table><thead><tr>{head}</tr>'
            f"</thead><tbody>{rows}</tbody></table></div>{notes}")  # fmt: skip


def _cell(cell: Cell) -> str:
    text = f"<b>{escape(cell.text)}</b>" if cell.bold else escape(cell.text)
    value = "" if cell.value is None else f' data-value="{cell.value!r}"'
    return f'<td class="{"n" if len(cell.text) <= _SHORT else "t"}"{value}>{text}</td>'
