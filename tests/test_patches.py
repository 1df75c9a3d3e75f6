"""Each upstream behaviour that patches.py and its users rely on: a failure here is an upgrade."""

from __future__ import annotations

import importlib.util
import inspect
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import recbole
import torch

from recbole_disent.recbole import patches
from recbole_disent.session import build_data, build_model

# Looked for, not imported.
_RAY = importlib.util.find_spec("ray") is not None


def source(module: str) -> str:
    return (Path(recbole.__file__).parent / module).read_text(encoding="utf-8")


def test_recbole_is_the_release_that_the_shims_are_for():
    assert metadata.version("recbole") == patches.RECBOLE_VERSION


def test_recbole_still_sets_numpy_aliases_from_names_that_numpy_2_removed():
    text = source("config/configurator.py")
    for name in ("np.float_", "np.complex_", "np.unicode_"):
        assert name in text


def test_prepare_overwrites_nothing_and_can_be_repeated():
    before = dict(vars(np))
    patches.apply()
    assert all(vars(np)[name] is value for name, value in before.items())


def test_recbole_still_imports_ray_in_quick_start_only():
    root = Path(recbole.__file__).parent
    users = [str(f.relative_to(root)) for f in root.rglob("*.py")
             if "import ray" in f.read_text() or "from ray" in f.read_text()]  # fmt: skip
    assert users == ["quick_start/quick_start.py"]


def test_a_run_imports_neither_ray_nor_recboles_quick_start():
    code = (
        "import sys; import recbole_disent.session, recbole_disent.cli; "
        "print([m for m in sys.modules if m.split('.')[0] == 'ray' or m == 'recbole.quick_start'])"
    )
    root = str(Path(__file__).parent.parent)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert done.stdout.strip() == "[]", done.stderr


def test_recboles_checkpoints_still_hold_a_pickled_config():
    """Why the trainer writes its own: torch.load with weights_only refuses RecBole's."""
    from recbole.trainer import Trainer

    assert '"config": self.config' in inspect.getsource(Trainer._save_checkpoint)
    assert "weights_only" not in inspect.getsource(Trainer)


def test_recboles_trainer_has_the_hooks_that_are_overridden():
    from recbole.trainer import Trainer

    fit = inspect.getsource(Trainer.fit)
    for hook in (
        "self._train_epoch(",
        "self._valid_epoch(",
        "self._save_checkpoint(",
        "self.start_epoch",
    ):
        assert hook in fit
    assert fit.index("self._save_checkpoint(epoch_idx") < fit.index("self.best_valid_result = valid_result")
    assert list(inspect.signature(Trainer.evaluate).parameters) == [
        "self", "eval_data", "load_best_model", "model_file", "show_progress"]  # fmt: skip


def test_recboles_download_still_waits_at_a_barrier_in_one_process():
    from recbole.data.dataset import Dataset

    assert "torch.distributed.barrier()" in inspect.getsource(Dataset._download)


def test_recboles_filter_of_missing_ids_still_takes_labels_for_positions():
    from recbole.data.dataset import Dataset

    assert "feat.drop(feat.index[dropped_feat]" in inspect.getsource(Dataset._filter_nan_user_or_item)


def test_recboles_collector_still_fails_on_plain_numbers():
    """Why coverage metrics do not go through it: ``data.num_items`` is an int without .cpu()."""
    from recbole.evaluator.collector import Collector

    assert ".cpu()" in inspect.getsource(Collector.get_data_struct)


def test_recbole_still_refuses_its_own_default_for_cross_entropy():
    assert "should be None" in source("config/configurator.py")
    assert "distribution: uniform" in source("properties/overall.yaml")


def test_scipy_still_lacks_what_recboles_graph_models_call():
    from scipy.sparse import dok_matrix

    assert "A._update(" in source("model/general_recommender/lightgcn.py")
    matrix = dok_matrix((2, 2))
    matrix._update({(0, 1): 3.0})
    assert matrix.toarray().tolist() == [[0, 3], [0, 0]]


def test_pandas_3_is_excluded_for_a_reason():
    assert "fillna(value=0, inplace=True)" in source("data/dataset/dataset.py")
    assert int(pd.__version__.split(".")[0]) < 3


def test_interaction_sorts_torch_columns_stably():
    from recbole.data.interaction import Interaction

    found = Interaction({"a": torch.tensor([2.0, 1.0, 2.0, 1.0]), "b": torch.arange(4)})
    found.sort("a")
    assert found["b"].tolist() == [1, 3, 0, 2]


@pytest.mark.skipif(_RAY, reason="ray is installed")
def test_without_ray_recboles_quick_start_cannot_be_imported():
    with pytest.raises(ImportError):
        import recbole.quick_start  # noqa: F401


@pytest.mark.skipif(not _RAY, reason="ray is not installed")
def test_with_ray_it_can_be_imported():
    """ray 2.6.3 needs pkg_resources and np.bool8: the setuptools and numpy ranges of setup.py."""
    code = "import recbole_disent, recbole.quick_start"
    root = str(Path(__file__).parent.parent)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stderr


def test_recboles_models_still_turn_anomaly_detection_on_and_ours_keep_it_off():
    code = (
        "import torch\n"
        "from recbole_disent.registry import get_model\n"
        "get_model('SASRec')\n"
        "print(torch.is_anomaly_enabled())\n"
        "from importlib import reload\n"
        "from recbole.model.sequential_recommender import sine\n"
        "reload(sine)\n"
        "print(torch.is_anomaly_enabled())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_recboles_pop_still_counts_an_item_once_a_batch():
    found = source("model/general_recommender/pop.py")
    assert "self.item_cnt[item, :] = self.item_cnt[item, :] + 1" in found


def test_pop_is_the_number_of_training_clicks(make_config):
    data = build_data(make_config("Pop", train_batch_size=1000))
    model = build_model(data)
    for batch in data.loaders[0]:
        model.calculate_loss(batch)
    train = data.loaders[0].dataset
    clicks = np.bincount(train.inter_feat["item_id"].numpy(), minlength=train.item_num)
    assert clicks.max() > len(data.loaders[0])  # some item is in a batch more than once
    np.testing.assert_array_equal(model.item_cnt[:, 0].numpy(), clicks)
