"""Which preset suits a data set, for models with the presets ``short`` and ``long``."""

from __future__ import annotations

from typing import Any

# Users with more training targets than this have long histories, even if a window holds them.
_MANY = 50


def choose_preset(train: Any) -> tuple[str, str]:
    """Return the preset for a training part and the reason.

    Args:
        train: the training part; its rows are the targets of all users.

    Returns:
        ``long`` where users have more targets on average than a window holds or than 50, else ``short``;
        and a part of a sentence that says why.
    """
    users = train.count_row_users()
    mean, window = len(train.inter_feat) / max(1, users), train.max_item_list_len
    limit = min(window, _MANY)
    name = "long" if mean > limit else "short"
    compared = "more" if name == "long" else "not more"
    than = f"a window of MAX_ITEM_LIST_LENGTH={window}" if limit == window else f"{limit}"
    return name, f"a user has {mean:.1f} training targets on average, {compared} than {than}"
