"""Writing of files and folders so that they are either complete or absent, and by one process at a time."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from recbole_disent.errors import UserError


@contextmanager
def write_atomically(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a temporary file beside *path*, and rename it to *path* when the ``with`` block succeeds.

    A process that is killed may leave a file ``.<name>.*.tmp``, but never an incomplete file *path*.

    Raises:
        UserError: *path* is a folder.
    """
    require_file_name(path)
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


@contextmanager
def write_for_user(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """:func:`write_atomically` for a file that the user has named.

    Raises:
        UserError: *path* is a folder, or the file cannot be written.
    """
    with writing(path), write_atomically(path) as file:
        yield file


def require_file_name(path: str | os.PathLike[str]) -> None:
    """Raise :class:`UserError` if *path* is a folder."""
    if os.path.isdir(path):
        raise UserError(f"'{path}' is a folder, expected the name of a file; give another name")


def require_writable(path: str | os.PathLike[str]) -> None:
    """Check that a file can be written, and make its folder if it is missing.

    Raises:
        UserError: *path* is a folder, or no file can be made in its folder.
    """
    require_file_name(path)
    folder = os.path.dirname(os.path.abspath(path))
    with writing(path):
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


@contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn an error of the system in the ``with`` block, which writes *path*, into a :class:`UserError`."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"'{path}' cannot be written ({error.strerror or error}); give another name, in a folder that "
            "you may write to"
        ) from error


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


@contextmanager
def locked(path: Path, key: str, busy: str) -> Iterator[None]:
    """Hold the lock of a file, so that one process at a time is in the ``with`` block.

    The file is made, and deleted at the end. Its folder is made if it is missing.

    Args:
        path: the lock file.
        key: the key that names the folder, for messages.
        busy: what is said if another process holds the lock.

    Raises:
        UserError: another process holds the lock, or the folder or the file cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("wb")
    except OSError as error:
        raise UserError(
            f"{key}: '{path.parent}': {error.strerror}; name a folder that you can write"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The process before may have deleted the file after it was opened here.
            ours = os.path.samestat(os.fstat(lock.fileno()), path.stat())
        except OSError:
            ours = False
        if not ours:
            raise UserError(f"{key}: {busy}")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
