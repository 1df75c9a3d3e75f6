"""Training pairs per second: RecBole's SASRec on its own data path against ours.

``--model pairs`` puts DisentS2S's own ``train_mode: pairs`` in RecBole's place.

``--ours`` is the model of our side: DisentS2S with its defaults, or a model of RecBole, SASRec say:
on whole sequences, or with ``--train_mode pairs`` for the effect of trimmed, bucketed batches alone;
BERT4Rec and Caser (with themselves as ``--model``) with ``chunked_softmax``.
RecBole trains its sequential models with torch's anomaly detection, which one of them turns on for
all (recbole_disent/recbole/patches.py); ``--anomaly 0`` turns it off. Ends with
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
from recbole_disent.registry import MASKED, get_model
from recbole_disent.session import build_data, build_model


def pairs_per_second(net: Any, loader: Any, learning_rate: float, limit: float) -> tuple[float, int]:
    """Train for about *limit* seconds; also the number of pairs that were timed."""
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
    # A masked model's windows have no pairs.
    if "train_mode" in key_rules.of_model(args.ours) and args.ours not in MASKED:
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
