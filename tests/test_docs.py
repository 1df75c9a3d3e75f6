"""README's tables are the properties files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from recbole_disent.config import key_rules

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("title", key_rules.TABLES)
def test_readme_has_the_generated_table(title):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(rf"<!-- keys: {title} -->\n(.*?)\n<!-- end -->", readme, re.DOTALL)
    assert found, "run python -m recbole_disent.settings and put the tables into README"
    assert found[1] == key_rules.markdown(key_rules.of_file(key_rules.TABLES[title]))


def test_links_in_the_documents_lead_somewhere():
    for name in ("README.md", "CONTRIBUTING.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
            assert (ROOT / target).exists(), f"{name}: {target}"
