"""Speed of lists: ``Recommender.recommend``, RecBole's ``full_sort_topk`` and RecTools' ``recommend``.

RecBole computes with the weights of this package. It is timed at several batch sizes on a sample of users
(``--recbole_users``), and its best time counts. RecTools has its own environment
(``benchmarks/environments.py`` makes it in ``--environments``) and a SASRec with the same numbers of
blocks and heads and the same width, trained for one batch; ``--rectools 0`` leaves it out. This package
and RecTools make the lists of all users without the items of their histories, as a table of external ids.
With one thread, seconds are CPU time. The last line is ``users_per_second=<ours / the faster of the
others>``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from common import arguments, clock, config, table
from environments import FOLDER, driver, python_of
from recbole.data import create_dataset, data_preparation
from recbole.utils import init_seed
from recbole.utils.case_study import full_sort_topk

from recbole_disent.recommender import Recommender
from recbole_disent.serving.catalogue import ITEM, Catalogue, histories_of
from recbole_disent.serving.source import Source
from recbole_disent.session import build_data, build_model


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the time of *work* by :func:`common.clock`, and its result."""
    now = clock()
    start = now()
    result = work()
    return now() - start, result


def rectools(args: Any, catalogue: Catalogue, width: int) -> tuple[float, int]:
    """Seconds in which RecTools makes the lists, and their number."""
    store = catalogue.histories
    assert store is not None
    counts = store.offsets.diff().numpy()
    users = np.repeat(np.arange(len(counts)), counts)
    place = np.arange(len(users)) - store.offsets.numpy()[users]
    events = pd.DataFrame(
        {
            "user": catalogue.require_users()[users],
            "item": catalogue.items[store.fields[ITEM].numpy()],
            "place": place,
            "part": "train",
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "events.csv")
        events.to_csv(file, index=False)
        given = {
            "events": file,
            "model": "SASRec",
            "max_length": args.max_length,
            "dropout": 0.2,
            "k": args.k,
            "seed": 1,
            "width": width,
            "epochs": None,
            "seconds": 0.0,
        }
        found = driver("rectools_models.py", python_of("RecTools", args.environments), given, args.threads)
    return found["rank_seconds"], found["users"]


def main() -> None:
    args = arguments(__doc__ or "", model="SASRec", k=20, recbole_users=1024, rectools=1, environments=FOLDER)
    data = build_data(config(args, args.model))
    net = build_model(data).eval()
    train = data.loaders[0]._dataset
    tokens = train.field2id_token
    catalogue = Catalogue(
        tokens[train.iid_field].astype(object),
        train.training_counts(),
        tokens[train.uid_field].astype(object),
        histories_of([loader.dataset for loader in data.loaders]),
    )
    rec = Recommender(Source(net, data.config, train, catalogue, {}))
    rec.recommend(rec.users[:256], k=args.k)  # warm-up
    time, found = seconds(lambda: rec.recommend("all", k=args.k))
    ours = len(rec.users) / time
    rows = [("ours", 256, len(rec.users), time, ours)]

    best = 0.0
    if args.rectools:
        time, number = rectools(args, catalogue, data.config["hidden_size"])
        rows.append(("RecTools", 256, number, time, number / time))
        best = number / time

    their_config = config(args, args.model, eval_mode="full")
    init_seed(1, True)
    dataset = create_dataset(their_config)
    loader = data_preparation(their_config, dataset)[2]
    users = loader.dataset.inter_feat[dataset.uid_field].numpy()
    users = np.sort(np.random.default_rng(0).permutation(users)[: args.recbole_users])
    with torch.no_grad():
        for size in (64, 256, 1024):
            chunks = [users[i : i + size] for i in range(0, len(users), size)]
            full_sort_topk(chunks[0][:64], net, loader, args.k)
            time, _ = seconds(lambda c=chunks: [full_sort_topk(part, net, loader, args.k) for part in c])
            rows.append(("RecBole", size, len(users), time, len(users) / time))
            best = max(best, len(users) / time)
    print(f"{args.dataset}, {args.model}, top {args.k}, length {args.max_length}, {args.threads} thread(s)")
    print(f"rows: {len(found)}; RecBole's lists are internal ids, and histories stay in them")
    table(rows, ("", "batch size", "users", "seconds", "users per second"))
    print(f"users_per_second={ours / best:.1f}")


if __name__ == "__main__":
    main()
