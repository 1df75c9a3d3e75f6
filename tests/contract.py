"""What every model must keep; a test class inherits and names the model."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from recbole.utils import init_seed

from recbole_disent.session import build_data, build_model, build_trainer
from recbole_disent.training import checkpoint


class ModelContract:
    """Subclass with ``model`` and, where needed, ``keys``."""

    model: str
    keys: ClassVar[dict[str, Any]] = {}

    def prepared(self, make_config, **more):
        return build_data(make_config(self.model, **{**self.keys, **more}))

    def trained(self, make_config, **more):
        data = self.prepared(make_config, **more)
        net = build_model(data)
        trainer = build_trainer(data, net)
        trainer.fit(*data.loaders[:2], verbose=False)
        return data, net.eval(), trainer

    def test_loss_is_finite_and_every_parameter_gets_a_gradient(self, make_config):
        data = self.prepared(make_config)
        net = build_model(data)
        batch = next(iter(data.loaders[0]))
        loss = net.calculate_loss(batch)
        total = sum(loss) if isinstance(loss, tuple) else loss
        assert torch.isfinite(total)
        total.backward()
        without = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()]
        assert without == []

    def test_predict_agrees_with_full_sort_predict(self, make_config):
        data = self.prepared(make_config)
        net = build_model(data).eval()
        batch = data.loaders[2].dataset[np.arange(5)]
        with torch.no_grad():
            scores = net.full_sort_predict(batch).view(5, -1)
            assert scores.shape[1] == data.dataset.item_num
            torch.testing.assert_close(
                net.predict(batch), scores[torch.arange(5), batch["item_id"]], atol=1e-5, rtol=1e-5
            )

    def test_padding_cannot_change_scores(self, make_config):
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

    def test_scores_do_not_depend_on_the_rest_of_the_batch(self, make_config):
        data = self.prepared(make_config)
        net = build_model(data).eval()
        part = data.loaders[2].dataset
        with torch.no_grad():
            alone = net.full_sort_predict(part[[1]]).view(1, -1)
            together = net.full_sort_predict(part[np.arange(6)]).view(6, -1)[1:2]
        torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-5)

    def test_same_seed_same_result(self, make_config):
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

    def test_a_checkpoint_keeps_the_scores_and_is_data(self, make_config):
        data, net, trainer = self.trained(make_config)
        trainer._save_checkpoint(1, verbose=False)
        state = checkpoint.load(trainer.saved_model_file)  # weights_only=True
        fresh = build_model(self.prepared(make_config, seed=99)).eval()
        checkpoint.load_into(fresh, state, "cpu")
        batch = data.loaders[2].dataset[np.arange(5)]
        with torch.no_grad():
            assert torch.equal(net.full_sort_predict(batch), fresh.full_sort_predict(batch))

    def test_held_out_items_never_reach_an_input(self, make_config):
        """Other targets: the same training loss, and the scores of a part do not know its own."""
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
        # The validation target is in the history of the test row, so the test scores may know it.
        for other in (test_changed, (both_changed[0], [both_changed[1][0], scores[1]])):
            torch.testing.assert_close(other, (losses, scores), rtol=0, atol=0)
