"""Virtual environments of other projects, so that their programs run beside this package.

An environment links the torch that is installed here. All programs therefore compute with the same build,
and pip does not download another one. ``driver`` runs a program of ``benchmarks/peers`` in an environment;
the program reads its arguments from a JSON file and writes its result to another one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import venv
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

PROGRAMS = Path(__file__).resolve().parent / "peers"
FOLDER = "~/.cache/recbole-disent-environments"
# What pip installs for each project. RecBole 1.2.1 needs a numpy and a pandas of its time.
REQUIREMENTS = {
    "RecTools": ["rectools[torch]==0.19.0"],
    "RecBole": ["recbole==1.2.1", "numpy<2", "pandas<2.2", "scipy<1.13", "setuptools<80"],
}


def python_of(project: str, folder: str | Path) -> str:
    """Return the interpreter of a project's environment, which is made when it is not there.

    Args:
        project: a key of ``REQUIREMENTS``, or ``ours`` for the environment of this program.
        folder: of all environments; those that are there already are used again.

    Raises:
        subprocess.CalledProcessError: pip failed.
    """
    if project == "ours":
        return sys.executable
    home = Path(folder).expanduser().resolve() / project.lower()
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    wanted = json.dumps(REQUIREMENTS[project])
    stamp = home / "requirements.json"
    if not stamp.is_file() or stamp.read_text(encoding="utf-8") != wanted:
        print(f"making the environment of {project} in {home}", file=sys.stderr)
        venv.create(home, with_pip=True, clear=True)
        _link_torch(python)
        subprocess.run([python, "-m", "pip", "install", "-q", *REQUIREMENTS[project]], check=True)
        stamp.write_text(wanted, encoding="utf-8")
    return str(python)


def _link_torch(python: Path) -> None:
    """Link the folders of the installed torch, and of its metadata, into an environment."""
    where = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    found = subprocess.run([python, "-c", where], check=True, capture_output=True, text=True)
    target, torch = Path(found.stdout.strip()), distribution("torch")
    folders = {Path(str(file)).parts[0] for file in torch.files or ()} - {"..", "__pycache__"}
    for name in folders:
        source = Path(str(torch.locate_file(name)))
        if source.is_dir():
            (target / name).symlink_to(source, target_is_directory=True)


def driver(program: str, python: str, arguments: dict[str, Any], threads: int = 1) -> dict[str, Any]:
    """Run a program of ``benchmarks/peers`` and return its result.

    Args:
        program: its name, such as ``rectools_lists.py``.
        python: interpreter that runs it.
        arguments: for the program.
        threads: of the libraries that compute.

    Raises:
        subprocess.CalledProcessError: the program failed.
    """
    variables = {f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "MKL", "OPENBLAS")}
    # Other environments must not import the packages of this one.
    paths = [str(PROGRAMS.parent.parent), os.environ.get("PYTHONPATH", "")]
    variables["PYTHONPATH"] = os.pathsep.join(paths) if python == sys.executable else ""
    with tempfile.TemporaryDirectory() as folder:
        given, result = Path(folder) / "arguments.json", Path(folder) / "result.json"
        given.write_text(json.dumps(arguments | {"threads": threads}), encoding="utf-8")
        subprocess.run(
            [python, str(PROGRAMS / program), str(given), str(result)],
            check=True,
            cwd=folder,
            env=os.environ | variables,
            stdout=subprocess.DEVNULL,
        )
        return json.loads(result.read_text(encoding="utf-8"))
