"""Intervals of RecBole's filters, such as ``[5,inf)`` or ``[1,2];(3,4]``."""

from __future__ import annotations

import math
import re
from typing import Any

from recbole_disent.errors import UserError

_NUMBER = r"[-+]?(?:inf|\d+\.?\d*(?:e[-+]?\d+)?|\.\d+(?:e[-+]?\d+)?)"
_INTERVAL = re.compile(rf"\s*([\[(])\s*({_NUMBER})\s*,\s*({_NUMBER})\s*([\])])\s*", re.IGNORECASE)


def check_interval(key: str, value: Any) -> None:
    """Check one interval, or several intervals separated by semicolons.

    RecBole silently ignores an interval that it cannot parse.

    Raises:
        UserError: the text is not an interval, or the interval is empty.

    Example:
        >>> check_interval("user_inter_num_interval", "[5,inf)")
    """
    # The command line turns [5,10] into a list, which RecBole turns back into this text.
    for part in str(value).split(";"):
        match = _INTERVAL.fullmatch(part)
        ends = (math.nan, math.nan) if match is None else (float(match[2]), float(match[3]))
        closed = match is not None and match[1] == "[" and match[4] == "]"
        if not (ends[0] < ends[1] or (closed and ends[0] == ends[1])):
            raise UserError(
                f"{key}: got {value!r}, expected an interval such as [3,inf) or (1,2.5], or several as in "
                "'[1,2];[4,5]'; a square bracket includes the end, a round bracket excludes it"
            )
