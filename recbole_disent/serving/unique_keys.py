"""JSON bodies in which a key appears once."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise HTTPException(422, f"the key {key[:100]!r} appears twice in the body; give each key once")
        found[key] = value
    return found


class _UniqueRequest(Request):
    async def json(self) -> Any:
        """Return the body. Starlette would take the last value of a key that appears twice."""
        return json.loads(await self.body(), object_pairs_hook=_once)


class UniqueRoute(APIRoute):
    """A route that answers 422 to a body with a repeated key."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler of the route."""
        handle = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handle(_UniqueRequest(request.scope, request.receive))

        return strict
