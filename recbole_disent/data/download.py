"""Downloads of the data sets that RecBole knows."""

from __future__ import annotations

import hashlib
import os
import shutil
import zipfile

from recbole.utils.url import (
    decide_download,
    download_url,
    extract_zip,
    makedirs,
    rename_atomic_files,
)

from recbole_disent.errors import UserError
from recbole_disent.files import write_text


def download(url: str, name: str, folder: str) -> None:
    """Download and unpack a data set.

    A folder that exists is a complete one, so that an interrupted download can be repeated. The
    SHA-256 of the archive is written to ``<folder>.sha256``, and an archive of a later download
    must have the same one.

    Args:
        url: of a zip archive.
        name: of the data set; its files are called by it.
        folder: is made.

    Raises:
        UserError: the user was asked and declined, the download failed, or the archive is not
            the one that was downloaded before.
    """
    partial = f"{folder}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        if not decide_download(url):
            raise UserError(f"dataset '{name}': the download was declined")
        makedirs(partial)
        path = download_url(url, partial)
        _check_archive(path, url, name, f"{folder}.sha256")
        extract_zip(path, partial)
        os.unlink(path)
        base = os.path.splitext(os.path.basename(path))[0]
        rename_atomic_files(partial, base, name)
        os.replace(partial, folder)
    except (OSError, RuntimeError, zipfile.BadZipFile) as error:  # RecBole's own is a RuntimeError
        raise UserError(
            f"dataset '{name}': the download of {url} failed ({error}); try again, or unpack the archive "
            f"into {os.path.abspath(folder)} yourself and call its files {name}.inter, {name}.item "
            f"and {name}.user"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _check_archive(path: str, url: str, name: str, record: str) -> None:
    """Compare an archive with the recorded checksum; the first one is recorded, if it can be unpacked.

    The record has the format of ``sha256sum``.
    """
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    found = digest.hexdigest()
    if not os.path.exists(record):
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                raise zipfile.BadZipFile("the archive is damaged")
        write_text(record, f"{found}  {os.path.basename(path)}\n")
        return
    with open(record, encoding="utf-8") as text:
        known = text.read().split()
    if not known or known[0] != found:
        raise UserError(
            f"dataset '{name}': the archive {url} has the SHA-256 {found}, expected "
            f"{known[0] if known else 'one'} as recorded in {os.path.abspath(record)} by an earlier "
            "download; delete that file if you want the new version"
        )
