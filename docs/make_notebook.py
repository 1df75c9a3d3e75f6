"""Make the notebook of the quick start from its page, so that both have the same text and code.

``python docs/make_notebook.py`` writes ``docs/quick-start.ipynb``. The blocks of the page are tests, and
another test compares the notebook with the page.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"^<!--.*?-->\n", re.MULTILINE)


def _cell(kind: str, number: int, text: str) -> dict[str, Any]:
    cell: dict[str, Any] = {
        "cell_type": kind,
        "id": f"cell-{number}",
        "metadata": {},
        "source": text.strip("\n").splitlines(keepends=True),
    }
    return cell | ({"execution_count": None, "outputs": []} if kind == "code" else {})


def notebook(page: str) -> str:
    """Return a notebook, as JSON, with a code cell for each bash or python block of a page."""
    cells: list[dict[str, Any]] = []
    # Text and blocks take turns: text, language, code, text, ...
    parts = _FENCE.split(_COMMENT.sub("", page))
    for i, part in enumerate(parts):
        if i % 3 == 0 and part.strip():
            cells.append(_cell("markdown", len(cells), part))
        elif i % 3 == 2:
            bash = parts[i - 1] == "bash"
            cells.append(
                _cell("code", len(cells), re.sub(r"^(?=\S)", "!", part, flags=re.M) if bash else part)
            )
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    content = {
        "cells": cells,
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    text = (DOCS / "quick-start.md").read_text(encoding="utf-8")
    (DOCS / "quick-start.ipynb").write_text(notebook(text), encoding="utf-8")
