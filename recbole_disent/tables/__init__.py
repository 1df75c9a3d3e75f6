"""Conversion of tables of events (CSV, JSON lines, Parquet, data frames) to data sets.

The modules here work with files and columns and do not depend on models. A run calls :func:`prepare`;
:func:`convert` converts files.
"""

from recbole_disent.tables.atomic import from_atomic, to_atomic
from recbole_disent.tables.cache import prepare
from recbole_disent.tables.catalogue import read_catalogue
from recbole_disent.tables.conversion import convert
from recbole_disent.tables.events import Events, read_events
from recbole_disent.tables.read import open_table

__all__ = ["Events", "convert", "from_atomic", "open_table", "prepare", "read_catalogue", "read_events",
           "to_atomic"]  # fmt: skip
