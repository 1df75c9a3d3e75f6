"""Arguments of export, recommend, inspect and serve. Nothing heavy is imported before they run."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any


def add_commands(commands: Any) -> None:
    """Add the four commands to the subparsers of the command line."""
    export = _command(commands, "export", "write a bundle: a trained model that stands alone", _export)
    export.add_argument("--out", required=True, type=Path, help="folder of the bundle")
    export.add_argument(
        "--no-histories",
        action="store_true",
        help="leave out the histories of users, and their ids unless the model has a row for each user",
    )
    export.add_argument("--overwrite", action="store_true", help="replace a bundle of that name")
    export.add_argument(
        "--onnx", action="store_true", help="add the query encoder in ONNX, and the item vectors"
    )
    export.add_argument(
        "--program",
        action="store_true",
        help="add the query encoder for torch.export.load, and the item vectors",
    )
    export.add_argument(
        "--index",
        choices=("faiss", "hnsw"),
        help="add an approximate index of the items, for 'recommend --index' and 'serve --index'",
    )

    recommend = _command(commands, "recommend", "write lists of items for users or sequences", _recommend)
    who = recommend.add_mutually_exclusive_group(required=True)
    who.add_argument("--users", help="'all', or a CSV or Parquet file with a column 'user'")
    who.add_argument("--sequences", type=Path, help=".csv (columns sequence, item), .jsonl or .txt file")
    recommend.add_argument("--k", type=int, default=10, help="length of a list; 10 by default")
    recommend.add_argument("--out", required=True, type=Path, help=".csv, .jsonl or .parquet file")
    recommend.add_argument(
        "--keep-history", action="store_true", help="also recommend items that the user has met"
    )
    recommend.add_argument(
        "--allow",
        type=Path,
        help="CSV file with a column 'item': recommend these items only; with a column 'user' or 'sequence' "
        "the rule is for that one, and others may have all items",
    )
    recommend.add_argument(
        "--exclude", type=Path, help="CSV file in the same form: never recommend these items"
    )
    recommend.add_argument(
        "--unknown-users",
        default="error",
        choices=("error", "popularity"),
        help="stop at a user that the model does not know (default), or give that user popular items",
    )
    recommend.add_argument(
        "--diversity", type=float, default=0.0, help="0 (default): the best items by score; 1: most diverse"
    )
    recommend.add_argument(
        "--diversify",
        choices=("intentions", "mmr"),
        help="what makes lists diverse, with --diversity: the intentions of a model that has several "
        "(default), or the item vectors (maximal marginal relevance)",
    )
    recommend.add_argument(
        "--index",
        action="store_true",
        help="take candidates from the index that the bundle was exported with; their scores are exact",
    )
    recommend.add_argument(
        "--batch", type=int, default=4096, help="lists in memory at a time; 4096 by default"
    )
    recommend.add_argument("--quiet", action="store_true", help="show no progress")

    inspect = _command(
        commands, "inspect", "show what intentions are, and why a person gets a list", _inspect
    )
    inspect.add_argument(
        "--user", action="append", default=[], help="id of a user to explain; may be given several times"
    )
    inspect.add_argument(
        "--sequence",
        action="append",
        default=[],
        help="item ids, oldest first, separated by blanks (in quotes); may be given several times",
    )
    inspect.add_argument("--k", type=int, default=10, help="length of a list; 10 by default")
    inspect.add_argument(
        "--out", required=True, type=Path, help=".html file; the numbers go into a .json beside it"
    )

    serve = _command(commands, "serve", "answer requests for lists by HTTP from a bundle", _serve)
    serve.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; this machine only by default"
    )
    serve.add_argument("--port", type=int, default=8000, help="8000 by default")
    serve.add_argument(
        "--timeout", type=float, default=10.0, help="seconds that a request may take; 10 by default"
    )
    serve.add_argument(
        "--max-waiting",
        type=int,
        default=1024,
        help="requests that may wait, others get 503; 1024 by default",
    )
    serve.add_argument(
        "--index",
        action="store_true",
        help="take candidates from the index that the bundle was exported with; lists with diversity or "
        "allowed items are made without it",
    )


def _command(commands: Any, name: str, about: str, do: Any) -> argparse.ArgumentParser:
    keys = (
        "Further --KEY=VALUE are configuration keys of a checkpoint that differ here, such as --data_path. "
        "--model_file=FILE.py names the file of your own model."
    )
    kinds = {"export": ".pth file of a run", "serve": "folder of a bundle"}
    parser = commands.add_parser(
        name,
        allow_abbrev=False,
        help=about,
        description=about,
        epilog=keys[keys.index("--model") :] if name == "serve" else keys,
    )
    parser.add_argument(
        "source", type=Path, help=kinds.get(name, "folder of a bundle, or .pth file of a run")
    )
    if name != "export":
        parser.add_argument(
            "--device",
            default="cpu",
            help="where the model of a bundle computes, such as cuda; cpu by default",
        )
    parser.set_defaults(do=do)
    return parser


def _require_one_source(known: argparse.Namespace, rest: list[str]) -> None:
    from recbole_disent.errors import UserError

    paths = [Path(word) for word in rest if not word.startswith("-")]
    others = [path for path in paths if path.is_dir() or (path.suffix == ".pth" and path.is_file())]
    if others:
        names = " and ".join(f"'{path}'" for path in (known.source, *others))
        raise UserError(
            f"{known.command}: got {len(others) + 1} models, {names}, expected one; a * in a name may match "
            "several, so write the whole name"
        )


def _require_model_file_only(known: argparse.Namespace, rest: list[str]) -> None:
    from recbole_disent.errors import UserError

    for word in rest:
        if not word.startswith("--model_file="):
            raise UserError(f"command line: got '{word}', which {known.command} does not know")


def _load(known: argparse.Namespace, rest: list[str]) -> Any:
    from recbole_disent.config.literals import key_values
    from recbole_disent.recommender import load

    _require_one_source(known, rest)
    if known.source.is_dir():
        _require_model_file_only(known, rest)
    return load(known.source, getattr(known, "device", "cpu"), key_values(rest) or None)


def _export(known: argparse.Namespace, rest: list[str]) -> int:
    from recbole_disent.errors import UserError
    from recbole_disent.serving.bundle_files import describe

    if known.source.is_dir():
        raise UserError(f"export: '{known.source}' is a folder, expected the .pth file of a run")
    extras = {"onnx": known.onnx, "program": known.program, "index": known.index}
    out = _load(known, rest).save(known.out, not known.no_histories, known.overwrite, **extras)
    if known.index:
        found = describe(out)["index"]
        print(
            f"index: {found['kind']} finds {found['recall@10']:.1%} of the exact 10 best items "
            f"({found['histories']} histories)"
        )
    print(f"bundle: {out}")
    return 0


def _recommend(known: argparse.Namespace, rest: list[str]) -> int:
    from recbole_disent.serving import stream

    request = stream.Request(
        users=known.users,
        sequences=known.sequences,
        k=known.k,
        filter_history=not known.keep_history,
        allow=known.allow,
        exclude=known.exclude,
        unknown_users=known.unknown_users,
        diversity=known.diversity,
        diversify=known.diversify,
        batch=known.batch,
        index=known.index,
    )
    request.check(known.out)
    found = stream.write_lists(_load(known, rest), request, known.out, not known.quiet)
    print(found, file=sys.stderr)
    return 0


def _inspect(known: argparse.Namespace, rest: list[str]) -> int:
    import json

    from recbole_disent.errors import UserError
    from recbole_disent.files import require_file_name, write_text, writing
    from recbole_disent.serving import inspect, inspect_page

    if known.out.suffix != ".html":
        raise UserError(f"--out: got '{known.out}', expected a file that ends with .html")
    require_file_name(known.out)
    numbers = known.out.with_suffix(".json")
    if numbers.exists() and not inspect.wrote(numbers):
        raise UserError(
            f"--out: '{numbers}', which the numbers of the page go into, is there already and is not from "
            "inspect; give another name"
        )
    sequences = [words.split() for words in known.sequence]
    found = inspect.describe(_load(known, rest), known.user, sequences, known.k)
    text = json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False)
    with writing(known.out):
        write_text(numbers, text + "\n")
        write_text(known.out, inspect_page.page(found))
    if found["intentions"]:
        print(found["intentions"]["verdict"]["text"])
    print(f"page: {known.out}")
    return 0


def _serve(known: argparse.Namespace, rest: list[str]) -> int:
    from recbole_disent.config.literals import key_values
    from recbole_disent.errors import UserError
    from recbole_disent.registry import load_model_file

    _require_one_source(known, rest)
    _require_model_file_only(known, rest)
    if not known.source.is_dir():
        raise UserError(
            f"serve: '{known.source}' is no folder, expected a bundle; export one from a checkpoint"
        )
    if not (0 < known.timeout < math.inf and known.max_waiting > 0):
        raise UserError(
            f"serve: got --timeout={known.timeout:g} and --max-waiting={known.max_waiting}, expected numbers "
            "above 0"
        )
    if not 0 < known.port < 2**16:
        raise UserError(f"serve: got --port={known.port}, expected a number from 1 to 65535")
    try:
        from recbole_disent.serving.http import Limits, serve
    except ImportError as error:
        raise UserError(
            f"serve needs the package '{error.name}': pip install 'recbole_disent[serve]'"
        ) from error
    if file := key_values(rest).get("model_file"):
        load_model_file(str(file))
    limits = Limits(seconds=known.timeout, waiting=known.max_waiting)
    serve(known.source, known.host, known.port, limits, known.device, known.index)
    return 0
