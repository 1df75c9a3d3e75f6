"""What every request passes: a limit of its body, a limit of its time, and the counters."""

from __future__ import annotations

import asyncio
import json
from time import perf_counter
from typing import Any

from recbole_disent.serving.metrics import Metrics


class Gate:
    """ASGI middleware that reads a body before the application sees the request.

    Args:
        app: the application.
        metrics: gets each request.
        routes: first parts of the paths that are counted by name; others are ``other``.
        largest_body: bytes; a longer body is refused with 413.
        body_seconds: a body that takes longer is refused with 408.
    """

    def __init__(
        self, app: Any, metrics: Metrics, routes: set[str], largest_body: int, body_seconds: float
    ) -> None:
        self.app, self.metrics, self.routes = app, metrics, routes
        self.largest_body, self.body_seconds = largest_body, body_seconds

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status = perf_counter(), 500
        first = "/" + scope["path"].strip("/").partition("/")[0]
        route = first if first in self.routes else "other"

        async def counted(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            try:
                body = await asyncio.wait_for(self._body(scope, receive), self.body_seconds)
            except asyncio.TimeoutError:
                await _refuse(counted, 408, f"the body took longer than {self.body_seconds:g} seconds")
                return
            if body is None:
                await _refuse(counted, 413, f"the body is longer than {self.largest_body} bytes")
                return
            given = False

            async def replay() -> Any:
                nonlocal given
                if given:
                    return await receive()
                given = True
                return {"type": "http.request", "body": body, "more_body": False}

            await self.app(scope, replay, counted)
        finally:
            self.metrics.count(route, status, perf_counter() - start)

    async def _body(self, scope: Any, receive: Any) -> bytes | None:
        """The whole body; None for one that is too long."""
        said = dict(scope["headers"]).get(b"content-length", b"0")
        if said.isdigit() and int(said) > self.largest_body:
            return None
        found = bytearray()
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return bytes(found)
            found += message.get("body", b"")
            if len(found) > self.largest_body:
                return None
            if not message.get("more_body"):
                return bytes(found)


async def _refuse(send: Any, status: int, text: str) -> None:
    body = json.dumps({"detail": text}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()),
               (b"connection", b"close")]  # fmt: skip
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
