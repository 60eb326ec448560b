"""One door for everything: what can answer at once does, the rest as soon as it is imported.

FastAPI takes a third of a second to import and Gradio two; a new instance answers its first prediction before either.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Router
from starlette.types import Message, Receive, Scope, Send

from app import problems
from app.pictures import PictureError
from app.watch import ROUTE

Endpoint = Callable[[Request], Awaitable[Response]]
Build = Callable[[], Starlette]

log = logging.getLogger("atelier")


class Late:
    """An application that is built in a thread; requests wait for it."""

    def __init__(self, build: Build) -> None:
        self._build = build
        self._ready: asyncio.Future[Starlette] | None = None

    async def ready(self) -> Starlette:
        """The application, once there is one.

        Raises:
            Exception: why it cannot be built.
        """
        assert self._ready is not None, "not running"
        return await asyncio.shield(self._ready)

    @contextlib.asynccontextmanager
    async def running(self, failed: Callable[[], None]) -> AsyncIterator[None]:
        """Build the application, and run what it does beside answering, until the block ends."""
        self._ready = asyncio.get_running_loop().create_future()
        over = asyncio.Event()
        task = asyncio.create_task(self._run(self._ready, over, failed))
        try:
            yield
        finally:
            over.set()
            await task

    async def _run(self, ready: asyncio.Future[Starlette], over: asyncio.Event, failed: Callable[[], None]) -> None:
        try:
            app = await asyncio.to_thread(self._build)
            async with app.router.lifespan_context(app):
                ready.set_result(app)
                await over.wait()
        except Exception as error:
            log.exception("A part of the app cannot be built.")
            if not ready.done():
                ready.set_exception(error)
                ready.exception()  # seen: where nobody waits, asyncio would complain
            failed()


@dataclass
class Farewell:
    """How the app takes leave of its clients.

    Attributes:
        said: from now on every answer says that its connection ends with it.
        streams: set when the page's streams, which would last as long as it is open somewhere, are to end.
    """

    said: bool = False
    streams: asyncio.Event = field(default_factory=asyncio.Event)


class Front:
    """The ASGI application."""

    def __init__(
        self,
        at_once: Mapping[tuple[str, str], Endpoint],
        rest: Build,
        page: Build | None,
        farewell: Farewell,
        failed: Callable[[], None] = lambda: None,
    ) -> None:
        """Args:
        at_once: what answers without waiting for anything, by method and path.
        rest: builds the REST routes.
        page: builds the page, which gets what is not REST's; None is no page.
        farewell: ends the page's streams.
        failed: told when one of them cannot be built.
        """
        self._farewell = farewell
        self._at_once = at_once
        self._rest = Late(rest)
        self._page = Late(page) if page else None
        self._failed = failed
        self._router = Router(lifespan=self._lifespan)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def answer(message: Message) -> None:
            if self._farewell.said and message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        await self._route(scope, receive, answer)

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._router.lifespan(scope, receive, send)
        elif scope["type"] == "http" and (endpoint := self._at_once.get((scope["method"], scope["path"]))):
            scope[ROUTE] = scope["path"]
            try:
                response = await endpoint(Request(scope, receive))
            except Exception as error:
                await problems.of(error)(scope, receive, send)
                if not isinstance(error, (PictureError, HTTPException)):
                    raise
            else:
                await response(scope, receive, send)
        else:
            rest = await self._rest.ready()
            if self._page is None or _is_for(rest, scope):
                await rest(scope, receive, send)
            else:
                scope[ROUTE] = "page"
                page = await self._page.ready()
                await page(scope, self._until_farewell(receive), send)

    def _until_farewell(self, receive: Receive) -> Receive:
        """A stream ends when it hears that its client has gone; so that is what it hears in the end."""

        async def hear() -> Message:
            heard, over = asyncio.ensure_future(receive()), asyncio.ensure_future(self._farewell.streams.wait())
            try:
                await asyncio.wait((heard, over), return_when=asyncio.FIRST_COMPLETED)
                return heard.result() if heard.done() else {"type": "http.disconnect"}
            finally:
                heard.cancel()
                over.cancel()

        return hear

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: object) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            for late in (self._rest, self._page):
                if late:
                    await stack.enter_async_context(late.running(self._failed))
            yield


def _is_for(rest: Starlette, scope: Scope) -> bool:
    """Whether a request is for REST, by the first part of its path; at the root, by what the client prefers."""
    if scope["type"] != "http":
        return False
    head = scope["path"].partition("/")[2].partition("/")[0]
    if not head:
        return not any(key == b"accept" and b"text/html" in value for key, value in scope["headers"])
    return any(getattr(route, "path", "").split("/")[1] == head for route in rest.routes)
