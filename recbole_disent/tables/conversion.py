"""Conversion of a table to atomic files, or of atomic files to a table."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pandas as pd

from recbole_disent.errors import UserError
from recbole_disent.files import write_for_user
from recbole_disent.tables.atomic import from_atomic, to_atomic
from recbole_disent.tables.catalogue import compare_items, count_changes, read_catalogue
from recbole_disent.tables.events import read_events
from recbole_disent.tables.read import neighbour

ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet")


def convert(source: Any, out: str | os.PathLike[str], items: Any = None, **options: Any) -> dict[str, Any]:
    """Convert a table to RecBole's atomic files, or atomic files to a table.

    Args:
        source: a folder ``.../<name>`` that contains ``<name>.inter``, or the ``.inter`` file; or any table
            that :func:`~recbole_disent.tables.read.open_table` accepts.
        out: for a table, the folder of the new data set, ``<data_path>/<name>``; for atomic files, a
            ``.csv``, ``.tsv``, ``.jsonl`` or ``.parquet`` file for the events. An ``.item`` file becomes a
            file ``<out>-items`` with the same ending in the same folder.
        items: table of the items, if *source* is a table.
        options: arguments of :func:`~recbole_disent.tables.events.read_events`, if *source* is a table.

    Returns:
        A dict with ``files``, the paths of the written files. For a table the dict also contains the
        summary of the events, and ``catalogue``, the summary of the items or None; both have ``notes``, and
        ``items`` of the catalogue is the number of items in the ``.item`` file.
        For atomic files it also contains ``events`` and ``items``, the numbers of rows.

    Raises:
        UserError: the source cannot be read, the ending of *out* is unknown, a file would be replaced, an
            option has no effect, or the table of the items has no item of the events.

    Example:
        >>> convert("events.csv", "data/shop", min_user=5)["files"]
        ['data/shop/shop.inter']
        >>> convert("data/shop", "shop.parquet")["files"]
        ['shop.parquet']
    """
    atomic = _atomic_folder(source)
    if atomic is None:
        return _to_atomic(source, Path(out), items, options)
    given = [*options, *(["items"] if items is not None else [])]
    if given:
        raise UserError(
            f"{given[0]}: the option has no effect when atomic files ({atomic}) are converted to a table; "
            "leave it out"
        )
    path = Path(out)
    if path.suffix.lower() not in ENDINGS:
        raise UserError(f"out: got {str(path)!r}, expected a file that ends with {', '.join(ENDINGS)}")
    events, catalogue = from_atomic(atomic.parent, atomic.name)
    files = [path]
    if catalogue is not None:
        files.append(path.with_name(f"{path.stem}-items{path.suffix}"))
    for file in files:
        if file.is_file():
            raise UserError(f"out: the file '{file}' is there already; give another name, or remove the file")
    if catalogue is not None:
        _write(catalogue, files[1])
    _write(events, path)
    return {
        "files": [str(file) for file in files],
        "events": len(events),
        "items": 0 if catalogue is None else len(catalogue),
    }


def _atomic_folder(source: Any) -> Path | None:
    if not isinstance(source, str | os.PathLike):
        return None
    path = Path(os.path.abspath(source))
    if not path.exists():
        hint = neighbour(path) or "; give the path of a table or of a data set"
        raise UserError(f"source: there is no file or folder {source}{hint}")
    if path.suffix == ".inter":
        if path.stem != path.parent.name:
            raise UserError(
                f"{source}: got the file name {path.name}, expected the name of the folder, "
                f"{path.parent.name}.inter; rename one of them"
            )
        return path.parent
    return path if (path / f"{path.name}.inter").is_file() else None


def _to_atomic(source: Any, out: Path, items: Any, options: dict[str, Any]) -> dict[str, Any]:
    target = Path(os.path.abspath(out))
    if target.suffix in ENDINGS and isinstance(source, str | os.PathLike) and Path(source).is_dir():
        name = Path(os.path.abspath(source)).name
        raise UserError(
            f"source: the folder {source} has no file {name}.inter, expected a data set to make a table of; "
            "give the folder of one"
        )
    if target.suffix in (".inter", *ENDINGS) or target.is_file():
        raise UserError(
            f"out: got {str(out)!r}, expected the folder of the data set, such as data/shop for "
            "data/shop/shop.inter"
        )
    events = read_events(source, **options)
    if (target / f"{target.name}.inter").exists():
        events.summary["notes"].append(f"the data set that was in {out} is replaced")
    catalogue, about = None, None
    if items is not None:
        catalogue, about = read_catalogue(
            items, like=events.summary["columns"]["item"], encoding=options.get("encoding", "utf-8")
        )
        compare_items(events.frame, catalogue, about)
        about["items"] = len(catalogue)
    parent = out.parent if out.name == target.name else target.parent  # "." has no name
    done = to_atomic(events.frame, catalogue, parent, target.name)
    if about is not None:
        count_changes(about, done["texts_changed"])  # the ids and numbers of events are never changed
    return {**events.summary, "catalogue": about, **done}


def _write(frame: pd.DataFrame, path: Path) -> None:
    kind = path.suffix.lower()
    with write_for_user(path) as file:
        if kind == ".parquet":
            try:
                frame.to_parquet(file, engine="pyarrow", index=False)
            except ImportError as error:
                raise UserError(
                    "out: writing Parquet needs pyarrow; install it by: pip install pyarrow"
                ) from error
        elif kind == ".jsonl":
            # DataFrame.to_json would round numbers to 15 digits.
            cells = frame.astype(object).where(frame.notna(), None)
            for record in cells.to_dict("records"):
                file.write((json.dumps(record, ensure_ascii=False) + "\n").encode("utf-8"))
        else:
            separator = "," if kind == ".csv" else "\t"
            frame.to_csv(file, sep=separator, index=False, encoding="utf-8", lineterminator="\n")
