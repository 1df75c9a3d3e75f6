"""Parts of a data set whose files carry a cut history with each row, as RecBole's augmented files do."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from recbole_disent.errors import UserError


def describe_padded(parts: list[Any]) -> list[Any]:
    """Give each part ``history`` and ``train_mask``, from each row's padded list and its target.

    Raises:
        UserError: ``click_noise``, which needs whole sequences.
    """
    if parts[0].config["click_noise"]:
        raise UserError("click_noise: not possible for benchmark files that carry their histories")
    users, items, seen = [], [], []
    for number, part in enumerate(parts):
        feat = part.inter_feat
        row, item = part.earlier(np.arange(len(feat)))
        users += [feat[part.uid_field][row], feat[part.uid_field]]
        items += [item, feat[part.iid_field]]
        seen.append(np.full(len(row) + len(feat), number == 0))
    history = torch.cat(users).numpy(), torch.cat(items).numpy()
    for part in parts:
        part.history, part.train_mask = history, np.concatenate(seen)
    return parts
