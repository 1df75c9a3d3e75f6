"""Any table of events as data of a run: CSV, JSON lines, Parquet, data frames.

The modules here know files and columns, and nothing of models. :func:`prepare` is the way in for a
run, :func:`convert` the one for files.
"""

from recbole_disent.tables.atomic import from_atomic, to_atomic
from recbole_disent.tables.cache import prepare
from recbole_disent.tables.catalogue import read_catalogue
from recbole_disent.tables.conversion import convert
from recbole_disent.tables.events import Events, read_events
from recbole_disent.tables.read import open_table

__all__ = ["Events", "convert", "from_atomic", "open_table", "prepare", "read_catalogue", "read_events",
           "to_atomic"]  # fmt: skip
