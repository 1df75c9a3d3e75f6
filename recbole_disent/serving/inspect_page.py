"""The numbers of :mod:`inspect` as one HTML page without scripts, pictures or addresses of others."""

from __future__ import annotations

from html import escape
from pathlib import Path
from string import Template
from typing import Any

_TEMPLATE = Path(__file__).with_name("inspect.html")
# Told apart by eye, light on dark and dark on light.
_COLOURS = ("#3b7dd8", "#d8643b", "#3ba55d", "#a04bc8", "#c8a415", "#1aa6a6", "#d0478c", "#7a7a7a")


def page(found: dict[str, Any]) -> str:
    """Return the page of what :func:`recbole_disent.serving.inspect.describe` found."""
    about = found["about"]
    parts = []
    if found["note"]:
        parts.append(f"<p>{escape(found['note'])}</p>")
    if found["intentions"]:
        parts.append(_intentions(found["intentions"]))
    parts += [_person(person) for person in found["people"]]
    return Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=escape(f"{about['model']} on {about['dataset']}"), body="\n".join(parts)
    )


def colour(intention: int) -> str:
    """Colour of an intention."""
    return _COLOURS[intention % len(_COLOURS)]


def _intentions(found: dict[str, Any]) -> str:
    verdict, measures = found["verdict"], found["measures"]
    rows = "".join(
        f"<tr><td>{_badge(row['intention'])}</td><td>{_share(row['share_of_clicks'], row['intention'])}</td>"
        f"<td>{_share(row['share_of_lists'], row['intention'])}</td><td>{_items(row['items'])}</td>"
        f"<td>{_items(row['fed_by'])}</td></tr>"
        for row in found["rows"]
    )
    kind = "bad" if verdict["collapsed"] else "good"
    return (
        f'<h2>Intentions</h2><p class="{kind}">{escape(verdict["text"])}</p>'
        f"<p>Measured on {measures['users']} users; mean cosine of two query vectors of a user: "
        f"{measures['cosine_of_query_vectors']:.2f}.</p>"
        '<div class="wide"><table><thead><tr><th>Intention</th><th>Share of the clicks</th>'
        "<th>Share of the lists</th><th>Items that it recommends</th><th>Items that feed it</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def _person(person: dict[str, Any]) -> str:
    parts = [f"<h2>{escape(person['name'])}</h2>"]
    if person["source"] == "popularity":
        parts.append("<p>The model knows no event of this history, so that the list is of popular items.</p>")
    if person["events"]:
        explained = "weight" in person["events"][0]
        head = "<th>Weight of the event</th><th>Intentions that it feeds</th>" if explained else ""
        rows = "".join(_event(n, event, explained) for n, event in enumerate(person["events"], start=1))
        parts.append(
            '<h3>History</h3><div class="wide"><table><thead><tr><th></th><th>Item</th>'
            f"{head}</tr></thead><tbody>{rows}</tbody></table></div>"
        )
    rows = "".join(_recommended(row) for row in person["recommended"])
    parts.append(
        '<h3>Recommended</h3><div class="wide"><table><thead><tr><th></th><th>Item</th><th>Score</th>'
        f"<th>Intention</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )
    return "".join(parts)


def _event(number: int, event: dict[str, Any], explained: bool) -> str:
    cells = f"<td>{number}</td><td>{_name(event)}</td>"
    if explained:
        stack = "".join(
            f'<i style="width:{100 * p:.1f}%;background:{colour(k)}" title="intention {k}: {p:.2f}"></i>'
            for k, p in enumerate(event["intentions"])
        )
        bar = f'<span class="bar"><i style="width:{100 * event["weight"]:.1f}%"></i></span>'
        cells += f'<td>{bar} {event["weight"]:.3f}</td><td><span class="bar">{stack}</span></td>'
    return f"<tr>{cells}</tr>"


def _recommended(row: dict[str, Any]) -> str:
    which = ""
    if "intention" in row:
        scores = ", ".join(f"{k}: {score:.3f}" for k, score in enumerate(row["scores"]))
        which = f"{_badge(row['intention'])} <small>{scores}</small>"
    return f"<tr><td>{row['rank']}</td><td>{_name(row)}</td><td>{row['score']:.4f}</td><td>{which}</td></tr>"


def _share(share: float | None, intention: int) -> str:
    if share is None:
        return ""
    width = f"width:{100 * share:.1f}%;background:{colour(intention)}"
    return f'<span class="bar"><i style="{width}"></i></span> {share:.1%}'


def _badge(intention: int) -> str:
    return f'<b class="badge" style="background:{colour(intention)}">{intention}</b>'


def _items(rows: list[dict[str, Any]]) -> str:
    return "<ol>" + "".join(f"<li>{_name(row)}</li>" for row in rows) + "</ol>"


def _name(row: dict[str, Any]) -> str:
    text = f" {escape(row['text'])}" if row["text"] else ""
    return f"<code>{escape(row['item'])}</code>{text}"
