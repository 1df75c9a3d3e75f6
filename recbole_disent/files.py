"""Writing of files and folders so that they are either complete or absent."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def write_atomically(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a temporary file beside *path*, and rename it to *path* when the ``with`` block succeeds.

    A process that is killed may leave a file ``.<name>.*.tmp``, but never an incomplete file *path*.
    """
    folder = os.path.dirname(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{os.path.basename(path)}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a UTF-8 file; after an interruption the file is either complete or absent."""
    with write_atomically(path) as file:
        file.write(text.encode("utf-8"))


@contextmanager
def temporary_folder(final: Path) -> Iterator[Path]:
    """Make a folder beside *final*, which the caller fills and then renames to *final*.

    The parent of *final* is made if it is missing. The ``with`` block deletes what was not renamed. A process
    that is killed may leave a folder ``.<name>.*.tmp``, but never an incomplete folder *final*.

    Example:
        >>> with temporary_folder(Path("shop")) as folder:  # doctest: +SKIP
        ...     write_text(folder / "summary.json", "{}")
        ...     folder.rename("shop")
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=final.parent, prefix=f".{final.name}.", suffix=".tmp"))
    try:
        folder.chmod(0o755)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
