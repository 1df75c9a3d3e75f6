"""SASRec or BERT4Rec in RecTools, trained and asked for lists by its own ``fit`` and ``recommend``."""

from __future__ import annotations

import warnings
from time import process_time
from typing import Any

import pandas as pd
import pytorch_lightning as lightning
from loop import Clock, main
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import BERT4RecModel, SASRecModel

CLOCK = Clock(None, None)


class Watch(lightning.Callback):
    """Ends the training when its time is over."""

    def on_train_start(self, trainer: Any, module: Any) -> None:
        CLOCK.restart()

    def on_train_batch_end(self, trainer: Any, module: Any, *args: Any) -> None:
        trainer.should_stop = CLOCK.is_over()


def trainer() -> lightning.Trainer:
    """Make Lightning's trainer, without files and reports."""
    return lightning.Trainer(
        max_epochs=CLOCK.epochs or 10**6,
        min_epochs=0,
        accelerator="cpu",
        callbacks=[Watch()],
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        logger=False,
    )


def dataset_of(events: pd.DataFrame) -> Dataset:
    """Make RecTools' data set of the columns user, item and place."""
    return Dataset.construct(
        pd.DataFrame(
            {
                Columns.User: events["user"],
                Columns.Item: events["item"],
                Columns.Weight: 1.0,
                Columns.Datetime: pd.to_datetime(events["place"], unit="s"),
            }
        )
    )


def work(arguments: dict[str, Any]) -> dict[str, Any]:
    """Train on the training part, then make the lists from the histories without the test items."""
    warnings.simplefilter("ignore")
    lightning.seed_everything(arguments["seed"])
    events = pd.read_csv(arguments["events"], dtype={"user": str, "item": str})
    CLOCK.epochs, CLOCK.seconds = arguments["epochs"], arguments["seconds"]
    model = {"SASRec": SASRecModel, "BERT4Rec": BERT4RecModel}[arguments["model"]](
        n_blocks=2,
        n_heads=2,
        n_factors=arguments["width"],
        dropout_rate=arguments["dropout"],
        session_max_len=arguments["max_length"],
        batch_size=128,
        loss="softmax",
        lr=1e-3,
        recommend_torch_device="cpu",
        get_trainer_func=trainer,
    )
    model.fit(dataset_of(events[events["part"] == "train"]))
    per_epoch = len(model.data_preparator.get_dataloader_train())
    facts = CLOCK.facts(per_epoch)

    history = events[events["part"] != "test"]
    known = history[history["item"].isin(model.data_preparator.get_known_item_ids())]
    users, dataset = known["user"].unique(), dataset_of(history)
    start = process_time()
    table = model.recommend(users=users, dataset=dataset, k=arguments["k"], filter_viewed=True)
    seconds = process_time() - start
    lists = {user: rows.tolist() for user, rows in table.groupby(Columns.User, sort=False)[Columns.Item]}
    return facts | {"rank_seconds": seconds, "users": len(users), "lists": lists}


if __name__ == "__main__":
    main(work)
