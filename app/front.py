"""REST and the page behind one door: REST answers at once, the page as soon as Gradio is imported."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app import problems
from app.pictures import PictureError

Endpoint = Callable[[Request], Awaitable[Response]]


class Page:
    """An ASGI application that is built in a thread, since the import of Gradio takes seconds; requests wait for it."""

    def __init__(self, build: Callable[[], FastAPI], failed: Callable[[BaseException], None]) -> None:
        """Args:
        build: imports what it needs and builds the application.
        failed: told why the page cannot be built.
        """
        self._build = build
        self._failed = failed
        self._ready: asyncio.Future[FastAPI] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self._ready is not None, "the page is not running"
        app = await asyncio.shield(self._ready)
        await app(scope, receive, send)

    @contextlib.asynccontextmanager
    async def running(self, _: object = None) -> AsyncIterator[None]:
        """Build the page, and run what it does beside answering, until the block ends."""
        self._ready = asyncio.get_running_loop().create_future()
        over = asyncio.Event()
        task = asyncio.create_task(self._run(self._ready, over))
        try:
            yield
        finally:
            over.set()
            await task

    async def _run(self, ready: asyncio.Future[FastAPI], over: asyncio.Event) -> None:
        try:
            app = await asyncio.to_thread(self._build)
            async with app.router.lifespan_context(app):
                ready.set_result(app)
                await over.wait()
        except Exception as error:  # noqa: BLE001 - whatever it is, the process must not go on without its page
            if not ready.done():
                ready.set_exception(error)
                ready.exception()  # seen: where nobody waits, asyncio would complain
            self._failed(error)


class Front:
    """Sends a request to REST or to the page; the root to either, by what the client would rather have.

    Args:
        rest: the REST routes.
        page: gets what is not REST's.
        short_cuts: routes, by method and path, that are answered without FastAPI's layers between, which cost a tenth
            of a millisecond. FastAPI knows the same functions, for the schema.
    """

    def __init__(self, rest: FastAPI, page: ASGIApp, short_cuts: Mapping[tuple[str, str], Endpoint]) -> None:
        self._rest = rest
        self._page = page
        paths = {getattr(route, "path", ""): route for route in rest.routes}
        self._heads = frozenset(path.split("/")[1] for path in paths) - {""}
        self._short_cuts = {key: (endpoint, paths[key[1]]) for key, endpoint in short_cuts.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (short_cut := self._short_cuts.get((scope["method"], scope["path"]))):
            endpoint, scope["route"] = short_cut
            try:
                response = await endpoint(Request(scope, receive))
            except Exception as error:
                await problems.of(error)(scope, receive, send)
                if not isinstance(error, (PictureError, HTTPException)):
                    raise
            else:
                await response(scope, receive, send)
        else:
            await (self._rest if self._is_rest(scope) else self._page)(scope, receive, send)

    def _is_rest(self, scope: Scope) -> bool:
        if scope["type"] != "http":
            return bool(scope["type"] == "lifespan")
        head = scope["path"].split("/")[1] if "/" in scope["path"] else ""
        if head:
            return head in self._heads
        return not any(key == b"accept" and b"text/html" in value for key, value in scope["headers"])
