"""Tests that every sequential model must pass. A test class inherits from :class:`ModelContract`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from recbole.utils import init_seed
from torch import Tensor

from recbole_disent.config.config import Config
from recbole_disent.registry import resolve, spec_of
from recbole_disent.session import RunData, build_data, build_model, build_trainer
from recbole_disent.testing.small_data import HOSTILE, hostile_keys, write_hostile
from recbole_disent.training import checkpoint

MakeConfig = Callable[..., Config]


class ModelContract:
    """Tests of one sequential model on a small data set, which is written into a temporary folder.

    A subclass sets ``model`` and, where needed, ``model_file`` and ``keys``. The data set has equal
    timestamps, repeated items, users with one item, and items without a title or without a line.

    Attributes:
        model: value of the configuration key ``model``.
        model_file: Python file that defines the model's ``SPEC``, relative to the file of the test class;
            None for a model of the package, of RecBole or of an entry point.
        keys: further configuration keys. With them, every parameter should get a gradient in the first
            batch, so a large ``train_batch_size`` suits a model whose loss sees few items.
    """

    model: str
    model_file: ClassVar[str | None] = None
    keys: ClassVar[dict[str, Any]] = {}

    @pytest.fixture(autouse=True)
    def in_a_folder_of_its_own(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Run in a temporary folder and with one thread, so that equal runs give equal results."""
        monkeypatch.chdir(tmp_path)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(threads)

    @pytest.fixture
    def make_config(self, tmp_path: Path) -> MakeConfig:
        """Function (model, further keys) -> configuration of a run on the small data set."""
        folder = write_hostile(tmp_path / "data")

        def make(model: str, **keys: Any) -> Config:
            return Config(model, HOSTILE, config_dict={**hostile_keys(folder), **keys})

        return make

    def prepared(self, make_config: MakeConfig, **more: Any) -> RunData:
        """Data of a run of the model; the keys *more* replace keys of the class."""
        keys = {**self.keys, **more}
        if self.model_file is not None:
            here = Path(inspect.getfile(type(self))).resolve().parent
            keys["model_file"] = str(here / self.model_file)
        return build_data(make_config(self.model, **keys))

    def trained(self, make_config: MakeConfig, **more: Any) -> tuple[RunData, Any, Any]:
        """Data, model in evaluation mode, and trainer of a finished run."""
        data = self.prepared(make_config, **more)
        net = build_model(data)
        trainer = build_trainer(data, net)
        trainer.fit(*data.loaders[:2], verbose=False)
        return data, net.eval(), trainer

    def vectors(self, net: Any, batch: Any) -> tuple[Tensor, Tensor]:
        """Item table (n_items, D) and query vectors (B, K, D); skips the test of a model without vectors."""
        path = spec_of(self.model).vectors
        try:
            if path is not None:
                table, queries = resolve(path)(net)
                return table, queries(batch)
            if hasattr(net, "item_table"):
                return net.item_table(), net.query_vectors(batch)
        except NotImplementedError as error:
            pytest.skip(str(error))
        pytest.skip(f"the scores of {self.model} are not known as inner products")

    def test_loss_is_finite_and_every_parameter_gets_a_gradient(self, make_config: MakeConfig) -> None:
        """The first batch gives a finite loss, and each parameter gets a gradient that is not all zeros."""
        data = self.prepared(make_config)
        net = build_model(data)
        batch = next(iter(data.loaders[0]))
        loss = net.calculate_loss(batch)
        total = torch.stack(loss).sum() if isinstance(loss, tuple) else loss
        assert torch.isfinite(total)
        total.backward()
        without = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()]
        assert without == []

    def test_declared_tables_are_looked_up_by_rows(self, make_config: MakeConfig) -> None:
        """The tables of ``row_tables`` get the same gradient as rows, from their modules only."""
        data = self.prepared(make_config)
        net = build_model(data).eval()
        tables = net.row_tables() if hasattr(net, "row_tables") else {}
        if not tables:
            pytest.skip(f"a training step of {self.model} reads whole tables with these keys")
        batch, gradients = next(iter(data.loaders[0])), []
        for by_rows in (False, True):
            net.zero_grad()
            for table in tables:
                table.sparse = by_rows
            torch.manual_seed(0)
            loss = net.calculate_loss(batch)
            (torch.stack(loss).sum() if isinstance(loss, tuple) else loss).backward()
            gradients.append([table.weight.grad for table in tables])
        for dense, rows in zip(*gradients, strict=True):
            assert rows.is_sparse
            torch.testing.assert_close(rows.to_dense(), dense)

    def test_predict_agrees_with_full_sort_predict(self, make_config: MakeConfig) -> None:
        """``predict`` gives the scores of ``full_sort_predict``, float (B, n_items)."""
        data = self.prepared(make_config)
        net = build_model(data).eval()
        batch = data.loaders[2].dataset[np.arange(5)]
        with torch.no_grad():
            scores = net.full_sort_predict(batch).view(5, -1)
            assert scores.shape[1] == data.dataset.item_num
            torch.testing.assert_close(
                net.predict(batch), scores[torch.arange(5), batch["item_id"]], atol=1e-5, rtol=1e-5
            )

    def test_item_table_and_query_vectors_give_the_scores(self, make_config: MakeConfig) -> None:
        """The score of an item is the largest of its inner products with the K query vectors."""
        data = self.prepared(make_config)
        net = build_model(data).eval()
        batch = data.loaders[2].dataset[np.arange(5)]
        with torch.no_grad():
            table, queries = self.vectors(net, batch)
            scores = net.full_sort_predict(batch).view(5, -1)
        assert table.shape == (data.dataset.item_num, queries.shape[2])
        assert queries.shape[0] == 5
        assert table.dtype == queries.dtype == torch.get_default_dtype()
        products = torch.einsum("bkd,nd->bkn", queries, table).amax(1)
        # The padding item is never ranked, and its score says nothing.
        torch.testing.assert_close(products[:, 1:], scores[:, 1:], atol=1e-5, rtol=1e-5)

    def test_candidates_have_the_scores_of_full_sort_predict(self, make_config: MakeConfig) -> None:
        """``score_candidates`` takes int64 (B, C), with repetitions, and gives float (B, C)."""
        data = self.prepared(make_config)
        net = build_model(data).eval()
        if not hasattr(net, "score_candidates"):
            pytest.skip(f"{self.model} has no score_candidates: its scores of all items are used")
        batch = data.loaders[2].dataset[np.arange(5)]
        candidates = torch.from_numpy(np.random.default_rng(0).integers(1, data.dataset.item_num, (5, 9)))
        candidates[:, 1] = candidates[:, 0]
        with torch.no_grad():
            found = net.score_candidates(batch, candidates)
            expected = net.full_sort_predict(batch).view(5, -1).gather(1, candidates)
        assert found.shape == (5, 9)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)

    def test_padding_cannot_change_scores(self, make_config: MakeConfig) -> None:
        """Neither the amount of padding nor the ids after a sequence change the scores."""
        data = self.prepared(make_config)
        net = build_model(data).eval()
        part = data.loaders[2].dataset
        index = np.argsort(part.inter_feat["item_length"].numpy())[:4]
        part.trim = True
        trimmed = part[index]
        part.trim = False
        padded = part[index]
        assert trimmed["item_id_list"].shape[1] < padded["item_id_list"].shape[1]
        garbage = part[index]
        empty = garbage["item_id_list"] == 0
        garbage["item_id_list"][empty] = torch.randint(1, data.dataset.item_num, (int(empty.sum()),))
        with torch.no_grad():
            expected = net.full_sort_predict(trimmed)
            for batch in (padded, garbage):
                torch.testing.assert_close(net.full_sort_predict(batch), expected, atol=1e-5, rtol=1e-5)

    def test_scores_do_not_depend_on_the_rest_of_the_batch(self, make_config: MakeConfig) -> None:
        """A sequence has the same scores alone and in a batch with other sequences."""
        data = self.prepared(make_config)
        net = build_model(data).eval()
        part = data.loaders[2].dataset
        with torch.no_grad():
            alone = net.full_sort_predict(part[[1]]).view(1, -1)
            together = net.full_sort_predict(part[np.arange(6)]).view(6, -1)[1:2]
        torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-5)

    def test_same_seed_same_result(self, make_config: MakeConfig) -> None:
        """Equal seeds give equal metrics and weights; another seed gives other weights."""
        found = []
        for _ in range(2):
            init_seed(1, True)
            data, net, trainer = self.trained(make_config)
            found.append((trainer.evaluate(data.loaders[2]), net.state_dict()))
        assert found[0][0] == found[1][0]
        for name, value in found[0][1].items():
            assert torch.equal(value, found[1][1][name]), name
        _, other, _ = self.trained(make_config, seed=7)
        assert any(not torch.equal(v, other.state_dict()[n]) for n, v in found[0][1].items())

    def test_a_checkpoint_keeps_the_scores_and_is_data(self, make_config: MakeConfig) -> None:
        """A checkpoint loads with ``weights_only=True`` into a fresh model with the same scores."""
        data, net, trainer = self.trained(make_config)
        trainer._save_checkpoint(1, verbose=False)
        state = checkpoint.load(trainer.saved_model_file)  # weights_only=True
        fresh = build_model(self.prepared(make_config, seed=99)).eval()
        checkpoint.load_into(fresh, state, "cpu")
        batch = data.loaders[2].dataset[np.arange(5)]
        with torch.no_grad(), trainer.averaged():
            assert torch.equal(net.full_sort_predict(batch), fresh.full_sort_predict(batch))

    def test_held_out_items_never_reach_an_input(self, make_config: MakeConfig) -> None:
        """Changed targets change neither the training loss nor the scores of their own part."""
        found = []
        for changed in ("none", "test", "both"):
            data = self.prepared(make_config, MAX_ITEM_LIST_LENGTH=30)
            store = data.loaders[0].dataset.store
            valid, test = (loader.dataset for loader in data.loaders[1:])
            for name, part in (("test", test), ("valid", valid)):
                if changed == "both" or changed == name:
                    store.items[part.inter_feat.rows] = store.items[part.inter_feat.rows] % 29 + 1
            net = build_model(data).eval()
            torch.manual_seed(0)
            losses = [net.calculate_loss(batch) for batch in data.loaders[0]]
            scores = [net.full_sort_predict(p[np.arange(len(p.inter_feat))]) for p in (valid, test)]
            found.append((losses, scores))
        (losses, scores), test_changed, both_changed = found
        # The validation target is in the history of the test row, so the test scores may depend on it.
        for other in (test_changed, (both_changed[0], [both_changed[1][0], scores[1]])):
            torch.testing.assert_close(other, (losses, scores), rtol=0, atol=0)
