"""The pictures in a request: as files of a form, as base64 in JSON, or as its whole body."""

from __future__ import annotations

import base64
import binascii

from starlette.exceptions import HTTPException
from starlette.requests import Request

from app import forms
from app.pictures import PictureError

MAX_PICTURES = 64  # in one request
QUOTED = 80  # characters of a request that the answer to it repeats
RAW = ("application/octet-stream", "image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp")

Upload = tuple[str | None, bytes | PictureError]  # name; the file, or why it is none


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
    kinds = "multipart/form-data, application/json or a picture's own type"
    raise HTTPException(415, f"Send {kinds}, not {_quoted(kind)}.")


def _quoted(words: str) -> str:
    """On one line, and not too long, whatever a stranger wrote."""
    return repr(words if len(words) <= QUOTED else words[: QUOTED - 1] + "…")


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
    sentence = f'The JSON should be {{"images": [base64, …]}}, with {MAX_PICTURES} pictures at most'
    if body.count(b",") > 2 * MAX_PICTURES:  # base64 has none; of millions of values each would be read, and reported
        raise HTTPException(422, f"{sentence}.")
    # Imported here: pydantic takes a tenth of a second, and who sends files need not wait for it at the start.
    from pydantic import ValidationError

    from app.schema import FROM_JSON

    try:
        images = FROM_JSON.validate_json(body).images
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in ("body", *first["loc"]))
        raise HTTPException(422, f"{sentence}; {_quoted(where)}: {first['msg']}") from None
    return [(None, _from_base64(image)) for image in images]


def _from_base64(text: str) -> bytes | PictureError:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return PictureError("The picture is no base64.", 400)
