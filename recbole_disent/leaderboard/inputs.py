"""The files that a run reads, so that results of other contents are found."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

from recbole_disent.config import key_rules
from recbole_disent.data import prepared
from recbole_disent.hashing import digest, file_digest
from recbole_disent.registry import uses_content


def files_of(config: Any) -> dict[str, str]:
    """Return name -> absolute path of the files and folders that a run reads, whether they exist or not.

    They are the files of the data set and those of keys such as ``content_file`` and ``warm_start``. A run
    without item content and without columns of users or items reads neither the ``.user`` nor the ``.item``
    file, so that these may be added later.

    Args:
        config: configuration of the run.
    """
    given = {key: config[key] for key in key_rules.flagged(config["model"], "path")}
    paths = key_rules.absolute_paths(config["model"], given)
    named = {key: path for key, path in paths.items() if key_rules.decides_result(config["model"], key)}
    loaded, name = config["load_col"], config["dataset"]
    unread = {f"{name}.{kind}" for kind in ("user", "item") if loaded is not None and kind not in loaded}
    if uses_content(config):
        unread.discard(f"{name}.item")
    data = {file: path for file, path in prepared.paths(config).items() if file not in unread}
    return {**data, **named}


def contents(files: dict[str, str]) -> str:
    """Return a digest of the contents of files and of the files in folders; a missing one counts as such."""
    found = []
    for name, path in sorted(files.items()):
        inside = [p for p in sorted(Path(path).rglob("*")) if p.is_file()] if os.path.isdir(path) else []
        for file in inside or [Path(path)]:
            part = file.relative_to(path).as_posix() if inside else ""
            try:
                stat = file.stat()
                found.append(f"{name} {part} {_content(str(file), stat.st_size, stat.st_mtime_ns)}")
            except OSError:
                found.append(f"{name} {part} none")
    return digest("\n".join(found))


@cache
def _content(path: str, size: int, time_ns: int) -> str:
    """The digest of a file; the other arguments tell when it is computed again."""
    return file_digest(path)
