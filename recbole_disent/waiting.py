"""How the threads of torch wait for each other, which OpenMP reads when torch is imported.

By default a thread that has finished its part of an operation keeps its core busy until the other threads
have finished. If another program needs the core, the last part waits for the core, and all threads wait
for the last part. Passive waiting gives the core to the other program.
"""

from __future__ import annotations

import os
import sys

_PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}


def passive() -> dict[str, str]:
    """Return the environment variables of passive waiting, or none if the user has set one of them."""
    return {} if any(name in os.environ for name in _PASSIVE) else dict(_PASSIVE)


def wait_passively() -> None:
    """Let the threads of this process and its children wait passively, if torch is not imported yet."""
    if "torch" not in sys.modules:
        os.environ.update(passive())
