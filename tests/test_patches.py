"""Tests of upstream behaviour that patches.py relies on; a failure means that RecBole or pandas changed."""

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

from recbole_disent.config.config import Config
from recbole_disent.data.atomic_files import check_header, read_file
from recbole_disent.recbole import patches
from recbole_disent.requirement import RECBOLE_VERSION
from recbole_disent.session import build_data, build_model
from tests.conftest import write_inter, write_items

# Looked for, not imported.
_RAY = importlib.util.find_spec("ray") is not None


def source(module: str) -> str:
    return (Path(recbole.__file__).parent / module).read_text(encoding="utf-8")


def test_recbole_is_the_release_that_the_shims_are_for():
    assert metadata.version("recbole") == RECBOLE_VERSION


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
    """The trainer writes its own checkpoints, because torch.load with weights_only refuses RecBole's."""
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
    """Coverage metrics do not use it, because ``data.num_items`` is an int without .cpu()."""
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


def test_recboles_data_sets_still_rely_on_pandas_2_in_these_places_only():
    """patch_datasets is needed because RecBole fills columns in place and passes ``len`` to ``agg``."""
    folder = Path(recbole.__file__).parent
    texts = {str(file.relative_to(folder)): file.read_text(encoding="utf-8") for file in folder.rglob("*.py")}
    found = {
        text: {name: content.count(text) for name, content in texts.items() if text in content}
        for text in (".fillna(", ".agg(len)", "pd.read_csv(")
    }
    assert found == {
        ".fillna(": {"data/dataset/dataset.py": 3},
        ".agg(len)": {
            "data/dataset/dataset.py": 4,
            "data/dataset/kg_dataset.py": 1,
            "data/dataset/sequential_dataset.py": 1,
        },
        "pd.read_csv(": {"data/dataset/dataset.py": 1},
    }
    from recbole.data.dataset import Dataset

    assert 'df[field].fillna(value="", inplace=True)' in inspect.getsource(Dataset._load_feat)


@pytest.mark.skipif(int(pd.__version__.split(".")[0]) < 3, reason="pandas 2")
def test_pandas_3_still_behaves_as_the_patches_expect():
    frame = pd.DataFrame({"a": [1.0, np.nan], "b": [[1], [2, 3]]})
    with pytest.warns(pd.errors.ChainedAssignmentError):
        frame["a"].fillna(value=0, inplace=True)
    assert frame["a"].isna().sum() == 1
    assert frame["b"].agg(len) == 2
    assert not frame["a"].to_numpy().flags.writeable


def test_columns_of_items_are_the_same_with_any_pandas(tmp_path):
    """Missing cells, missing items and one-element sequences give the same values as with pandas 2.2."""
    rows = [(f"u{u}", f"i{i}", 3, u + i) for u in range(3) for i in range(1, 5)]
    write_inter(tmp_path, "gaps", rows)
    header = "item_id:token\tkind:token\ttags:token_seq\tprice:float\tsizes:float_seq\tcosts:float_seq"
    items = [
        ("i1", "a", "x y", 1.0, "1 2", "2 4 6"),
        ("i2", "", "", "", "", ""),
        ("i3", "b", "y", 5.0, "4", "4"),
        ("i4", "a", "z x y", 3.0, "3 0", "10"),
        ("i9", "c", "w", 8.0, "2", "2"),
    ]
    write_items(tmp_path, "gaps", items, header)
    given = {"data_path": str(tmp_path), "load_col": None, "topk": [1, 5], "numerical_features": ["costs"],
             "normalize_field": ["sizes"], "train_neg_sample_args": None}  # fmt: skip
    features = build_data(Config("SASRec", "gaps", config_dict=given)).dataset.item_feat
    assert features["kind"].tolist() == [0, 1, 0, 2, 1, 3]
    assert features["price"].tolist() == [4.25, 1.0, 4.25, 5.0, 3.0, 8.0]
    assert features["tags"].tolist() == [[0, 0, 0], [1, 2, 0], [0, 0, 0], [2, 0, 0], [3, 1, 2], [4, 0, 0]]
    assert features["sizes"].tolist() == [[0, 0], [0.25, 0.5], [0, 0], [1, 0], [0.75, 0], [0.5, 0]]
    costs = [[0, 0, 0], [2, 4, 6], [0, 0, 0], [4, 0, 0], [10, 0, 0], [2, 0, 0]]
    assert features["costs"][..., 0].tolist() == costs
    assert features["costs"][..., 1].tolist() == [[float(cost > 0) for cost in row] for row in costs]


def test_tokens_are_python_strings_with_any_pandas(make_config):
    config = make_config()
    path = f"{config['data_path']}/hostile.inter"
    header = check_header(path, "\t", None)
    events = read_file(path, header, header, "\t", " ", None).frame
    assert events["item_id"].dtype == object
    assert {type(token) for token in events["item_id"]} == {str}
    # Each distinct one is a single string.
    assert len({id(token) for token in events["item_id"]}) == events["item_id"].nunique()


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
    code = "import recbole_disent, recbole.quick_start"
    root = str(Path(__file__).parent.parent)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stderr


def test_recboles_objective_still_reports_as_ray_no_longer_takes_it():
    """This is why tuning/ray_trials.py and quick_start.objective_function replace it."""
    assert "tune.report(**test_result)" in source("quick_start/quick_start.py")
    tune = pytest.importorskip("ray.tune")
    assert list(inspect.signature(tune.report).parameters) == ["metrics", "checkpoint"]


# Argument: the release of RecBole that is found, or nothing.
WITHOUT_RECBOLE = """
import sys
from importlib import metadata
real = metadata.version
def version(name):
    if name != "recbole":
        return real(name)
    if len(sys.argv) < 2:
        raise metadata.PackageNotFoundError(name)
    return sys.argv[1]
metadata.version = version
from recbole_disent.cli import main
try:
    main(["run", "--help"])
except SystemExit as ended:
    print("help", ended.code)
print(main(["run", "--model=Pop", "--dataset=ml-100k"]))
try:
    import recbole_disent.quick_start
except ImportError as error:
    print(error)
"""


@pytest.mark.parametrize(("found", "said"), [([], "it is not installed"), (["1.2.0"], "1.2.0 is installed")])
def test_without_the_right_recbole_one_sentence_says_what_to_type(found, said):
    sentence = f"recbole_disent needs RecBole 1.2.1, but {said}: pip install --no-deps recbole==1.2.1"
    root = str(Path(__file__).parent.parent)
    command = [sys.executable, "-c", WITHOUT_RECBOLE, *found]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root)
    assert done.stderr == f"recbole-disent: error: {sentence}\n"
    assert done.stdout.splitlines()[-3:] == ["help 0", "2", sentence]


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
    root = str(Path(__file__).parent.parent)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
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
