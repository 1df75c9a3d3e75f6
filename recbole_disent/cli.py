"""The command line: parses arguments and calls the functions of the package."""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path
from typing import Any

from recbole_disent import __version__
from recbole_disent.config import key_rules
from recbole_disent.serving.commands import add_commands
from recbole_disent.specs import PLAIN_SEQUENTIAL
from recbole_disent.waiting import wait_passively

_USAGE = """\
recbole-disent run --model=NAME --dataset=NAME [--config_files="a.yaml b.yaml"] [--KEY=VALUE ...]

Any configuration key of RecBole, of this package or of the model is a KEY; docs/configuration.md lists them.
"""

_TUNE_USAGE = """\
recbole-disent tune --model=NAME --dataset=NAME [--params_file=FILE] [--tool=random|hyperopt|ray]
       [--algo=exhaustive|random|bayes] [--max_evals=N] [--output=FOLDER] [--config_files="a.yaml b.yaml"]
       [--KEY=VALUE ...]

docs/tune.md explains the options. Repeat the command to continue a search that was stopped.
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="recbole-disent", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"recbole-disent {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", usage=_USAGE, allow_abbrev=False, help="train and test a model")
    _model_arguments(run)
    run.set_defaults(do=_run)

    tune = commands.add_parser(
        "tune", usage=_TUNE_USAGE, allow_abbrev=False, help="search for hyper-parameters"
    )
    _model_arguments(tune)
    for option, rule in key_rules.of_tuning().items():
        tune.add_argument(f"--{option}", default=argparse.SUPPRESS, help=rule.meaning.replace("%", "%%"))
    tune.set_defaults(do=_tune)

    data = commands.add_parser(
        "data", allow_abbrev=False, help="report on the files of a data set and on the data made from them",
        epilog="Further --KEY=VALUE are configuration keys, such as the keys of filters and of the split.",
    )  # fmt: skip
    data.add_argument("dataset", help="name of the data set")
    data.add_argument("--model", "-m", default=PLAIN_SEQUENTIAL, help="name of the model that uses the data")
    data.add_argument("--config_files", default="", help="YAML files, separated by spaces")
    data.set_defaults(do=_data)

    convert = commands.add_parser(
        "convert", allow_abbrev=False,
        help="convert a table of events to a data set in atomic files, or atomic files to a table",
        epilog="Further --KEY=VALUE say how a table is read: user, item, time, rating, min_user, min_item, "
        "dedupe, missing_time, encoding.",
    )  # fmt: skip
    convert.add_argument(
        "source", help="CSV, TSV, JSON lines or Parquet file, folder of Parquet files or data set"
    )
    convert.add_argument("out", help="folder of the data set, or a .csv, .tsv, .jsonl or .parquet file")
    convert.add_argument("--items", help="table with a row an item, the catalogue")
    convert.set_defaults(do=_convert)

    compare = commands.add_parser(
        "compare",
        allow_abbrev=False,
        help="run a plan of models, data sets and seeds, and write a report",
        epilog="Further --KEY=VALUE are configuration keys of every run. docs/compare.md explains a plan.",
    )
    compare.add_argument("plan", nargs="?", help="YAML file of the plan; arguments replace its keys")
    compare.add_argument("--models", help="names, separated by commas")
    compare.add_argument("--protocols", help="full, uniN, popN, separated by commas")
    _plan_arguments(compare)
    compare.set_defaults(do=_compare)

    paper = commands.add_parser(
        "paper",
        allow_abbrev=False,
        help="run an experiment of a paper",
        epilog="Without a name, the command lists the experiments. Further --KEY=VALUE are as for compare.",
    )
    paper.add_argument("name", nargs="?", help="name of the experiment")
    paper.add_argument(
        "--scale", default="quick", help="quick (a short run that shows that the experiment works) or full"
    )
    _plan_arguments(paper)
    paper.set_defaults(do=_paper)

    report = commands.add_parser("report", allow_abbrev=False, help="make a report from result files")
    report.add_argument("folder", type=Path, help="folder of a plan, or any folder with result files")
    report.add_argument("--metrics", nargs="+", help="columns of the tables, such as recall@10 ndcg@10")
    report.add_argument("--by", nargs="+", default=[], help="configuration keys that distinguish rows")
    report.add_argument("--reference", help="label of the row that the other rows are tested against")
    report.add_argument("--out", type=Path, help="folder of the report; by default the folder of the results")
    report.set_defaults(do=_report)

    plot = commands.add_parser(
        "plot", allow_abbrev=False, help="draw the training curves and the test result of result files"
    )
    plot.add_argument("results", nargs="+", type=Path, help="result files, such as saved/NAME.json")
    plot.add_argument("--out", required=True, type=Path, help="the picture, a .svg or .png file")
    plot.set_defaults(do=_plot)

    compact = commands.add_parser(
        "compact", allow_abbrev=False, help="replace the results of a plan by two files"
    )
    compact.add_argument("folder", type=Path, help="folder of a plan")
    compact.add_argument("--delete", action="store_true", help="delete the run folders afterwards")
    compact.add_argument("--without-ranks", action="store_true", help="leave out the ranks of users")
    compact.set_defaults(do=_compact)

    add_commands(commands)
    return parser


def _model_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", "-m", help="name of the model; a configuration file can also name it")
    parser.add_argument("--dataset", "-d", help="name of the data set; a configuration file can also name it")
    parser.add_argument("--config_files", default="", help="YAML files, separated by spaces")


def _plan_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--datasets", "--dataset", help="names, separated by commas")
    parser.add_argument("--seeds", help="numbers, separated by commas")
    parser.add_argument("--epochs", type=int, help="largest number of epochs of a run")
    parser.add_argument("--data_path", help="folder of the data sets")
    parser.add_argument("--out", help="folder of the runs and of the report")
    parser.add_argument(
        "--trials", type=int, help="configurations tried for each model on the validation part"
    )
    parser.add_argument("--search_epochs", type=int, help="largest number of epochs of a trial")
    parser.add_argument("--search_seed", type=int, help="seed of the trials")
    parser.add_argument("--parallel", type=int, help="runs at a time")
    parser.add_argument("--threads", type=int, help="threads of each run")
    parser.add_argument("--time_limit", type=float, help="time limit of a run in minutes")
    parser.add_argument(
        "--keep_checkpoints", action="store_true", default=None, help="keep the weights of each run"
    )
    parser.add_argument("--metrics", help="columns of the tables, separated by commas")
    parser.add_argument("--reference", help="label of the row that the other rows are tested against")
    parser.add_argument("--title", help="title of the report")
    parser.add_argument("--retry", action="store_true", help="repeat broken runs")
    parser.add_argument(
        "--redo", action="store_true", help="repeat runs whose results other code or other files made"
    )
    parser.add_argument("--dry-run", action="store_true", help="list the runs only")


_LISTS = ("models", "datasets", "protocols", "metrics")
_VALUES = ("data_path", "out", "trials", "search_epochs", "search_seed", "parallel", "threads", "time_limit",
           "keep_checkpoints", "reference", "title")  # fmt: skip


def _of_plan(known: argparse.Namespace, rest: list[str], given: dict[str, Any]) -> dict[str, Any]:
    """Replace keys of a plan by the arguments of a command line."""
    from recbole_disent.config.literals import key_values
    from recbole_disent.errors import UserError

    for name in _LISTS:
        if getattr(known, name, None) is not None:
            given[name] = _split(getattr(known, name))
    if known.seeds is not None:
        try:
            given["seeds"] = [int(seed) for seed in known.seeds.split(",")]
        except ValueError:
            raise UserError(f"--seeds: got '{known.seeds}', expected numbers such as 1,2,3") from None
    given.update({name: value for name in _VALUES if (value := getattr(known, name)) is not None})
    own = key_values(rest)
    if known.epochs is not None:
        own["epochs"] = known.epochs
    if own:
        given["config"] = {**(given.get("config") or {}), **own}
    return given


def _split(names: str) -> list[str]:
    """Split names that are separated by commas or spaces."""
    return names.replace(",", " ").split()


def _run(known: argparse.Namespace, rest: list[str]) -> int:
    from recbole_disent.session import run

    run(known.model, known.dataset, known.config_files.split(), cmd_args=rest)
    return 0


def _with_blanks(known: argparse.Namespace, rest: list[str], name: str) -> list[str]:
    """Return the further arguments, and correct the positional argument *name*.

    argparse takes an argument ``--KEY=VALUE`` with a space in its value for the positional argument.

    Raises:
        UserError: an argument is ``--KEY VALUE``.
    """
    from recbole_disent.config.literals import key_values

    for option in rest:
        if option.startswith("--") and "=" not in option:
            key_values(known.words[known.words.index(option) :])  # refused: its value would be *name*
    words = [word for word in (getattr(known, name), *rest) if word is not None]
    named = [word for word in words if not word.startswith("--")]
    setattr(known, name, named[0] if named else None)
    return [word for word in words if word.startswith("--")] + named[1:]


def _data(known: argparse.Namespace, rest: list[str]) -> int:
    from recbole_disent.build import data_report
    from recbole_disent.data.report import as_text
    from recbole_disent.errors import UserError

    rest = _with_blanks(known, rest, "dataset")
    if known.dataset is None:
        raise UserError(
            "command line: expected the name of a data set: recbole-disent data NAME [--KEY=VALUE ...]"
        )
    _say(as_text(data_report(known.dataset, known.model, known.config_files.split(), rest)))
    return 0


def _convert(known: argparse.Namespace, rest: list[str]) -> int:
    from recbole_disent.config.literals import key_values
    from recbole_disent.errors import UserError, nearest
    from recbole_disent.tables import convert

    options = key_values(rest)
    names = ("user", "item", "time", "rating", "min_user", "min_item", "dedupe", "missing_time", "encoding")
    for key in options:
        if key not in names:
            raise UserError(
                f"convert: the option '{key}' is not known{nearest(key, {*names, 'items'})}; the options are "
                f"items, {', '.join(names)} (the separator of a table is found in its header)"
            )
    found = convert(known.source, known.out, known.items, **options)
    for note in found.get("notes", []):
        if note not in found["warnings"]:  # these are on the screen already
            _say(note)
    for note in (found.get("catalogue") or {}).get("notes", []):
        _say(f"items: {note}")
    events, *items = sorted(found["files"], key=lambda file: file.endswith(".item"))
    counts = found.get("catalogue") or found
    also = f", and {counts['items']} items in {items[0]}" if items else ""
    _say(f"{found['events']} events are in {events}{also}")
    return 0


def _tune(known: argparse.Namespace, rest: list[str]) -> int:
    from recbole_disent.config.literals import literal
    from recbole_disent.tuning.tune import tune

    given = {name: literal(getattr(known, name)) for name in key_rules.of_tuning() if hasattr(known, name)}
    tune(known.model, known.dataset, known.config_files.split(), cmd_args=rest, **given)
    return 0


def _compare(known: argparse.Namespace, rest: list[str]) -> int:
    from recbole_disent.leaderboard.compare import execute
    from recbole_disent.leaderboard.plan import read_plan

    rest = _with_blanks(known, rest, "plan")
    given = _of_plan(known, rest, read_plan(known.plan) if known.plan else {})
    return execute(given, _command(), known.retry, known.redo, known.dry_run, _say)


def _paper(known: argparse.Namespace, rest: list[str]) -> int:
    from recbole_disent.leaderboard.compare import execute
    from recbole_disent.leaderboard.paper import experiment, names

    rest = _with_blanks(known, rest, "name")
    if known.name is None:
        _say("\n".join(f"{name:16} {about}" for name, about in names().items()))
        return 0
    given = _of_plan(known, rest, experiment(known.name, known.scale))
    return execute(given, _command(), known.retry, known.redo, known.dry_run, _say)


def _report(known: argparse.Namespace, rest: list[str]) -> int:
    from recbole_disent.errors import UserError
    from recbole_disent.leaderboard import report

    if rest:
        raise UserError(f"command line: got '{rest[0]}', which report does not know")
    metrics = _split(" ".join(known.metrics or [])) or None
    report.write(known.folder, metrics, known.by, known.out, reference=known.reference)
    return 0


def _plot(known: argparse.Namespace, rest: list[str]) -> int:
    from recbole_disent.errors import UserError
    from recbole_disent.plots import plot

    if rest:
        raise UserError(f"command line: got '{rest[0]}', which plot does not know")
    _say(f"plot: {plot(known.results, known.out)}")
    return 0


def _compact(known: argparse.Namespace, rest: list[str]) -> int:
    from recbole_disent.errors import UserError
    from recbole_disent.leaderboard.compact import compact

    if rest:
        raise UserError(f"command line: got '{rest[0]}', which compact does not know")
    compact(known.folder, known.delete, not known.without_ranks, _say)
    return 0


def _check_models(known: argparse.Namespace, rest: list[str]) -> None:
    """Refuse a misspelt model before torch is imported, which takes seconds.

    With a configuration file or ``--model_file``, the configuration checks the name of the model instead.
    """
    if getattr(known, "config_files", None) or any(word.startswith("--model_file") for word in rest):
        return
    from recbole_disent.registry import require_model

    for name in [getattr(known, "model", None), *_split(getattr(known, "models", None) or "")]:
        if name is not None:
            require_model(name)


def _say(text: str) -> None:
    """Print a text; if the reader has closed the pipe (``| head``), drop the text and continue."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _command() -> list[str]:
    return ["recbole-disent", *sys.argv[1:]]


def _named_last(words: list[str]) -> list[str]:
    """Return arguments with each ``--KEY=VALUE WITH A SPACE`` at the end.

    argparse takes these for positional arguments, and gives the first places to them.
    """
    blank = [word for word in words if re.match(r"--[^ =]+=.* ", word)]
    return [word for word in words if word not in blank] + blank


def main(argv: list[str] | None = None) -> int:
    """Run a command; return 0, 2 after an error that the user can correct, or 130 after Ctrl-C."""
    words = _named_last(sys.argv[1:] if argv is None else argv)
    known, rest = _parser().parse_known_args(words)
    known.words = words
    wait_passively()  # before the import of torch
    # Import nothing heavy at the top: RecBole, torch and pandas take seconds, and --help must not wait.
    from recbole_disent.errors import UserError

    try:
        _check_models(known, rest)
        return known.do(known, rest)
    except UserError as error:
        print(f"recbole-disent: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("recbole-disent: stopped by Ctrl-C", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
