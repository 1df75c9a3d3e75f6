"""Which items a caller allows and excludes, for all queries or for each by itself."""

from __future__ import annotations

from collections.abc import Mapping
from logging import getLogger
from typing import Any

import numpy as np
import pandas as pd
import torch

from recbole_disent.data.store import SequenceStore
from recbole_disent.errors import UserError
from recbole_disent.serving import tables
from recbole_disent.serving.catalogue import Catalogue, store_of
from recbole_disent.serving.lists import Filters


def read_filters(
    catalogue: Catalogue, ids: Any, owner: str, history: bool, allowed: Any, excluded: Any
) -> Filters:
    """Read the filters of a call.

    Args:
        catalogue: gives the numbers of items.
        ids: of the queries.
        owner: column that names a query in a table, ``user`` or ``sequence``.
        history: whether items of the own history are left out.
        allowed, excluded: ids, a table with a column ``item``, or for each query by itself a dictionary
            id -> items or a table with the columns *owner* and ``item``; None: no such rule.

    Raises:
        UserError: other values, or no known item among those *allowed* to all queries or to one of them.
    """
    if not isinstance(history, (bool, np.bool_)):
        raise UserError(f"filter_history: got {history!r}, expected True or False")
    filters = Filters(bool(history))
    for key, values in (("items_allowed", allowed), ("items_excluded", excluded)):
        if values is None:
            continue
        name = key.removeprefix("items_")
        own = tables.pairs(values, owner, key)
        if own is None:
            _require_owner(key, values, owner)
        else:
            owners = list(values) if isinstance(values, Mapping) else own[0]
            if name == "allowed" and not owners:
                raise UserError(
                    f"items_allowed: names no {owner}, expected at least one; leave it out to allow all items"
                )
            items = _own_items(catalogue, key, ids, *own)
            _tell_unknown_owners(catalogue, key, ids, owner, owners)
            if name == "allowed":
                # A query that the store has nothing of may have all items.
                named = {str(o) for o in owners}
                for row in (items.offsets.diff() == 0).nonzero()[:, 0].tolist():
                    if str(ids[row]) in named:
                        raise UserError(
                            f"items_allowed: none of the items of {owner} '{ids[row]}' is known, expected "
                            f"ids of the model's items; leave out the {owner}, or allow another item"
                        )
            setattr(filters, f"{name}_of", items)
            continue
        numbers = _known(catalogue, key, tables.column(values, "item", key))
        if name == "allowed" and not len(numbers):
            raise UserError("items_allowed: none of these items is known; expected ids of the model's items")
        setattr(filters, name, torch.from_numpy(np.unique(numbers)))
    return filters


def _require_owner(key: str, values: Any, owner: str) -> None:
    """Refuse a table whose further columns may be meant as the owner of a rule.

    Raises:
        UserError: a table with other columns than ``item``.
    """
    names = tables.columns(values) or []
    if set(names) - {"item"}:
        raise UserError(
            f"{key}: the table has the columns {', '.join(names)}, expected '{owner}' and 'item', or "
            "'item' alone for a rule that holds for all; rename or drop the other columns"
        )


def _tell_unknown_owners(catalogue: Catalogue, key: str, ids: Any, owner: str, owners: list[Any]) -> None:
    """Warn of rules that no list can have: of unknown users, or of sequences that are not given."""
    named = {str(o) for o in owners}
    # A user that the model does not know may be asked for all the same, and then has the rule.
    unknown = sorted(named - {str(i) for i in ids})
    if owner == "user":
        unknown = [o for o, n in zip(unknown, catalogue.user_numbers(unknown), strict=True) if not n]
    if unknown:
        getLogger().warning(
            f"{key}: {len(unknown)} of {len(named)} {owner}s with a rule, such as '{unknown[0]}', are not "
            "known"
        )


def _known(catalogue: Catalogue, key: str, ids: list[Any]) -> np.ndarray:
    numbers = catalogue.item_numbers(ids)
    if len(unknown := np.flatnonzero(numbers == 0)):
        getLogger().warning(
            f"{key}: {len(unknown)} of {len(ids)} items, such as '{ids[unknown[0]]}', are not known"
        )
    return numbers[numbers > 0]


def _own_items(
    catalogue: Catalogue, key: str, ids: Any, owners: list[Any], items: list[Any]
) -> SequenceStore:
    """Items of each query, as a store of them; rows of others than the queries are passed over."""
    asked = pd.Index([str(i) for i in ids], dtype=object)
    numbers = catalogue.item_numbers(items)
    if not numbers.all():
        _known(catalogue, key, items)  # says so
    frame = pd.DataFrame({"owner": [str(o) for o in owners], "number": numbers})
    place = pd.DataFrame({"owner": asked, "row": np.arange(len(asked))})
    found = place.merge(frame[frame["number"] > 0], on="owner").sort_values("row", kind="stable")
    return store_of(found["row"].to_numpy(), found["number"].to_numpy(), len(asked))
