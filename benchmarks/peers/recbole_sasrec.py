"""SASRec in RecBole, with RecBole's loaders and scores. A batch of training has RecBole's 2,048 pairs.

RecBole's import turns on torch's anomaly detection, as it does in every program that uses RecBole.
"""

from __future__ import annotations

from time import process_time
from typing import Any

import numpy as np
import torch
from loop import Clock, main, recbole_keys, train
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, init_seed

ROWS = 512


def work(arguments: dict[str, Any]) -> dict[str, Any]:
    """Train, then make the lists of the rows of the test part."""
    keys = recbole_keys(arguments) | {"train_batch_size": 2048}
    config = Config("SASRec", arguments["dataset"], config_dict=keys)
    init_seed(arguments["seed"], True)
    loader, _, test = data_preparation(config, create_dataset(config))
    net = get_model("SASRec")(config, loader.dataset)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    facts = train(net, loader, optimizer, Clock(arguments["epochs"], arguments["seconds"]))

    feat, dataset = test.dataset.inter_feat, test.dataset
    items_of = dataset.field2id_token["item_id"]
    number = {token: n for n, token in enumerate(items_of)}
    users = dataset.field2id_token["user_id"][feat["user_id"].numpy()].tolist()
    past = [np.array([number[item] for item in arguments["histories"][user]]) for user in users]
    found = []
    start = process_time()
    with torch.no_grad():
        for begin in range(0, len(users), ROWS):
            scores = net.full_sort_predict(feat[begin : begin + ROWS])
            mine = past[begin : begin + ROWS]
            row = np.repeat(np.arange(len(mine)), [len(items) for items in mine])
            scores[torch.from_numpy(row), torch.from_numpy(np.concatenate(mine))] = -torch.inf
            scores[:, 0] = -torch.inf
            found.append(scores.topk(arguments["k"], dim=1).indices)
    best = items_of[torch.cat(found).numpy()]
    seconds = process_time() - start
    lists = dict(zip(users, best.tolist(), strict=True))
    return facts | {"rank_seconds": seconds, "users": len(lists), "lists": lists}


if __name__ == "__main__":
    main(work)
