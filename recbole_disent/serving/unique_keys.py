"""JSON bodies in which a key appears once, and numbers are finite."""

from __future__ import annotations

import json
import math
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


def _no_number(text: str) -> Any:
    raise HTTPException(422, f"Input should be JSON, which does not have {text}; leave it out, or send null")


def _finite(text: str) -> float:
    if math.isinf(number := float(text)):
        raise HTTPException(422, f"Input should be a finite number, got {text[:100]} in the body; correct it")
    return number


class _UniqueRequest(Request):
    async def json(self) -> Any:
        """Return the body. Starlette would take the last value of a key that appears twice, and NaN."""
        return json.loads(
            await self.body(), object_pairs_hook=_once, parse_constant=_no_number, parse_float=_finite
        )


class UniqueRoute(APIRoute):
    """A route that answers 422 to a body with a repeated key."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler of the route."""
        handle = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handle(_UniqueRequest(request.scope, request.receive))

        return strict
