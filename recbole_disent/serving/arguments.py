"""Checks of arguments of the recommender."""

from __future__ import annotations

from collections.abc import Callable
from logging import getLogger
from typing import Any

import numpy as np
import torch

from recbole_disent.errors import UserError

WAYS = ("intentions", "mmr")

# An unknown id of digits is looked up with zeros before it, which spreadsheets remove, up to this length.
_LONGEST_NUMBER = 20


def check_k(k: Any) -> None:
    """Raise :class:`UserError` if *k* is no whole number of at least 1."""
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
        raise UserError(f"k: got {k!r}, expected a whole number of at least 1")


def check_diversity(diversity: Any, diversify: Any, index: bool) -> None:
    """Raise :class:`UserError` if the arguments of diverse lists cannot be used, or make no difference."""
    if (
        isinstance(diversity, bool)
        or not isinstance(diversity, (int, float, np.number))
        or not 0 <= diversity <= 1
    ):
        raise UserError(f"diversity: got {diversity!r}, expected a number in [0, 1]")
    if diversify is not None and diversify not in WAYS:
        raise UserError(f"diversify: got {diversify!r}, expected one of {', '.join(WAYS)}")
    if diversify is not None and not diversity:
        raise UserError(
            f"diversify: got {diversify!r} with diversity=0, which makes no difference; set diversity to a "
            "number up to 1, or leave diversify out"
        )
    if index and diversity:
        raise UserError(
            f"index: got diversity={diversity}, expected 0, because diverse lists need all scores"
        )


def check_device(device: Any, bundle: bool) -> None:
    """Raise :class:`UserError` if PyTorch cannot compute on *device*, or if it is given for a checkpoint."""
    if not bundle and str(device) != "cpu":
        raise UserError(
            f"device: got '{device}', but the configuration of a checkpoint says where it computes; give "
            "use_gpu and gpu_id, or export a bundle"
        )
    try:
        torch.zeros(1, device=device).tolist()  # the device 'meta' holds no numbers
    except (RuntimeError, AssertionError, TypeError) as error:
        first = (str(error).strip().splitlines() or [""])[0]
        raise UserError(
            f"device: got '{device}', expected a device that PyTorch has here, such as cpu or cuda ({first})"
        ) from error


def warn_of_unknown(unknown: np.ndarray) -> None:
    """Say in the log how many items of sequences are left out.

    Args:
        unknown: int64 (B,), number of unknown items of each sequence.
    """
    if unknown.any():
        getLogger().warning(
            f"sequences: {int(unknown.sum())} item ids in {int((unknown > 0).sum())} sequences are not "
            "known to the model and left out"
        )


def refuse_unknown(
    ids: list[Any],
    numbers: np.ndarray,
    key: str,
    word: str,
    hint: str,
    look_up: Callable[[list[str]], np.ndarray],
) -> None:
    """Raise :class:`UserError` if a number is 0, which stands for an unknown id.

    Args:
        ids: as they were given.
        numbers: int64 (n,), their internal ids.
        key: argument that they were given in.
        word: what one of them is, such as ``item``.
        hint: end of the sentence.
        look_up: returns the internal ids of ids, to find a known id that the unknown one may stand for.
    """
    unknown = np.flatnonzero(numbers == 0)
    if len(unknown):
        name = ids[unknown[0]]
        forms = _other_forms(str(name))
        known = [form for form, number in zip(forms, look_up(forms), strict=True) if number]
        meant = f"; did you mean '{known[0]}'?" if known else ""
        raise UserError(
            f"{key}: the {word} '{name}' is not known to the model ({len(unknown)} such of "
            f"{len(ids)}){meant}{hint}"
        )


def _other_forms(name: str) -> list[str]:
    """Return what a spreadsheet or a table of floats may have made the given id from."""
    plain = name.strip().removesuffix(".0")
    forms = [plain, plain.upper(), plain.lower()]
    if plain.isdigit():
        number = plain.lstrip("0")
        forms += [number.zfill(width) for width in range(1, _LONGEST_NUMBER + 1)]
    return [form for form in dict.fromkeys(forms) if form != name]
