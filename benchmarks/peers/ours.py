"""SASRec in this package, trained on whole sequences."""

from __future__ import annotations

from time import process_time
from typing import Any

import numpy as np
import torch
from loop import Clock, main, recbole_keys, train

from recbole_disent.config.config import Config
from recbole_disent.recommender import Recommender
from recbole_disent.serving.catalogue import Catalogue, store_of
from recbole_disent.serving.source import Source
from recbole_disent.session import build_data, build_model


def work(arguments: dict[str, Any]) -> dict[str, Any]:
    """Train, then make the lists from the histories without the test items."""
    keys = recbole_keys(arguments) | {"train_mode": "sequences", "train_windows": "last", "negatives": "all"}
    data = build_data(Config("SASRec", arguments["dataset"], config_dict=keys))
    net = build_model(data)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)
    facts = train(net, data.loaders[0], optimizer, Clock(arguments["epochs"], arguments["seconds"]))

    part = data.loaders[0]._dataset
    users, items = part.history
    order = np.argsort(users, kind="stable")
    users, items = users[order], items[order]
    earlier = np.append(users[1:] == users[:-1], False)
    tokens = part.field2id_token
    catalogue = Catalogue(
        tokens["item_id"].astype(object),
        part.training_counts(),
        tokens["user_id"].astype(object),
        store_of(users[earlier], items[earlier], part.user_num),
    )
    rec = Recommender(Source(net, data.config, part, catalogue, {}))
    start = process_time()
    table = rec.recommend("all", k=arguments["k"])
    seconds = process_time() - start
    lists = {user: rows.tolist() for user, rows in table.groupby("user", sort=False)["item"]}
    return facts | {"rank_seconds": seconds, "users": len(lists), "lists": lists}


if __name__ == "__main__":
    main(work)
