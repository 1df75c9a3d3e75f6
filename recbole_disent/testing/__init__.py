"""Contract tests that the test class of a model inherits. They need pytest and nothing else.

Example of a whole test file::

    from recbole_disent.testing import ModelContract


    class TestMine(ModelContract):
        model = "Mine"
        model_file = "mine.py"  # beside this test file
        keys = {"hidden_size": 8}
"""

import pytest

pytest.register_assert_rewrite("recbole_disent.testing.contract")

from recbole_disent.testing.contract import ModelContract  # noqa: E402

__all__ = ["ModelContract"]
