"""Small data sets and settings drawn at random, and what RecBole and this package make of them."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from recbole.config import Config as RecBoleConfig
from recbole.data import create_dataset

from recbole_disent.config.config import Config
from recbole_disent.data.loading import load_parts

NAME = "drawn"
_ODD = ["01", "1", "1.0", "NA", "null", "é", '"q', 'q"q', "a b", "-", "#x", "nan"]
_INTERVALS = ["[2,inf)", "[3,inf)", "(1,4]", "[1,2];[4,9]", "[2,5)"]
_SPLITS = [{"LS": "valid_and_test"}, {"LS": "valid_only"}, {"LS": "test_only"}, {"RS": [0.8, 0.1, 0.1]},
           {"RS": [0.5, 0.3, 0.2]}, {"RS": [1, 0, 0]}, {"TS": [0.6, 0.2, 0.2]},
           {"TS": [0.5, 0.1, 0.4]}]  # fmt: skip


@dataclass
class Case:
    """A data set and settings.

    Attributes:
        model: name of a model.
        keys: configuration keys that RecBole and this package have in common.
        tables: suffix of a file -> its header and its lines of cells.
    """

    model: str
    keys: dict[str, Any]
    tables: dict[str, list[list[str]]] = field(default_factory=dict)

    @property
    def sequential(self) -> bool:
        """Whether the model learns from sequences."""
        return self.model == "SASRec"

    @property
    def presplit(self) -> bool:
        """Whether the files are training, validation and test part."""
        return bool(self.keys.get("benchmark_filename"))

    def column(self, name: str) -> list[str]:
        """Return the cells of a column, of all interaction files."""
        found = []
        for suffix, (head, *rows) in self.tables.items():
            if suffix.endswith("inter"):
                for place in (n for n, cell in enumerate(head) if cell.partition(":")[0] == name):
                    found += [row[place] for row in rows if place < len(row)]
        return found

    def write(self, folder: Path) -> None:
        """Write the files below *folder*."""
        separator = self.keys.get("field_separator", "\t")
        place = folder / NAME
        place.mkdir(exist_ok=True)
        for old in place.iterdir():
            old.unlink()
        for suffix, rows in self.tables.items():
            text = "".join(separator.join(row) + "\n" for row in rows)
            (place / f"{NAME}.{suffix}").write_text(text, encoding="utf-8")


@dataclass
class Parts:
    """A data set that was built.

    Attributes:
        ids: column -> its tokens, in the order of the internal ids.
        parts: of training, validation and test part, column -> tensor of its rows.
    """

    ids: dict[str, list[str]]
    parts: list[dict[str, torch.Tensor]]


# -- drawing ---------------------------------------------------------------------------


class _Draw:
    """Random choices; the same seed gives the same ones."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def happens(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def one_of(self, values: Any) -> Any:
        return values[int(self.rng.integers(len(values)))]

    def whole(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))


def draw(seed: int) -> Case:
    """Draw a case."""
    d = _Draw(seed)
    case = Case(d.one_of(["BPR", "Pop", "SASRec", "SASRec"]), {})
    users, items = _tokens(d, "u", d.whole(1, 6)), _tokens(d, "i", d.whole(2, 7))
    columns = ["user_id:token", "item_id:token", "timestamp:float"]
    more = {"rating:float": 0.7, "shop:token": 0.4, "tags:token_seq": 0.25, "sizes:float_seq": 0.2}
    columns += [name for name, share in more.items() if d.happens(share)]
    if d.happens(0.2):
        columns = [columns[n] for n in d.rng.permutation(len(columns))]
    sizes = [d.whole(1, 9) for _ in users]
    owners = [user for user, size in zip(users, sizes, strict=True) for _ in range(size)]
    owners = [owners[n] for n in d.rng.permutation(len(owners))]
    times = _times(d, len(owners))
    missing = 0.04 if d.happens(0.25) else 0.0
    untimed = 0.04 if d.happens(0.05) else 0.0
    rows = []
    for user, time in zip(owners, times, strict=True):
        cells = {"user_id": user, "item_id": d.one_of(items), "timestamp": time}
        row = [cells.get(name.partition(":")[0]) or _cell(d, name) for name in columns]
        rows.append(
            ["" if d.happens(untimed if name.startswith("time") else missing) else cell
             for name, cell in zip(columns, row, strict=True)]
        )  # fmt: skip
    if d.happens(0.1):
        rows += [list(d.one_of(rows)) for _ in range(3)]
    if d.happens(0.02):
        d.one_of(rows).pop()
    _settings(d, case, columns)
    if d.happens(0.2):
        _presplit(d, case, columns, rows, items)
    else:
        case.tables["inter"] = [columns, *rows]
    _features(d, case, "item", items, missing)
    _features(d, case, "user", users, missing)
    _loaded(d, case)
    if d.happens(0.08):
        _rename(case)
    return case


def _tokens(d: _Draw, prefix: str, count: int) -> list[str]:
    tokens = [f"{prefix}{n}" for n in range(count)]
    if d.happens(0.1):
        tokens[d.whole(0, count - 1)] = d.one_of(_ODD)
    return tokens


def _times(d: _Draw, count: int) -> list[str]:
    kind = d.one_of(["distinct", "equal", "unix", "fraction"])
    if kind == "distinct":
        return [str(n) for n in d.rng.permutation(count)]
    if kind == "equal":
        return [str(d.whole(0, 4)) for _ in range(count)]
    if kind == "unix":
        return [str(1_500_000_000 + d.whole(0, 600)) for _ in range(count)]
    return [str(round(float(d.rng.normal()), 3)) for _ in range(count)]


def _cell(d: _Draw, name: str) -> str:
    kind = name.partition(":")[2]
    if kind == "float":
        return str(d.one_of([1, 2, 3, 4, 5, 2.5]))
    if kind == "token":
        return d.one_of(["s1", "s2", "s3", "4"])
    values = ["t1", "t2", "t3"] if kind == "token_seq" else ["0.5", "1", "-2"]
    return " ".join(d.one_of(values) for _ in range(d.whole(0, 3)))


def _settings(d: _Draw, case: Case, columns: list[str]) -> None:
    names = {name.partition(":")[0] for name in columns}
    order = "RO" if not case.sequential and d.happens(0.3) else "TO"
    split = d.one_of(_SPLITS if order == "TO" else _SPLITS[:6])
    case.keys["eval_args"] = {
        "split": split, "order": order, "group_by": d.one_of(["user", "user", None]), "mode": "full",
    }  # fmt: skip
    if "LS" in split:
        case.keys["eval_args"]["group_by"] = "user"
    case.keys["MAX_ITEM_LIST_LENGTH"] = d.whole(1, 6)
    wanted: dict[str, Any] = {
        "user_inter_num_interval": d.one_of(_INTERVALS),
        "item_inter_num_interval": d.one_of(_INTERVALS),
        "rm_dup_inter": d.one_of(["first", "last"]),
        "filter_inter_by_user_or_item": False,
    }
    if "rating" in names:
        wanted["val_interval"] = {"rating": d.one_of(["[2,inf)", "(1,3]", "[1,2];[4,5]"])}
        wanted["threshold"] = {"rating": 3}
        wanted["normalize_field"] = ["rating"]
        wanted["numerical_features"] = ["rating"]
    if "shop" in names and d.happens(0.5):
        wanted["val_interval"] = {"shop": ["s1", "s2"]}
    if "tags" in names:
        wanted["seq_len"] = {"tags": d.whole(1, 2)}
    case.keys.update({key: value for key, value in wanted.items() if d.happens(0.15)})
    if case.keys.get("threshold") and ("val_interval" in case.keys or d.happens(0.5)):
        del case.keys["threshold"]
    if case.sequential and d.happens(0.05):
        case.keys["LIST_SUFFIX"] = "_seen"
    if d.happens(0.08):
        case.keys["field_separator"] = d.one_of([",", "|"])


def _presplit(d: _Draw, case: Case, columns: list[str], rows: list[list[str]], items: list[str]) -> None:
    suffixes = ["train", "valid", "test"] if d.happens(0.8) else ["train", "test"]
    case.keys["benchmark_filename"] = suffixes
    filters = ("rm_dup_inter", "val_interval", "user_inter_num_interval", "item_inter_num_interval")
    for key in filters:
        case.keys.pop(key, None)
    if d.happens(0.6):
        columns = [*columns, "item_id_list:token_seq"]
        rows = [[*row, " ".join(d.one_of(items) for _ in range(d.whole(1, 4)))] for row in rows]
        case.keys["alias_of_item_id"] = ["item_id_list"]
        case.keys.pop("LIST_SUFFIX", None)
    which = d.rng.choice(len(suffixes), len(rows))
    for number, suffix in enumerate(suffixes):
        own = [row for row, part in zip(rows, which, strict=True) if part == number]
        case.tables[f"{suffix}.inter"] = [columns, *own]


def _features(d: _Draw, case: Case, source: str, tokens: list[str], missing: float) -> None:
    if not d.happens(0.25):
        return
    columns = [f"{source}_id:token", "kind:token", "price:float", "words:token_seq"]
    columns = [columns[0], *(name for name in columns[1:] if d.happens(0.6))]
    if source == "user":
        columns = [name.replace("kind", "group").replace("price", "age").replace("words", "likes")
                   for name in columns]  # fmt: skip
    known = [token for token in [*tokens, f"{source}x"] if d.happens(0.9)] or tokens
    if d.happens(0.05):
        known.append(known[0])
    rows = [[token, *("" if d.happens(missing) else _cell(d, name) for name in columns[1:])]
            for token in known]  # fmt: skip
    case.tables[source] = [columns, *rows]


def _loaded(d: _Draw, case: Case) -> None:
    case.keys["load_col"] = None
    needed = ["user_id", "item_id", "timestamp", "item_id_list", "item_id_seen"]
    for key in ("val_interval", "threshold"):
        needed += list(case.keys.get(key) or {})
    needed += case.keys.get("normalize_field") or []
    needed += case.keys.get("numerical_features") or []
    names = {suffix.split(".")[-1]: [cell.partition(":")[0] for cell in table[0]]
             for suffix, table in case.tables.items()}  # fmt: skip
    if d.happens(0.4):
        case.keys["load_col"] = {
            source: [name for name in found if name in needed or d.happens(0.6)]
            for source, found in names.items()
            if source == "inter" or d.happens(0.7)
        }
    elif d.happens(0.1):
        case.keys["unload_col"] = {"inter": [name for name in names["inter"] if name not in needed][:1]}


def _rename(case: Case) -> None:
    names = {"user_id": "who", "timestamp": "when"}
    for table in case.tables.values():
        table[0] = [
            f"{names.get(cell.partition(':')[0], cell.partition(':')[0])}:{cell.partition(':')[2]}"
            for cell in table[0]
        ]
    case.keys.update(USER_ID_FIELD="who", TIME_FIELD="when")
    if case.keys["load_col"]:
        case.keys["load_col"] = {s: [names.get(n, n) for n in c] for s, c in case.keys["load_col"].items()}


# -- building --------------------------------------------------------------------------


def _built(dataset: Any, parts: list[Any]) -> Parts:
    ids = {name: [str(t) for t in tokens] for name, tokens in dataset.field2id_token.items()}
    found = []
    for part in parts:
        rows = part[np.arange(len(part.inter_feat))] if len(part.inter_feat) else {}
        found.append({name: rows[name] for name in (rows.columns if len(part.inter_feat) else ())})
    return Parts(ids, found)


def recboles(case: Case, folder: Path) -> Parts | Exception:
    """Build RecBole's data set; return what it fails with where it does."""
    keys: dict[str, Any] = {"train_neg_sample_args": None} if case.sequential else {}
    keys |= copy.deepcopy(case.keys) | _base(folder)
    try:
        config = RecBoleConfig(case.model, NAME, config_dict=keys)
        torch.manual_seed(1)
        dataset = create_dataset(config)
        return _built(dataset, dataset.build())
    except Exception as error:
        return error


def ours(case: Case, folder: Path) -> Parts | Exception:
    """Build this package's data set; return its refusal where it refuses, or RecBole's own."""
    keys = copy.deepcopy(case.keys) | _base(folder) | {"recbole_time": True}
    try:
        config = Config(case.model, NAME, config_dict=keys)
        torch.manual_seed(1)
        return _built(*load_parts(config))
    except (ValueError, NotImplementedError) as error:  # a UserError is a ValueError
        return error


def _base(folder: Path) -> dict[str, Any]:
    return {"data_path": str(folder), "topk": [1], "metrics": ["Recall"], "valid_metric": "Recall@1"}


@contextmanager
def quick_configurations(memo: bool = True) -> Iterator[None]:
    """Parse each YAML text once, and hide the words of the test's command line from RecBole.

    Args:
        memo: False: keep the texts of the package and of RecBole only, which are longer than drawn ones.
    """
    load, argv, known = yaml.load, sys.argv, {}

    def load_once(text: Any, Loader: Any) -> Any:
        text = text if isinstance(text, (str, bytes)) else text.read()
        key = Loader.__name__, text
        if not memo and len(text) < 2000:
            return load(text, Loader=Loader)
        if key not in known:
            known[key] = load(text, Loader=Loader)
        return copy.deepcopy(known[key])

    yaml.load, sys.argv = load_once, argv[:1]
    try:
        yield
    finally:
        yaml.load, sys.argv = load, argv
