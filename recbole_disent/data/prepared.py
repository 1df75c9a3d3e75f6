"""Prepared data on disk: a data set is read, filtered and split once for the same files and keys.

An entry is a folder ``<data set>-<digest>`` of :mod:`recbole_disent.data.archive` with a file
``entry.json``. The file states what the entry depends on: the code of this package, the contents of the
files that were read, and each configuration key that the preparation read, with its value. No list of keys
has to be maintained, because the configuration records the reads.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from logging import getLogger
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recbole_disent import __version__
from recbole_disent.data import archive
from recbole_disent.files import temporary_folder
from recbole_disent.hashing import digest, file_digest

ENTRY = "entry.json"
# Keys that do not decide the data: the place of the files, and the model, of which only the type counts.
_OTHERS = {"data_path", "model"}
# A file that changed in the last seconds may change again without a new time stamp.
_SETTLED_NS = 2 * 10**9
_ENTRY_NAME = re.compile(r"[^.].*-[0-9a-f]{16}")
# An entry that a killed process has left unfinished (see temporary_folder).
_UNFINISHED = re.compile(r"\..+-[0-9a-f]{16}\.[^.]+\.tmp")
_ABANDONED_SECONDS = 24 * 3600


class RecordedConfig:
    """A configuration that records the values of the keys that are read, in ``reads``."""

    def __init__(self, config: Any) -> None:
        self.config = config
        self.reads: dict[str, str] = {}
        # Whether something other than a key was read, so that the record is not complete.
        self.other: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        value = self.config[key]
        self.reads.setdefault(key, repr(value))
        return value

    def __contains__(self, key: str) -> bool:
        return self[key] is not None if key in self.config else False

    @property
    def external_config_dict(self) -> _Given:
        """The keys that the user gave; only whether a key is among them can be asked."""
        return _Given(self)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("config", "reads", "other"):
            raise AttributeError(name)
        self.other.add(name)
        return getattr(self.config, name)


class _Given:
    def __init__(self, recorded: RecordedConfig) -> None:
        self.recorded = recorded

    def __contains__(self, key: str) -> bool:
        found = key in self.recorded.config.external_config_dict
        self.recorded.reads[f"given {key}"] = repr(found)
        return found


def folder_of(config: Any) -> Path:
    """Return the folder of the entries of a configuration."""
    return Path(config["prepared_dir"] or os.path.join(config["checkpoint_dir"], "prepared"))


def is_stored(config: Any) -> bool:
    """Return whether there is an entry for a configuration; the entry may be damaged."""
    for folder in _entries(folder_of(config), config["dataset"]):
        try:
            if _fits(_entry(folder), config):
                return True
        except archive.Damaged:
            continue
    return False


def stored_or_made(config: Any, make: Callable[[Any], dict[str, Any]]) -> tuple[dict[str, Any], str | None]:
    """Return prepared data from the folder ``prepared_dir``, or make and store them.

    Args:
        config: the configuration.
        make: function from a configuration to the prepared data, a dict with ``dataset`` and ``parts``. Each
            data set has the configuration in ``config``.

    Returns:
        The prepared data, and the folder of their entry, or None if they are not stored.
    """
    limit = config["prepared_limit_gb"]
    if not limit:
        return make(config), None
    cache_folder = folder_of(config)
    for folder in _entries(cache_folder, config["dataset"]):
        found = _reuse(folder, config)
        if found is not None:
            return found, str(folder)
    before, state = _stats(config), _random_state()
    if not any(before.values()):  # the data set is downloaded first
        return make(config), None
    recorded = RecordedConfig(config)
    found = make(recorded)
    reason = _reason_not_to_store(recorded, state)
    written = None
    if reason is None:
        written, reason = _store(cache_folder, recorded, found, before, limit)
    if reason is not None:
        getLogger().info(f"dataset '{config['dataset']}': the prepared data are not stored: {reason}")
    _set_config(found, config)
    if written is not None:
        # The mapped arrays replace those in the memory of this process.
        with suppress(archive.Damaged):
            found = read(written, config)
    return found, written


def read(folder: str, config: Any) -> dict[str, Any]:
    """Return the prepared data in the folder of an entry.

    Raises:
        archive.Damaged: a file is missing, incomplete or changed.
    """
    found = archive.read(folder, {"config": config, "logger": getLogger()})
    for dataset in (found["dataset"], *found["parts"]):
        dataset.dataset_path = config["data_path"]
    return found


def _set_config(found: dict[str, Any], config: Any) -> None:
    for dataset in (found["dataset"], *found["parts"]):
        dataset.config = config


# -- entries -------------------------------------------------------------------------------


def _entries(cache_folder: Path, dataset: str) -> list[Path]:
    pattern = re.compile(re.escape(dataset) + "-[0-9a-f]{16}")
    try:
        return sorted(p for p in cache_folder.iterdir() if pattern.fullmatch(p.name))
    except OSError:
        return []


def _reuse(folder: Path, config: Any) -> dict[str, Any] | None:
    """Return the data of an entry if the entry fits; delete an entry that is damaged."""
    logger = getLogger()
    try:
        if not _fits(_entry(folder), config):
            return None
        found = read(str(folder), config)
    except archive.Damaged as error:
        logger.warning(f"{folder}: the prepared data are damaged ({error}); they are prepared again")
        shutil.rmtree(folder, ignore_errors=True)
        return None
    logger.info(f"dataset '{config['dataset']}': the prepared data in {folder} are used")
    for note in found["dataset"].reading.notes:
        logger.warning(note)
    with suppress(OSError):  # a folder that can only be read
        os.utime(folder / ENTRY)  # the time of the last use
    return found


def _fits(entry: dict[str, Any], config: Any) -> bool:
    """Whether an entry was made by the same code, from the same files, with the same keys."""
    if entry["code"] != _code() or entry["path"] not in (None, config["data_path"]):
        return False
    for key, value in entry["keys"].items():
        given = key.removeprefix("given ")
        if value != repr(given in config.external_config_dict if given != key else config[key]):
            return False
    stats = _stats(config)
    for name, (sha, stat) in entry["files"].items():
        now = stats.get(name)
        if now is None or sha is None:
            if now is not None or sha is not None:
                return False
            continue
        if stat == now:
            continue
        if stat is not None and stat[1] != now[1]:  # another size
            return False
        if file_digest(os.path.join(config["data_path"], name)) != sha:
            return False
    return True


def _entry(folder: Path) -> dict[str, Any]:
    """Return what an entry depends on.

    Raises:
        archive.Damaged: the file cannot be read or was changed.
    """
    try:
        entry = json.loads((folder / ENTRY).read_text(encoding="utf-8"))
        if not folder.name.endswith(_mark(entry)):
            raise archive.Damaged(f"{ENTRY} was changed")
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise archive.Damaged(f"{ENTRY}: {error}") from error
    return entry


def _mark(entry: dict[str, Any]) -> str:
    """Return the digest in the name of an entry."""
    contents = {name: sha for name, (sha, _) in entry["files"].items()}
    return digest(json.dumps([entry["code"], entry["keys"], entry["path"], contents], sort_keys=True))


def _store(
    cache_folder: Path, recorded: RecordedConfig, found: dict[str, Any], before: dict[str, Any], limit: float
) -> tuple[str | None, str | None]:
    """Write an entry; return its folder, or the reason why there is none."""
    files = _files(recorded.config, found["dataset"].reading.files, before)
    if files is None:
        return None, "a file changed while it was read"
    path = recorded.config["data_path"]
    notes = found["dataset"].reading.notes
    entry = {
        "code": _code(),
        "keys": {key: value for key, value in recorded.reads.items() if key not in _OTHERS},
        # The sentences of an entry may name a path, which holds for this path only.
        "path": path if any(path in note for note in notes) else None,
        "files": files,
    }
    final = cache_folder / f"{recorded.config['dataset']}-{_mark(entry)}"
    try:
        with temporary_folder(final) as temporary:
            # The files are not flushed to the disk, which takes long: checksums reveal a loss of power.
            archive.write(str(temporary), found, {"config": recorded, "logger": found["dataset"].logger})
            (temporary / ENTRY).write_text(json.dumps(entry, indent=1) + "\n", encoding="utf-8")
            size = _size(temporary)
            if size > limit * 2**30:
                return None, f"they take {size / 2**30:.2g} GiB, more than prepared_limit_gb={limit:g}"
            _make_room(cache_folder, limit * 2**30 - size)
            try:
                temporary.rename(final)
            except OSError:
                if not final.is_dir():  # otherwise another process has written the same entry
                    raise
    except archive.NotStorable as error:
        return None, f"they contain an object of the type {error}"
    except OSError as error:
        return None, f"{cache_folder}: {error.strerror or error}"
    return str(final), None


def _make_room(cache_folder: Path, free: float) -> None:
    """Delete the entries that were not used for the longest time, until the others take *free* bytes."""
    ages = []
    for folder in cache_folder.iterdir():
        try:
            if _UNFINISHED.fullmatch(folder.name):
                if time.time() - folder.stat().st_mtime > _ABANDONED_SECONDS:
                    shutil.rmtree(folder, ignore_errors=True)
            elif _ENTRY_NAME.fullmatch(folder.name) and (folder / ENTRY).is_file():
                ages.append(((folder / ENTRY).stat().st_mtime, _size(folder), folder))
        except OSError:
            continue  # another process deletes it
    for _, size, folder in sorted(ages, reverse=True):
        free -= size
        if free < 0:
            getLogger().info(f"{folder}: the prepared data are deleted to stay below prepared_limit_gb")
            shutil.rmtree(folder, ignore_errors=True)


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


# -- what an entry depends on --------------------------------------------------------------


def _reason_not_to_store(recorded: RecordedConfig, state: list[Any]) -> str | None:
    if recorded.other:
        return f"they depend on {', '.join(sorted(recorded.other))} of the configuration"
    if not all(map(np.array_equal, state, _random_state())):
        return "the split or the order is random (eval_args)"
    return None


def _random_state() -> list[Any]:
    numpy: Any = np.random.get_state()
    return [hash(random.getstate()), numpy[1], numpy[2], torch.get_rng_state().numpy()]


def _stats(config: Any) -> dict[str, list[Any] | None]:
    """Return path, size, times and inode of each file of a data set, or None for a file that is absent."""
    found: dict[str, list[Any] | None] = {}
    for name, path in paths(config).items():
        try:
            stat = os.stat(path)
            found[name] = [path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
        except OSError:
            found[name] = None
    return found


def paths(config: Any) -> dict[str, str]:
    """Return name -> absolute path of the files of a data set, whether they exist or not."""
    parts = [f"{part}.inter" for part in config["benchmark_filename"] or []] or ["inter"]
    kinds = (*parts, "user", "item", *(config["additional_feat_suffix"] or []))
    names = [f"{config['dataset']}.{kind}" for kind in kinds]
    return {name: os.path.abspath(os.path.join(config["data_path"], name)) for name in names}


def _files(
    config: Any, opened: list[str], before: dict[str, list[Any] | None]
) -> dict[str, tuple[str | None, list[Any] | None]] | None:
    """Return the digest and the state of each file that decides the data, or None if a file has changed.

    A file that exists and was not opened does not decide the data. The digest of an absent file is None,
    and so is the state of a file that has just been written.
    """
    found: dict[str, tuple[str | None, list[Any] | None]] = {}
    for name, stat in before.items():
        if stat is None:
            if name in opened:
                return None  # downloaded now
            found[name] = None, None
        elif name in opened:
            found[name] = file_digest(stat[0]), stat
    if any(stat != before[name] for name, stat in _stats(config).items()):
        return None
    now = time.time_ns()
    return {
        name: (sha, stat if stat is not None and max(stat[2], stat[3]) + _SETTLED_NS < now else None)
        for name, (sha, stat) in found.items()
    }


@cache
def _code() -> str:
    """Return a text that changes with the code and the packages that prepare data."""
    root = Path(__file__).resolve().parent.parent
    files = [*sorted((root / "data").glob("*.py")), *sorted((root / "recbole").glob("*.py"))]
    own = digest("".join(file.read_text(encoding="utf-8") for file in files))
    packages = [f"{name} {version(name)}" for name in ("recbole", "numpy", "pandas", "torch")]
    return ", ".join([__version__, own, *packages])
