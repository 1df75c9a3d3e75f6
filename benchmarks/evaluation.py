"""Speed of ranking sampled candidates or all items, with RecBole and with this package.

RecBole is timed at several batch sizes on a sample of users (``--recbole_users``), and its best time
counts. This package ranks all users, before and after RecBole, and its better time counts. With one thread
the times are CPU times. The last line is ``users_per_second=<ours / RecBole>``.
"""

from __future__ import annotations

import numpy as np
from common import arguments, clock, config, seconds, table
from recbole.data import create_dataset, data_preparation
from recbole.trainer import Trainer
from recbole.utils import init_seed

from recbole_disent.evaluation.evaluator import RankingEvaluator
from recbole_disent.session import build_data, build_model


def main() -> None:
    args = arguments(__doc__, model="SASRec", mode="pop100", recbole_users=512, score_dtype="float32")
    keys = {"eval_mode": args.mode, "topk": [1, 5, 10], "valid_metric": "NDCG@10"}
    data = build_data(config(args, args.model, score_dtype=args.score_dtype, **keys))
    net = build_model(data).eval()
    test, now = data.loaders[2], clock()
    evaluator = RankingEvaluator(data.config, data.loaders[0]._dataset)
    draw, _ = seconds(lambda: evaluator.candidates(test.dataset))
    time, result = seconds(lambda: evaluator.evaluate(net, test), now)
    rows = [("ours", test.step, test.n_queries, test.n_queries / time, result["recall@10"])]

    best = 0.0
    sizes = (4096, 512) if args.mode == "full" else (4096, 505)
    for size in sizes:
        their_config = config(args, args.model, eval_batch_size=size, **keys)
        init_seed(1, True)
        dataset = create_dataset(their_config)
        parts = dataset.build()
        users = np.random.default_rng(0).permutation(len(parts[2].inter_feat))[: args.recbole_users]
        sample = parts[2].copy(parts[2].inter_feat[np.sort(users)])
        dataset.build = lambda parts=parts, sample=sample: [parts[0], parts[1], sample]
        loader = data_preparation(their_config, dataset)[2]
        trainer = Trainer(their_config, net)
        trainer.eval_collector.data_collect(loader)
        time, result = seconds(lambda t=trainer, d=loader: t.evaluate(d, load_best_model=False), now)
        rows.append(("RecBole", size, len(users), len(users) / time, result["recall@10"]))
        best = max(best, len(users) / time)
    time, result = seconds(lambda: evaluator.evaluate(net, test), now)
    rows.append(("ours", test.step, test.n_queries, test.n_queries / time, result["recall@10"]))
    ours = max(rows[0][3], rows[-1][3])
    print(f"{args.dataset}, {args.mode}, length {args.max_length}, {args.threads} thread(s)")
    print(f"drawing the candidates of {test.n_queries} rows, once: {draw:.2f} s")
    table(rows, ("", "batch size", "users", "users per second", "recall@10, untrained"))
    print(f"users_per_second={ours / best:.1f}")


if __name__ == "__main__":
    main()
