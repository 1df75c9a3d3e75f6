"""Any table as a data set of a run: atomic files in a cache folder, made once for each content."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable
from logging import getLogger
from pathlib import Path
from typing import Any

import pandas as pd

from recbole_disent.errors import UserError
from recbole_disent.files import write_text
from recbole_disent.tables.atomic import render
from recbole_disent.tables.catalogue import read_catalogue
from recbole_disent.tables.columns import Choice
from recbole_disent.tables.events import read_events
from recbole_disent.tables.read import kind_of_file, open_table

CACHE_FOLDER = "dataset/tables"
SUMMARY = "summary.json"
# Raised when the same tables give other files than before, so that no old folder is used.
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
    missing_time: str = "refuse",
    encoding: str = "utf-8",
    cache_folder: str | os.PathLike[str] = CACHE_FOLDER,
) -> tuple[str, str, dict[str, Any]]:
    """Make RecBole's atomic files of a table of events, or find those made before.

    The name of the data set ends with a digest of the content of the tables and of the arguments. So
    the same call takes the same folder, and a file that changed makes another one. A folder gets
    its name when it is complete.

    The rows keep their order, so internal ids are those of the same rows in atomic files. A run orders
    events by times rounded to float32 (64 seconds for today's Unix seconds) unless its key
    ``exact_time`` is True.

    Args:
        data: the events: a file, a folder of Parquet files or a data frame, see
            :func:`~recbole_disent.tables.read.open_table`.
        items: the catalogue, of the same kinds, see
            :func:`~recbole_disent.tables.catalogue.read_catalogue`; None: none.
        user, item, time, rating, min_user, min_item, dedupe, missing_time, encoding: see
            :func:`~recbole_disent.tables.events.read_events`.
        cache_folder: where the data sets are kept.

    Returns:
        data_path: the cache folder; the key ``data_path`` of a run.
        dataset_name: the key ``dataset`` of a run. Its columns are ``user_id``, ``item_id``,
            ``timestamp`` and, if any, ``rating``.
        summary: as of :func:`~recbole_disent.tables.events.read_events`, with ``catalogue`` (None,
            or that of :func:`~recbole_disent.tables.catalogue.read_catalogue` with
            ``items_without_row``, ``rows_without_event`` and ``texts_changed``), ``reused``
            (whether the files were there already) and ``digest``.

    Raises:
        UserError: a table that cannot be used, in one sentence that names the place.

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
    digest = _digest_of_files(files, options) if files else None
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
        _compare(events.frame, catalogue, summary["catalogue"])
    content = render(events.frame, catalogue)
    if catalogue is not None:
        summary["catalogue"]["texts_changed"] = content["item"][1]
    data_of = {kind: cells for kind, (cells, _) in content.items()}
    digest = digest or _digest([json.dumps(options, default=str).encode(), *data_of.values()])
    name = _name(data, digest)
    summary |= {"reused": False, "digest": digest}
    found = _complete(cache / name)
    if found:
        return _reuse(cache, name, found)
    _write(cache, name, data_of, summary)
    return str(cache), name, summary


def _files(data: Any, items: Any, encoding: str) -> list[list[Path]] | None:
    """Files of the events and of the items, or None where one of both is in memory."""
    found = []
    for source, what in ((data, "data"), (items, "items")):
        if source is None:
            if what == "data":
                raise UserError("data: got None, expected a path or a data frame")
            continue
        if not isinstance(source, str | os.PathLike):
            return None
        path = Path(source)
        # The content decides whether a table is sound; here it is hashed only.
        found.append([path] if path.is_file() else open_table(path, encoding, what).files)
    return found


def _digest_of_files(tables: list[list[Path]], options: dict[str, Any]) -> str:
    parts = [json.dumps(options, default=str).encode()]
    for files in tables:
        parts.append(str(len(files)).encode())
        for path in files:
            hasher = hashlib.sha256()
            try:
                with open(path, "rb") as file:
                    while block := file.read(2**20):
                        hasher.update(block)
            except OSError as error:
                raise UserError(f"{path}: it cannot be read ({error.strerror})") from error
            parts += [(kind_of_file(path) + path.suffix).encode(), hasher.digest()]
    return _digest(parts)


def _digest(parts: Iterable[bytes]) -> str:
    """Digest of parts whose borders count."""
    hasher = hashlib.sha256(f"tables {_VERSION}".encode())
    for part in parts:
        hasher.update(len(part).to_bytes(8, "big"))
        hasher.update(part)
    return hasher.hexdigest()[:12]


def _name(data: Any, digest: str) -> str:
    stem = Path(data).name.partition(".")[0] if isinstance(data, str | os.PathLike) else "table"
    return f"{re.sub(r'[^A-Za-z0-9_-]', '-', stem).strip('-') or 'table'}-{digest}"


def _complete(folder: Path) -> dict[str, Any] | None:
    """Return the summary of a folder whose files all have the size with which they were written."""
    try:
        found = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        sizes = {file: (folder / file).stat().st_size for file in found["sizes"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found["summary"] if sizes == found["sizes"] else None


def _reuse(cache: Path, name: str, summary: dict[str, Any]) -> tuple[str, str, dict[str, Any]]:
    getLogger().info(f"{summary['source']}: the data set {cache / name} made before is used")
    return str(cache), name, {**summary, "reused": True}


def _compare(events: pd.DataFrame, items: pd.DataFrame, summary: dict[str, Any]) -> None:
    """Count items that only one of both tables has."""
    seen, known = set(events["item_id"].cat.categories), set(items["item_id"])
    if not seen & known:
        raise UserError(
            f"{summary['source']}: no item of the events is in column '{summary['id']}', which holds ids "
            f"such as {items['item_id'].iloc[0]!r}, but the events have {events['item_id'].iloc[0]!r}"
        )
    summary["items_without_row"] = len(seen - known)
    summary["rows_without_event"] = len(known - seen)
    if seen - known:
        note = f"{len(seen - known)} of {len(seen)} items of the events have no row here"
        summary["notes"].append(note)
        getLogger().info(f"{summary['source']}: {note}")


def _write(cache: Path, name: str, data: dict[str, bytes], summary: dict[str, Any]) -> None:
    """Write a folder under a temporary name, then rename it."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=cache, prefix=f".{name}.", suffix=".tmp"))
    except OSError as error:
        raise UserError(f"cache_folder: {cache} cannot be written to ({error.strerror})") from error
    try:
        temporary.chmod(0o755)
        for kind, content in data.items():
            with open(temporary / f"{name}.{kind}", "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        sizes = {f"{name}.{kind}": len(content) for kind, content in data.items()}
        stored = {"sizes": sizes, "summary": summary}
        write_text(temporary / SUMMARY, json.dumps(stored, ensure_ascii=False, indent=2) + "\n")
        final = cache / name
        if final.exists() and not _complete(final):
            shutil.rmtree(final)  # a file is missing or cut off
        try:
            temporary.rename(final)
        except OSError:
            if not _complete(final):  # else another process was faster
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
