"""Adapters of RecBole 1.2.1: patches of faults, and other ways to train and score its models.

An import of this package applies the patches that RecBole needs with current versions of numpy and
scipy (:mod:`recbole_disent.recbole.patches`). It changes nothing else.
"""

from recbole_disent.recbole import patches

patches.apply()
