"""The functions behind the routes that matter most. They need no FastAPI, so the first request need not wait for it.

A bad picture among good ones gets an error of its own; where all that came is one bad picture, the request itself is
refused.
"""

from __future__ import annotations

import asyncio
import contextvars
import io
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from PIL import Image
from starlette.requests import Request
from starlette.responses import Response

from app import problems, reading
from app.heat import overlay
from app.judge import Judge
from app.pictures import PictureError
from app.reading import Upload

T = TypeVar("T")
INLINE = 4096  # bytes: what takes a millisecond is done at once; to a thread and back costs a tenth of one
INLINE_KINDS = (b"\x89PNG", b"\xff\xd8")  # a WebP or a GIF may unfold to megapixels from so few
BUDGET = 3.0  # seconds of processor time that the pictures of a request may take


class Endpoints:
    """Requests to answers.

    Attributes:
        judge: answers.
    """

    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        # One thread: a request waits its turn instead of sharing the processor, and the event loop stays free.
        self._worker = ThreadPoolExecutor(1, "inference")

    async def in_turn(self, function: Callable[[], T]) -> T:
        """Call a function beside the event loop."""
        context = contextvars.copy_context()  # which knows the request's id
        return await asyncio.get_running_loop().run_in_executor(self._worker, context.run, function)

    async def predict(self, request: Request) -> Response:
        """Class, probabilities and label set of one or many pictures."""
        uploads = await reading.read(request)
        answers = self._answers(uploads) if _is_little(uploads) else await self.in_turn(lambda: self._answers(uploads))
        content = {"model": self.judge.classifier.sha256, "version": self.judge.version, "answers": answers}
        return _json(content)

    async def explain(self, request: Request) -> Response:
        """PNG of the picture as the model sees it; orange is what spoke for the answer."""
        data = await reading.one(request)
        return Response(await self.in_turn(lambda: self._explanation(data)), media_type="image/png")

    async def healthz(self, _: Request) -> Response:
        """The process is up. (At `/`, a browser gets the page instead.)"""
        return _json({"status": "ok"})

    async def readyz(self, _: Request) -> Response:
        """The model answers: asked of a blank picture, in its turn."""
        blank = np.zeros((1, *self.judge.classifier.image_size), np.uint8)
        await self.in_turn(lambda: self.judge.classifier.predict(blank))
        return _json({"status": "ready"})

    def _answers(self, uploads: list[Upload]) -> list[dict[str, Any]]:
        pictures, entries = [], []
        end = time.thread_time() + BUDGET
        for name, data in uploads:
            entry: dict[str, Any] = {"name": name}
            try:
                if time.thread_time() > end:
                    raise PictureError("The pictures before took too long: send fewer at a time, or smaller ones.", 413)
                if isinstance(data, PictureError):
                    raise data
                pictures.append(self.judge.see(data))
            except PictureError as error:
                if len(uploads) == 1:
                    raise
                entry["error"] = problems.problem(error.status, error.message)
            entries.append(entry)
        if pictures:
            prediction = self.judge.predict(np.stack(pictures))
            good = (entry for entry in entries if "error" not in entry)
            for entry, row, share in zip(good, prediction.probabilities, prediction.in_distribution, strict=True):
                names = self.judge.classifier.class_names
                labels = self.judge.classifier.label_set(row)
                entry |= {
                    "class": names[labels[0]],
                    "probability": float(row[labels[0]]),
                    "probabilities": dict(zip(names, row.tolist(), strict=True)),
                    "label_set": [names[k] for k in labels],
                    "in_distribution": float(share),
                }
        return entries

    def _explanation(self, data: bytes) -> bytes:
        seen = self.judge.see(data)
        file = io.BytesIO()
        Image.fromarray(overlay(seen, self.judge.predict(seen[None]).heatmaps[0])).save(file, "PNG")
        return file.getvalue()


def _is_little(uploads: list[Upload]) -> bool:
    """Whether there is but one small picture to work on."""
    data = uploads[0][1]
    return len(uploads) == 1 and isinstance(data, bytes) and len(data) <= INLINE and data.startswith(INLINE_KINDS)


def _json(content: dict[str, Any]) -> Response:
    return Response(json.dumps(content, ensure_ascii=False), media_type="application/json")
