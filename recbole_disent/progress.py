"""The progress bar of evaluation and of searches, with the time left."""

from __future__ import annotations

from typing import Any

from tqdm.auto import tqdm


def bar(what: str, total: int, show: bool, done: int = 0) -> Any:
    """Return a tqdm bar on standard error or in a notebook.

    Args:
        what: name in front of the bar.
        total: number of steps.
        show: whether the bar is shown; otherwise it prints nothing.
        done: number of steps that were done before.
    """
    # The bar disappears when it is done, because the log has a line about what was done.
    return tqdm(desc=what, total=total, initial=done, disable=not show, dynamic_ncols=True, leave=False)
