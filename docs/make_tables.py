"""Tables of the documentation that are made from the package, and equations as MathML: a hook of MkDocs.

``python docs/make_tables.py`` writes each table into its page, between ``<!-- generated: NAME -->`` and
``<!-- end -->``. A test fails if a page differs from what the program would write.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from recbole_disent.config import key_rules, key_tables  # noqa: E402
from recbole_disent.specs import SPECS  # noqa: E402

# A part ends before the next one begins, so that a missing end cannot swallow the text between two parts.
_GENERATED = re.compile(
    r"(<!-- generated: ([a-z-]+) -->)(\n*)(?:(?!<!-- generated: ).)*?\n*(<!-- end -->)", re.DOTALL
)
_EQUATION = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def models() -> str:
    """The models that the package trains or scores in a way of its own."""
    rows = []
    for spec in SPECS.values():
        if spec.supported and (spec.cls or spec.adapter):
            modes = ", ".join(f"`{mode}`" for mode in spec.modes) or "as in RecBole"
            content = {"never": "no", "always": "yes"}.get(spec.content, f"with `{spec.content}: True`")
            rows.append([f"`{spec.name}`", "this package" if spec.cls else "RecBole", modes, content])
    return _table(["model", "class from", "`train_mode`", "uses item content"], rows)


def unsupported() -> str:
    """Names of RecBole's models that do not run."""
    return ", ".join(f"`{spec.name}`" for spec in SPECS.values() if not spec.supported)


def preset_keys() -> str:
    """The presets and the keys that each of them sets."""
    rows = []
    for file in sorted((key_rules.folder("properties") / "presets").glob("*/*.yaml")):
        values = key_rules.load_yaml(file.read_text(encoding="utf-8"))
        keys = ", ".join(f"`{key}: {value}`" for key, value in values.items())
        model = "every model" if file.parent.name == "protocols" else f"`{file.parent.name}`"
        rows.append([f"`{file.stem}`", model, keys])
    return _table(["preset", "model", "keys"], rows) if rows else "This version has none."


def data_sets() -> str:
    """The data sets that have settings of their own."""
    rows = []
    for file in sorted(key_rules.folder("dataset_configs").glob("[!_]*.yaml")):
        about = file.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ").replace("|", "\\|")
        rows.append([f"`{file.stem}`", about])
    return _table(["name", "what it is"], rows)


PARTS: dict[str, Callable[[], str]] = {
    "keys": key_tables.page,
    "models": models,
    "unsupported": unsupported,
    "presets": preset_keys,
    "data-sets": data_sets,
}


def fill(markdown: str) -> str:
    """Return a page with its tables as they are now; a part inside a line stays in the line."""

    def part(match: re.Match[str]) -> str:
        gap = "\n\n" if match[3] else ""
        return match[1] + gap + PARTS[match[2]]().strip() + gap + match[4]

    return _GENERATED.sub(part, markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Turn the equations of a page into MathML."""
    from latex2mathml.converter import convert

    def equation(match: re.Match[str]) -> str:
        display = "block" if match[2] == "[" else "inline"
        return convert(unescape(match[3].strip()), display=display)

    return _EQUATION.sub(equation, html)


if __name__ == "__main__":
    for page in (ROOT / "docs").glob("*.md"):
        page.write_text(fill(page.read_text(encoding="utf-8")), encoding="utf-8")
