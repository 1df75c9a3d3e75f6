"""Command line: arguments only."""

from __future__ import annotations

import argparse
import sys

_USAGE = """\
recbole-disent run --model=NAME --dataset=NAME [--config_files="a.yaml b.yaml"] [--KEY=VALUE ...]

Any configuration key of RecBole, of this package or of the model is a KEY; README lists them.
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="recbole-disent", usage=_USAGE, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", usage=_USAGE, allow_abbrev=False, help="train and test a model")
    run.add_argument("--model", "-m", help="name of the model; a config file may give it")
    run.add_argument("--dataset", "-d", help="name of the data set; a config file may give it")
    run.add_argument("--config_files", default="", help="YAML files, separated by blanks")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run a command; return the exit code: 0, or 2 for an error that is the user's to mend."""
    known, rest = _parser().parse_known_args(argv)
    # RecBole, torch and pandas take seconds to import: --help must not wait for them.
    from recbole_disent.errors import UserError
    from recbole_disent.quick_start import run

    try:
        run(known.model, known.dataset, known.config_files.split(), cmd_args=rest)
    except UserError as error:
        print(f"recbole-disent: error: {error}", file=sys.stderr)
        return 2
    return 0
