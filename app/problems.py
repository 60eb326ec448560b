"""Errors as RFC 9457 problem details: one sentence for a person, in JSON that programs know."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import Response

from app.pictures import PictureError

MEDIA_TYPE = "application/problem+json"


def problem(status: int, detail: str) -> dict[str, Any]:
    """The members of a problem whose type says no more than its status."""
    return {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}


def answer(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    """A problem as the answer to a request."""
    return Response(json.dumps(problem(status, detail)), status, headers, MEDIA_TYPE)


def of(error: Exception) -> Response:
    """The answer to an error."""
    if isinstance(error, PictureError):
        return answer(error.status, error.message)
    if isinstance(error, HTTPException):
        return answer(error.status_code, str(error.detail), dict(error.headers or {}))
    # The log has the rest, under the request's id.
    return answer(500, "Something went wrong here; the answer's X-Request-ID finds it in the log.")
