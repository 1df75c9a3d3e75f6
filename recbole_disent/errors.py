"""The exception for errors that the user can correct."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any


class UserError(ValueError):
    """An error in a key, a file or a command, with a message of one sentence that says how to fix it.

    The command line prints the message without a traceback and exits with code 2.
    """


def nearest(name: object, known: Collection[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the known name most similar to *name*.

    The function returns ``""`` if no known name is similar.
    """
    by_lower = {k.lower(): k for k in sorted(known)}
    found = get_close_matches(str(name).lower(), list(by_lower), n=1, cutoff=0.6)
    return f"; did you mean '{by_lower[found[0]]}'?" if found else ""


def shortened(value: Any) -> str:
    """Return a value as a text of one line for a message; the file of a user may hold anything."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}... ({len(text)} characters)"


@contextmanager
def wrap_errors(what: str) -> Iterator[None]:
    """Convert exceptions inside the ``with`` block to a :class:`UserError`.

    The original exception is chained, so that it appears in a traceback.

    Args:
        what: beginning of the message: the key, file or step that the block works on.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        # For a wrong value RecBole raises either an exception with a sentence or some incidental exception.
        message = " ".join(str(error).split())
        if not isinstance(error, (ValueError, NotImplementedError, OSError, SyntaxError)):
            message = f"{type(error).__name__}: {message}"
        raise UserError(f"{what}: {message}") from error
