"""Connections that send no request cannot stop the server."""

from __future__ import annotations

import asyncio
import resource
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

# Open files that are left for the bundle, its index and the logs.
_OTHER_FILES = 64


def timed(seconds: float) -> type:
    """Make the class of uvicorn's connections, with a limit of time and of number.

    uvicorn itself waits without end for the head of a request (the lines before the body), so that idle
    connections could use up the files that a process may open.

    Args:
        seconds: a connection that has not sent the whole head of a request in this time is closed.
    """
    most = max(16, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _OTHER_FILES)

    class Timed(AutoHTTPProtocol):
        """uvicorn's protocol, h11 or httptools."""

        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            """Start to wait for a request, or close the connection if there are too many."""
            super().connection_made(transport)
            if len(self.connections) > most:
                transport.close()
                return
            self._watch()

        def data_received(self, data: bytes) -> None:
            """Take what a client has sent."""
            super().data_received(data)
            self._watch()

        def connection_lost(self, error: Exception | None) -> None:
            """Forget the connection."""
            self._stop()
            super().connection_lost(error)

        def _watch(self) -> None:
            if self._has_request():
                self._stop()
            elif self._timer is None:
                self._timer = self.loop.call_later(seconds, self._close)

        def _has_request(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete

        def _stop(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _close(self) -> None:
            self._timer = None
            if not self._has_request():
                self.transport.close()

    return Timed
