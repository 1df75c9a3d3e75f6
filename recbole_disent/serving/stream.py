"""Lists for any number of users or sequences, from file to file, in bounded memory.

Lists are made in parts. Each part is a file beside the result, so that the same command goes on where it
was stopped; at the end the parts become the result at once.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import StringIO
from itertools import islice
from logging import getLogger
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from recbole_disent import __version__
from recbole_disent.errors import UserError
from recbole_disent.files import locked, write_for_user, write_text
from recbole_disent.hashing import digest, file_digest
from recbole_disent.serving import input_files
from recbole_disent.serving.arguments import check_k
from recbole_disent.serving.stand_in import storable_keys

ENDINGS = (".csv", ".jsonl", ".parquet")
_COLUMNS = ("item", "score", "rank", "intention", "source")


@dataclass(frozen=True)
class Request:
    """What :func:`write_lists` is asked for.

    Attributes:
        users: ``all`` or a file; None where there are sequences.
        sequences: a file, or None.
        k, filter_history, unknown_users, diversity, diversify, index: as for ``Recommender.recommend``.
        allow, exclude: CSV files with a column ``item``, and maybe ``user`` or ``sequence``; or None.
        batch: lists of a part, at least 1.
    """

    users: str | None = None
    sequences: Path | None = None
    k: int = 10
    filter_history: bool = True
    allow: Path | None = None
    exclude: Path | None = None
    unknown_users: str = "error"
    diversity: float = 0.0
    diversify: str | None = None
    index: bool = False
    batch: int = 4096

    @property
    def owner(self) -> str:
        """Name of the first column."""
        return "sequence" if self.users is None else "user"

    def check(self, out: Path) -> None:
        """Check what can be checked before a model is loaded.

        Raises:
            UserError: an ending that is not known, a file that is missing or would be replaced, a number
                that cannot be used, or a key that says nothing here.
        """
        check_k(self.k)
        if out.suffix not in ENDINGS:
            raise UserError(f"--out: got '{out}', expected a file that ends with {', '.join(ENDINGS)}")
        if out.is_dir():
            raise UserError(f"--out: '{out}' is a folder, expected a file")
        above = next(folder for folder in out.absolute().parents if folder.exists())
        if not above.is_dir():
            raise UserError(f"--out: got '{out}', but '{above}' is a file, expected a folder")
        if self.batch < 1:
            raise UserError(f"--batch: got {self.batch}, expected at least 1")
        if not 0 <= self.diversity <= 1:
            raise UserError(f"--diversity: got {self.diversity}, expected a number in [0, 1]")
        if self.diversify is not None and not self.diversity:
            raise UserError(
                f"--diversify: got '{self.diversify}' without --diversity, which makes no difference; add "
                "--diversity with a number up to 1, or leave it out"
            )
        if self.sequences is not None and self.unknown_users != "error":
            raise UserError(
                "--unknown-users: got it with --sequences, expected it with --users; a sequence without a "
                "known item gets popular items in any case"
            )
        for key, path in self.files().items():
            if not path.is_file():
                which = "; give 'all', or a file with a column of users" if key == "users" else ""
                raise UserError(f"--{key}: the file '{path}' is not there{which}")
            if path.resolve() == out.resolve():
                raise UserError(f"--out: '{out}' is the file of --{key}, expected another file")

    def files(self) -> dict[str, Path]:
        """Files that the lists depend on."""
        users = None if self.users in (None, "all") else Path(str(self.users))
        given = {"users": users, "sequences": self.sequences, "allow": self.allow, "exclude": self.exclude}
        return {key: path for key, path in given.items() if path is not None}

    def fingerprint(self, model: list[Any], ending: str) -> str:
        """Digest of all that decides the parts; *model* holds what tells models apart, as JSON values."""
        plain = {key: str(value) for key, value in asdict(self).items()}
        inputs = {key: file_digest(path) for key, path in self.files().items()}
        return digest(json.dumps([model, ending, plain, inputs], sort_keys=True))


def write_lists(recommender: Any, request: Request, out: Path, progress: bool = True) -> str:
    """Write the lists of a request to a file: complete or not at all.

    Args:
        recommender: a :class:`~recbole_disent.recommender.Recommender`.
        request: who the lists are for, and how they are made.
        out: .csv, .jsonl or .parquet file, with the columns of ``Recommender.recommend``.
        progress: whether a bar is shown.

    Returns:
        A sentence with what was done.

    Raises:
        UserError: arguments or files that cannot be used, or another command that writes *out*.
    """
    request.check(out)
    filters = {
        "items_allowed": input_files.items(request.allow, request.owner),
        "items_excluded": input_files.items(request.exclude, request.owner),
    }
    allowed = filters["items_allowed"]
    if allowed is not None and allowed.empty:
        raise UserError(
            f"{request.allow}: has no row below its header, expected at least one item; leave out --allow to "
            "allow all items"
        )
    ruled = {
        key: {*frame[request.owner]}
        for key, frame in filters.items()
        if frame is not None and request.owner in frame
    }
    folder = out.absolute().parent / f".{out.name}.parts"
    # Keys of the command line, such as score_by_content, change the lists of a checkpoint.
    keys = storable_keys(recommender.source.config)
    mark = request.fingerprint([__version__, str(recommender.about.get("digest")), keys], out.suffix)
    busy = f"another recommend writes '{out}'; wait until it ends, or give another file"
    with locked(folder.with_name(f".{out.name}.lock"), "--out", busy):
        total = len(recommender.users) if request.users == "all" else None
        resumed = _prepare(folder, mark)
        lists = rows = made = 0
        parts: list[Path] = []
        with (
            _without_parts(folder),
            tqdm(total=total, unit=" lists", disable=not progress, desc="recommend") as bar,
        ):
            for number, chunk in enumerate(_chunks(_source(recommender, request), request.batch)):
                ids = {str(one[0] if request.users is None else one) for one in chunk}
                path = folder / f"{number:06d}{out.suffix}"
                if not path.is_file():
                    frame = _make(recommender, request, chunk, _of_owners(filters, request.owner, ids))
                    _write_part(path, frame, request.owner)
                    made += 1
                parts.append(path)
                for owners in ruled.values():
                    owners -= ids
                lists += len(chunk)
                bar.update(len(chunk))
        for key, owners in ruled.items():
            if owners:
                getLogger().warning(
                    f"{key}: no list is made for {len(owners)} of the {request.owner}s with a rule, such as "
                    f"'{min(owners)}'"
                )
        rows = _join(out, parts, request.owner)
        shutil.rmtree(folder)
    kept = (
        f", {len(parts) - made} of {len(parts)} parts from the run before"
        if resumed and made < len(parts)
        else ""
    )
    return f"{out}: {rows} rows, lists of {lists} {request.owner}s{kept}"


def _prepare(folder: Path, mark: str) -> bool:
    """Make the folder of parts; keep those of the same request. Return whether there were any."""
    note = folder / "request"
    if folder.is_dir():
        if note.is_file() and note.read_text(encoding="utf-8") == mark:
            return True
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    write_text(note, mark)
    return False


@contextmanager
def _without_parts(folder: Path) -> Iterator[None]:
    """Remove the folder of parts after an error before the first part."""
    try:
        yield
    except UserError:
        if [file.name for file in folder.iterdir()] == ["request"]:
            shutil.rmtree(folder)
        raise


def _source(recommender: Any, request: Request) -> Iterator[Any]:
    if request.users == "all":
        return iter(recommender.users)
    if request.users is not None:
        return input_files.users(Path(request.users))
    assert request.sequences is not None
    return input_files.sequences(request.sequences)


def _chunks(values: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while chunk := list(islice(values, size)):
        yield chunk


def _make(recommender: Any, request: Request, chunk: list[Any], filters: dict[str, Any]) -> pd.DataFrame:
    options = {
        "k": request.k,
        "filter_history": request.filter_history,
        "diversity": request.diversity,
        "diversify": request.diversify,
        "index": request.index,
        **filters,
    }
    if request.users is None:
        return recommender.recommend_sequences(dict(chunk), **options)
    return recommender.recommend(chunk, unknown_users=request.unknown_users, **options)


def _of_owners(rules: dict[str, Any], owner: str, ids: set[str]) -> dict[str, Any]:
    """Rules of the users or sequences of a part; rules for all stay as they are."""
    found = {}
    for key, frame in rules.items():
        own = frame if frame is None or owner not in frame else frame[frame[owner].isin(ids)]
        found[key] = None if own is None or (owner in own and own.empty) else own
    return found


def _write_part(path: Path, frame: pd.DataFrame, owner: str) -> None:
    frame = frame.astype({owner: str})
    with write_for_user(path) as file:
        if path.suffix != ".parquet" and frame.empty:
            pass  # pandas would write an empty line
        elif path.suffix == ".csv":
            # Before Python 3.13, csv does not quote a carriage return.
            returns = bool(frame[owner].str.contains("\r", regex=False).any())
            quoting: Any = csv.QUOTE_NONNUMERIC if returns else csv.QUOTE_MINIMAL
            text = frame.to_csv(index=False, header=False, lineterminator="\n", quoting=quoting)
            file.write(text.encode("utf-8"))
        elif path.suffix == ".jsonl":
            file.writelines(_json_lines(frame))
        else:
            arrow, parquet = _arrow()
            table = arrow.Table.from_pandas(frame, schema=_schema(arrow, owner), preserve_index=False)
            parquet.write_table(table, file)


def _json_lines(frame: pd.DataFrame) -> Iterator[bytes]:
    """Rows as lines of JSON. ``DataFrame.to_json`` would round a score of 1e-11 to 0."""
    encode = json.JSONEncoder(ensure_ascii=False).encode
    line = "{" + ", ".join(f"{encode(name)}: %s" for name in frame) + "}\n"
    for row in zip(*(_json_values(frame[name], encode) for name in frame), strict=True):
        yield (line % row).encode()


def _json_values(column: pd.Series, encode: Callable[[str], str]) -> np.ndarray:
    """Values of a column as texts of JSON: object (n,). Numbers are as in a CSV file."""
    if pd.api.types.is_numeric_dtype(column):
        texts = column.astype(str).to_numpy(object, copy=True)
        texts[column.isna().to_numpy()] = "null"
        return texts
    codes, values = pd.factorize(column)
    return np.array([encode(value) for value in values], dtype=object)[codes]


def _join(out: Path, parts: list[Path], owner: str) -> int:
    """Write the result from its parts, one at a time, and return its number of rows."""
    rows = 0
    with write_for_user(out) as file:
        if out.suffix == ".parquet":
            arrow, parquet = _arrow()
            with parquet.ParquetWriter(file, _schema(arrow, owner)) as writer:
                for part in parts:
                    table = parquet.read_table(part, schema=_schema(arrow, owner))
                    writer.write_table(table)
                    rows += len(table)
            return rows
        if out.suffix == ".csv":
            file.write((",".join((owner, *_COLUMNS)) + "\n").encode())
        for part in parts:
            content = part.read_bytes()
            file.write(content)
            if out.suffix == ".csv" and b'"' in content:  # an id may hold a line break
                rows += sum(1 for _ in csv.reader(StringIO(content.decode("utf-8"), newline="")))
            else:
                rows += content.count(b"\n")
    return rows


def _schema(arrow: Any, owner: str) -> Any:
    kinds = ((owner, arrow.string()), ("item", arrow.string()), ("score", arrow.float64()),
             ("rank", arrow.int64()), ("intention", arrow.int64()), ("source", arrow.string()))  # fmt: skip
    return arrow.schema(list(kinds))


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise UserError(
            "--out: Parquet needs the package 'pyarrow' (pip install pyarrow); or write .csv"
        ) from error
    return pyarrow, parquet
