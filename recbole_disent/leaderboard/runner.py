"""Executes the runs of a plan, each in its own process; the user can stop it at any time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import yaml

from recbole_disent import waiting
from recbole_disent.config import key_rules
from recbole_disent.data.loading import create_dataset, prepare_once
from recbole_disent.errors import UserError
from recbole_disent.files import write_text
from recbole_disent.leaderboard.identity import code_digest, config_of
from recbole_disent.leaderboard.inputs import contents
from recbole_disent.leaderboard.plan import Plan, Run
from recbole_disent.leaderboard.states import pending, read_json, write_json
from recbole_disent.leaderboard.statistics import require_metrics
from recbole_disent.leaderboard.worker import CONFIG, RESULT

_POLL_SECONDS = 0.1
_HEARTBEAT_SECONDS = 60.0
_GRACE_SECONDS = 10.0


class Stopped(Exception):
    """The user or the system asked the command to stop; finished runs are kept."""


def duration(seconds: float) -> str:
    """Return a number of seconds as text, such as 1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


@dataclass
class _Child:
    run: Run
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    began: float
    slot: int
    inputs: dict[str, str]  # digests of the files and of the code that it began with


@dataclass
class Runner:
    """Executes the runs of a plan that are not done yet.

    Args:
        plan: plan of the runs.
        command: command line, which the result files record.
        say: function that prints a line.
        program: command that starts a worker.
    """

    plan: Plan
    command: list[str]
    say: Callable[[str], None] = print
    program: list[str] = field(
        default_factory=lambda: [sys.executable, "-m", "recbole_disent.leaderboard.worker"]
    )

    def __post_init__(self) -> None:
        self.out = Path(self.plan.options["out"])
        self.gpus = _gpus()
        self.parallel = self.plan.options["parallel"] or len(self.gpus) or os.cpu_count() or 1
        self._children: list[_Child] = []
        # Key of :func:`_alike` -> seconds per epoch of each finished run; epochs after an early stop count.
        self._rates: dict[Any, list[float]] = defaultdict(list)
        self._signal: int | None = None
        self._data: dict[str, str] = {}

    def folder(self, run: Run) -> Path:
        """Return the folder of a run."""
        return self.out / "runs" / run.id

    # -- whole plan --------------------------------------------------------------------

    def execute(
        self, runs: list[Run], later: Sequence[Run] = (), retry: bool = False, redo: bool = False
    ) -> None:
        """Execute the runs that are not done.

        Args:
            runs: wanted runs; runs with the same id are executed once.
            later: runs that follow in a later call; the estimate of the remaining time includes them.
            retry: whether to repeat broken runs.
            redo: whether to repeat runs whose results were made by another version of the code or from
                other files.

        Raises:
            UserError: the runs of a data set differ in ``data_path``, or results were made from other files.
            Stopped: SIGINT or SIGTERM arrived; all child processes have ended.
        """
        for run in runs:
            self._check_data(run)
        todo = pending(self.out, runs, retry, redo, self.say)
        for run in todo:
            self._download(run)
        self._total, self._done, self._later = len(todo), 0, later
        with self._signals():
            try:
                for run in todo:
                    if self._signal is None:
                        self._prepare(run)
                self._loop(list(todo))
            finally:
                self._end_children()

    def _loop(self, queue: list[Run]) -> None:
        heartbeat = time.monotonic()
        while queue or self._children:
            while queue and len(self._children) < self.parallel:
                self._start(queue.pop(0))
                heartbeat = time.monotonic()
            time.sleep(_POLL_SECONDS)
            if self._signal is not None:
                raise Stopped(signal.Signals(self._signal).name)
            for child in list(self._children):
                self._look_at(child, queue)
            if time.monotonic() - heartbeat > _HEARTBEAT_SECONDS and self._children:
                heartbeat = time.monotonic()
                now = [f"{c.run.name} ({duration(heartbeat - c.began)})" for c in self._children]
                self.say(f"[{self._done}/{self._total}] running: {'; '.join(now)}{self._estimate(queue)}")

    # -- one run -----------------------------------------------------------------------

    def _start(self, run: Run) -> None:
        folder = self.folder(run)
        folder.mkdir(parents=True, exist_ok=True)
        spec = {"model": run.model, "dataset": run.cell.dataset, "seed": run.seed, "trial": run.trial,
                "config": run.given}  # fmt: skip
        write_text(folder / CONFIG, yaml.safe_dump(spec, sort_keys=True))
        slot = min(set(range(self.parallel)) - {child.slot for child in self._children})
        options = {
            "paths": self._paths(run),
            "candidate_dir": os.path.join("..", "..", "candidates"),
            "threads": self.plan.options["threads"],
            "gpu": self.gpus[slot % len(self.gpus)] if self.gpus else None,
            "keep_checkpoints": self.plan.options["keep_checkpoints"],
            "command": self.command,
            "parent": os.getpid(),
        }
        # The code as it is now, not as it was when this process began or as it will be when the run ends.
        inputs = {"files": contents(run.files), "code": code_digest()}
        options |= inputs
        write_json(folder / "status.json", {"state": "running", "began": _now(), **inputs})
        threads = str(self.plan.options["threads"])
        # The child imports this package, even if the working directory has another one.
        ours = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join([ours, *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {**os.environ, **waiting.passive(), "OMP_NUM_THREADS": threads,
                       "MKL_NUM_THREADS": threads, "PYTHONPATH": path}  # fmt: skip
        log = (folder / "log.txt").open("ab")
        process = subprocess.Popen(
            [*self.program, str(folder.resolve()), json.dumps(options)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            cwd=folder,
            start_new_session=True,  # Ctrl-C goes to this process only, which then ends the children
        )
        self._children.append(_Child(run, process, log, time.monotonic(), slot, inputs))

    def _look_at(self, child: _Child, queue: list[Run]) -> None:
        seconds = time.monotonic() - child.began
        limit = self.plan.options["time_limit"]
        code = child.process.poll()
        if code is None and limit is not None and seconds > 60 * limit:
            _end(child)
            self._broken(child, f"time limit: not done after {limit:g} minutes", queue)
        elif code is not None:
            if (self.folder(child.run) / RESULT).is_file():
                self._finish(child, queue)
            else:
                self._broken(child, _last_error(self.folder(child.run), code), queue)

    def _finish(self, child: _Child, queue: list[Run]) -> None:
        run, seconds = child.run, time.monotonic() - child.began
        for key in _alike(run):
            self._rates[key].append(seconds / run.epochs)
        self._forget(child, {"state": "done", "ended": _now(), "seconds": round(seconds, 1)})
        found = read_json(self.folder(run) / RESULT)
        self._require_wanted(run, found)
        metric = found["config"]["valid_metric"].lower()
        value = (found["best_valid_result"] or {}).get(metric, float("nan"))
        self.say(f"[{self._done}/{self._total}] {run.name}: valid {metric} {value:.4f} in "
                 f"{duration(seconds)}{self._estimate(queue)}")  # fmt: skip

    def _require_wanted(self, run: Run, found: dict[str, Any]) -> None:
        """Check that a result has the metrics of the plan, so that no further run is made in vain.

        Raises:
            UserError: a metric is missing, because a data set has fewer items than its cut-off.
        """
        measured = found["test_result"] or found["best_valid_result"]
        if measured:
            items = found["data"]["items"]
            lacking = f"the results on {run.cell.dataset} do not have, because the data have {items} items"
            require_metrics(self.plan.options["metrics"] or [], measured, lacking, "they have")

    def _broken(self, child: _Child, error: str, queue: list[Run]) -> None:
        self._forget(child, {"state": "broken", "ended": _now(), "error": error})
        self.say(f"[{self._done}/{self._total}] {child.run.name}: broken: {error}{self._estimate(queue)}")

    def _forget(self, child: _Child, status: dict[str, Any]) -> None:
        child.process.wait()
        child.log.close()
        self._children.remove(child)
        self._done += 1
        self._note(child, status)

    def _note(self, child: _Child, status: dict[str, Any]) -> None:
        write_json(self.folder(child.run) / "status.json", {**status, **child.inputs})

    # -- helpers -----------------------------------------------------------------------

    def _check_data(self, run: Run) -> None:
        name = run.cell.dataset
        found = self._data.setdefault(name, run.data_path)
        if found != run.data_path:
            raise UserError(
                f"data_path: the runs on {name} have '{found}' and '{run.data_path}', expected one "
                "folder for a data set; give the data sets different names"
            )

    def _download(self, run: Run) -> None:
        name = run.cell.dataset
        if not os.path.isdir(os.path.join(self._data[name], name)):
            create_dataset(config_of(run.model, name, run.given))  # once, before the runs

    def _paths(self, run: Run) -> dict[str, str]:
        """Return the keys of a run whose values are files or folders, as absolute paths."""
        return {
            "data_path": self._data[run.cell.dataset],
            "prepared_dir": str((self.out / "prepared").absolute()),
            **key_rules.absolute_paths(run.model, run.given),
        }

    def _prepare(self, run: Run) -> None:
        """Prepare the data of a run, which runs of other models and seeds share."""
        prepare_once(config_of(run.model, run.cell.dataset, {**run.given, **self._paths(run)}))

    def _estimate(self, queue: list[Run]) -> str:
        """Return the estimated remaining time, from the seconds per epoch of similar runs."""

        def expected(run: Run) -> float:
            rates = next(self._rates[key] for key in _alike(run) if self._rates[key])
            return run.epochs * sum(rates) / len(rates)

        if not self._rates[None] or not (queue or self._children or self._later):
            return ""
        now = time.monotonic()
        left = sum(map(expected, [*queue, *self._later]))
        for child in self._children:
            elapsed = now - child.began
            # A run that takes longer than expected is assumed to be two thirds done.
            usual = expected(child.run)
            left += usual - elapsed if elapsed < usual else elapsed / 2
        return f"; about {duration(left / self.parallel)} left if no run stops early"

    def _end_children(self) -> None:
        for child in self._children:
            _send(child, signal.SIGTERM)
        for child in list(self._children):
            _end(child)
            child.log.close()
            self._note(child, {"state": "stopped", "ended": _now()})
        self._children.clear()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def note(number: int, frame: Any) -> None:
            self._signal = number

        old = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)


def _alike(run: Run) -> tuple[Any, ...]:
    """Return the keys of similar runs, most similar first: same cell, model and data set, data set, any."""
    cell = run.cell
    # A swept value may be a list, which cannot be a key.
    same_cell = (cell.label, cell.dataset, cell.protocol, json.dumps(cell.sweep))
    return same_cell, (run.model, cell.dataset), cell.dataset, None


def _send(child: _Child, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(child.process.pid, number)


def _end(child: _Child) -> None:
    _send(child, signal.SIGTERM)
    try:
        child.process.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        _send(child, signal.SIGKILL)
        child.process.wait()


def _last_error(folder: Path, code: int) -> str:
    """Return the reason why a run ended, from the last line of its log that is not empty."""
    text = (folder / "log.txt").read_text(encoding="utf-8", errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = lines[-1].removeprefix("error: ") if lines else "no output"
    if code < 0:
        return f"ended by {signal.Signals(-code).name} (memory?); last line of its log: {said}"
    return said


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def _gpus() -> list[str]:
    """Return the GPUs that runs may use, by their names in CUDA_VISIBLE_DEVICES."""
    import torch

    if not torch.cuda.is_available():
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(i) for i in range(torch.cuda.device_count())]
