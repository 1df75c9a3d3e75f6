"""Sequential recommenders that learn from the future (DisentS2S) inside RecBole.

Importing the package mends what keeps RecBole 1.2.1 from running on the installed
numpy (see :mod:`recbole_disent.compat`); nothing else is changed.
"""

from recbole_disent.requirement import require_recbole

if require_recbole():
    from recbole_disent import compat

    compat.prepare()

__version__ = "0.1.0"
