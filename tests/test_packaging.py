"""Tests that the package works from another directory, installed as a wheel and editable."""

from __future__ import annotations

import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from recbole_disent.requirement import RECBOLE_VERSION

ROOT = Path(__file__).resolve().parent.parent

# Finds its files and resolves a model of this package and one of RecBole.
PROBE = (
    "from recbole_disent.config import key_rules as s; from recbole_disent.config.config import Config; "
    "c = Config('DisentS2S', 'ml-1m'); "
    "print(s.folder('properties'), c['n_intentions'], c['MAX_ITEM_LIST_LENGTH'])"
)


def run(*command: object, cwd: Path) -> str:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, ROOT, cwd=folder)
    return next(folder.glob("recbole_disent-*.whl"))


def metadata_of(wheel: Path) -> str:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith("/METADATA"))
        return archive.read(name).decode()


@pytest.mark.packaging
def test_wheel_holds_the_properties_and_nothing_beside_the_package(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for part in ("properties", "dataset_configs"):
        for file in (ROOT / part).rglob("*.*"):
            assert f"recbole_disent/{file.relative_to(ROOT)}" in names
    assert "recbole_disent/leaderboard/page.html" in names
    tops = {name.split("/")[0] for name in names}
    assert {t for t in tops if not t.endswith(".dist-info")} == {"recbole_disent"}
    text = metadata_of(wheel)
    # With its own dependencies pip finds none for Python 3.12 and newer.
    assert "Requires-Dist: recbole" not in text
    assert "Requires-Dist: torch>=2.4\n" in text
    assert "Requires-Python: >=3.10\n" in text


@pytest.mark.packaging
@pytest.mark.parametrize("how", ["wheel", "editable"])
def test_install_works_from_another_directory(wheel, tmp_path, how):
    """Make an environment that shares the packages of this one, and installs the package itself."""
    home = tmp_path / "env"
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path))
    ours = Path(run(sys.executable, "-c", "import recbole; print(recbole.__path__[0])", cwd=tmp_path)).parent
    # All that is installed here, but for the package itself.
    others = tmp_path / "others"
    others.mkdir()
    for entry in ours.iterdir():
        if not entry.name.startswith(("recbole_disent", "__editable__")):
            (others / entry.name).symlink_to(entry)
    (site / "others.pth").write_text(f"{others}\n")
    source = [wheel] if how == "wheel" else ["-e", ROOT]
    run(python, "-m", "pip", "install", "-q", "--no-deps", *source, cwd=tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    folder, intentions, length = run(python, "-c", PROBE, cwd=elsewhere).splitlines()[-1].split()
    assert Path(folder) == (site / "recbole_disent" if how == "wheel" else ROOT) / "properties"
    assert (intentions, length) == ("4", "200")
    command = home / "bin" / "recbole-disent"
    assert "--model" in run(command, "run", "--help", cwd=elsewhere)
    for entry in others.glob("recbole*"):
        entry.unlink()
    assert "--model" in run(command, "run", "--help", cwd=elsewhere)
    words = [command, "run", "--model=Pop", "--dataset=ml-100k"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=elsewhere)
    assert done.returncode == 2
    assert done.stderr == (
        "recbole-disent: error: recbole_disent needs RecBole 1.2.1, but it is not installed: "
        "pip install --no-deps recbole==1.2.1\n"
    )


def test_uv_installs_the_recbole_that_the_package_asks_for():
    """The test reads the file as text, because the TOML reader of Python requires 3.11."""
    text = (ROOT / "pyproject.toml").read_text()
    assert f'recbole = ["recbole=={RECBOLE_VERSION}"]' in text
    assert f'name = "recbole"\nversion = "{RECBOLE_VERSION}"\nrequires-dist = []' in text


@pytest.mark.packaging
def test_the_tested_set_is_within_the_declared_ranges(wheel):
    lines = (ROOT / ".ci" / "tested.txt").read_text().splitlines()
    tested = dict(line.lower().split("==") for line in lines if not line.startswith("#"))
    assert tested["recbole"] == RECBOLE_VERSION
    needed = re.findall(r"^Requires-Dist: (.*)$", metadata_of(wheel), re.MULTILINE)
    assert len(needed) > 10
    for requirement in map(Requirement, needed):
        if 'extra == "content"' not in str(requirement.marker):
            assert requirement.specifier.contains(tested[requirement.name.lower()]), requirement
