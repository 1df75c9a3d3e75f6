"""The documentation: links lead somewhere, names exist, and the code blocks run.

Blocks of a page run in the order of the page and in one temporary folder. CONTRIBUTING.md describes
the markers of blocks, and how runs are shortened.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import subprocess
import sys
from collections import Counter
from glob import glob
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import recbole
import yaml

from recbole_disent import cli
from recbole_disent.config import key_rules, key_tables, recbole_keys
from recbole_disent.registry import get_model, spec_of
from recbole_disent.session import run

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
DOCUMENTS = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
# Users with at most so many events are in the small copy of MovieLens-100K.
MOST_EVENTS = 40


def load_from_docs(name: str) -> Any:
    """Import a file of the folder docs."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HOOK = load_from_docs("make_tables")


class Block(NamedTuple):
    """A fenced block of a page; *not_run* is why it does not run, *needs* what has to be there."""

    page: Path
    line: int
    language: str
    title: str
    text: str
    not_run: str
    needs: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """Read the fenced blocks of a page."""
    found = []
    lines = page.read_text(encoding="utf-8").splitlines()
    start = None
    for i, line in enumerate(lines):
        if not line.startswith("```"):
            continue
        if start is None:
            start = i
            continue
        language, _, rest = lines[start][3:].partition(" ")
        title = re.search(r'title="(.*?)"', rest)
        before = lines[start - 1] if start else ""
        marks = dict(re.findall(r"^<!-- (not run|needs): (.+?) -->$", before))
        text = re.sub(r'^--8<-- "(.+)"$', lambda m: (ROOT / m[1]).read_text(encoding="utf-8"),
                      "\n".join(lines[start + 1 : i]) + "\n", flags=re.MULTILINE)  # fmt: skip
        found.append(Block(page, start + 1, language, title[1] if title else "", text,
                           marks.get("not run", ""), marks.get("needs", "")))  # fmt: skip
        start = None
    assert start is None, f"{page.name}: a fenced block has no end"
    return found


BLOCKS = {page: blocks_of(page) for page in PAGES}
CODE = [b for blocks in BLOCKS.values() for b in blocks if b.language in ("bash", "python")]


def is_there(need: str) -> bool:
    """Return whether this version has the features that a block needs."""
    if need == "load":
        return importlib.util.find_spec("recbole_disent.recommender") is not None
    if need == "bundle":
        return is_there("load") and importlib.util.find_spec("safetensors") is not None
    if need == "plots":
        return importlib.util.find_spec("matplotlib") is not None
    if need == "convert-command":
        return "convert" in commands()
    raise AssertionError(f"the mark 'needs: {need}' is not known")


def commands() -> dict[str, Any]:
    """Return name -> parser of the subcommands."""
    return next(a for a in cli._parser()._actions if a.dest == "command").choices  # type: ignore[return-value]


# -- running -----------------------------------------------------------------------------


def write_small_ml_100k(folder: Path) -> None:
    """Write the users of MovieLens-100K with few events as a data set of the same name."""
    source = Path(recbole.__file__).parent / "dataset_example" / "ml-100k"
    target = folder / "dataset" / "ml-100k"
    target.mkdir(parents=True)
    head, *rows = (source / "ml-100k.inter").read_text(encoding="utf-8").splitlines(keepends=True)
    counts = Counter(row.partition("\t")[0] for row in rows)
    few = [row for row in rows if counts[row.partition("\t")[0]] <= MOST_EVENTS]
    (target / "ml-100k.inter").write_text(head + "".join(few), encoding="utf-8")
    (target / "ml-100k.item").write_bytes((source / "ml-100k.item").read_bytes())


def command_lines(text: str) -> list[str]:
    """Return the commands of a bash block, with continued lines joined."""
    return [line for line in text.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]


def shortened(words: list[str]) -> list[str]:
    """Return the words of a command line, with fewer epochs and seeds and the small data set."""
    more = []
    if words[0] in ("run", "tune"):
        more += ["--show_progress=False"]
        if not any(word.startswith("--epochs") for word in words):
            more += ["--epochs=1"]
    if words[0] == "compare" and "--dry-run" not in words:
        more += ["--seeds", "1", "--epochs", "1"]
    if any("ml-100k" in word for word in words):
        more += ["--data_path", "dataset"] if words[0] == "compare" else ["--data_path=dataset"]
    return [*words, *more]


def shortened_code(text: str) -> str:
    """Return Python code that uses the small data set."""
    return text.replace("config_dict={", 'config_dict={"data_path": "dataset", ')


def run_command(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a command line in bash; commands of the package run in this process, which has imported torch."""
    words = shlex.split(line, comments=True)
    words = [found for word in words for found in (glob(word) if "*" in word else [word])]
    if words[:2] == ["python", "run_recbole_disent.py"]:
        words = ["recbole-disent", "run", *words[2:]]
    if words[0] != "recbole-disent":
        subprocess.run(["bash", "-ec", line], check=True)
        return
    words = shortened(words[1:])
    monkeypatch.setattr(sys, "argv", ["recbole-disent", *words])
    assert cli.main(words) == 0, line


@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in PAGES if any(b.page == p for b in CODE)], ids=lambda p: p.name)
def test_code_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_small_ml_100k(tmp_path)
    names: dict[str, Any] = {"__name__": "docs"}
    for block in BLOCKS[page]:
        if block.not_run or (block.needs and not is_there(block.needs)):
            continue
        if re.fullmatch(r"[\w.-]+", block.title):
            (tmp_path / block.title).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            exec(compile(shortened_code(block.text), str(block), "exec"), names)
        elif block.language == "bash":
            for line in command_lines(block.text):
                run_command(line, monkeypatch)


@pytest.mark.parametrize("block", [b for b in CODE if b.not_run or b.needs], ids=str)
def test_blocks_that_do_not_run_are_listed(block: Block) -> None:
    if block.not_run:
        pytest.skip(block.not_run)
    if not is_there(block.needs):
        pytest.skip(f"needs {block.needs}")


# -- reading -----------------------------------------------------------------------------


def slug(heading: str) -> str:
    """Return the anchor that MkDocs makes for a heading."""
    text = re.sub(r"[^\w\s-]", "", heading.replace("`", "")).strip().lower()
    return re.sub(r"[-\s]+", "-", text)


def anchors_of(document: Path) -> set[str]:
    text = re.sub(r"^```.*?^```$", "", document.read_text(encoding="utf-8"), flags=re.M | re.S)
    return {slug(heading) for heading in re.findall(r"^#+ (.+)$", text, flags=re.M)}


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
        file, _, anchor = target.partition("#")
        found = (document.parent / file).resolve() if file else document
        assert found.exists(), f"{document.name}: {target}"
        if document.parent.name == "docs":
            assert found.is_relative_to(ROOT / "docs"), f"{document.name}: {target} is not part of the site"
        if anchor:
            assert anchor in anchors_of(found), f"{document.name}: {target}"


def test_the_notebook_is_the_quick_start() -> None:
    page = (ROOT / "docs" / "quick-start.md").read_text(encoding="utf-8")
    found = (ROOT / "docs" / "quick-start.ipynb").read_text(encoding="utf-8")
    assert found == load_from_docs("make_notebook").notebook(page), "run docs/make_notebook.py"
    cells = [cell for cell in json.loads(found)["cells"] if cell["cell_type"] == "code"]
    assert len(cells) == len(BLOCKS[ROOT / "docs" / "quick-start.md"])


def test_every_page_is_in_the_navigation_and_has_one_title() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    navigation = str(yaml.safe_load(text)["nav"])
    for page in PAGES[1:]:
        assert f"'{page.name}'" in navigation
        code_free = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
        assert len(re.findall(r"^# ", code_free, flags=re.M)) == 1, page.name


def test_configuration_lists_every_key_with_its_default() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    for file in key_tables.files():
        for key, rule in key_rules.of_file(file).items():
            default = "null" if rule.default is None else str(rule.default)
            assert f"| `{key}` | `{default}` |" in text, f"{file}: {key}"


def test_tables_of_options_name_every_value_of_a_key() -> None:
    rules, lacking = key_rules.overall(), {}
    for page in PAGES:
        for key, text in re.findall(r"^\| `(\w+)` \| (.*)", page.read_text(encoding="utf-8"), re.MULTILINE):
            if key in rules and not all(choice in text for choice in rules[key].choices):
                lacking[key] = text
    assert not lacking


def test_every_key_of_a_result_file_is_explained(tmp_path: Path) -> None:
    write_small_ml_100k(tmp_path)
    report = run("Pop", "ml-100k", config_dict={"data_path": "dataset", "show_progress": False})
    text = (ROOT / "docs" / "result-file.md").read_text(encoding="utf-8")
    assert [key for key in report if f"`{key}`" not in text] == []


def test_generated_tables_are_those_of_this_version() -> None:
    """If this fails, run ``python docs/make_tables.py``."""
    found = set()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert HOOK.fill(text) == text, page.name
        names = re.findall("<!-- generated: ([a-z-]+) -->", text)
        assert names == [match[2] for match in HOOK._GENERATED.finditer(text)], page.name
        assert len(names) == text.count("<!-- end -->"), page.name
        assert "| key | default |" not in HOOK._GENERATED.sub("", text), page.name
        found |= set(names)
    assert found == set(HOOK.PARTS)
    assert re.findall(r"[^.] \|$", HOOK.data_sets(), flags=re.M)[2:] == []  # after the head of the table


def known_options() -> set[str]:
    """Return the options of the subcommands and all configuration keys, including RecBole's models."""
    found = {word[2:] for p in commands().values() for a in p._actions for word in a.option_strings}
    for file in key_tables.files():
        found |= set(key_rules.of_file(file))
    found |= recbole_keys.of_framework() | {"USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD"}
    found |= recbole_keys.of_class(get_model("SASRecF"))
    return found


OPTION = re.compile(r"(?<![\w-])--([A-Za-z][\w-]*)")
# Options of other programs.
FOREIGN = {"index-url", "no-deps", "strict", "check", "nproc_per_node"}


@pytest.mark.parametrize("document", [p for p in DOCUMENTS if p.name != "CHANGELOG.md"], ids=lambda p: p.name)
def test_options_exist(document: Path) -> None:
    missing = [b.needs for b in BLOCKS.get(document, []) if b.needs and not is_there(b.needs)]
    if missing:
        pytest.skip(f"needs {missing[0]}")
    text = document.read_text(encoding="utf-8")
    for command in re.findall(r"python benchmarks/[^`\n]*", text):
        script = (ROOT / command.split()[1]).read_text(encoding="utf-8")
        source = script + (ROOT / "benchmarks" / "common.py").read_text(encoding="utf-8")
        for option in re.findall(OPTION, command):
            assert re.search(rf"\b{option}\b", source), f"{document.name}: {command}"
        text = text.replace(command, "")
    unknown = set(re.findall(OPTION, text)) - FOREIGN - known_options()
    assert not unknown, f"{document.name}: {sorted(unknown)}"


@pytest.mark.parametrize("document", [p for p in DOCUMENTS if p.name != "CHANGELOG.md"], ids=lambda p: p.name)
def test_files_that_are_named_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    folders = "recbole_disent|docs|tests|properties|benchmarks|data|models|ops|training|parallel|recbole"
    pattern = rf"`((?:{folders})/[\w/.-]+)`"
    for name in re.findall(pattern, text):
        if name.startswith(("data/shop", "properties/presets")):
            continue
        here = any((base / name).exists() for base in (ROOT, ROOT / "recbole_disent"))
        assert here or "NAME" in name, f"{document.name}: {name}"


def test_models_that_are_named_exist() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    for name in set(re.findall(r"--model=(\w+)", text)) - {"NAME", "MyGRU"}:
        assert spec_of(name).supported, name


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="the extra docs is not installed")
    pytest.importorskip("mkdocstrings", reason="the extra docs is not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "<math" in (tmp_path / "site" / "models" / "index.html").read_text(encoding="utf-8")
