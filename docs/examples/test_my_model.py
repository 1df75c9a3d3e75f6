"""The public contract, inherited by the test of a model from outside the package: run ``pytest`` here."""

from recbole_disent.testing import ModelContract


class TestMyGRU(ModelContract):
    model = "MyGRU"
    model_file = "my_model.py"  # beside this file
    keys = {"hidden_size": 8}  # noqa: RUF012
