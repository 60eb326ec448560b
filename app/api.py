"""REST: what the page answers, for programs. Docs at /docs, schema at /openapi.json, errors as in `app.problems`.

A bad picture among good ones gets an error of its own; where all that came is one bad picture, the request itself is
refused.
"""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

import numpy as np
from fastapi import FastAPI, Request
from PIL import Image
from pydantic import BaseModel, Field
from starlette.responses import Response

from app import problems, reading
from app.front import Endpoint
from app.heat import overlay
from app.judge import Judge
from app.pictures import PictureError
from app.problems import Problem
from app.reading import Upload
from app.watch import Metrics

T = TypeVar("T")
INLINE = (
    4096  # bytes: what takes a millisecond is done at once, since handing it to a thread and back costs a tenth of it
)


class Answer(BaseModel):
    """What the model says of one picture; or, of a bad one, why not."""

    name: str | None = Field(description="the file's name, where one came with it")
    class_: str | None = Field(None, alias="class", description="the most probable class")
    probability: float | None = Field(None, description="of that class, calibrated")
    probabilities: dict[str, float] | None = Field(None, description="of every class; they sum to 1")
    label_set: list[str] | None = Field(
        None, description="the classes that hold the right one as often as `label_set_coverage` of the model says"
    )
    in_distribution: float | None = Field(
        None, description="share of validation pictures as unusual as this one; below 0.01 do not trust the answer"
    )
    error: Problem | None = None


class Answers(BaseModel):
    """What the model says of the pictures of a request, in their order."""

    model: str = Field(description="SHA-256 of the model file that answered")
    version: str = Field(description="of the project that exported it")
    answers: list[Answer]


class Model(BaseModel):
    """What the model file says of itself."""

    sha256: str
    class_names: list[str]
    image_size: list[int] = Field(description="height and width of the picture that the model sees")
    label_set_coverage: float
    label_set_threshold: float
    dataset: str
    dataset_sha256: str
    project_version: str
    params: dict[str, Any]
    metrics: dict[str, Any]
    distances: list[float] = Field(description="of the validation pictures from their class, at even shares of them")


class Status(BaseModel):
    """A sign of life."""

    status: str


def add(
    app: FastAPI, judge: Judge, worker: Executor, metrics: Metrics, example: bytes
) -> dict[tuple[str, str], Endpoint]:
    """Add the routes to an application; returns those worth a short cut, by method and path.

    Args:
        app: gets the routes and the handlers of errors.
        judge: answers.
        worker: one thread: a request waits its turn instead of sharing the processor, and the event loop stays free.
        metrics: for /metrics.
        example: a picture file for the schema.
    """
    classifier = judge.classifier
    version = str(classifier.metadata.get("project_version", ""))
    problems.handle(app)

    async def in_turn(function: Callable[[], T], size: int = INLINE + 1) -> T:
        if size <= INLINE:
            return function()
        return await asyncio.get_running_loop().run_in_executor(worker, function)

    def answers(uploads: list[Upload]) -> list[dict[str, Any]]:
        pictures, entries = [], []
        for name, data in uploads:
            entry: dict[str, Any] = {"name": name}
            try:
                if isinstance(data, PictureError):
                    raise data
                pictures.append(judge.see(data))
            except PictureError as error:
                if len(uploads) == 1:
                    raise
                entry["error"] = problems.problem(error.status, error.message)
            entries.append(entry)
        if pictures:
            prediction = judge.predict(np.stack(pictures))
            found = zip(prediction.probabilities, prediction.in_distribution, strict=True)
            for entry in entries:
                if "error" not in entry:
                    row, share = next(found)
                    labels = classifier.label_set(row)
                    names = classifier.class_names
                    entry |= {
                        "class": names[labels[0]],
                        "probability": float(row[labels[0]]),
                        "probabilities": dict(zip(names, row.tolist(), strict=True)),
                        "label_set": [names[k] for k in labels],
                        "in_distribution": float(share),
                    }
        return entries

    def explanation(data: bytes) -> bytes:
        seen = judge.see(data)
        file = io.BytesIO()
        Image.fromarray(overlay(seen, judge.predict(seen[None]).heatmaps[0])).save(file, "PNG")
        return file.getvalue()

    @app.post(
        "/v1/predict",
        tags=["model"],
        response_class=Response,
        responses={200: {"model": Answers}, **problems.declare(400, 408, 413, 415, 422)},
        openapi_extra=reading.any_way("files", example, many=True),
    )
    async def predict(request: Request) -> Response:
        """Class, probabilities and label set of one or many pictures."""
        uploads = await reading.read(request)
        size = sum(len(data) for _, data in uploads if isinstance(data, bytes))
        found = await in_turn(lambda: answers(uploads), size)
        content = {"model": classifier.sha256, "version": version, "answers": found}
        return Response(json.dumps(content, ensure_ascii=False), media_type="application/json")

    @app.post(
        "/v1/explain",
        tags=["model"],
        response_class=Response,
        responses={200: {"content": {"image/png": {}}}, **problems.declare(400, 408, 413, 415, 422)},
        openapi_extra=reading.any_way("file", example),
    )
    async def explain(request: Request) -> Response:
        """PNG of the picture as the model sees it; orange is what spoke for the answer."""
        data = await reading.one(request)
        return Response(await in_turn(lambda: explanation(data)), media_type="image/png")

    @app.get("/v1/model", tags=["model"], response_model=Model)
    async def model() -> dict[str, Any]:
        """What the model file says of itself, and its hash."""
        return {
            **dict.fromkeys(("dataset", "dataset_sha256", "project_version"), ""),
            **{key: {} for key in ("params", "metrics")},
            **classifier.metadata,
            "sha256": classifier.sha256,
            "image_size": list(classifier.image_size),
            "label_set_coverage": classifier.coverage,
            "label_set_threshold": classifier.threshold,
        }

    @app.get("/", tags=["health"], response_model=Status)
    @app.get("/healthz", tags=["health"], response_model=Status)
    async def healthz() -> dict[str, str]:
        """The process is up. (At `/`, a browser gets the page instead.)"""
        return {"status": "ok"}

    @app.get("/readyz", tags=["health"], response_model=Status)
    async def readyz() -> dict[str, str]:
        """The model answers: asked of a blank picture, in its turn."""
        blank = np.zeros((1, *classifier.image_size), np.uint8)
        await in_turn(lambda: classifier.predict(blank))
        return {"status": "ready"}

    @app.get("/metrics", tags=["health"], response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def prometheus() -> Response:
        """Counters and histograms, as Prometheus reads them."""
        return Response(metrics.text(), headers={"content-type": metrics.content_type})

    return {("POST", "/v1/predict"): predict}
