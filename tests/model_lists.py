"""Lists of models with common properties, read from the table of models."""

from __future__ import annotations

from recbole_disent.specs import SPECS

OURS = sorted(name for name, spec in SPECS.items() if spec.cls)
CAUSAL = sorted(name for name, spec in SPECS.items() if "sequences" in spec.modes and spec.trim_safe
                and spec.modes.get("pairs", "") is None and spec.loss_weight is None)  # fmt: skip
TRIMMABLE = sorted(name for name, spec in SPECS.items() if spec.trim_safe and not spec.cls)
WITH_VECTORS = sorted(name for name, spec in SPECS.items() if spec.vectors)
