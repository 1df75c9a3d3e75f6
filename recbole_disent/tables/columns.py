"""Which column is what: names that are given, and names that are guessed where they are obvious."""

from __future__ import annotations

import re
from collections.abc import Sequence
from logging import getLogger
from typing import Literal

from recbole_disent.errors import UserError, nearest

Choice = str | Literal[False] | None

# Names as compared: lower case, letters and digits only, so that userId, user_id and "User ID" are one.
NAMES: dict[str, tuple[str, ...]] = {
    "user": (
        "user", "userid", "uid", "username", "reviewerid", "customer", "customerid", "visitor", "visitorid",
        "client", "clientid", "member", "memberid", "session", "sessionid", "playerid",
    ),
    "item": (
        "item", "itemid", "iid", "movie", "movieid", "product", "productid", "asin", "article", "articleid",
        "sku", "bookid", "isbn", "trackid", "songid", "artistid", "videoid", "businessid", "gameid", "newsid",
    ),
    "time": (
        "time", "timestamp", "date", "datetime", "ts", "eventtime", "eventtimestamp", "eventdate",
        "unixreviewtime", "tdat", "createdat", "timems", "unixtime",
    ),
    "rating": ("rating", "ratings", "stars", "overall"),
}  # fmt: skip
REQUIRED = ("user", "item")


def same_name(name: str) -> str:
    """Return a column name as names are compared."""
    return re.sub(r"[\W_]", "", name.lower())


def guess(columns: Sequence[str], role: str) -> list[str]:
    """Return the columns whose names say that they are a role, in order of the table.

    Args:
        columns: names of the table.
        role: user, item, time or rating; see :data:`NAMES`.

    Example:
        >>> guess(["visitorid", "event", "itemid"], "user")
        ['visitorid']
    """
    return [column for column in columns if same_name(column) in NAMES[role]]


def choose_columns(
    columns: Sequence[str], given: dict[str, Choice], where: str
) -> tuple[dict[str, str], list[str]]:
    """Find the column of each role.

    Args:
        columns: names of the table.
        given: role -> name of its column; None: guess it; False or "": there is none
            (time and rating only).
        where: name of the table, for errors.

    Returns:
        role -> column, roles without one left out; and the roles that were guessed.

    Raises:
        UserError: a column that is not there, several that a role could be, no user or item
            column, or one column for two roles.
    """
    found: dict[str, str] = {}
    guessed: list[str] = []
    # A DataFrame may have a column 0.
    given = {role: name if name is None or name is False else str(name) for role, name in given.items()}
    taken = [name for name in given.values() if name]
    for role in NAMES:
        name = given.get(role)
        if name:
            require_column(columns, name, role, where)
            found[role] = name
        elif name is None:
            named = [column for column in guess(columns, role) if column not in taken]
            if len(named) > 1:
                leave_out = "" if role in REQUIRED else f", or {role}=False for none"
                raise UserError(
                    f"{where}: the {role} could be any of the columns {', '.join(named)}; say which one "
                    f"by {role}={named[0]}, for example{leave_out}"
                )
            if named:
                found[role] = named[0]
                guessed.append(role)
        if role in REQUIRED and role not in found:
            raise UserError(
                f"{where}: no column has a name that says it is the {role}; say which one by {role}=NAME; "
                f"the columns are {', '.join(columns) or 'none'}"
            )
    for role, name in found.items():
        for other, same in found.items():
            if role < other and name == same:
                raise UserError(f"{where}: the column '{name}' cannot be both {role} and {other}")
    if guessed:
        pairs = ", ".join(f"{role}={found[role]}" for role in guessed)
        getLogger().info(f"{where}: columns guessed from their names: {pairs}")
    return found, guessed


def require_column(columns: Sequence[str], name: str, role: str, where: str) -> None:
    """Check that a column is there.

    Raises:
        UserError: it is not.
    """
    if name not in columns:
        raise UserError(
            f"{role}: got '{name}', but {where} has no such column{nearest(name, set(columns))}; "
            f"it has {', '.join(columns)}"
        )
