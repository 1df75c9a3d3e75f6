"""Writes tables as Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io

from recbole_disent.leaderboard.tables import Cell, Table


def markdown_cell(cell: Cell) -> str:
    """Return the text of a cell of a Markdown table."""
    text = cell.text.replace("|", "\\|")
    return f"**{text}**" if cell.bold else text


def markdown(tables: list[Table], notes: list[str]) -> str:
    """Return all tables as Markdown, with the notes at the end."""
    lines = []
    for table in tables:
        lines += [f"## {table.title}", ""]
        lines += ["| " + " | ".join(table.head) + " |", "| " + " | ".join("---" for _ in table.head) + " |"]
        lines += ["| " + " | ".join(map(markdown_cell, row)) + " |" for row in table.rows]
        lines += ["", *(f"{note}\n" for note in table.notes)]
    return "\n".join([*lines, *(f"{note}\n" for note in notes)])


def as_csv(tables: list[Table], notes: list[str]) -> str:
    """Return all cells in long format, one line for each cell; the notes are left out."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(["table", "row", "column", "text", "value", "significant"])
    for table in tables:
        for number, row in enumerate(table.rows, start=1):
            for column, cell in zip(table.head, row, strict=True):
                value = "" if cell.value is None else repr(cell.value)
                out.writerow([table.title, number, column, cell.text, value, int(cell.bold)])
    return text.getvalue()


_TEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
        "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "|": r"\textbar{}",
        "<": r"\textless{}", ">": r"\textgreater{}"}  # fmt: skip


def _tex(text: str) -> str:
    return "".join(_TEX.get(letter, letter) for letter in text)


def latex(tables: list[Table], notes: list[str]) -> str:
    """Return a LaTeX ``table`` for each table, with rules of the package ``booktabs``."""
    lines = ["% needs \\usepackage{booktabs}"]
    for table in tables:
        lines += [r"\begin{table}", rf"\caption{{{_tex(table.title)}}}", r"\centering\small"]
        lines += [rf"\begin{{tabular}}{{{'l' * len(table.head)}}}", r"\toprule"]
        lines += [" & ".join(map(_tex, table.head)) + r" \\", r"\midrule"]
        for row in table.rows:
            cells = (rf"\textbf{{{_tex(c.text)}}}" if c.bold else _tex(c.text) for c in row)
            lines.append(" & ".join(cells) + r" \\")
        lines += [r"\bottomrule", r"\end{tabular}", *(rf"\par {_tex(note)}" for note in table.notes)]
        lines += [r"\end{table}", ""]
    return "\n".join([*lines, *(f"% {note}" for note in notes)]) + "\n"


FORMATS = {"md": markdown, "csv": as_csv, "tex": latex}
