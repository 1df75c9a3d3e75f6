"""Starts the processes of a run on this machine and watches them.

The launcher sets torchrun's environment variables, so that a process starts in the same way under
torchrun. When a process fails, the launcher ends the others and gives the reason in one sentence.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from recbole_disent import waiting
from recbole_disent.errors import UserError

# Seconds between two looks at the processes, for a failed process to report the cause, and for a
# process to end by itself.
_LOOK, _CAUSE, _END = 0.1, 3.0, 5.0
# Messages of gloo and nccl when another process has ended.
_LOST = re.compile(r"onnection (closed|reset)|by peer|Broken pipe|DistNetworkError|ncclRemoteError|Timed out")


def wanted(config: Any) -> bool:
    """Whether a configuration asks for several processes that have not been started yet."""
    from recbole_disent.parallel.process_group import started_as_one_of_several

    return not started_as_one_of_several() and max(config["nproc"], config["world_size"]) > 1


def launch(config: Any, call: dict[str, Any]) -> dict[str, Any]:
    """Run in several processes and return the report of the first process on this machine.

    Args:
        config: ``nproc``, ``world_size``, ``ip``, ``port`` and ``group_offset``.
        call: arguments of :func:`recbole_disent.session.run` as plain values.

    Raises:
        UserError: the numbers of processes do not fit together, or a process failed.
    """
    count, total, first = _numbers(config)
    try:
        text = json.dumps(call)
    except TypeError as error:
        raise UserError(
            f"nproc: the arguments of a run go to other processes as plain values, but {error}; give "
            "names, numbers and lists"
        ) from error
    with tempfile.TemporaryDirectory(prefix="recbole_disent-") as folder:
        Path(folder, "call.json").write_text(text, encoding="utf-8")
        address = {"MASTER_ADDR": str(config["ip"]), "MASTER_PORT": str(config["port"] or free_port())}
        children = [
            _start(folder, {**address, "RANK": str(first + i), "LOCAL_RANK": str(i)}, count, total)
            for i in range(count)
        ]
        try:
            codes = _watch(folder, children)
        finally:
            _end(children)
        if any(codes):
            print(file=sys.stderr)  # a process may have ended in the middle of a log line
            raise UserError(_reason(folder, codes, first, total))
        return json.loads(Path(folder, f"report-{first}.json").read_text(encoding="utf-8"))


def _numbers(config: Any) -> tuple[int, int, int]:
    count, total, first = config["nproc"], config["world_size"], config["group_offset"]
    total = count if total == -1 else total
    if total < 1 or first + count > total:
        raise UserError(
            f"world_size: got {total}, expected at least group_offset + nproc = {first + count}: it is "
            "the number of processes of all machines together"
        )
    if total > count and config["port"] is None:
        raise UserError(
            "port: got None with several machines (world_size > nproc), expected the same ip and port of "
            "the first machine on each, such as --ip=10.0.0.1 --port=5678"
        )
    return count, total, first


def free_port() -> int:
    """Return the number of a port of this machine that no program uses."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def _start(folder: str, variables: dict[str, str], count: int, total: int) -> subprocess.Popen[bytes]:
    threads = str(max(1, (os.cpu_count() or 1) // count))
    package = str(Path(__file__).resolve().parents[2])
    environment = {
        "OMP_NUM_THREADS": threads,  # unless the user sets it
        **waiting.passive(),
        **os.environ,
        **variables,
        "WORLD_SIZE": str(total),
        "LOCAL_WORLD_SIZE": str(count),
        "PYTHONPATH": os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    command = [sys.executable, "-m", "recbole_disent.parallel.child", folder, str(os.getpid())]
    # Ctrl-C reaches the launcher only, which ends the processes in order.
    return subprocess.Popen(command, env=environment, start_new_session=True)


def _watch(folder: str, children: list[subprocess.Popen[bytes]]) -> list[int | None]:
    """Wait until all processes end, or one fails and the cause is known; return the exit codes."""
    while True:
        codes = [child.poll() for child in children]
        if all(code == 0 for code in codes):
            return codes
        if any(code not in (None, 0) for code in codes):
            break
        time.sleep(_LOOK)
    # The first process to fail may have failed because another process did.
    limit = time.monotonic() + _CAUSE
    while time.monotonic() < limit and not _sentences(folder) and None in codes:
        if any(code is not None and code < 0 for code in codes):
            break
        time.sleep(_LOOK)
        codes = [child.poll() for child in children]
    return codes


def _sentences(folder: str) -> list[str]:
    return [file.read_text(encoding="utf-8") for file in sorted(Path(folder).glob("error-*.txt"))]


def _reason(folder: str, codes: list[int | None], first: int, total: int) -> str:
    hint = "the others were ended; all checkpoints are complete: continue with --resume_file=CHECKPOINT"
    for i, code in enumerate(codes):  # a signal is a cause, but nccl aborts a process that lost another
        if code is not None and code < 0 and code != -signal.SIGABRT:
            name = signal.Signals(-code).name
            return f"process {first + i} of {total} was ended by {name}; {hint}"
    if told := _sentences(folder):
        return told[0]
    found = {int(f.stem.split("-")[1]): f.read_text("utf-8") for f in Path(folder).glob("traceback-*.txt")}
    # A process that lost the connection to another is not the cause.
    causes = {n: text for n, text in found.items() if not _LOST.search(text)} or found
    if causes:
        number, text = min(causes.items())
        print(text, file=sys.stderr)
        return f"process {number} of {total} failed with {text.strip().splitlines()[-1]}; {hint}"
    i, code = next((i, code) for i, code in enumerate(codes) if code)
    return f"process {first + i} of {total} ended with exit code {code} and no message; {hint}"


def _end(children: list[subprocess.Popen[bytes]]) -> None:
    for child in children:
        if child.poll() is None:
            child.terminate()
    limit = time.monotonic() + _END
    for child in children:
        try:
            child.wait(timeout=max(0.0, limit - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
