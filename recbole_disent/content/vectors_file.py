"""Reading of item vectors from a file of the user, made by any encoder from any modality."""

from __future__ import annotations

import os

import numpy as np
from recbole.utils.enum_type import FeatureType

from recbole_disent.data.atomic_files import check_header
from recbole_disent.data.text_files import count_cells, open_text
from recbole_disent.errors import UserError

_KEY = "content_file"


def read_vectors(path: str, separator: str, encoding: str | None) -> tuple[list[str], np.ndarray]:
    """Read item ids and their vectors.

    Args:
        path: path of a ``.npz`` file with the arrays ``ids`` (n,) and ``vectors`` (n, F); of a ``.npy``
            file (n, 1 + F) whose first column contains the item ids as whole numbers; or of an atomic file
            ``.itememb`` with a token column and a float_seq column.
        separator, encoding: separator of the cells and encoding of an ``.itememb`` file.

    Returns:
        The n ids, and the vectors, float32 (n, F).

    Raises:
        UserError: the file does not exist, has another format or shape, contains a value that is not a
            finite number, or contains an id twice.
    """
    arrays = {".npz": _npz, ".npy": _npy}
    kind = os.path.splitext(path)[1]
    if kind not in {*arrays, ".itememb"}:
        raise UserError(f"{_KEY}: got '{path}', expected a file named .npz, .npy or .itememb")
    if not os.path.isfile(path):
        raise UserError(f"{_KEY}: the file {path} does not exist; give the path of the item vectors")
    ids, vectors = arrays[kind](path) if kind in arrays else _itememb(path, separator, encoding)
    with np.errstate(over="ignore"):  # the check finds what is too large
        vectors = vectors.astype(np.float32)
    _check(path, ids, vectors)
    return ids, vectors


def _check(path: str, ids: list[str], vectors: np.ndarray) -> None:
    if not len(ids) or not vectors.shape[1]:
        raise UserError(f"{_KEY}: {path} contains no vectors; give a file with a vector for each item")
    faulty = np.flatnonzero(~np.isfinite(vectors).all(1))
    if len(faulty):
        raise UserError(
            f"{_KEY}: {path}: the vector of item '{ids[faulty[0]]}' contains NaN or inf "
            f"({len(faulty)} such rows); remove these items, or replace the values by finite numbers"
        )
    seen: set[str] = set()
    for token in ids:
        if token in seen:
            raise UserError(f"{_KEY}: {path}: the item '{token}' occurs twice; keep one of its vectors")
        seen.add(token)


def _load(path: str) -> object:
    try:
        return np.load(path, allow_pickle=False)
    except Exception as error:  # the reader of damaged bytes raises whatever they lead it to
        raise _no_array(path, error) from error


def _no_array(path: str, error: Exception) -> UserError:
    return UserError(
        f"{_KEY}: {path} is not an array of numbers ({' '.join(str(error).split())}); save it with "
        "numpy.save or numpy.savez, without Python objects"
    )


def _npz(path: str) -> tuple[list[str], np.ndarray]:
    stored = _load(path)
    names = getattr(stored, "files", [])
    if "ids" not in names or "vectors" not in names:
        raise UserError(f"{_KEY}: {path} has the arrays {sorted(names)}, expected 'ids' and 'vectors'")
    try:
        with stored as arrays:  # type: ignore[attr-defined]
            ids, vectors = arrays["ids"], arrays["vectors"]
    except Exception as error:  # as above
        if "allow_pickle" not in str(error):
            raise _no_array(path, error) from error
        raise UserError(
            f"{_KEY}: {path} contains Python objects, which are not read for security; save the ids as an "
            "array of texts or whole numbers, such as numpy.array(ids, dtype=str)"
        ) from error
    if ids.ndim != 1 or vectors.ndim != 2 or len(ids) != len(vectors):
        raise UserError(
            f"{_KEY}: {path}: got ids of shape {ids.shape} and vectors of shape {vectors.shape}, expected "
            "(n,) and (n, F)"
        )
    try:
        texts = np.char.decode(ids, "utf-8") if ids.dtype.kind == "S" else ids
    except UnicodeDecodeError as error:
        raise UserError(
            f"{_KEY}: {path}: an id has bytes that are not UTF-8; save the ids as texts, such as "
            "numpy.array(ids, dtype=str)"
        ) from error
    return [str(token) for token in texts.tolist()], _numbers(path, vectors)


def _npy(path: str) -> tuple[list[str], np.ndarray]:
    stored = _load(path)
    if not isinstance(stored, np.ndarray) or stored.ndim != 2 or stored.shape[1] < 2:
        shape = getattr(stored, "shape", None)
        raise UserError(
            f"{_KEY}: {path}: got shape {shape}, expected (n, 1 + F) with the item ids in the first column"
        )
    vectors, ids = _numbers(path, stored[:, 1:]), stored[:, 0]
    if ids.dtype.kind == "f":
        fault = None
        if not (np.isfinite(ids).all() and (ids == np.round(ids)).all()):
            fault = "a number that is not whole"
        elif np.abs(ids).max(initial=0) >= 2.0 ** (np.finfo(ids.dtype).nmant + 1):
            fault = f"an id too large for {ids.dtype}, in which several whole numbers are one"
        if fault:
            raise UserError(
                f"{_KEY}: {path}: the first column contains {fault}, expected item ids; save the ids in an "
                ".npz file with 'ids' and 'vectors'"
            )
    return [str(int(token)) for token in ids], vectors


def _numbers(path: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "fiub":
        raise UserError(f"{_KEY}: {path}: got vectors of type {array.dtype}, expected numbers")
    return array.astype(np.float64)


def _itememb(path: str, separator: str, encoding: str | None) -> tuple[list[str], np.ndarray]:
    header = check_header(path, separator, encoding)
    tokens = [i for i, (_, kind) in enumerate(header) if kind == FeatureType.TOKEN]
    lists = [i for i, (_, kind) in enumerate(header) if kind == FeatureType.FLOAT_SEQ]
    if len(tokens) != 1 or len(lists) != 1:
        raise UserError(
            f"{path}, line 1: got {', '.join(f'{name}:{kind.value}' for name, kind in header)}, expected one "
            "token column with the item ids and one float_seq column with the vectors"
        )
    ids: list[str] = []
    rows: list[list[float]] = []
    count_cells(path, separator, encoding)  # raises an error that names bytes not in the encoding
    with open_text(path, encoding) as file:
        for number, line in enumerate(file, start=1):
            if number == 1 or not line.strip():
                continue
            cells = line.rstrip("\r\n").split(separator)
            if len(cells) != len(header):
                raise UserError(f"{path}, line {number}: got {len(cells)} cells, expected {len(header)}")
            try:
                row = [float(value) for value in cells[lists[0]].split()]
            except ValueError as error:
                raise UserError(
                    f"{path}, line {number}: {error}, expected numbers separated by spaces"
                ) from error
            if rows and len(row) != len(rows[0]):
                raise UserError(
                    f"{path}, line {number}: got a vector of {len(row)} numbers, expected {len(rows[0])} as "
                    "in the preceding lines"
                )
            ids.append(cells[tokens[0]])
            rows.append(row)
    return ids, np.array(rows, dtype=np.float64).reshape(len(rows), len(rows[0]) if rows else 0)
