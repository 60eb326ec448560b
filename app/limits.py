"""Refuses request bodies that are too large, before they are read, or too slow, whatever route they are meant for."""

from __future__ import annotations

import asyncio
import contextlib
import json

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.pictures import MB
from app.problems import MEDIA_TYPE, problem

SECONDS = 30.0  # that a client has for all of a body: 10 MB want 2.8 Mbit/s
LINGER = 2.0  # seconds in which the rest of a refused body is thrown away as it comes


class BodyLimit:
    """ASGI middleware: a body of more than ``limit`` bytes is answered with 413, and nothing more of it is kept.

    A declared Content-Length is believed where it is too large; the bytes are counted as they come in any case,
    since a body may come without a declared length. A body that is not complete after ``seconds`` is answered with
    408; what the application waits for once it has the body takes as long as it takes.
    """

    def __init__(self, app: ASGIApp, limit: int, seconds: float = SECONDS) -> None:
        self.app = app
        self.limit = limit
        self.seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        too_large = f"The request has more than {self.limit / MB:.1f} MB, which is the limit."
        if declared.isdigit() and int(declared[:20]) > self.limit:
            await _refuse(send, receive, 413, too_large)
            return
        count, deadline = 0, 0.0
        answered = refused = complete = False

        async def limited() -> Message:
            nonlocal count, complete, deadline
            if refused:
                return {"type": "http.disconnect"}
            if complete:  # what comes now is the client's going, and may take hours
                return await receive()
            # From when the body is first asked for: an application may have had to wait for its turn.
            deadline = deadline or asyncio.get_running_loop().time() + self.seconds
            try:
                async with asyncio.timeout_at(deadline) as time:
                    message = await receive()
            except TimeoutError:
                if not time.expired():
                    raise
                return await refuse(408, f"The request took more than {self.seconds:g} seconds to arrive.")
            complete = not message.get("more_body", False)
            count += len(message.get("body", b""))
            return message if count <= self.limit else await refuse(413, too_large)

        async def refuse(status: int, sentence: str) -> Message:
            nonlocal refused
            refused = True
            if not answered:
                await _refuse(send, receive, status, sentence)
            # The application is told that the client has gone: it tidies up and answers nobody.
            return {"type": "http.disconnect"}

        async def answer(message: Message) -> None:
            nonlocal answered
            if not refused:
                answered = True
                await send(message)

        try:
            await self.app(scope, limited, answer)
        except Exception:
            if not refused:
                raise


async def _refuse(send: Send, receive: Receive, status: int, sentence: str) -> None:
    body = json.dumps(problem(status, sentence)).encode()
    headers = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),  # the rest of the body is not waited for
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    if status == 413:
        # A connection that is closed while its client still sends is reset, and the answer may be lost with it.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER):
                while (await receive()).get("more_body", False):
                    pass
    await send({"type": "http.response.body", "body": b""})
