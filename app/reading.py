"""The pictures in a request: as files of a form, as base64 in JSON, or as its whole body."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.exceptions import HTTPException

from app import forms
from app.pictures import PictureError

MAX_PICTURES = 64  # in one request
RAW = ("application/octet-stream", "image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp")
FILE = {"type": "string", "format": "binary"}

Upload = tuple[str | None, bytes | PictureError]  # name; the file, or why it is none


class Pictures(BaseModel):
    """Pictures in JSON."""

    model_config = ConfigDict(extra="forbid", strict=True)
    images: Annotated[list[str], Field(min_length=1, max_length=MAX_PICTURES, description="files, in base64")]


FROM_JSON = TypeAdapter(Pictures)


def form(field: str, *, many: bool = False) -> dict[str, Any]:
    """OpenAPI's description of a body that is a form with a picture, or with several, in a field."""
    files = {"type": "array", "items": FILE, "minItems": 1, "maxItems": MAX_PICTURES} if many else FILE
    schema = {"type": "object", "properties": {field: files}, "required": [field], "additionalProperties": False}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


def any_way(field: str, example: bytes, *, many: bool = False) -> dict[str, Any]:
    """OpenAPI's description of a body in any of the ways that `read` knows.

    Args:
        field: the form's.
        example: a picture file that the JSON example shows.
        many: whether JSON, and several pictures, are taken.
    """
    body = form(field, many=many)
    content = body["requestBody"]["content"]
    content |= {kind: {"schema": FILE} for kind in RAW}
    if many:
        shown = {"images": [base64.b64encode(example).decode()]}
        content["application/json"] = {"schema": Pictures.model_json_schema(), "example": shown}
    return body


async def read(request: Request) -> list[Upload]:
    """The pictures of a request, at least one.

    Raises:
        HTTPException: 415 for a content type that is not taken, 400 or 422 for a body that does not hold what it says.
    """
    content_type = request.headers.get("content-type", "")
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return _from_form(await request.body(), content_type)
    if kind == "application/json":
        return _from_json(await request.body())
    if kind in RAW:
        return [(None, await request.body())]
    raise HTTPException(415, f"Send multipart/form-data, application/json or a picture's own type, not {kind!r}.")


async def one(request: Request) -> bytes:
    """The one picture of a request.

    Raises:
        HTTPException: as `read` does, and 422 for more than one.
        PictureError: it is no base64.
    """
    uploads = await read(request)
    if len(uploads) != 1:
        raise HTTPException(422, f"Send one picture, not {len(uploads)}.")
    data = uploads[0][1]
    if isinstance(data, PictureError):
        raise data
    return data


def _from_form(body: bytes, content_type: str) -> list[Upload]:
    parts = forms.parts(body, content_type, MAX_PICTURES)
    if not parts or any(name is None for name, _ in parts):
        raise HTTPException(422, "Every part of the form should be a picture file, and there should be one.")
    return list(parts)


def _from_json(body: bytes) -> list[Upload]:
    try:
        images = FROM_JSON.validate_json(body).images
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in ("body", *first["loc"]))
        sentence = f'The JSON should be {{"images": [base64, …]}}; {where}: {first["msg"]}'
        raise HTTPException(422, sentence) from None
    return [(None, _from_base64(image)) for image in images]


def _from_base64(text: str) -> bytes | PictureError:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return PictureError("The picture is no base64.", 400)
