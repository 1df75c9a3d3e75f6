"""Damaged files of every kind end in success or in one sentence, and leave nothing half written.

``FUZZ_INPUTS`` sets how many files are damaged.
"""

from __future__ import annotations

import logging
import os
import re
import resource
import traceback
import warnings
from collections import Counter

import numpy as np
import pytest

from recbole_disent.errors import UserError
from recbole_disent.leaderboard import plots
from tests.differential import quick_configurations
from tests.fuzz_targets import make_targets
from tests.fuzzing import damaged, restore, tree

INPUTS = int(os.environ.get("FUZZ_INPUTS", "500"))
# What an input may need beyond what the process has.
_MEMORY = 2 << 30
# A failure within that was given the looks of a sentence.
_NAMES = re.compile(
    r": (Index|Key|Attribute|Type|Recursion|Memory|ZeroDivision|Assertion|Overflow|Runtime)Error: "
)


def _no_plots() -> None:
    raise UserError("no plots: they take a second each")


def _limited() -> tuple[int, int]:
    """Bound the address space; return the bound that was there."""
    old = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm", encoding="utf-8") as file:
        pages = int(file.read().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + _MEMORY, old[1]))
    return old


def _fault(error: UserError) -> str | None:
    """What is wrong about a sentence; None: nothing."""
    if _NAMES.search(str(error)):
        return f"an exception's name in the sentence: {error}"
    if "\n" in str(error):
        return f"several lines: {error}"
    return None


def test_damaged_files_end_in_success_or_a_sentence(tmp_path, monkeypatch):
    pytest.importorskip("safetensors")
    base, work = tmp_path / "base", tmp_path / "work"
    base.mkdir()
    work.mkdir()
    monkeypatch.chdir(base)
    targets = make_targets(base)
    monkeypatch.setattr(plots, "require", _no_plots)
    monkeypatch.chdir(work)
    shares = np.array([target.share for target in targets])
    counts: Counter[str] = Counter()
    faults: dict[int, str] = {}
    logging.disable(logging.CRITICAL)
    old = _limited()
    try:
        with quick_configurations(memo=False), warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            for seed in range(INPUTS):
                rng = np.random.default_rng(seed)
                target = targets[int(rng.choice(len(targets), p=shares / shares.sum()))]
                restore(work, target)
                path, content = damaged(rng, target)
                (work / path).write_bytes(content)
                if target.renew_digests:
                    target.renew_digests()
                fault = None
                try:
                    target.read()
                    counts[f"{target.name}: success"] += 1
                except UserError as error:
                    counts[f"{target.name}: UserError"] += 1
                    fault = _fault(error)
                    if (work / "out").exists():
                        fault = "a refused report has left files"
                except Exception as error:
                    counts[f"{target.name}: fault"] += 1
                    places = traceback.extract_tb(error.__traceback__)
                    own = [f"{p.filename}:{p.lineno}" for p in places if "recbole_disent" in p.filename]
                    fault = f"{type(error).__name__}: {str(error)[:200]} ({own[-1:]}, {places[-1]})"
                if any(name.endswith(".tmp") for name in tree(work)):
                    fault = f"a half-written file: {sorted(tree(work))}"
                if fault:
                    faults[seed] = f"{target.name}, {path}: {fault}"
    finally:
        resource.setrlimit(resource.RLIMIT_AS, old)
        logging.disable(logging.NOTSET)
    for name in sorted(counts):
        print(f"{counts[name]:6d} {name}")
    told = "\n".join(f"{seed}: {fault}" for seed, fault in list(faults.items())[:60])
    assert not faults, f"{len(faults)} of {INPUTS} inputs:\n{told}"
