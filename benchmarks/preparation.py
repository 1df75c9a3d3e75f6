"""Time and memory of the preparation of data, with RecBole's SequentialDataset and the sequence store.

The preparation consists of augmentation, sort and split. The last line is ``time=<RecBole / ours>
memory=<RecBole / ours>``, with the memory of the prepared data.
"""

from __future__ import annotations

import argparse
from time import perf_counter
from typing import Any

import common
from recbole.data.dataset import SequentialDataset

from recbole_disent.data.dataset import SequenceDataset
from recbole_disent.data.lazy_interaction import LazyInteraction


def prepared_bytes(parts: list[Any]) -> int:
    """Return the bytes of the interaction tensors of all parts."""
    found = 0
    for part in parts:
        feat = part.inter_feat
        if isinstance(feat, LazyInteraction):
            found += feat.rows.numel() * 8
        else:
            found += sum(t.numel() * t.element_size() for t in feat.interaction.values())
    store = getattr(parts[0], "store", None)
    return found + (store.nbytes if store is not None else 0)


def measure(kind: str, args: argparse.Namespace) -> dict[str, float]:
    """Load a data set, and time the preparation that follows."""
    dataset_class = SequentialDataset if kind == "RecBole" else SequenceDataset
    config = common.config(args, "SASRec")
    load, dataset = common.seconds(lambda: dataset_class(config))
    before = common.peak_gb()
    start = perf_counter()
    parts = dataset.build()
    return {
        "load": load,
        "prepare": perf_counter() - start,
        "mb": prepared_bytes(parts) / 2**20,
        "before": before,
        "peak": common.peak_gb(),
        "rows": sum(len(p.inter_feat) for p in parts),
    }


def main() -> None:
    args = common.arguments(__doc__)
    found = {kind: common.in_own_process(measure, kind, args) for kind in ("RecBole", "ours")}
    theirs, ours = found["RecBole"], found["ours"]
    rows = [
        (name, theirs[key], ours[key], theirs[key] / ours[key])
        for name, key in (
            ("file load, s", "load"),
            ("augmentation + sort + split, s", "prepare"),
            ("prepared data, MiB", "mb"),
            ("peak resident, GiB", "peak"),
        )
    ]
    assert theirs["rows"] == ours["rows"]
    print(f"{args.dataset}, length {args.max_length}, {ours['rows']} rows, {args.threads} thread(s)")
    common.table(rows, ("", "RecBole", "ours", "ratio"))
    print(f"time={theirs['prepare'] / ours['prepare']:.1f} memory={theirs['mb'] / ours['mb']:.1f}")


if __name__ == "__main__":
    main()
