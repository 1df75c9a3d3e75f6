"""What two streams and a contrast cost: time of an epoch, memory and latency against SASRec.

SASRec is RecBole's model on this package's loader (bucketed batches). An epoch is timed for
about ``--seconds``, of CPU time with one thread, and extrapolated by its share of the targets;
latency is that of scoring all items for 256 held-out rows, the median of 20 times, of CPU time too.
Each model has a process of its own. The models take turns, three times; of each figure the least
counts, which other programs have disturbed least. Ends with ``epoch_time=``, ``memory=`` and
``latency=<TSSR / SASRec>``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from common import arguments, clock, config, in_own_process, peak_gb, seconds_of_a_target, table

from recbole_disent.session import build_data, build_model, build_trainer

_QUERIES, _REPEATS, _ROUNDS = 256, 20, 3
# Name of a row -> model and keys.
_ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "SASRec (RecBole's model)": ("SASRec", {"bucket_batches": True}),
    "SASRec on whole sequences": ("SASRecContent", {"content": False}),
    "SASRecContent": ("SASRecContent", {}),
    "TSSR, ID stream only": ("TSSR", {"streams": "id"}),
    "TSSR without contrast": ("TSSR", {"user_weight": 0.0, "item_weight": 0.0}),
    "TSSR without cross-attention": ("TSSR", {"n_cross_layers": 0}),
    "TSSR": ("TSSR", {}),
}
_BASE, _OURS = next(iter(_ROWS)), "TSSR"


def measure(args: Any, name: str) -> tuple[float, float, float]:
    """Seconds of an epoch, peak memory in GiB, milliseconds to score _QUERIES histories."""
    torch.set_num_threads(args.threads)
    model, keys = _ROWS[name]
    data = build_data(config(args, model, **keys))
    net = build_model(data)
    optimizer = build_trainer(data, net).optimizer
    each, _ = seconds_of_a_target(net, optimizer, data.loaders[0], args.seconds)
    epoch = each * len(data.loaders[0]._dataset.inter_feat)
    part = data.loaders[2].dataset
    batch = part[np.arange(min(_QUERIES, len(part.inter_feat)))]
    net.eval()
    times, now = [], clock()
    with torch.no_grad():
        for _ in range(_REPEATS + 1):
            start = now()
            net.full_sort_predict(batch)
            times.append(now() - start)
    return epoch, peak_gb(), 1000 * float(np.median(times[1:]))  # the first warms up


def main() -> None:
    args = arguments(__doc__ or "", seconds=7.0)
    rounds = [{name: in_own_process(measure, args, name) for name in _ROWS} for _ in range(_ROUNDS)]
    found = {name: [min(values) for values in zip(*(r[name] for r in rounds), strict=True)] for name in _ROWS}
    base, ours = found[_BASE], found[_OURS]
    print(f"{args.dataset}, length {args.max_length}, {args.threads} thread(s)")
    rows = [
        (name, *values, *(value / b for value, b in zip(values, base, strict=True)))
        for name, values in found.items()
    ]
    head = (
        "",
        "s an epoch",
        "peak GiB",
        f"ms for {_QUERIES} rows",
        "time ratio",
        "memory ratio",
        "latency ratio",
    )
    table(rows, head)
    for name, a, b in zip(("epoch_time", "memory", "latency"), ours, base, strict=True):
        print(f"{name}={a / b:.2f}")


if __name__ == "__main__":
    main()
