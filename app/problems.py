"""Errors as RFC 9457 problem details: one sentence for a person, in JSON that programs know."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from app.pictures import PictureError

MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """What went wrong."""

    type: str = Field(examples=["about:blank"])
    title: str = Field(examples=["Unsupported Media Type"])
    status: int = Field(examples=[415])
    detail: str = Field(examples=["This is not a picture in a format known here: PNG, JPEG, WebP, GIF or BMP."])


def problem(status: int, detail: str) -> dict[str, Any]:
    """The members of a problem whose type says no more than its status."""
    return {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}


def answer(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    """A problem as the answer to a request."""
    return Response(json.dumps(problem(status, detail)), status, headers, MEDIA_TYPE)


def declare(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's description of these answers."""
    schema = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return {s: {"description": HTTPStatus(s).phrase, "content": {MEDIA_TYPE: schema}} for s in statuses}


def handle(app: FastAPI) -> None:
    """Answer every error of the application's own routes with a problem."""

    async def handler(_: Request, error: Exception) -> Response:
        return of(error)

    for kind in (PictureError, HTTPException, RequestValidationError, Exception):
        app.add_exception_handler(kind, handler)


def of(error: Exception) -> Response:
    """The answer to an error."""
    if isinstance(error, PictureError):
        return answer(error.status, error.message)
    if isinstance(error, HTTPException):
        return answer(error.status_code, str(error.detail), dict(error.headers or {}))
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        return answer(422, f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}")
    # The log has the rest, under the request's id.
    return answer(500, "Something went wrong here; the answer's X-Request-ID finds it in the log.")
