"""Time of an epoch, memory and latency of TSSR and its ablations, relative to SASRec.

SASRec is RecBole's model with a loader of this package (bucketed batches). The script times about
``--seconds`` of an epoch and extrapolates by the share of the targets. Latency is the time to score all
items for 256 held-out rows, as the median of 20 repetitions. With one thread, all times are CPU time. Each
model has its own process. The models are measured in turn, three times, and the smallest value of each
figure counts, because other programs have disturbed it least. The last lines are ``epoch_time=``,
``memory=`` and ``latency=<TSSR / SASRec>``.
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
    "TSSR, ID stream only": ("TSSR", {"streams": "id", "output": "id"}),
    "TSSR without contrast": ("TSSR", {"user_weight": 0.0, "item_weight": 0.0}),
    "TSSR without cross-attention": ("TSSR", {"n_cross_layers": 0}),
    "TSSR": ("TSSR", {}),
}
_BASE, _OURS = next(iter(_ROWS)), "TSSR"


def measure(args: Any, name: str) -> tuple[float, float, float]:
    """Return seconds of an epoch, peak memory in GiB and milliseconds to score _QUERIES histories."""
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
    return epoch, peak_gb(), 1000 * float(np.median(times[1:]))  # the first repetition is a warm-up


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
