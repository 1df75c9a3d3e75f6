"""Conversion of texts and of objects to plain values. Only literals are converted; no text is evaluated."""

from __future__ import annotations

import ast
import datetime
import os
from typing import Any

from recbole_disent.errors import UserError


def key_values(words: list[str]) -> dict[str, Any]:
    """Return the keys and values of command-line words ``--key=value``.

    Raises:
        UserError: a word has another form, or a key is given twice with different values.
    """
    found: dict[str, str] = {}
    for place, word in enumerate(words):
        key, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not equals or not key:
            name, equals, value = word.lstrip("-").partition("=")
            after = words[place + 1] if word.startswith("--") and place + 1 < len(words) else "--"
            if not equals and not after.startswith("--"):
                equals, value = "=", after
            hint = f"; did you mean '--{name}={value}'?" if equals and name.isidentifier() else ""
            raise UserError(f"command line: got '{word}', expected --key=value{hint}")
        if found.get(key, value) != value:
            raise UserError(f"command line: --{key} is given twice, as {found[key]} and {value}")
        found[key] = value
    return {key: literal(value) for key, value in found.items()}


def literal(text: str) -> Any:
    """Return the value of a text that is a Python or YAML literal; any other text is returned unchanged."""
    lowered = text.strip().lower()
    if lowered in ("true", "false"):
        return lowered == "true"
    if text in ("None", "null", "~"):
        return None
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def plain_value(value: Any, where: str) -> Any:
    """Return a value as texts, numbers, booleans, None, dates, lists and dicts, which JSON and YAML can hold.

    Paths become texts; tuples, and arrays and numbers of numpy, become lists and numbers.

    Args:
        value: any value.
        where: the key, for messages.

    Raises:
        UserError: the value, or a part of it, is something else.
    """
    if isinstance(value, dict):
        return {key: plain_value(part, f"{where}, {key}") for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_value(part, where) for part in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    if value is None or isinstance(value, (str, int, float, datetime.date)):
        return value
    raise UserError(
        f"{where}: got a value of the type {type(value).__name__}, expected texts, numbers, booleans, None, "
        "lists or dicts"
    )
