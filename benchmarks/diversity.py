"""Accuracy against diversity: DisentS2S by intentions and by MMR, and SASRec with MMR.

The script trains both models and makes the list of each test user for ``diversity`` from 0 to 1. It measures

* NDCG@10, which at ``diversity`` 0 has to equal the test result of the run;
* intra-list diversity: mean of 1 - cosine over the pairs of a list. The vectors are made of training clicks
  and do not depend on the model;
* coverage: share of the items that are in the list of anybody.

``--out`` is the folder of ``diversity.json`` and ``diversity.svg``. The tables are printed.
``--results=FIRST,SECOND`` names two result files, of DisentS2S and of SASRec, whose checkpoints were kept
(``recbole-disent compare --keep_checkpoints``). The script then trains nothing.
"""

from __future__ import annotations

import json
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import arguments, common_keys, table

from recbole_disent import load, pictures, run
from recbole_disent.evaluation.metrics import cooccurrence_vectors
from recbole_disent.files import write_atomically, write_text
from recbole_disent.serving.catalogue import store_of
from recbole_disent.serving.lists import Filters, Queries
from recbole_disent.session import load_checkpoint

K = 10
AMOUNTS = [round(0.1 * i, 1) for i in range(11)]
MODELS = {
    "DisentS2S": {"n_intentions": 4},
    "SASRec": {"train_mode": "sequences", "train_batch_size": 512},
}
CURVES = (("DisentS2S", "intentions"), ("DisentS2S", "mmr"), ("SASRec", "mmr"))


def trained(result_file: str) -> dict[str, Any]:
    """Return a result file with the path of its checkpoint, which is relative to the folder of the file."""
    path = Path(result_file)
    report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return {**report, "checkpoint": str(path.parent / report["checkpoint"])}


def queries(rec: Any, data: Any) -> tuple[Queries, np.ndarray]:
    """Histories of the test users without the test item, and the test items, int64 (Q,)."""
    test = data.loaders[2].dataset
    users, targets = (test.inter_feat[field].numpy() for field in (test.uid_field, test.iid_field))
    store = rec.catalogue.histories
    row, items = (part.numpy() for part in store.events_of(torch.from_numpy(users)))
    last = np.append(np.diff(row) != 0, True)
    assert (items[last] == targets).all(), "the test item of a user is the last event"
    histories = store_of(row[~last], items[~last], len(users))
    return Queries(
        histories, torch.arange(len(users)), None, torch.zeros(len(users), dtype=torch.bool)
    ), targets


def measure(lists: np.ndarray, targets: np.ndarray, vectors: np.ndarray, n_items: int) -> dict[str, float]:
    """NDCG@10, intra-list diversity and coverage of lists, int64 (Q, 10)."""
    place = (lists == targets[:, None]).argmax(1)
    found = (lists == targets[:, None]).any(1)
    v = vectors[lists]
    pairs = (v.sum(1) ** 2).sum(-1) - (v * v).sum((1, 2))
    return {
        "ndcg@10": float((found / np.log2(place + 2)).mean()),
        "diversity@10": float(1 - (pairs / (K * (K - 1))).mean()),
        "coverage@10": len(np.unique(lists)) / n_items,
    }


def at_loss(curve: list[dict[str, float]], share: float = 0.01) -> dict[str, float]:
    """The most diverse point with at most *share* less NDCG@10, between the points by straight lines."""
    least = (1 - share) * curve[0]["ndcg@10"]
    best = curve[0]
    for a, b in pairwise(curve):
        if a["ndcg@10"] < least:
            continue
        part = 1.0
        if b["ndcg@10"] < least:
            part = (a["ndcg@10"] - least) / (a["ndcg@10"] - b["ndcg@10"])
        point = {key: a[key] + part * (b[key] - a[key]) for key in a}
        best = max(best, point, key=lambda p: p["diversity@10"])
    return best


def draw(figure: Any, curves: dict[str, list[dict[str, float]]]) -> None:
    axes = figure.subplots(1, 2)
    look = pictures.look(list(curves))
    for axis, key, label in (
        (axes[0], "diversity@10", "intra-list diversity"),
        (axes[1], "coverage@10", "share of the items in a list"),
    ):
        for name, points in curves.items():
            axis.plot([p[key] for p in points], [p["ndcg@10"] for p in points], label=name, **look[name])
        axis.set_xlabel(label)
        axis.set_ylabel("NDCG@10")
    axes[0].legend()


def main() -> None:
    args = arguments(__doc__, epochs=60, seed=1, out="diversity", results="")
    files = dict(zip(MODELS, args.results.split(","), strict=True)) if args.results else {}
    out = Path(args.out).absolute()
    found: dict[str, Any] = {}
    curves: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for model, keys in MODELS.items():
            places = {"checkpoint_dir": folder, "result_dir": folder}
            own = {"epochs": args.epochs, "stopping_step": 5, "seed": args.seed, **keys, **places}
            if files:
                report = trained(files[model])
            else:
                report = run(model, args.dataset, config_dict=common_keys(args, **own))
            here = {"data_path": args.data_path}
            rec = load(report["checkpoint"], config_dict=here)
            data = load_checkpoint(report["checkpoint"], here)[1]
            train = data.loaders[0]._dataset
            clicks = (train.inter_feat[field].numpy() for field in (train.uid_field, train.iid_field))
            vectors = cooccurrence_vectors(*clicks, train.user_num, train.item_num).numpy()
            who, targets = queries(rec, data)
            # As in the test of the run, whose NDCG@10 the first point has to have.
            filters = Filters(history=report["config"]["filter_history"] is True)
            for way in (way for name, way in CURVES if name == model):
                points = []
                for amount in AMOUNTS:
                    lists = rec.lists(who, K, filters, amount, way).items
                    points.append({"amount": amount, **measure(lists, targets, vectors, len(rec.items))})
                difference = abs(points[0]["ndcg@10"] - report["test_result"]["ndcg@10"])
                assert difference < 1e-3, f"{model}: the lists differ from the test by {difference}"
                curves[f"{model}, {way}"] = points
            found[model] = {
                key: report[key] for key in ("test_result", "epochs_run", "best_epoch", "data_hash")
            }
            found[model]["intentions"] = report["intentions"]
    for name, points in curves.items():
        print(f"\n{name}\n")
        head = ("diversity", "NDCG@10", "intra-list diversity", "coverage")
        table([tuple(round(value, 4) for value in point.values()) for point in points], head)
    rows = []
    for name, points in curves.items():
        point, first = at_loss(points), points[0]
        gain = point["diversity@10"] / first["diversity@10"] - 1
        before = [round(first[key], 4) for key in ("ndcg@10", "diversity@10", "coverage@10")]
        after = [round(point["amount"], 2), round(point["diversity@10"], 4), f"{gain:+.1%}"]
        rows.append((name, *before, *after, round(point["coverage@10"], 4)))
    print("\nAt a loss of 1 % of NDCG@10\n")
    head = ("", "NDCG@10", "intra-list diversity", "coverage", "`diversity`", "intra-list diversity then",
            "gain", "coverage then")  # fmt: skip
    table(rows, head)
    # Trained models have settings of their own, which their result files hold.
    names = ("dataset",) if files else ("dataset", "max_length", "epochs", "seed")
    settings = {key: vars(args)[key] for key in names}
    text = json.dumps({"settings": settings, "models": found, "curves": curves}, indent=2, allow_nan=False)
    write_text(out / "diversity.json", text + "\n")
    pictures.require("the picture needs matplotlib: pip install 'recbole_disent[plots]'")
    with write_atomically(out / "diversity.svg") as file:
        about = f"NDCG@10 against diversity and coverage on {args.dataset}"
        file.write(pictures.picture(lambda figure: draw(figure, curves), (9, 4), description=about))


if __name__ == "__main__":
    main()
