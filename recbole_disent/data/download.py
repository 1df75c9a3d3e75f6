"""Download of the data sets for which RecBole has an address."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

from recbole.utils.url import (
    decide_download,
    download_url,
    extract_zip,
    rename_atomic_files,
)

from recbole_disent.errors import UserError
from recbole_disent.files import temporary_folder, write_text
from recbole_disent.hashing import file_digest


def download(url: str, name: str, folder: str) -> None:
    """Download and unpack a data set.

    The folder is created only after the download is complete, so that an interrupted download can be
    repeated. If another process has made the folder in the meantime, that folder stays. The function writes
    the SHA-256 of the archive to ``<folder>.sha256``, and checks the archive of a later download against it.

    Args:
        url: address of a zip archive.
        name: name of the data set, which becomes the name of its files.
        folder: folder of the data set, which the function creates.

    Raises:
        UserError: the user declined the download, the download failed, or the archive differs from the
            archive of an earlier download.
    """
    try:
        # Another process may download the same data set at the same time.
        with temporary_folder(Path(folder)) as partial:
            if not decide_download(url):
                raise UserError(
                    f"dataset '{name}': the download was declined; run again and accept, or put the files "
                    f"into {os.path.abspath(folder)}"
                )
            path = download_url(url, str(partial))
            _check_archive(path, url, name, f"{folder}.sha256")
            extract_zip(path, str(partial))
            os.unlink(path)
            base = os.path.splitext(os.path.basename(path))[0]
            rename_atomic_files(str(partial), base, name)
            try:
                os.replace(partial, folder)
            except OSError:
                if not os.path.isdir(folder):  # otherwise the other process was faster
                    raise
    except (OSError, RuntimeError, zipfile.BadZipFile) as error:  # RecBole raises a RuntimeError
        raise UserError(
            f"dataset '{name}': the download of {url} failed ({error}); try again, or unpack the archive "
            f"into {os.path.abspath(folder)} yourself and name the files {name}.inter, {name}.item "
            f"and {name}.user"
        ) from error


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
