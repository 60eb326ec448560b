"""Refuses request bodies that are too large before they are read, whatever route they are meant for."""

from __future__ import annotations

import json

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.pictures import MB
from app.problems import MEDIA_TYPE, problem


class BodyLimit:
    """ASGI middleware: a body of more than ``limit`` bytes is answered with 413 and read no further.

    A declared Content-Length is believed where it is too large; the bytes are counted as they come in any case,
    since a body may come without a declared length.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self.limit:
            await self._refuse(send)
            return
        count = 0
        answered = refused = False

        async def counted() -> Message:
            nonlocal count, refused
            if refused:
                return {"type": "http.disconnect"}
            message = await receive()
            count += len(message.get("body", b""))
            if count <= self.limit:
                return message
            refused = True
            if not answered:
                await self._refuse(send)
            # The application is told that the client has gone: it tidies up and answers nobody.
            return {"type": "http.disconnect"}

        async def answer(message: Message) -> None:
            nonlocal answered
            if not refused:
                answered = True
                await send(message)

        try:
            await self.app(scope, counted, answer)
        except Exception:
            if not refused:
                raise

    async def _refuse(self, send: Send) -> None:
        sentence = f"The request has more than {self.limit / MB:.1f} MB, which is the limit."
        body = json.dumps(problem(413, sentence)).encode()
        headers = [
            (b"content-type", MEDIA_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),  # the rest of the body is not waited for
        ]
        await send({"type": "http.response.start", "status": 413, "headers": headers})
        await send({"type": "http.response.body", "body": body})
