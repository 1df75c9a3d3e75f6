"""Conversion of a table to atomic files in a cache folder, once for each content of the table."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from itertools import chain
from logging import getLogger
from pathlib import Path
from typing import Any

from recbole_disent.errors import UserError
from recbole_disent.files import temporary_folder, write_text
from recbole_disent.hashing import file_digest
from recbole_disent.tables.atomic import render
from recbole_disent.tables.catalogue import compare_items, count_changes, read_catalogue
from recbole_disent.tables.columns import Choice
from recbole_disent.tables.events import read_events
from recbole_disent.tables.read import kind_of_file, open_table

CACHE_FOLDER = "dataset/tables"
SUMMARY = "summary.json"
# Increase the version when the same tables give different files, so that old folders are not used.
_VERSION = 1


def prepare(
    data: Any,
    items: Any = None,
    user: str | None = None,
    item: str | None = None,
    time: Choice = None,
    rating: Choice = None,
    min_user: int = 0,
    min_item: int = 0,
    dedupe: str | None = None,
    missing_time: str = "error",
    encoding: str = "utf-8",
    cache_folder: str | os.PathLike[str] = CACHE_FOLDER,
) -> tuple[str, str, dict[str, Any]]:
    """Convert a table of events to RecBole's atomic files, or find the files of an earlier conversion.

    The name of the data set ends with a digest of the content of the tables and of the arguments. The same
    call therefore uses the same folder, and a changed file leads to a new folder. A folder gets its name
    only when it is complete.

    The rows keep their order, so that RecBole assigns the same internal ids as for the same rows in atomic
    files. A run orders events by their exact times unless its key ``recbole_time`` is True.

    Args:
        data: table of events: a file, a folder of Parquet files or a data frame; see
            :func:`~recbole_disent.tables.read.open_table`.
        items: table of items of the same kinds, or None; see
            :func:`~recbole_disent.tables.catalogue.read_catalogue`.
        user, item, time, rating, min_user, min_item, dedupe, missing_time, encoding: see
            :func:`~recbole_disent.tables.events.read_events`.
        cache_folder: folder of the data sets.

    Returns:
        data_path: the cache folder, which is the key ``data_path`` of a run.
        dataset_name: the key ``dataset`` of a run. The columns of the data set are ``user_id``,
            ``item_id``, ``timestamp`` and, if the table has ratings, ``rating``.
        summary: summary of :func:`~recbole_disent.tables.events.read_events`, with three more keys.
            ``catalogue`` is None or the summary of
            :func:`~recbole_disent.tables.catalogue.read_catalogue` with ``items_without_row``,
            ``rows_without_event`` and ``texts_changed``. ``reused`` says whether the files existed.
            ``digest`` is the digest in the name.

    Raises:
        UserError: a table cannot be used, and the message names the table and the row or column; or a file
            changed while it was read.

    Example:
        >>> table = pd.DataFrame({"user": [1, 1, 1], "item": [5, 6, 7], "ts": [10, 20, 30]})
        >>> path, name, summary = prepare(table)
        >>> summary["events"], summary["columns"]["time"]
        (3, 'ts')
    """
    options: dict[str, Any] = {
        "user": user, "item": item, "time": time, "rating": rating, "min_user": min_user,
        "min_item": min_item, "dedupe": dedupe, "missing_time": missing_time, "encoding": encoding,
    }  # fmt: skip
    cache = Path(cache_folder)
    files = _files(data, items, encoding)
    contents = [_contents(table) for table in files or []]
    digest = _digest([json.dumps(options, default=str).encode(), *chain(*contents)]) if contents else None
    if digest:
        found = _complete(cache / _name(data, digest))
        if found:
            return _reuse(cache, _name(data, digest), found)
    events = read_events(data, **options)
    summary = {**events.summary, "catalogue": None}
    catalogue = None
    if items is not None:
        catalogue, summary["catalogue"] = read_catalogue(
            items, like=summary["columns"]["item"], encoding=encoding
        )
        compare_items(events.frame, catalogue, summary["catalogue"])
    if contents != [_contents(table) for table in files or []]:
        raise UserError(
            f"{summary['source']}: a file of the tables changed while it was read; try again when it "
            "is complete"
        )
    content = render(events.frame, catalogue)
    if catalogue is not None:
        count_changes(summary["catalogue"], content["item"][1])
    data_of = {kind: cells for kind, (cells, _) in content.items()}
    # Of a table in memory, the digest depends on the summary too: other rows may have been dropped.
    digest = digest or _digest([json.dumps([options, summary], default=str).encode(), *data_of.values()])
    name = _name(data, digest)
    summary |= {"reused": False, "digest": digest}
    found = _complete(cache / name)
    if found:
        return _reuse(cache, name, found)
    _write(cache, name, data_of, summary, [*map(_digest, contents)])
    return str(cache), name, summary


def changed(folder: str | os.PathLike[str], data: Any, items: Any = None) -> bool:
    """Return whether tables hold something else than when :func:`prepare` made a data set of them.

    Args:
        folder: folder of the data set.
        data, items: paths of the tables. A table that is no longer there counts as unchanged.
    """
    try:
        before = json.loads((Path(folder) / SUMMARY).read_text(encoding="utf-8"))["contents"]
    except (OSError, ValueError, KeyError):
        return False
    for source, digest in zip((data, items), before, strict=False):
        with suppress(UserError):
            if any(_digest(_contents(table)) != digest for table in _files(source, None, "utf-8") or []):
                return True
    return False


def _files(data: Any, items: Any, encoding: str) -> list[list[Path]] | None:
    """Return the files of the events and of the items, or None if one of the tables is in memory."""
    found = []
    for source, what in ((data, "data"), (items, "items")):
        if source is None:
            if what == "data":
                raise UserError("data: got None, expected a path or a data frame")
            continue
        if not isinstance(source, str | os.PathLike):
            return None
        path = Path(source)
        # A file is only hashed here; read_events checks its content.
        found.append([path] if path.is_file() else open_table(path, encoding, what).files)
    return found


def _contents(files: list[Path]) -> list[bytes]:
    """Return the number, the kinds and the digests of the files of a table."""
    parts = [str(len(files)).encode()]
    for path in files:
        try:
            content = bytes.fromhex(file_digest(path))
        except OSError as error:
            raise UserError(f"{path}: the file cannot be read ({error.strerror})") from error
        parts += [(kind_of_file(path) + path.suffix).encode(), content]
    return parts


def _digest(parts: Iterable[bytes]) -> str:
    """Return a digest of parts that also depends on the length of each part."""
    hasher = hashlib.sha256(f"tables {_VERSION}".encode())
    for part in parts:
        hasher.update(len(part).to_bytes(8, "big"))
        hasher.update(part)
    return hasher.hexdigest()[:12]


def _name(data: Any, digest: str) -> str:
    stem = Path(data).name.partition(".")[0] if isinstance(data, str | os.PathLike) else "table"
    return f"{re.sub(r'[^A-Za-z0-9_-]', '-', stem).strip('-') or 'table'}-{digest}"


def _complete(folder: Path) -> dict[str, Any] | None:
    """Return the summary of a folder if all files have the sizes that the summary records, else None."""
    try:
        found = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        sizes = {file: (folder / file).stat().st_size for file in found["sizes"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found["summary"] if sizes == found["sizes"] else None


def summary_of(folder: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Return what :func:`prepare` found in the table of a data set; None if the data set is not of a table.

    Args:
        folder: folder of the data set.
    """
    return _complete(Path(folder))


def _reuse(cache: Path, name: str, summary: dict[str, Any]) -> tuple[str, str, dict[str, Any]]:
    getLogger().info(f"{summary['source']}: the existing data set {cache / name} is used")
    return str(cache), name, {**summary, "reused": True}


def _write(
    cache: Path, name: str, data: dict[str, bytes], summary: dict[str, Any], contents: list[str]
) -> None:
    """Write a folder under a temporary name, then rename it.

    Args:
        cache: folder of the data sets.
        name: name of the data set.
        data: ending -> content of each file.
        summary: the summary that :func:`prepare` returns.
        contents: digest of each table, without the options; empty for tables in memory.
    """
    final = cache / name
    try:
        with temporary_folder(final) as temporary:
            for kind, content in data.items():
                with open(temporary / f"{name}.{kind}", "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
            sizes = {f"{name}.{kind}": len(content) for kind, content in data.items()}
            stored = {"sizes": sizes, "contents": contents, "summary": summary}
            write_text(temporary / SUMMARY, json.dumps(stored, ensure_ascii=False, indent=2) + "\n")
            if final.exists() and not _complete(final):
                shutil.rmtree(final)  # a file is missing or truncated
            try:
                temporary.rename(final)
            except OSError:
                if not _complete(final):  # otherwise another process has written the folder
                    raise
    except OSError as error:
        raise UserError(f"cache_folder: {cache} cannot be written to ({error.strerror})") from error
