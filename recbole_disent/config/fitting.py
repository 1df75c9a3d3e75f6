"""Default values that depend on other keys: the cut-offs and the columns to load."""

from __future__ import annotations

from typing import Any

from recbole_disent.errors import UserError

# Columns that a default ``load_col`` names, and the keys that give them other names.
_COLUMNS = {
    "USER_ID_FIELD": "user_id", "ITEM_ID_FIELD": "item_id", "RATING_FIELD": "rating",
    "TIME_FIELD": "timestamp",
}  # fmt: skip


def fit_cut_offs(final: dict[str, Any], given: dict[str, Any]) -> None:
    """Fit the default cut-offs to the protocol, and the default validation metric to the cut-offs.

    With k sampled negatives, the cut-off k + 1 is added, because MRR at k + 1 covers the whole ranking.

    Args:
        final: the merged configuration; ``topk`` and ``valid_metric`` may change.
        given: the user's keys, which stay as they are.

    Raises:
        UserError: ``topk`` is not a list of integers.
    """
    mode = final["eval_args"]["mode"]
    modes = mode.values() if isinstance(mode, dict) else [mode]
    sampled = [int(m[3:]) for m in map(str, modes) if m[:3] in ("uni", "pop") and m[3:].isdigit()]
    if sampled and "topk" not in given:
        limit = min(sampled) + 1
        final["topk"] = [k for k in final["topk"] if k < limit] + [limit]
    cuts = [final["topk"]] if isinstance(final["topk"], int) else final["topk"]
    if not isinstance(cuts, (list, tuple)) or not cuts or not all(isinstance(k, int) for k in cuts):
        raise UserError(f"topk: got {final['topk']!r}, expected a list of integers such as [5, 10]")
    if "valid_metric" not in given and "@" in final["valid_metric"]:
        metrics = [final["metrics"]] if isinstance(final["metrics"], str) else final["metrics"]
        name, _, cut = final["valid_metric"].partition("@")
        name = name if name.lower() in map(str.lower, metrics) else metrics[0]
        if int(cut) not in cuts:
            cut = max([k for k in cuts if k <= 10], default=min(cuts))
        final["valid_metric"] = f"{name}@{cut}"


def fit_load_columns(final: dict[str, Any], given: dict[str, Any]) -> None:
    """Fit ``load_col`` to the names of the columns, and add the time column if the split needs it.

    Args:
        final: the merged configuration; ``load_col`` may change.
        given: the user's keys.
    """
    load, time = final["load_col"], final["TIME_FIELD"]
    if "load_col" not in given and load:
        names = {default: final[key] for key, default in _COLUMNS.items()}
        load = {part: [names.get(f, f) for f in fields] for part, fields in load.items()}
        final["load_col"] = load
    if final["eval_args"]["order"] == "TO" and not final["benchmark_filename"] and load:
        fields = load.get("inter")
        if fields and time not in fields:
            final["load_col"] = {**load, "inter": [*fields, time]}
