"""A small data set with edge cases, which each contract test writes into its own folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

HOSTILE = "hostile"


def write_inter(folder: Path, name: str, rows: list[tuple[Any, ...]], header: str | None = None) -> None:
    """Write ``folder/name/name.inter``.

    Args:
        folder: value of the key ``data_path``.
        name: name of the data set.
        rows: cells of each line; by default a line has user, item, rating and timestamp.
        header: columns with their types, in RecBole's form.
    """
    head = header or "user_id:token\titem_id:token\trating:float\ttimestamp:float"
    _write(folder, name, "inter", rows, head)


def write_items(folder: Path, name: str, rows: list[tuple[Any, ...]], header: str) -> None:
    """Write ``folder/name/name.item``; the arguments are those of :func:`write_inter`."""
    _write(folder, name, "item", rows, header)


def _write(folder: Path, name: str, kind: str, rows: list[tuple[Any, ...]], header: str) -> None:
    (folder / name).mkdir(parents=True, exist_ok=True)
    lines = [header, *("\t".join(map(str, row)) for row in rows)]
    (folder / name / f"{name}.{kind}").write_text("\n".join(lines) + "\n", encoding="utf-8")


def hostile_rows(seed: int = 0, users: int = 40, items: int = 30) -> list[tuple[Any, ...]]:
    """Rows of a shuffled file with equal times, users with one item, and repeated items.

    Returns:
        (user, item, rating, timestamp) of each line.
    """
    rng = np.random.default_rng(seed)
    rows: list[tuple[Any, ...]] = []
    for user in range(users):
        length = int(rng.choice([1, 2, 3, 4, 9, 25]))
        times = np.sort(rng.integers(0, 8, size=length))
        for time in times:
            rows.append((f"u{user}", f"i{rng.integers(items)}", rng.integers(1, 6), time))
    return [rows[i] for i in rng.permutation(len(rows))]


def hostile_items(items: int = 30) -> list[tuple[Any, ...]]:
    """Titles and tags of items. One item has no line, one has no title, one has quotes and another script.

    Returns:
        (item, title, tags) of each line.
    """
    rng = np.random.default_rng(5)
    words = np.array(["red", "green", "blue", "round", "flat", "old", "new", "big", "small", "wooden"])
    rows = []
    for item in range(1, items):
        title = " ".join(rng.choice(words, size=3))
        tags = " ".join(rng.choice(["a", "b", "c", "d"], size=2))
        rows.append((f"i{item}", title if item != 3 else "", tags))
    rows[5] = ("i6", 'the "red" 青い椅子', "a")
    return rows


def write_hostile(folder: Path) -> Path:
    """Write the data set ``hostile`` with its items; return *folder*, the value of ``data_path``."""
    write_inter(folder, HOSTILE, hostile_rows())
    write_items(folder, HOSTILE, hostile_items(), "item_id:token\ttitle:token_seq\ttags:token_seq")
    return folder


def hostile_keys(folder: Path) -> dict[str, Any]:
    """Configuration keys of a short run on the data set ``hostile``."""
    return {
        "data_path": str(folder),
        "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]},
        "MAX_ITEM_LIST_LENGTH": 7,
        "topk": [1, 5, 10],
        "show_progress": False,
        "epochs": 2,
    }
