"""What adapts RecBole 1.2.1: patches of its faults, and its models trained or scored in another way.

Importing this package applies the patches that RecBole needs on today's numpy and scipy
(:mod:`recbole_disent.recbole.patches`). Nothing else is changed.
"""

from recbole_disent.recbole import patches

patches.apply()
