"""Downloads of the data sets that RecBole knows."""

from __future__ import annotations

import os
import shutil

from recbole.utils.url import (
    decide_download,
    download_url,
    extract_zip,
    makedirs,
    rename_atomic_files,
)

from recbole_disent.errors import UserError


def download(url: str, name: str, folder: str) -> None:
    """Download and unpack a data set.

    A folder that exists is a complete one, so that an interrupted download can be repeated.

    Args:
        url: of a zip archive.
        name: of the data set; its files are called by it.
        folder: is made.

    Raises:
        UserError: the user was asked and declined.
    """
    if not decide_download(url):
        raise UserError(f"dataset '{name}': the download was declined")
    partial = f"{folder}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    makedirs(partial)
    path = download_url(url, partial)
    extract_zip(path, partial)
    os.unlink(path)
    base = os.path.splitext(os.path.basename(path))[0]
    rename_atomic_files(partial, base, name)
    os.replace(partial, folder)
