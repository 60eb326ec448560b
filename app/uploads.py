"""The page's uploads, within the limits that programs have.

Gradio's own route takes a thousand files at once, answers some malformed forms with 500, and leaves a file behind for
every visitor who goes while sending, and for every part of a form that has not the name it expects.
"""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import gradio as gr
from fastapi import FastAPI, Request
from gradio.utils import get_upload_folder
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, Response

from app import reading
from app.pictures import MB

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")


def add(app: FastAPI, blocks: gr.Blocks, max_bytes: int) -> None:
    """Add the route to an application, where it stands before Gradio's, which is to be mounted after.

    Args:
        app: gets the route.
        blocks: the page; deletes the files when it is time.
        max_bytes: the largest file accepted.
    """
    folder = Path(get_upload_folder())

    @app.post("/gradio_api/upload")
    async def upload(request: Request) -> Response:
        # Plain text is what the page shows to its visitor.
        try:
            uploads = await reading.read(request)
        except HTTPException as error:
            return PlainTextResponse(error.detail, error.status_code)
        paths = []
        for name, data in uploads:
            if not isinstance(data, bytes):
                return PlainTextResponse(data.message, data.status)
            if len(data) > max_bytes:
                return PlainTextResponse(f"A file has more than {max_bytes / MB:g} MB, which is the limit.", 413)
            # Of the name a stranger chose only what is known here is kept.
            suffix = Path(name or "").suffix.lower()
            place = folder / hashlib.sha256(data).hexdigest() / f"picture{suffix if suffix in SUFFIXES else ''}"
            paths.append((place, data))
        for place, data in paths:
            blocks.upload_file_set.add(str(place))
            await asyncio.to_thread(_write, place, data)
        return JSONResponse([str(place) for place, _ in paths])

    @app.get("/gradio_api/upload_progress")
    async def progress() -> Response:
        """What the page asks beside each upload; Gradio would keep every name that it is asked for."""
        return Response('data: {"msg": "done"}\n\n', media_type="text/event-stream")


def _write(place: Path, data: bytes) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)
