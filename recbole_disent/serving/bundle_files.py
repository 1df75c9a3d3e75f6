"""The files of a bundle: their names, the checks of ``config.json`` and of the digests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from recbole_disent.errors import UserError
from recbole_disent.hashing import file_digest

FORMAT = "recbole_disent bundle"
VERSION = 1
CONFIG = "config.json"
FILES = ("model.safetensors", "data.safetensors", "items.parquet", "items.csv", "users.parquet", "users.csv",
         "README.md", "query_encoder.onnx", "query_encoder.pt2", "item_vectors.safetensors", "index.faiss",
         "index.hnsw")  # fmt: skip
_ALWAYS = ("model.safetensors", "data.safetensors")  # read from each bundle


def verified(folder: Path) -> dict[str, Any]:
    """Return the content of ``config.json`` after checking the digest of each file of a bundle.

    Raises:
        UserError: see :func:`describe`; or a file is missing, damaged or changed.
    """
    described = describe(folder)
    where = f"bundle '{folder.name}'"
    for name, digest in described["files"].items():
        if name not in FILES:
            raise UserError(f"{where}: config.json names a file '{name}' that no bundle has; export it again")
        if not (folder / name).is_file():
            raise UserError(f"{where}: the file {name} is missing; copy the whole folder again")
        if name != "README.md" and file_digest(folder / name) != digest:
            raise UserError(f"{where}: the file {name} is damaged or changed (other digest); copy it again")
    for name in _ALWAYS:
        if name not in described["files"]:
            raise UserError(f"{where}: config.json has no digest of the file {name}; export it again")
    return described


def check_free(out: Path, overwrite: bool) -> None:
    """Check that a bundle may be written to *out*.

    Args:
        out: folder of the new bundle.
        overwrite: whether the new bundle may replace an earlier one.

    Raises:
        UserError: *out* is a link, or it is there already and is no bundle, may not be replaced, or holds a
            file that no bundle has.
    """
    where = f"bundle '{out.name}'"
    if out.is_symlink():
        raise UserError(f"{where}: this is a link, expected a folder; give the name of its target")
    if not out.exists():
        return
    try:
        found = json.loads((out / CONFIG).read_text(encoding="utf-8"))
        is_bundle = isinstance(found, dict) and found.get("format") == FORMAT
    except (OSError, ValueError, RecursionError):
        is_bundle = False
    if not (is_bundle and overwrite):
        hint = "say --overwrite to replace a bundle" if is_bundle else "it is no bundle, so give another name"
        raise UserError(f"{where}: the folder is there already; {hint}")
    others = sorted({path.name for path in out.iterdir()} - {*FILES, CONFIG})
    if others:
        raise UserError(
            f"{where}: --overwrite would delete '{others[0]}', which is no file of a bundle ({len(others)} "
            "such); move it, or give another name"
        )


def describe(folder: Path) -> dict[str, Any]:
    """Read and check ``config.json`` of a bundle; nothing else is read.

    Raises:
        UserError: it is not there, no JSON, of something else, or of a later format.
    """
    where = f"bundle '{folder.name}'"
    try:
        found = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"{where}: config.json: {error.strerror}; give the folder of a bundle or the .pth file of a run"
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: config.json is no JSON ({error}); copy the folder again") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise UserError(f"{where}: config.json is not that of a bundle; export one from a checkpoint")
    if found.get("format_version") != VERSION:
        raise UserError(
            f"{where}: its format has the version {found.get('format_version')}, expected {VERSION}; "
            "install a later version of this package, or export it again"
        )
    wanted = {
        "files": dict,
        "config": dict,
        "features": dict,
        "versions": dict,
        "n_users": int,
        "n_items": int,
    }
    for key, kind in wanted.items():
        if not isinstance(found.get(key), kind):
            raise UserError(f"{where}: config.json has no usable '{key}'; copy the folder again")
    return found
