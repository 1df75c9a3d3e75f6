"""Checks of the content keys of a configuration."""

from __future__ import annotations

from typing import Any

from recbole_disent.errors import UserError, nearest

SOURCES = ("text", "tokens", "file", "encoder")


def sources(config: Any) -> list[str]:
    """Return ``content_source`` as a list."""
    return listed(config["content_source"]) or []


def listed(value: Any) -> list[str] | None:
    """Return a list of one text for a text; return a list or None unchanged."""
    return [value] if isinstance(value, str) else value


def check(config: Any) -> None:
    """Check the content keys of a configuration together, before data are read.

    Raises:
        UserError: a source is unknown, or the keys contradict each other.
    """
    found = sources(config)
    for source in found:
        if source not in SOURCES:
            raise UserError(
                f"content_source: got {source!r}, expected some of {', '.join(SOURCES)}"
                f"{nearest(str(source), set(SOURCES))}"
            )
    if not found or len(set(found)) < len(found):
        raise UserError(
            f"content_source: got {found!r}, expected one or more of {', '.join(SOURCES)}, each once"
        )
    for key in ("content_fields", "content_token_fields"):
        fields = listed(config[key])
        if fields is not None and (not fields or not all(isinstance(f, str) for f in fields)):
            raise UserError(f"{key}: got {config[key]!r}, expected columns such as [title, brand], or null")
        if fields is not None and len(set(fields)) < len(fields):
            raise UserError(f"{key}: got {fields!r}, expected each column once")
    for key, source in (("content_file", "file"), ("content_encoder", "encoder")):
        if source in found and not config[key]:
            raise UserError(f"{key}: not given, but content_source={source} needs the key; set {key}")
        if config[key] and source not in found:
            raise UserError(
                f"{key}: got {config[key]!r}, but content_source={found} lacks '{source}'; add '{source}'"
            )
    if config["content_trainable"] and found != ["encoder"]:
        raise UserError(
            f"content_trainable: got True with content_source={found}, expected content_source=[encoder], "
            "because only an encoder can be trained with the model"
        )
