"""Damaged files: random bytes, truncations, changed cells and values of another type."""

from __future__ import annotations

import copy
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

_TEXTS = ["", "nan", "inf", "-1", "0", "1e400", "9" * 30, "9" * 5000, "\x00", "é", "\ud7ff", "[]", "{}", '"',
          "'", "\r", "\t", "\t\t", "\n\n", ":", "token", "float_seq", "None", "True", "2021-99-99", "!!int x",
          "&a", "*a", "(" * 500, "[" * 3000, "- " * 400, "~", "\ufeff", "a b", "#", ",", "1e5",
          "-inf"]  # fmt: skip
_VALUES: list[Any] = [None, True, 0, -1, 10**30, 1.5, float("nan"), float("inf"), "", "a", "é\x00", [],
                      [None], [1, "a"], {}, {"a": None}, [[]], {"1": {}}]  # fmt: skip
# Each line is nine times the one before: a few hundred bytes that stand for 10^9 values.
BOMB = (
    b"a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
    + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)).encode()
)


@dataclass
class Target:
    """A kind of file and what reads it.

    Attributes:
        name: of the kind.
        files: the sound files, path below the working folder -> content.
        read: reads them; the working directory is the folder with the files.
        renew_digests: called after the change, so that outdated digests do not hide the damage.
        share: how often it is drawn.
    """

    name: str
    files: dict[str, bytes]
    read: Callable[[], Any]
    renew_digests: Callable[[], None] | None = None
    share: float = 1.0


def damaged(rng: np.random.Generator, target: Target) -> tuple[str, bytes]:
    """Return the path of one of the files and its damaged content."""
    path = str(rng.choice(sorted(target.files)))
    content = target.files[path]
    nested = path.rpartition(".")[2]  # files of nested values have their values changed as well
    if nested in ("json", "yaml", "pth") and rng.random() < 0.6:
        return path, _another_value(rng, content, nested)
    return path, _another_text(rng, content)


def _another_text(rng: np.random.Generator, content: bytes) -> bytes:
    kind = int(rng.integers(8))
    size = len(content)
    begin, end = sorted(int(n) for n in rng.integers(0, size + 1, 2))
    end = min(end, begin + int(rng.integers(1, 60)))
    if kind == 0:
        return rng.bytes(int(rng.integers(0, 300)))
    if kind == 1:
        return content[: int(rng.integers(0, size + 1))]
    if kind == 2:
        found = bytearray(content)
        for place in rng.integers(0, max(size, 1), int(rng.integers(1, 6))):
            found[place : place + 1] = rng.bytes(1)
        return bytes(found)
    if kind == 3:
        return content[:begin] + content[end:]
    if kind == 4:
        return content[:end] + content[begin:]
    text = str(rng.choice(_TEXTS)).encode("utf-8")
    if kind == 5 and rng.random() < 0.05:
        return BOMB + content
    cells = list(re.finditer(rb"[\w.\-]+", content[:20000]))
    if kind < 7 and cells:
        cell = cells[int(rng.integers(len(cells)))]
        if rng.random() < 0.2:  # a number of the same length, in headers of a fixed one
            text = b"9" * len(cell[0])
        return content[: cell.start()] + text + content[cell.end() :]
    return content[:begin] + text + content[begin:]


def _another_value(rng: np.random.Generator, content: bytes, kind: str) -> bytes:
    if kind == "pth":
        import io

        state = torch.load(io.BytesIO(content), weights_only=True)
        torch.save(change(rng, state), stream := io.BytesIO())
        return stream.getvalue()
    if kind == "yaml":
        return yaml.safe_dump(change(rng, yaml.safe_load(content))).encode()
    return json.dumps(change(rng, json.loads(content))).encode()


def change(rng: np.random.Generator, value: Any) -> Any:
    """Return a copy of a nested value in which one value is another, is gone, or is new."""
    found = [copy.deepcopy(value)]
    parent: Any = found
    key: Any = 0
    while isinstance(parent[key], (dict, list)) and parent[key] and rng.random() < 0.85:
        parent = parent[key]
        keys = list(parent) if isinstance(parent, dict) else list(range(len(parent)))
        key = keys[int(rng.integers(len(keys)))]
    if rng.random() < 0.25 and parent is not found:
        del parent[key]
    else:
        parent[key] = copy.deepcopy(_VALUES[int(rng.integers(len(_VALUES)))])
    return found[0]


def restore(folder: Path, target: Target) -> None:
    """Write the sound files of a target, and remove all else."""
    for old in folder.iterdir():
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    for path, content in target.files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


def tree(folder: Path) -> dict[str, bytes]:
    """Return the content of all files below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
