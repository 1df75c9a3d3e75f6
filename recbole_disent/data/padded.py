"""Parts of a data set whose files contain a cut history in each row, like RecBole's augmented files."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from recbole_disent.errors import UserError


def describe_padded(parts: list[Any]) -> list[Any]:
    """Set ``history`` and ``train_mask`` of each part: each event of the padded histories and targets once.

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
    known = np.zeros(parts[0].user_num, dtype=bool)
    for number, part in enumerate(parts):
        feat = part.inter_feat
        owner = feat[part.uid_field].numpy()
        # The rows of a user repeat the events before them: only the shortest history of the user counts.
        order = np.lexsort((feat[part.item_list_length_field].numpy(), owner))
        first = order[np.append(True, np.diff(owner[order]) != 0)[: len(order)]]
        first = first[~known[owner[first]]]
        known[owner] = True
        row, item = part.earlier(first)
        users += [feat[part.uid_field][torch.from_numpy(first)][row], feat[part.uid_field]]
        items += [item, feat[part.iid_field]]
        seen.append(np.full(len(row) + len(feat), number == 0))
    history = torch.cat(users).numpy(), torch.cat(items).numpy()
    for part in parts:
        part.history, part.train_mask = history, np.concatenate(seen)
    return parts
