"""Parts of a data set whose files contain a cut history in each row, like RecBole's augmented files."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from recbole_disent.errors import UserError


def describe_padded(parts: list[Any]) -> list[Any]:
    """Set ``history`` and ``train_mask`` of each part from the padded histories and the targets of its rows.

    Returns:
        The same parts.

    Raises:
        UserError: the configuration has ``click_noise``, which needs whole sequences.
    """
    if parts[0].config["click_noise"]:
        raise UserError(
            f"click_noise: got {parts[0].config['click_noise']} with benchmark files that contain histories, "
            "expected files with one interaction per line; leave click_noise out"
        )
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
