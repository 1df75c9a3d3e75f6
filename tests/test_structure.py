"""Tests of the structure: imports without circles, one table of model names, and a fast command line."""

from __future__ import annotations

import ast
import re
import resource
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from recbole_disent.registry import recbole_models
from recbole_disent.specs import SPECS

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "recbole_disent"
# The table of models, and what the models' own files are called there.
TABLE = "recbole_disent.specs"


@cache
def modules() -> dict[str, ast.Module]:
    """Return module name -> syntax tree for all modules of the package."""
    found = {}
    for file in PACKAGE.rglob("*.py"):
        name = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        found[name] = ast.parse(file.read_text(encoding="utf-8"))
    return found


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imported(tree: ast.Module, known: set[str]) -> set[str]:
    """Return the modules among *known* that a module imports, except for ``if TYPE_CHECKING``."""
    found, todo = set(), [*tree.body]
    while todo:
        node = todo.pop()
        if is_type_checking(node):
            todo += node.orelse
            continue
        todo += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports inside the package are absolute"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in known else str(node.module))
    return found & known


@cache
def graph() -> dict[str, set[str]]:
    """Return module -> imported modules of the package."""
    known = set(modules())
    return {name: imported(tree, known) - {name} for name, tree in modules().items()}


def reachable(edges: dict[str, set[str]], start: str) -> set[str]:
    found, todo = set(), [start]
    while todo:
        for name in edges[todo.pop()] - found:
            found.add(name)
            todo.append(name)
    return found


def circles(edges: dict[str, set[str]]) -> list[str]:
    """Return the modules that import themselves through other modules."""
    return sorted(name for name in edges if name in reachable(edges, name))


def test_circles_are_found():
    tree = ast.parse("def late():\n    from a import b\n    import c\nif TYPE_CHECKING:\n    import d\n")
    assert imported(tree, {"a", "a.b", "c", "d"}) == {"a.b", "c"}
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]


def test_there_is_no_circle_between_modules():
    assert len(graph()) > 80
    assert circles(graph()) == []


@pytest.mark.parametrize("folder", ["data", "training", "content", "loaders", "evaluation", "ops"])
def test_a_lower_layer_imports_no_model(folder):
    below = f"recbole_disent.{folder}"
    mine = [name for name in graph() if name == below or name.startswith(below + ".")]
    assert mine
    for name in mine:
        assert [d for d in graph()[name] if d.startswith("recbole_disent.models")] == [], name


def docstrings(tree: ast.Module) -> set[int]:
    """Return the identities of the nodes that are docstrings."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    bodies = [node.body for node in ast.walk(tree) if isinstance(node, kinds)]
    return {id(body[0].value) for body in bodies if body and isinstance(body[0], ast.Expr)}


def names_in(tree: ast.Module, names: set[str]) -> list[tuple[int, str]]:
    """Return (line, name) of each identifier, and of each word of a string, that is in *names*."""
    skipped, found = docstrings(tree), []
    for node in ast.walk(tree):
        words = [getattr(node, field, None) for field in ("id", "attr", "name", "arg", "asname")]
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
            words += re.findall(r"\w+", node.value)
        found += [(getattr(node, "lineno", 0), w) for w in words if isinstance(w, str) and w in names]
    return found


def test_names_of_models_are_found():
    text = '"""BPR."""\ndef f():\n    "BPR"\n    return BPR, x.BPR, "a BPR b"\n'
    assert names_in(ast.parse(text), {"BPR"}) == [(4, "BPR")] * 3


def test_a_name_of_a_model_stands_in_the_table_and_its_own_files_only():
    names = {*SPECS, *recbole_models()}
    for module, tree in modules().items():
        own = {
            name
            for name, spec in SPECS.items()
            if any(path and path.split(":")[0] == module for path in (spec.cls, spec.adapter))
        }
        if module != TABLE:
            assert names_in(tree, names - own) == [], module


def test_files_stay_below_400_lines():
    files = [*PACKAGE.rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    lengths = {str(file): len(file.read_text(encoding="utf-8").splitlines()) for file in files}
    assert {file: lines for file, lines in lengths.items() if lines >= 400} == {}


# -- what answers without torch --------------------------------------------------------

QUICK = {
    "import": ("import recbole_disent; recbole_disent.__version__", 0, ""),
    "help": ("main(['--help'])", 0, "compare"),
    "subcommand": ("main(['rum'])", 2, "invalid choice: 'rum'"),
    "model": ("main(['run', '--model=SASRce', '--dataset=x'])", 2, "did you mean 'SASRec'?"),
    "tuned model": ("main(['tune', '--model=BRP', '--dataset=x'])", 2, "did you mean 'BPR'?"),
    "compared model": ("main(['compare', '--models=BPR,SASRce'])", 2, "did you mean 'SASRec'?"),
}
HEAVY = ("torch", "recbole", "pandas", "numpy", "scipy")


@pytest.mark.parametrize(("code", "exit_code", "message"), QUICK.values(), ids=QUICK)
def test_it_answers_at_once_and_without_torch(code, exit_code, message):
    program = f"""
import sys
from recbole_disent.cli import main
try:
    code = {code if code.startswith("main") else "exec(" + repr(code) + ")"}
except SystemExit as exit:
    code = exit.code
print("heavy:", sorted(set({HEAVY}) & set(sys.modules)))
sys.exit(code)
"""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == exit_code, done.stderr
    assert message in done.stdout + done.stderr
    assert "heavy: []" in done.stdout
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5
