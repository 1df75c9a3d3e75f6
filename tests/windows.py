"""Makes batches of whole sequences as the loaders do."""

from __future__ import annotations

import torch

from recbole_disent.loaders.batch import WindowBatch


def windows(sequences, users=None, margins=None, phase=None, every=1):
    """Make a batch; without *users* each sequence is of another one.

    *margins*: (items before, items after the pairs) of each sequence; none by default. *phase* and
    *every*: of each sequence, number of the first pair that is trained, and the distance to the next.
    """
    lengths, order = torch.tensor([len(s) for s in sequences]).sort()
    users = torch.arange(len(sequences)) + 1 if users is None else torch.tensor(users)
    items = torch.tensor([item for i in order.tolist() for item in sequences[i]])
    before, after = torch.tensor(margins or [(0, 0)] * len(sequences))[order].T
    phase = torch.tensor(phase or [0] * len(sequences))[order]
    return WindowBatch(items, lengths, users[order], before, after, phase, every)
