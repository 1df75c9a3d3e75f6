"""The style and the bytes of all pictures, which are made with matplotlib (extra ``plots``)."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from recbole_disent.errors import UserError

# The palette of Okabe and Ito suits every kind of colour vision. Markers also distinguish the labels.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C8C00"]
MARKERS = "osD^vPX*<>p"
STYLE = {
    "font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "grid.color": "#DDDDDD", "grid.linewidth": 0.6, "axes.axisbelow": True, "legend.frameon": False,
    "legend.fontsize": 9, "font.family": "DejaVu Sans",
}  # fmt: skip


def require(message: str) -> None:
    """Check that pictures can be made.

    Args:
        message: the sentence of the error.

    Raises:
        UserError: matplotlib is missing.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UserError(message) from error


def look(labels: list[str]) -> dict[str, dict[str, Any]]:
    """Return the colour and the marker of each label; equal labels share them."""
    return {
        label: {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}
        for i, label in enumerate(dict.fromkeys(labels))
    }


def picture(
    draw: Callable[[Any], Any],
    size: tuple[float, float],
    salt: str = "recbole_disent",
    kind: str = "svg",
    style: dict[str, Any] | None = None,
    description: str | None = None,
) -> bytes:
    """Return a picture; the same numbers give the same bytes.

    Args:
        draw: function that draws into a matplotlib figure.
        size: width and height in inches.
        salt: text that the ids in an SVG depend on; pictures on one page need different ones.
        kind: "svg" or "png".
        style: matplotlib's settings; by default :data:`STYLE`.
        description: text that is stored in the file.
    """
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": salt, **(STYLE if style is None else style)}):
        from matplotlib.figure import Figure

        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        file = io.BytesIO()
        # Without a date and the version of matplotlib in the file.
        left_out = {"Date": None} if kind == "svg" else {"Software": None}
        about = {} if description is None else {"Description": description}
        figure.savefig(file, format=kind, dpi=150, metadata={**left_out, **about})
    return file.getvalue()
