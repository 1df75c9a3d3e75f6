"""The exception for errors that the user can correct."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from difflib import get_close_matches


class UserError(ValueError):
    """A wrong setting, file or command: one sentence that says what to do.

    The command line prints it without a traceback and exits with code 2.
    """


def nearest(name: object, known: Collection[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the known name nearest to *name*, else ``""``."""
    by_lower = {k.lower(): k for k in sorted(known)}
    found = get_close_matches(str(name).lower(), list(by_lower), n=1, cutoff=0.6)
    return f"; did you mean '{by_lower[found[0]]}'?" if found else ""


@contextmanager
def wrap_errors(what: str) -> Iterator[None]:
    """Turn an input error of RecBole, met while doing *what*, into a :class:`UserError`.

    The original stays chained for whoever debugs.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        # RecBole meets a wrong value anywhere: with a sentence, or just by failing on it.
        message = " ".join(str(error).split())
        if not isinstance(error, (ValueError, NotImplementedError, OSError, SyntaxError)):
            message = f"{type(error).__name__}: {message}"
        raise UserError(f"{what}: {message}") from error
