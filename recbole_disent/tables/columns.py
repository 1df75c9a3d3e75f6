"""The roles of columns, which the user names or which are guessed from obvious column names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from logging import getLogger
from typing import Literal

from recbole_disent.errors import UserError, nearest

Choice = str | Literal[False] | None

# Column names of each role, in the form of same_name: userId, user_id and "User ID" are the same name.
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
        "unixreviewtime", "tdat", "createdat", "timems", "timestampms", "tsms", "unixtime", "unixtimestamp",
    ),
    "rating": ("rating", "ratings", "stars", "overall"),
}  # fmt: skip
REQUIRED = ("user", "item")


def same_name(name: str) -> str:
    """Return the letters and digits of a column name in lower case; names are compared in this form."""
    return re.sub(r"[\W_]", "", name.lower())


def guess(columns: Sequence[str], role: str) -> list[str]:
    """Return the columns whose names indicate a role, in the order of the table.

    Args:
        columns: column names of the table.
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
        columns: column names of the table.
        given: name of the column of each role. None means that the column is guessed. False or "" means
            that there is no such column (only for time and rating).
        where: name of the table, for error messages.

    Returns:
        The column of each role that has one, and the roles whose columns were guessed.

    Raises:
        UserError: a column does not exist, several columns could have a role, there is no user or item
            column, or one column has two roles.
    """
    found: dict[str, str] = {}
    guessed: list[str] = []
    # The column names of a DataFrame can be integers.
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
                if role == "rating":
                    leave_out += " (a run has no such key: convert the table first, or rename the columns)"
                raise UserError(
                    f"{where}: the {role} could be any of the columns {', '.join(named)}; name the column, "
                    f"for example by {role}={named[0]}{leave_out}"
                )
            if named:
                found[role] = named[0]
                guessed.append(role)
        if role in REQUIRED and role not in found:
            raise UserError(
                f"{where}: the column of the {role} cannot be guessed (the columns are "
                f"{', '.join(columns) or 'none'}); name the column by {role}=NAME"
            )
    for role, name in found.items():
        for other, same in found.items():
            if role < other and name == same:
                raise UserError(
                    f"{where}: the column '{name}' cannot be both {role} and {other}; name two columns"
                )
    if guessed:
        pairs = ", ".join(f"{role}={found[role]}" for role in guessed)
        getLogger().info(f"{where}: columns guessed from their names: {pairs}")
    return found, guessed


def require_column(columns: Sequence[str], name: str, role: str, where: str) -> None:
    """Check that a column exists.

    Raises:
        UserError: the table has no such column.
    """
    if name not in columns:
        raise UserError(
            f"{role}: got '{name}', but {where} has no such column{nearest(name, set(columns))}; "
            f"it has {', '.join(columns)}"
        )
