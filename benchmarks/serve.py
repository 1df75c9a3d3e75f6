"""Latency of the server with several numbers of clients, then a soak test with hostile requests.

``python serve.py [BUNDLE] [--model=SASRec] [--seconds=10] [--soak=60]`` starts the server for a bundle.
Without a bundle it draws events and takes a new model, because the time of a list does not depend on the
weights. A client keeps its connection open and requests the next list as soon as it has received the last
list. The CPU time belongs to the server process, all threads together.

The soak test runs a second server, in whose queue ``--waiting`` requests may wait. 24 clients mix with
malformed JSON, huge k, unknown ids, bodies of 10 MB, bodies that never end, and new bundles. The test prints
the HTTP statuses that clients received and the memory of the server. ``faults`` counts what must not happen:
a valid request without an answer, one with another status than 200 or 503, another 5xx than 503, and a server
that ended. The exit status is 1 if there are any.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from common import table

_HEAD = (
    "POST /recommend HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"
)
_HOSTILE = (
    b"{",
    b"\xff",
    b"[]",
    b'{"user": "nobody at all"}',
    b'{"user": "nobody at all", "unknown_users": "popularity", "k": 1000}',
    b'{"sequence": ["x"], "k": 999999999}',
    b'{"sequence": ' + b"[" * 5000,
    b"x" * (10 * 2**20),
)
_CLIENTS, _PARTS = 24, 4


def drawn_bundle(folder: Path, model: str, items: int, width: int) -> Path:
    """Write a bundle of a new model: drawn histories of 5 to 50 items, each item at least once."""
    from recbole_disent.config.config import Config
    from recbole_disent.recommender import Recommender
    from recbole_disent.serving.catalogue import Catalogue, histories_of
    from recbole_disent.serving.source import Source
    from recbole_disent.session import build_data, build_model

    rng = np.random.default_rng(2020)
    lengths = np.minimum(4 + rng.geometric(0.25, max(100, 3 * items // 4)), 50)
    n = int(lengths.sum())
    popularity = 1 / np.arange(1, items + 1) ** 0.7
    item = rng.choice(items, n, p=popularity / popularity.sum())
    item[rng.choice(n, items, replace=False)] = np.arange(items)
    events = {"user_id:token": np.repeat(np.arange(len(lengths)), lengths), "item_id:token": item,
              "timestamp:float": np.arange(n)}  # fmt: skip
    (folder / "drawn").mkdir()
    pd.DataFrame(events).to_csv(folder / "drawn" / "drawn.inter", sep="\t", index=False)
    keys = {"data_path": str(folder), "use_gpu": False, "show_progress": False, "state": "ERROR",
            "load_col": {"inter": ["user_id", "item_id", "timestamp"]}}  # fmt: skip
    size = {"hidden_size": width} if model == "SASRec" else {"embedding_size": width}
    config = Config(model, "drawn", config_dict={**keys, **size})
    data = build_data(config)
    train = data.loaders[0]._dataset
    tokens = train.field2id_token
    catalogue = Catalogue(
        tokens["item_id"].astype(object),
        train.training_counts(),
        tokens["user_id"].astype(object),
        histories_of([loader.dataset for loader in data.loaders]),
    )
    about = {"model": model, "dataset": "drawn", "data_hash": data.data_hash, "digest": ""}
    rec = Recommender(Source(build_model(data).eval(), config, train, catalogue, about))
    assert rec.item_vectors().shape == (items, width), rec.item_vectors().shape
    return rec.save(folder / "made")


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> int:
    """Send one request, read the answer and return its status."""
    writer.write(_HEAD.format(len(body)).encode() + body)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    await reader.readexactly(length)
    return int(head.split(b" ", 2)[1])


async def client(
    port: int, users: list[str], until: float, times: list[float], statuses: Counter[object]
) -> None:
    """Request lists one after another; a connection that breaks counts as ``lost``."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.perf_counter() < until:
        body = json.dumps({"user": random.choice(users), "k": 10}).encode()
        start = time.perf_counter()
        try:
            status = await exchange(reader, writer, body)
        except (OSError, asyncio.IncompleteReadError):
            statuses["lost"] += 1
            return
        statuses[status] += 1
        times.append(time.perf_counter() - start)
        if status == 503:
            await asyncio.sleep(0.05)
    writer.close()


async def load(port: int, users: list[str], clients: int, seconds: float) -> tuple[list[float], str]:
    """Times of all requests of so many clients, and their statuses."""
    times: list[float] = []
    statuses: Counter[object] = Counter()
    until = time.perf_counter() + seconds
    await asyncio.gather(*(client(port, users, until, times, statuses) for _ in range(clients)))
    return times, " ".join(f"{status}: {n}" for status, n in statuses.items())


async def hostile(port: int, until: float, statuses: Counter[object]) -> None:
    number = 0
    while time.perf_counter() < until:
        body = _HOSTILE[number % len(_HOSTILE)]
        number += 1
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            statuses[await exchange(reader, writer, body)] += 1
        except (OSError, asyncio.IncompleteReadError):  # the server closed while the body was on its way
            statuses["closed"] += 1
        writer.close()
        await asyncio.sleep(0.05)


async def slow(port: int, until: float, statuses: Counter[object]) -> None:
    """Send a body byte by byte, until the server refuses it."""
    while time.perf_counter() < until:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(_HEAD.format(10_000).encode())
        answer = asyncio.create_task(reader.readuntil(b"\r\n\r\n"))
        while not answer.done() and time.perf_counter() < until:
            writer.write(b" ")
            await asyncio.wait([answer], timeout=0.2)
        if answer.done() and answer.exception() is None:
            statuses[int(answer.result().split(b" ", 2)[1])] += 1
        answer.cancel()
        writer.close()


async def reload(folder: Path, bundle: Path, until: float, every: float) -> None:
    """Replace the bundle by a copy with another digest, again and again."""
    number = 0
    while time.perf_counter() + every < until:
        await asyncio.sleep(every)
        fresh = folder.with_name(f"fresh{number}")
        await asyncio.to_thread(shutil.copytree, bundle, fresh)
        config = json.loads((fresh / "config.json").read_text(encoding="utf-8"))
        (fresh / "config.json").write_text(json.dumps({**config, "number": time.time()}), encoding="utf-8")
        folder.rename(folder.with_name("old"))
        fresh.rename(folder)
        await asyncio.to_thread(shutil.rmtree, folder.with_name("old"))
        number += 1


async def soak(
    port: int, users: list[str], folder: Path, bundle: Path, seconds: float
) -> tuple[Counter[object], Counter[object]]:
    """Statuses of valid requests, and of all others."""
    valid: Counter[object] = Counter()
    others: Counter[object] = Counter()
    until = time.perf_counter() + seconds
    await asyncio.gather(
        *(client(port, users, until, [], valid) for _ in range(_CLIENTS)),
        *(hostile(port, until, others) for _ in range(2)),
        *(slow(port, until, others) for _ in range(8)),
        reload(folder, bundle, until, min(5.0, seconds / 3)),
    )
    return valid, others


def of_process(pid: int) -> tuple[float, float]:
    """CPU seconds, and resident memory in MiB."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    resident = int(fields[21]) * os.sysconf("SC_PAGESIZE") / 2**20
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), resident


def metrics(port: int) -> dict[str, float]:
    """Counters of the server, by name without the prefix and without quotes."""
    text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60).read().decode()
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {key.removeprefix("recbole_disent_").replace('"', ""): float(value) for key, _, value in lines}


@contextmanager
def serving(folder: Path, *words: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Start the server; port and process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "recbole_disent.cli", "serve", str(folder), f"--port={port}", *words]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        for _ in range(1200):
            with socket.socket() as trial:
                if not trial.connect_ex(("127.0.0.1", port)):
                    break
            assert server.poll() is None, "the server did not start"
            time.sleep(0.1)
        yield port, server
    finally:
        server.terminate()
        server.wait()


def measure(folder: Path, users: list[str], seconds: float, words: list[str]) -> None:
    with serving(folder, *words) as (port, server):
        asyncio.run(load(port, users, 4, min(2, seconds)))  # warm-up
        rows = []
        for clients in (1, 16, 64):
            before, counted = of_process(server.pid)[0], metrics(port)
            times, statuses = asyncio.run(load(port, users, clients, seconds))
            cpu = (of_process(server.pid)[0] - before) / len(times) * 1000
            batches, asks = (metrics(port)[key] - counted[key] for key in ("batches", "batched_requests"))
            p50, p99 = (float(p) for p in np.percentile(times, [50, 99]) * 1000)
            rows.append((clients, len(times) / seconds, p50, p99, cpu, asks / batches, statuses))
    head = ("clients", "requests per second", "p50 ms", "p99 ms", "server CPU ms a request",
            "requests of a batch", "statuses")  # fmt: skip
    table(rows, head)
    print(f"ratio={rows[2][1] / rows[0][1]:.1f} cpu_ratio={rows[0][4] / rows[2][4]:.1f}")


def endure(folder: Path, bundle: Path, users: list[str], seconds: float, words: list[str]) -> int:
    """Run the soak test; number of faults."""
    valid: Counter[object] = Counter()
    others: Counter[object] = Counter()
    memory = []
    with serving(folder, *words) as (port, server):
        asyncio.run(load(port, users, 4, min(2, seconds)))  # warm-up
        for _ in range(_PARTS):
            found = asyncio.run(soak(port, users, folder, bundle, seconds / _PARTS))
            valid += found[0]
            others += found[1]
            memory.append(of_process(server.pid)[1])
        ended = server.poll() is not None
        counters = metrics(port)
    reloads = ", ".join(f"{int(counters[f'reloads_total{{result={k}}}'])} {k}" for k in ("done", "failed"))
    print(f"soak of {seconds:g} s: valid {dict(valid)}, others {dict(others)}, reloads: {reloads}")
    print("memory after each quarter, MiB: " + " ".join(f"{value:.0f}" for value in memory))
    faults = int(ended) + sum(n for status, n in valid.items() if status not in (200, 503))
    faults += sum(n for status, n in others.items() if isinstance(status, int) and status > 503)
    faults += sum(others[status] for status in (500, 501, 502))
    print(f"memory_growth={memory[-1] / memory[0] - 1:.3f}\nfaults={faults}")
    return faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path, nargs="?")
    parser.add_argument("--model", default="SASRec", help="of a drawn bundle")
    parser.add_argument("--items", type=int, default=54_542)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=10, help="for each number of clients; 0: none")
    parser.add_argument("--soak", type=float, default=60, help="seconds of the soak test; 0: none")
    parser.add_argument("--waiting", type=int, default=16, help="--max-waiting of the soak test")
    parser.add_argument("--timeout", type=float, default=10, help="--timeout of the soak test")
    parser.add_argument("--index", action="store_true", help="serve with the index of the bundle")
    args = parser.parse_args()
    from recbole_disent import load as load_bundle

    words = ["--index"] if args.index else []
    with tempfile.TemporaryDirectory() as place:
        bundle = args.bundle or drawn_bundle(Path(place), args.model, args.items, args.width)
        users = load_bundle(bundle).users.tolist()
        folder = Path(place) / "bundle"
        shutil.copytree(bundle, folder)
        if args.seconds:
            measure(folder, users, args.seconds, words)
        if args.soak:
            limits = [f"--max-waiting={args.waiting}", f"--timeout={args.timeout}"]
            if endure(folder, bundle, users, args.soak, words + limits):
                sys.exit(1)


if __name__ == "__main__":
    main()
