"""Command line: arguments only."""

from __future__ import annotations

import argparse
import sys

_USAGE = """\
recbole-disent run --model=NAME --dataset=NAME [--config_files="a.yaml b.yaml"] [--KEY=VALUE ...]

Any configuration key of RecBole, of this package or of the model is a KEY; README lists them.
"""

_TUNE_USAGE = """\
recbole-disent tune --model=NAME --dataset=NAME [--params_file=FILE] [--tool=random|hyperopt|ray]
       [--algo=exhaustive|random|bayes] [--max_evals=N] [--output=FOLDER] [--config_files="a.yaml b.yaml"]
       [--KEY=VALUE ...]

README, "Tuning", has the other options; the same command goes on with a search that was stopped.
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="recbole-disent", usage=_USAGE, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", usage=_USAGE, allow_abbrev=False, help="train and test a model")
    tune = commands.add_parser(
        "tune", usage=_TUNE_USAGE, allow_abbrev=False, help="search for hyper-parameters"
    )
    for command in (run, tune):
        command.add_argument("--model", "-m", help="name of the model; a config file may give it")
        command.add_argument("--dataset", "-d", help="name of the data set; a config file may give it")
        command.add_argument("--config_files", default="", help="YAML files, separated by blanks")
    for option in _TUNE_OPTIONS:
        tune.add_argument(f"--{option}", default=argparse.SUPPRESS)
    return parser


# Of properties/tune.yaml, which has their meaning, values and defaults.
_TUNE_OPTIONS = ("params_file", "tool", "algo", "max_evals", "output", "ray_address",
                 "cpus_per_trial", "gpus_per_trial", "grace_epochs", "reduction_factor")  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Run a command; return the exit code: 0, or 2 for an error that is the user's to mend."""
    known, rest = _parser().parse_known_args(argv)
    # RecBole, torch and pandas take seconds to import: --help must not wait for them.
    from recbole_disent.errors import UserError

    try:
        {"run": _run, "tune": _tune}[known.command](known, rest)
    except UserError as error:
        print(f"recbole-disent: error: {error}", file=sys.stderr)
        return 2
    return 0


def _run(known: argparse.Namespace, rest: list[str]) -> None:
    from recbole_disent.quick_start import run

    run(known.model, known.dataset, known.config_files.split(), cmd_args=rest)


def _tune(known: argparse.Namespace, rest: list[str]) -> None:
    from recbole_disent.config import literal
    from recbole_disent.tuning.command import tune

    given = {name: literal(getattr(known, name)) for name in _TUNE_OPTIONS if hasattr(known, name)}
    tune(known.model, known.dataset, known.config_files.split(), cmd_args=rest, **given)
