"""Download of the data sets for which RecBole has an address."""

from __future__ import annotations

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
from recbole_disent.hashing import file_digest


def download(url: str, name: str, folder: str) -> None:
    """Download and unpack a data set.

    The folder is created only after the download is complete, so that an interrupted download can be
    repeated. The function writes the SHA-256 of the archive to ``<folder>.sha256``, and checks the archive
    of a later download against it.

    Args:
        url: address of a zip archive.
        name: name of the data set, which becomes the name of its files.
        folder: folder of the data set, which the function creates.

    Raises:
        UserError: the user declined the download, the download failed, or the archive differs from the
            archive of an earlier download.
    """
    partial = f"{folder}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        if not decide_download(url):
            raise UserError(
                f"dataset '{name}': the download was declined; run again and accept, or put the files into "
                f"{os.path.abspath(folder)}"
            )
        makedirs(partial)
        path = download_url(url, partial)
        _check_archive(path, url, name, f"{folder}.sha256")
        extract_zip(path, partial)
        os.unlink(path)
        base = os.path.splitext(os.path.basename(path))[0]
        rename_atomic_files(partial, base, name)
        os.replace(partial, folder)
    except (OSError, RuntimeError, zipfile.BadZipFile) as error:  # RecBole raises a RuntimeError
        raise UserError(
            f"dataset '{name}': the download of {url} failed ({error}); try again, or unpack the archive "
            f"into {os.path.abspath(folder)} yourself and name the files {name}.inter, {name}.item "
            f"and {name}.user"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _check_archive(path: str, url: str, name: str, record: str) -> None:
    """Compare the checksum of an archive with the recorded checksum.

    If there is no record, the function checks that the archive can be unpacked and records its checksum in
    the format of ``sha256sum``.
    """
    found = file_digest(path)
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
