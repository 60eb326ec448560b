"""REST: what the page answers, for programs. Schema at /openapi.json, errors as in `app.problems`.

A picture comes as a multipart file, as base64 in JSON, or as the request's whole body. A bad one among good ones gets
an error of its own; where all that came is one bad picture, the request itself is refused.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, Request
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.responses import Response

from app import problems
from app.classifier import Classifier
from app.heat import overlay
from app.pictures import PictureError, decode, to_model_input
from app.problems import Problem

MAX_PICTURES = 64  # in one request
RAW = ("application/octet-stream", "image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp")


class Pictures(BaseModel):
    """Pictures in JSON."""

    model_config = ConfigDict(extra="forbid", strict=True)
    images: Annotated[list[str], Field(min_length=1, max_length=MAX_PICTURES, description="files, in base64")]


class Answer(BaseModel):
    """What the model says of one picture; or, of a bad one, why not."""

    name: str | None = Field(description="the file's name, where one came with it")
    class_: str | None = Field(None, alias="class", description="the most probable class")
    probability: float | None = Field(None, description="of that class, calibrated")
    probabilities: dict[str, float] | None = Field(None, description="of every class; they sum to 1")
    label_set: list[str] | None = Field(
        None, description="the classes that hold the right one as often as `label_set_coverage` of the model says"
    )
    error: Problem | None = None


class Answers(BaseModel):
    """What the model says of the pictures of a request, in their order."""

    model: str = Field(description="SHA-256 of the model file that answered")
    answers: list[Answer]


class Model(BaseModel):
    """What the model file says of itself."""

    sha256: str
    class_names: list[str]
    image_size: list[int] = Field(description="height and width of the picture that the model sees")
    label_set_coverage: float
    dataset: str
    dataset_sha256: str
    project_version: str
    params: dict[str, Any]
    metrics: dict[str, Any]


class Status(BaseModel):
    """A sign of life."""

    status: str


FROM_JSON = TypeAdapter(Pictures)
Upload = tuple[str | None, bytes | PictureError]  # name, file or why it is none


def _body(*, many: bool) -> dict[str, Any]:
    """OpenAPI's description of the request body."""
    file = {"type": "string", "format": "binary"}
    files = (
        {"files": {"type": "array", "items": file, "minItems": 1, "maxItems": MAX_PICTURES}} if many else {"file": file}
    )
    form = {"type": "object", "properties": files, "required": list(files)}
    content: dict[str, Any] = {"multipart/form-data": {"schema": form}, **{kind: {"schema": file} for kind in RAW}}
    if many:
        content["application/json"] = {"schema": Pictures.model_json_schema()}
    return {"requestBody": {"required": True, "content": content}}


def add(app: FastAPI, classifier: Classifier, max_bytes: int) -> None:
    """Add the routes to an application.

    Args:
        app: gets the routes and the handlers of errors.
        classifier: answers.
        max_bytes: the largest picture file accepted.
    """
    problems.handle(app)
    # One thread: a request waits its turn instead of sharing the processor, and the event loop stays free.
    worker = ThreadPoolExecutor(1, "inference")

    def judge(uploads: list[Upload]) -> list[dict[str, Any]]:
        pictures, answers = [], []
        for name, data in uploads:
            entry: dict[str, Any] = {"name": name}
            try:
                if isinstance(data, PictureError):
                    raise data
                pictures.append(to_model_input(decode(data, max_bytes), classifier.image_size))
            except PictureError as error:
                if len(uploads) == 1:
                    raise
                entry["error"] = problems.problem(error.status, error.message)
            answers.append(entry)
        found = classifier.predict(np.stack(pictures)).probabilities if pictures else np.empty((0, 0), np.float32)
        rows = iter(found)
        for entry in answers:
            if "error" not in entry:
                row = next(rows)
                names = classifier.class_names
                labels = classifier.label_set(row)
                entry |= {
                    "class": names[labels[0]],
                    "probability": float(row[labels[0]]),
                    "probabilities": {n: float(p) for n, p in zip(names, row, strict=True)},
                    "label_set": [names[k] for k in labels],
                }
        return answers

    def explain(data: bytes) -> bytes:
        seen = to_model_input(decode(data, max_bytes), classifier.image_size)
        file = io.BytesIO()
        Image.fromarray(overlay(seen, classifier.predict(seen[None]).heatmaps[0])).save(file, "PNG")
        return file.getvalue()

    @app.post(
        "/v1/predict",
        tags=["model"],
        response_class=Response,
        responses={200: {"model": Answers}, **problems.declare(400, 413, 415, 422)},
        openapi_extra=_body(many=True),
    )
    async def predict(request: Request) -> Response:
        """Class, probabilities and label set of one or many pictures."""
        uploads = await _read(request)
        answers = await asyncio.get_running_loop().run_in_executor(worker, judge, uploads)
        return _json({"model": classifier.sha256, "answers": answers})

    @app.post(
        "/v1/explain",
        tags=["model"],
        response_class=Response,
        responses={200: {"content": {"image/png": {}}}, **problems.declare(400, 413, 415, 422)},
        openapi_extra=_body(many=False),
    )
    async def explain_route(request: Request) -> Response:
        """PNG of the picture as the model sees it; orange is what spoke for the answer."""
        uploads = await _read(request)
        if len(uploads) != 1:
            raise HTTPException(422, f"Send one picture, not {len(uploads)}.")
        data = uploads[0][1]
        if isinstance(data, PictureError):
            raise data
        return Response(await asyncio.get_running_loop().run_in_executor(worker, explain, data), media_type="image/png")

    @app.get("/v1/model", tags=["model"], response_model=Model)
    async def model() -> dict[str, Any]:
        """What the model file says of itself, and its hash."""
        about = {key: classifier.metadata.get(key, "") for key in ("dataset", "dataset_sha256", "project_version")}
        return {
            **about,
            "sha256": classifier.sha256,
            "class_names": classifier.class_names,
            "image_size": classifier.image_size,
            "label_set_coverage": classifier.coverage,
            "params": classifier.metadata.get("params", {}),
            "metrics": classifier.metadata.get("metrics", {}),
        }

    @app.get("/healthz", tags=["health"], response_model=Status)
    async def healthz() -> dict[str, str]:
        """The process is up."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["health"], response_model=Status)
    async def readyz() -> dict[str, str]:
        """The model answers: asked of a blank picture, in its turn."""
        blank = np.zeros((1, *classifier.image_size), np.uint8)
        await asyncio.get_running_loop().run_in_executor(worker, classifier.predict, blank)
        return {"status": "ready"}


async def _read(request: Request) -> list[Upload]:
    """The pictures of a request.

    Raises:
        HTTPException: 415 for a content type that is not taken, 400 or 422 for a body that does not hold what it says.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        async with request.form(max_files=MAX_PICTURES, max_fields=MAX_PICTURES) as form:
            parts = [part for _, part in form.multi_items()]
            if not parts or not all(isinstance(part, UploadFile) for part in parts):
                raise HTTPException(422, "Every part of the form should be a picture file, and there should be one.")
            return [(part.filename, await part.read()) for part in parts if isinstance(part, UploadFile)]
    if kind == "application/json":
        try:
            images = FROM_JSON.validate_json(await request.body()).images
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(str(part) for part in ("body", *first["loc"]))
            sentence = f'The JSON should be {{"images": [base64, …]}}; {where}: {first["msg"]}'
            raise HTTPException(422, sentence) from None
        return [(None, _from_base64(image)) for image in images]
    if kind in RAW:
        return [(None, await request.body())]
    raise HTTPException(415, f"Send multipart/form-data, application/json or a picture's own type, not {kind!r}.")


def _from_base64(text: str) -> bytes | PictureError:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return PictureError("The picture is no base64.", 400)


def _json(content: dict[str, Any]) -> Response:
    return Response(json.dumps(content, ensure_ascii=False), media_type="application/json")
