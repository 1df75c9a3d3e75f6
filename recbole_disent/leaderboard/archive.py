"""The compact form of a plan's results: ``runs.csv`` and ``ranks.npz`` in place of the run folders.

The first line of ``runs.csv`` is ``#`` and the plan as JSON. A CSV table follows with one line for each
run and trial; :data:`COLUMNS` and the metrics are its columns. ``ranks.npz`` holds the ranks of the test
items. A rank beyond every cut-off of the metrics is stored as the first rank beyond them. This loses
nothing, because the metrics have the same value for all of these ranks.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recbole_disent.errors import UserError
from recbole_disent.files import write_atomically, write_text
from recbole_disent.leaderboard import statistics
from recbole_disent.leaderboard.stored import USER_ARRAYS, PlanResults

RUNS_FILE, RANKS_FILE = "runs.csv", "ranks.npz"
SCHEMA = 1
_ABOUT_USERS = tuple(name for name in USER_ARRAYS if name != "rank")


def _boolean(text: str) -> bool:
    return {"true": True, "false": False}[text]


# Function that reads a cell -> description of the expected content.
_KINDS: dict[Callable[[str], Any], str] = {
    str: "a text", int: "a whole number", float: "a number", _boolean: "true or false", json.loads: "JSON",
}  # fmt: skip


@dataclass(frozen=True)
class Column:
    """A column of ``runs.csv``.

    Attributes:
        name: head of the column.
        read: function that makes the value from the text of a cell.
        path: keys that lead to the value in a result file; empty for a value that the plan holds.
        empty: meaning of an empty cell: the key is "missing", or the value is None ("none"). With "never",
            an empty cell is an error. A file of an older version may lack columns whose cells may be empty.
    """

    name: str
    read: Callable[[str], Any]
    path: tuple[str, ...] = ()
    empty: str = "none"


_ENTRY = (
    *(Column(name, str, empty="never") for name in ("id", "label", "model", "dataset", "protocol")),
    Column("sweep", json.loads),
    Column("seed", int, empty="never"),
    Column("trial", int),
)
_RESULT = (
    Column("valid_score", float, ("best_valid_score",)),
    Column("valid_score_bigger", _boolean, ("valid_score_bigger",), empty="never"),
    Column("best_epoch", int, ("best_epoch",)),
    Column("epochs_run", int, ("epochs_run",), empty="never"),
    Column("train_seconds", float, ("seconds", "train"), empty="never"),
    Column("evaluation_seconds", float, ("seconds", "evaluation"), empty="missing"),
    Column("cpu_memory_mb", float, ("peak_memory_mb", "cpu"), empty="never"),
    Column("gpu_memory_mb", float, ("peak_memory_mb", "gpu"), empty="missing"),
    Column("parameters", int, ("parameters",), empty="never"),
    Column("processes", int, ("processes",)),
    Column("refit", json.loads, ("refit",), empty="missing"),
    Column("intentions", json.loads, ("intentions",), empty="missing"),
    Column("threads", int, ("threads",), empty="missing"),
    Column("data_hash", str, ("data_hash",), empty="never"),
    Column("content_hash", str, ("content_hash",)),
    Column("candidate_hashes", json.loads, ("candidate_hashes",), empty="never"),
    Column("code", str, ("code",)),
    Column("git_commit", str, ("git_commit",)),
    Column("versions", json.loads, ("versions",), empty="never"),
    Column("model_type", str, ("config", "MODEL_TYPE"), empty="never"),
    Column("max_epochs", int, ("config", "epochs"), empty="never"),
    Column("stopping_step", int, ("config", "stopping_step"), empty="never"),
    Column("valid_metric", str, ("config", "valid_metric"), empty="never"),
    Column("eval_mode", json.loads, ("config", "eval_args", "mode"), empty="never"),
    Column("filter_history", _boolean, ("config", "filter_history")),
    Column("repeatable", _boolean, ("config", "repeatable"), empty="missing"),
    Column("repeat_gate", _boolean, ("config", "repeat_gate")),
    Column("score_dtype", str, ("config", "score_dtype")),
    Column("device", str, ("config", "device")),
)
_ERROR, _GIVEN = Column("error", str), Column("given", json.loads)
#: All columns except the metrics. The columns of metrics are called ``valid:NAME`` and ``test:NAME``.
COLUMNS = (*_ENTRY, _ERROR, *_RESULT, _GIVEN)
_METRICS = {"valid": "best_valid_result", "test": "test_result"}


# -- writing ---------------------------------------------------------------------------


def write(folder: Path, found: PlanResults, with_ranks: bool = True) -> list[Path]:
    """Write the compact form of a plan's results.

    Args:
        folder: folder for the files.
        found: results of the plan.
        with_ranks: whether to write ``ranks.npz``; without this file a report has no tests over users.

    Returns:
        the paths of the files.
    """
    files = [folder / RUNS_FILE]
    digest = None
    if with_ranks and found.users:
        content = _pack_ranks(found)
        digest = _digest(content)
        with write_atomically(folder / RANKS_FILE) as file:
            file.write(content)
        files.append(folder / RANKS_FILE)
    # This file is written last, because it holds the digest of the file of ranks.
    write_text(folder / RUNS_FILE, _table(found, digest))
    return files


def _table(found: PlanResults, digest: str | None) -> str:
    entries = [*found.runs, *found.trials]
    head = {"schema": SCHEMA, "lines": len(entries), "ranks": digest, "plan": found.plan}
    names = [
        f"{part}:{name}"
        for part, key in _METRICS.items()
        for name in dict.fromkeys(name for result in found.results.values() for name in result[key] or {})
    ]
    text = io.StringIO()
    text.write(f"# {json.dumps(head, default=str)}\n")
    out = csv.writer(text, lineterminator="\n")
    out.writerow([*(column.name for column in COLUMNS), *names])
    for entry in entries:
        out.writerow(_line(found, entry, names))
    return text.getvalue()


def _line(found: PlanResults, entry: dict[str, Any], names: list[str]) -> list[str]:
    result = found.results.get(entry["id"], {})
    shared = (found.plan.get("options") or {}).get("config") or {}
    given = {k: v for k, v in found.given.get(entry["id"], {}).items()
             if k != "data_path" and (k not in shared or shared[k] != v)}  # fmt: skip
    cells = [_cell(column, entry.get(column.name)) for column in _ENTRY]
    cells.append(found.errors.get(entry["id"], ""))
    for column in _RESULT:
        value: Any = result
        for key in column.path:
            value = value.get(key) if isinstance(value, dict) else None
        cells.append(_cell(column, value))
    cells.append(_cell(_GIVEN, given))
    for name in names:
        part, _, metric = name.partition(":")
        value = (result.get(_METRICS[part]) or {}).get(metric)
        cells.append("" if value is None else repr(float(value)))
    return cells


def _cell(column: Column, value: Any) -> str:
    if value is None:
        return ""
    if column.read is json.loads:
        return json.dumps(value, default=str)
    if column.read is _boolean:
        return str(value).lower()
    return str(value)


def _pack_ranks(found: PlanResults) -> bytes:
    """Return the content of ``ranks.npz``; runs with the same users share one set of arrays."""
    ranked = {m for r in found.results.values() for m in r["test_result"] or {} if statistics.is_of_ranks(m)}
    beyond = 1 + max((int(cut) for m in ranked if (cut := m.partition("@")[2])), default=0)
    groups: dict[Any, list[str]] = {}
    for name, users in found.users.items():
        groups.setdefault(tuple(users[about].tobytes() for about in _ABOUT_USERS), []).append(name)
    arrays: dict[str, np.ndarray] = {}
    for number, names in enumerate(groups.values()):
        first = found.users[names[0]]
        # Most ids of users are consecutive, so their differences compress well.
        arrays[f"user_{number}"] = np.diff(first["user"].astype(np.int64), prepend=0)
        arrays[f"history_{number}"] = _smallest(first["history"])
        arrays[f"popularity_{number}"] = _smallest(first["popularity"])
        arrays[f"rank_{number}"] = _smallest(
            np.stack([np.minimum(found.users[name]["rank"], beyond) for name in names], axis=1)
        )
        arrays[f"run_{number}"] = np.array(names)
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **arrays)
    return content.getvalue()


def _smallest(values: np.ndarray) -> np.ndarray:
    """Convert whole numbers >= 0 to the smallest integer type that can hold them."""
    return values.astype(np.min_scalar_type(int(values.max(initial=0))))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


# -- reading ---------------------------------------------------------------------------


def read(folder: Path) -> PlanResults:
    """Read the compact form of a plan's results.

    Raises:
        UserError: a file is damaged (the error names the line of ``runs.csv``), or the two files belong to
            different results.
    """
    path = folder / RUNS_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"report: {path} cannot be read ({error}); {_RESTORE}") from error
    first, _, rest = text.partition("\n")
    head = _read_head(path, first)
    found = PlanResults(head["plan"], [], [])
    lines = csv.reader(io.StringIO(rest), strict=True)
    try:
        names = _read_names(path, next(lines, []))
        for cells in lines:
            # The CSV reader does not see line 1, which holds the plan.
            _read_line(found, names, cells, f"report: {path}, line {lines.line_num + 1}")
    except csv.Error as error:
        raise UserError(
            f"report: {path}, line {lines.line_num + 1}: expected CSV ({error}); {_RESTORE}"
        ) from error
    entries = [*found.runs, *found.trials]
    if len(entries) != head["lines"]:
        raise UserError(
            f"report: {path}: got {len(entries)} runs and trials, but line 1 says {head['lines']}; {_RESTORE}"
        )
    if head["ranks"] is not None:
        _read_ranks(folder / RANKS_FILE, head["ranks"], found)
    return found


_RESTORE = "restore the file, or compact the run folders again"


def _read_head(path: Path, line: str) -> dict[str, Any]:
    try:
        head = json.loads(line.removeprefix("#"))
        if head["schema"] != SCHEMA:
            raise UserError(
                f"report: {path}, line 1: got schema {head['schema']!r}, expected {SCHEMA}; read it with the "
                "version of recbole_disent that wrote it"
            )
        lacking = {"lines", "ranks", "plan"} - head.keys()
        lacking |= {"options", "searches", "sweep", "command"} - head["plan"].keys()
        if lacking:
            raise KeyError(*sorted(lacking))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"report: {path}, line 1: got {line[:40]!r}, expected '#' and the plan as JSON; {_RESTORE}"
        ) from error
    return head


def _read_names(path: Path, names: list[str]) -> list[str]:
    known = {column.name: column.empty for column in COLUMNS}
    wrong = [
        f"the column '{n}' is missing" for n, empty in known.items() if empty == "never" and n not in names
    ]
    wrong += [f"the column '{name}' appears twice" for name in names if names.count(name) > 1]
    wrong += [
        f"the column '{name}' is unknown"
        for name in names
        if name not in known and name.partition(":")[0] not in _METRICS
    ]
    if wrong:
        raise UserError(f"report: {path}, line 2: {wrong[0]}; {_RESTORE}")
    return names


def _read_line(found: PlanResults, names: list[str], cells: list[str], where: str) -> None:
    if len(cells) != len(names):
        raise UserError(f"{where}: got {len(cells)} cells, expected {len(names)}; {_RESTORE}")
    texts = dict(zip(names, cells, strict=True))
    entry = {column.name: _value(column, texts.get(column.name, ""), where) for column in _ENTRY}
    entries = found.runs if entry["trial"] is None else found.trials
    if entry in entries:
        raise UserError(f"{where}: the run {entry['id']} of {entry['label']} appears twice; {_RESTORE}")
    entries.append(entry)
    found.given[entry["id"]] = _value(_GIVEN, texts.get("given", ""), where) or {}
    error = _value(_ERROR, texts.get("error", ""), where)
    if error is not None:
        found.errors[entry["id"]] = error
        return
    result: dict[str, Any] = {name: entry[name] for name in ("model", "dataset", "seed")}
    for column in _RESULT:
        value = _value(column, texts.get(column.name, ""), where)
        place = result
        for key in column.path[:-1]:
            place = place.setdefault(key, {})
        if value is not None or column.empty != "missing":
            place[column.path[-1]] = value
    for part, key in _METRICS.items():
        values = {
            name.partition(":")[2]: _value(Column(name, float), texts[name], where)
            for name in names if name.startswith(f"{part}:") and texts[name]
        }  # fmt: skip
        result[key] = values or None
    found.results[entry["id"]] = result


def _value(column: Column, text: str, where: str) -> Any:
    if not text and column.empty != "never":
        return None
    try:
        if not text:
            raise ValueError("empty")
        return column.read(text)
    except (ValueError, KeyError, RecursionError) as error:
        raise UserError(
            f"{where}: {column.name}: got {text[:40]!r}, expected {_KINDS[column.read]}; {_RESTORE}"
        ) from error


def _read_ranks(path: Path, digest: str, found: PlanResults) -> None:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"report: {path}: {error.strerror}, but {RUNS_FILE} names this file; {_RESTORE}"
        ) from error
    if _digest(content) != digest:
        raise UserError(
            f"report: {path}: got the digest {_digest(content)}, expected {digest} (line 1 of {RUNS_FILE}); "
            f"{_RESTORE}"
        )
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            for number in range(sum(name.startswith("run_") for name in stored.files)):
                _read_group(found, {name: stored[f"{name}_{number}"] for name in (*USER_ARRAYS, "run")})
    except Exception as error:  # damaged bytes can raise any exception
        raise UserError(f"report: {path}: expected a file of ranks ({error}); {_RESTORE}") from error


def _read_group(found: PlanResults, arrays: dict[str, np.ndarray]) -> None:
    about = {name: arrays[name].astype(np.int64) for name in _ABOUT_USERS}
    about["user"] = np.cumsum(about["user"])
    ranks = arrays["rank"].astype(np.int64)
    expected = (*about["user"].shape, *arrays["run"].shape)
    if ranks.shape != expected or any(a.shape != about["user"].shape for a in about.values()):
        raise ValueError(f"ranks of shape {ranks.shape}, expected {expected}")
    names: Iterable[str] = arrays["run"].tolist()
    for column, name in enumerate(names):
        found.users[name] = {**about, "rank": ranks[:, column]}
