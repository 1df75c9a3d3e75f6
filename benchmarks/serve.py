"""Latency of the server with several numbers of clients, then a soak test with hostile requests.

``python serve.py BUNDLE [--seconds=10] [--soak=60]`` starts the server. A client keeps its connection open
and requests the next list as soon as it has received the last list. The soak test mixes valid requests with
malformed JSON, huge k, unknown ids, bodies of 10 MB, slow clients and new bundles. It prints the HTTP
statuses that clients received and the memory of the server.
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
from collections import Counter
from pathlib import Path

import numpy as np
from common import table

_HEAD = (
    "POST /recommend HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"
)


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> int:
    """Send one request, read the answer and return its status."""
    writer.write(_HEAD.format(len(body)).encode() + body)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    await reader.readexactly(length)
    return int(head.split(b" ", 2)[1])


async def client(
    port: int, users: list[str], until: float, times: list[float], statuses: Counter[int]
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.perf_counter() < until:
        body = json.dumps({"user": random.choice(users), "k": 10}).encode()
        start = time.perf_counter()
        statuses[await exchange(reader, writer, body)] += 1
        times.append(time.perf_counter() - start)
    writer.close()


async def load(port: int, users: list[str], clients: int, seconds: float) -> tuple[object, ...]:
    times: list[float] = []
    statuses: Counter[int] = Counter()
    until = time.perf_counter() + seconds
    await asyncio.gather(*(client(port, users, until, times, statuses) for _ in range(clients)))
    p50, p99 = np.percentile(times, [50, 99]) * 1000
    return clients, len(times) / seconds, p50, p99, dict(statuses)


async def hostile(port: int, until: float, statuses: Counter[object]) -> None:
    bodies = [b"{", b"\xff", b"[]", b'{"user": "nobody at all"}', b'{"sequence": ["x"], "k": 999999999}',
              b'{"sequence": ' + b"[" * 5000, b"x" * (10 * 2**20)]  # fmt: skip
    while time.perf_counter() < until:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            statuses["hostile", await exchange(reader, writer, random.choice(bodies))] += 1
        except (ConnectionError, asyncio.IncompleteReadError):
            statuses["hostile", "closed"] += 1
        writer.close()
        await asyncio.sleep(0.05)


async def slow(port: int, until: float) -> None:
    while time.perf_counter() < until:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(_HEAD.format(100).encode() + b"{")
        await asyncio.sleep(5)
        writer.close()


async def reload(folder: Path, bundle: Path, until: float) -> None:
    """Replace the bundle every 5 seconds by a copy with another digest."""
    number = 0
    while time.perf_counter() < until:
        await asyncio.sleep(5)
        fresh = folder.with_name(f"fresh{number}")
        shutil.copytree(bundle, fresh)
        config = json.loads((fresh / "config.json").read_text())
        (fresh / "config.json").write_text(json.dumps({**config, "number": number}))
        folder.rename(folder.with_name("old"))
        fresh.rename(folder)
        shutil.rmtree(folder.with_name("old"))
        number += 1


async def soak(port: int, users: list[str], folder: Path, bundle: Path, seconds: float) -> Counter[object]:
    statuses: Counter[object] = Counter()
    until = time.perf_counter() + seconds
    good: Counter[int] = Counter()
    await asyncio.gather(
        *(client(port, users, until, [], good) for _ in range(8)),
        *(hostile(port, until, statuses) for _ in range(2)),
        *(slow(port, until) for _ in range(8)),
        reload(folder, bundle, until),
    )
    statuses.update({("list", status): number for status, number in good.items()})
    return statuses


def resident_mb(pid: int) -> float:
    pages = Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1]
    return int(pages) * os.sysconf("SC_PAGESIZE") / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--soak", type=float, default=60)
    args = parser.parse_args()
    from recbole_disent import load as load_bundle

    users = load_bundle(args.bundle).users.tolist()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "bundle"
        shutil.copytree(args.bundle, folder)
        words = [sys.executable, "-m", "recbole_disent.cli", "serve", str(folder), f"--port={port}"]
        server = subprocess.Popen(words)
        try:
            for _ in range(600):
                with socket.socket() as trial:
                    if not trial.connect_ex(("127.0.0.1", port)):
                        break
                time.sleep(0.1)
            asyncio.run(load(port, users, 4, 2))  # warm-up
            rows = [asyncio.run(load(port, users, n, args.seconds)) for n in (1, 16, 64)]
            table(rows, ("clients", "requests per second", "p50 ms", "p99 ms", "statuses"))
            if args.soak:
                before = resident_mb(server.pid)
                middle = asyncio.run(soak(port, users, folder, args.bundle, args.soak / 2))
                between = resident_mb(server.pid)
                found = middle + asyncio.run(soak(port, users, folder, args.bundle, args.soak / 2))
                print(f"soak of {args.soak:g} s: {dict(found)}")
                print(f"memory MB: {before:.0f}, half way {between:.0f}, end {resident_mb(server.pid):.0f}")
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
