"""The server: lists and likenesses by HTTP from one bundle, which is loaded again when it is replaced.

A request names ids and numbers. No path, module or address of a request is ever used.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path
from time import monotonic
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse

from recbole_disent import __version__
from recbole_disent.errors import UserError
from recbole_disent.recommender import Recommender, load
from recbole_disent.serving.batching import Ask, Batcher, Busy
from recbole_disent.serving.bundle_files import CONFIG
from recbole_disent.serving.connections import timed
from recbole_disent.serving.gate import Gate
from recbole_disent.serving.messages import ListAnswer, RecommendBody, SimilarAnswer, SimilarBody
from recbole_disent.serving.metrics import Metrics
from recbole_disent.serving.unique_keys import UniqueRoute

_PAGE = Path(__file__).with_name("serve.html")
# Faults of a body that an answer names.
MAX_FAULTS = 20
_ROUTES = {"/", "/recommend", "/similar", "/items", "/health", "/metrics", "/docs"}


@dataclass(frozen=True)
class Limits:
    """Limits of the server.

    Attributes:
        body_kb: longest body, KiB.
        seconds: a request that takes longer is refused with 503; also for reading a body (408). A connection
            that does not send the whole head of a request in this time is closed.
        waiting: requests that may wait for a batch; more are refused with 503.
        reload_seconds: how often the server looks for a new bundle in its folder.
    """

    body_kb: int = 1024
    seconds: float = 10.0
    waiting: int = 1024
    reload_seconds: float = 2.0


class Answer(JSONResponse):
    """JSON in ASCII, because a request may hold texts that UTF-8 does not have.

    The routes return it in place of a dictionary: FastAPI would check and copy each value of that.
    """

    def render(self, content: Any) -> bytes:
        """Return the bytes of the body."""
        return json.dumps(content, allow_nan=False).encode("ascii")


class Server:
    """The state behind the routes.

    Args:
        folder: of the bundle.
        limits: of requests.
        device: where the model computes.
        index: whether candidates come from the index of the bundle.

    Raises:
        UserError: no bundle, a faulty one, or one without the index that is asked for.
    """

    def __init__(self, folder: Path, limits: Limits, device: str = "cpu", index: bool = False) -> None:
        self.folder, self.limits, self.device, self.index = folder, limits, device, index
        self.metrics = Metrics()
        self._stamp = self._read_stamp()
        self.recommender = self._load()
        self.batcher: Batcher | None = None

    def _load(self) -> Recommender:
        found = load(self.folder, self.device)
        if self.index:
            found.load_index()
        return found

    def _read_stamp(self) -> tuple[int, int] | None:
        try:
            found = (self.folder / CONFIG).stat()
        except OSError:  # between two bundles
            return None
        return found.st_ino, found.st_mtime_ns

    async def watch(self) -> None:
        """Load the bundle again when its folder holds another one; a faulty one is tried again later."""
        failed: tuple[int, int] | None = None
        again = wait = 0.0
        while True:
            await asyncio.sleep(self.limits.reload_seconds)
            stamp = self._read_stamp()
            if stamp is None or stamp == self._stamp:
                continue
            if stamp == failed and monotonic() < again:
                continue
            try:
                fresh = await asyncio.to_thread(self._load)
            except Exception as error:  # whatever is wrong with the new one, the old one goes on
                # The folder may be incomplete still.
                wait = _longer(wait if stamp == failed else 0.0, self.limits.reload_seconds)
                failed, again = stamp, monotonic() + wait
                self.metrics.reloads["failed"] += 1
                getLogger().warning(
                    f"serve: the new bundle is not used, the next attempt is in {wait:.0f} s: {error}"
                )
                continue
            self._stamp, failed = stamp, None
            self.recommender = fresh
            if self.batcher is not None:
                self.batcher.recommender = fresh
            self.metrics.reloads["done"] += 1
            getLogger().info(f"serve: loaded bundle {digest_of(fresh)}")


def _longer(wait: float, every: float) -> float:
    """Seconds until the next attempt: twice the last *wait*, from 2 to 64 times *every*."""
    return min(max(wait, every) * 2, 64 * every)


def digest_of(recommender: Recommender) -> str:
    """First digits of the digest of the bundle of a recommender."""
    return str(recommender.about["digest"])[:12]


def texts_of(recommender: Recommender, items: list[str]) -> list[str | None]:
    """Text of each item, None where the bundle has none."""
    catalogue = recommender.catalogue
    if catalogue.texts is None:
        return [None] * len(items)
    return [catalogue.texts[number] or None for number in catalogue.item_numbers(items)]


def make_app(folder: Path, limits: Limits | None = None, device: str = "cpu", index: bool = False) -> Any:
    """Make the ASGI application.

    Args:
        folder: of the bundle.
        limits: of requests.
        device: where the model computes.
        index: whether candidates come from the index of the bundle.

    Raises:
        UserError: no bundle, a faulty one, or one without the index that is asked for.
    """
    limits = limits or Limits()
    server = Server(folder, limits, device, index)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        server.batcher = Batcher(server.recommender, index, most_waiting=limits.waiting)
        tasks = [asyncio.create_task(work) for work in (server.batcher.work(), server.watch())]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    app = FastAPI(title="recbole_disent", version=__version__, lifespan=lifespan)
    app.router.route_class = UniqueRoute
    _add_routes(app, server, limits)
    app.add_middleware(
        Gate,
        metrics=server.metrics,
        routes=_ROUTES,
        largest_body=limits.body_kb * 2**10,
        body_seconds=limits.seconds,
    )
    return app


def _add_routes(app: FastAPI, server: Server, limits: Limits) -> None:
    @app.exception_handler(UserError)
    async def refuse(_: Any, error: UserError) -> Answer:
        return Answer({"detail": str(error)}, 404 if "is not known to the model" in str(error) else 422)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Answer:
        # The value itself is left out: it may be long, or a number such as NaN that JSON does not have.
        every = error.errors()
        faults = [{key: fault[key] for key in ("type", "loc", "msg")} for fault in every[:MAX_FAULTS]]
        told: dict[str, Any] = {"detail": faults, "faults": len(every)}
        if request.method == "POST" and "json" not in request.headers.get("content-type", ""):
            told["hint"] = "send the body with the header Content-Type: application/json"
        return Answer(told, 422)

    @app.post("/recommend", response_model=None, responses={200: {"model": ListAnswer}})
    async def recommend(body: RecommendBody) -> Answer:
        """Return the list of a known user, or of the items of a sequence, oldest first."""
        if (body.user is None) == (body.sequence is None):
            raise UserError("expected either 'user' or 'sequence'")
        if body.sequence is not None and body.unknown_users != "error":
            raise UserError("unknown_users: got it with 'sequence', expected it with 'user'; leave it out")
        allowed = None if body.items_allowed is None else tuple(body.items_allowed)
        ask = Ask(
            body.user,
            tuple(body.sequence or ()),
            body.k,
            body.filter_history,
            body.unknown_users,
            body.diversity,
            body.diversify,
            allowed,
            tuple(body.items_excluded),
        )
        found = await _in_time(lambda: _batcher(server).ask(ask), limits)
        texts = texts_of(found.made_by, found.items)
        rows = zip(found.items, found.scores, found.intentions, texts, strict=True)
        items = [
            {"item": item, "score": score, "rank": rank, "intention": intention, "text": text}
            for rank, (item, score, intention, text) in enumerate(rows, start=1)
        ]
        facts = {
            "source": found.source,
            "unknown_items": found.unknown_items,
            "unknown_allowed": found.unknown_allowed,
            "unknown_excluded": found.unknown_excluded,
            "bundle": digest_of(found.made_by),
        }
        return Answer({"items": items, **facts})

    @app.post("/similar", response_model=None, responses={200: {"model": SimilarAnswer}})
    async def similar(body: SimilarBody) -> Answer:
        """Return the items with the most similar vectors."""
        made_by = server.recommender
        table = await _in_time(
            lambda: _batcher(server).call(made_by.similar_items, [body.item], body.k), limits
        )
        ids = table["similar"].tolist()
        rows = zip(ids, table["score"].tolist(), table["rank"].tolist(), texts_of(made_by, ids), strict=True)
        items = [{"item": i, "score": s, "rank": r, "text": t} for i, s, r, t in rows]
        return Answer({"items": items, "bundle": digest_of(made_by)})

    @app.get("/items/{item_id:path}")
    async def item(item_id: str) -> dict[str, Any]:
        """Return what is known of an item."""
        catalogue = server.recommender.catalogue
        number = int(catalogue.item_numbers([item_id])[0])
        if not number:
            raise HTTPException(404, "the item is not known to the model")
        return {
            "item": item_id,
            "text": texts_of(server.recommender, [item_id])[0],
            "clicks": int(catalogue.counts[number]),
        }

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """Return what answers."""
        about = server.recommender.about
        facts = {key: about.get(key) for key in ("model", "dataset", "data_hash", "n_items", "n_users")}
        index = about["index"]["kind"] if server.index else None
        return {"status": "ok", "bundle": digest_of(server.recommender), "index": index, **facts}

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> str:
        """Return counters in the text format of Prometheus."""
        batcher = _batcher(server)
        gauges: dict[str, float] = {
            "waiting": batcher.waiting,
            "batches": batcher.batches,
            "batched_requests": batcher.asks,
        }
        return server.metrics.text(gauges)

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def page() -> str:
        return _PAGE.read_text(encoding="utf-8")


def _batcher(server: Server) -> Batcher:
    assert server.batcher is not None, "the application has not been started"
    return server.batcher


async def _in_time(start: Callable[[], asyncio.Future[Any]], limits: Limits) -> Any:
    why = "too many requests wait"
    with suppress(Busy):
        work = start()
        try:
            # Not wait_for, which makes a task for each request before Python 3.12.
            if (await asyncio.wait([work], timeout=limits.seconds))[0]:
                return work.result()
        finally:
            work.cancel()
        why = f"it took longer than {limits.seconds:g} s"
    raise HTTPException(503, f"{why}; try again later", {"Retry-After": "1"})


def serve(
    folder: Path, host: str, port: int, limits: Limits, device: str = "cpu", index: bool = False
) -> None:
    """Answer requests until the process is stopped.

    Args:
        folder: of the bundle.
        host, port: address that is listened on.
        limits: of requests.
        device: where the model computes.
        index: whether candidates come from the index of the bundle.

    Raises:
        UserError: no bundle, a faulty one, one without the index that is asked for, or an address that cannot
            be used.
    """
    import uvicorn

    app = make_app(folder, limits, device, index)
    try:
        families = [found[0] for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
        family = socket.AF_INET if socket.AF_INET in families else families[0]
        address = socket.create_server((host, port), family=family)
    except OSError as error:
        why = str(error.strerror or error).partition(" (while")[0]
        raise UserError(
            f"serve: {host}:{port} cannot be used ({why}); give another --port or --host"
        ) from error
    config = uvicorn.Config(
        app,
        http=timed(limits.seconds),
        ws="none",
        log_level="warning",
        timeout_keep_alive=15,
        access_log=False,
    )
    with address, suppress(KeyboardInterrupt):
        print(f"http://{host}:{port}", flush=True)
        uvicorn.Server(config).run(sockets=[address])
