"""Training pairs per second of a model of RecBole in RecBole, and of a model in this package.

``--model`` is the model that runs in RecBole. ``--model pairs`` compares with DisentS2S in the mode
``train_mode: pairs`` instead. ``--ours`` is the model that runs in this package: DisentS2S with its defaults,
or a model of RecBole such as SASRec. SASRec trains on whole sequences, or with ``--train_mode pairs`` on
trimmed, bucketed batches. BERT4Rec and Caser run with ``chunked_softmax``; ``--model`` should name the same
model.

One of RecBole's sequential models turns on torch's anomaly detection for all models
(recbole_disent/recbole/patches.py); ``--anomaly 0`` turns it off. The last line is
``pairs_per_second=<ours / RecBole>``.
"""

from __future__ import annotations

from typing import Any

import torch
from common import arguments, config, seconds_of_a_target, table
from recbole.data import create_dataset, data_preparation
from recbole.utils import init_seed

from recbole_disent.config import key_rules
from recbole_disent.loaders.prefixes import PairLoader
from recbole_disent.loaders.windows import WindowLoader
from recbole_disent.registry import get_model
from recbole_disent.session import build_data, build_model


def pairs_per_second(net: Any, loader: Any, learning_rate: float, limit: float) -> tuple[float, int]:
    """Train for about *limit* seconds; return pairs per second and the number of timed pairs."""
    fused = isinstance(loader, (WindowLoader, PairLoader))  # as in SafeTrainer
    optimizer = torch.optim.Adam(net.parameters(), lr=learning_rate, fused=fused)
    each, pairs = seconds_of_a_target(net, optimizer, loader, limit)
    return 1 / each, pairs


def main() -> None:
    args = arguments(
        __doc__, model="SASRec", ours="DisentS2S", train_mode="sequences", seconds=30.0, anomaly=1
    )
    if args.model == "pairs":
        name = "ours DisentS2S {'train_mode': 'pairs'}"
        data = build_data(config(args, "DisentS2S", train_mode="pairs"))
        train, net = data.loaders[0], build_model(data)
        base, base_pairs = pairs_per_second(net, train, data.config["learning_rate"], args.seconds)
    else:
        name = f"RecBole {args.model}"
        theirs = config(args, args.model)
        init_seed(1, True)
        train = data_preparation(theirs, create_dataset(theirs))[0]
        net = get_model(args.model)(theirs, train._dataset)
        torch.autograd.set_detect_anomaly(bool(args.anomaly))
        base, base_pairs = pairs_per_second(net, train, theirs["learning_rate"], args.seconds)
        torch.autograd.set_detect_anomaly(False)
    del train, net

    keys: dict[str, Any] = {}
    # The windows of a masked model have no pairs.
    if "train_mode" in key_rules.of_model(args.ours) and args.ours != "BERT4Rec":
        keys["train_mode"] = args.train_mode
    if "chunked_softmax" in key_rules.of_model(args.ours):
        keys["chunked_softmax"] = True
    elif args.ours != "DisentS2S" and keys.get("train_mode") != "sequences":
        keys["bucket_batches"] = True
    data = build_data(config(args, args.ours, **keys))
    net = build_model(data)
    found, pairs = pairs_per_second(net, data.loaders[0], data.config["learning_rate"], args.seconds)
    print(f"{args.dataset}, length {args.max_length}, {args.threads} thread(s)")
    rows = [(name, base, base_pairs), (f"ours {args.ours} {keys}", found, pairs)]
    table(rows, ("", "pairs per second", "pairs timed"))
    print(f"pairs_per_second={found / base:.1f}")


if __name__ == "__main__":
    main()
