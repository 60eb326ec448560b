"""REST for those who look before they call: docs at /docs, schema at /openapi.json, errors as in `app.problems`."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.responses import Response

from app import classic, exhibits, problems, reading, schema
from app.endpoints import Endpoints
from app.exhibits import Samples
from app.feedback import FeedbackError, client
from app.pictures import PictureError
from app.watch import Metrics


def create(endpoints: Endpoints, metrics: Metrics, samples: Samples) -> FastAPI:
    """The REST routes as an application.

    Args:
        endpoints: answer.
        metrics: for /metrics.
        samples: for the course project's routes, and for the example in the schema.
    """
    classifier = endpoints.judge.classifier
    example = exhibits.example(samples)
    # As FastAPI, but its docs load nothing from another machine.
    app = FastAPIOffline(
        title="Atelier",
        version=endpoints.judge.version or "0",
        description="Names the garment on a picture.",
        redoc_url=None,
        exception_handlers=dict.fromkeys((RequestValidationError, HTTPException, Exception), _problem),
    )
    app.add_exception_handler(PictureError, _problem)
    app.post(
        "/v1/predict",
        tags=["model"],
        response_class=Response,
        responses={200: {"model": schema.Answers}, **schema.problems(400, 408, 413, 415, 422)},
        openapi_extra=schema.any_way("files", example, many=True),
    )(endpoints.predict)
    app.post(
        "/v1/explain",
        tags=["model"],
        response_class=Response,
        responses={200: {"content": {"image/png": {}}}, **schema.problems(400, 408, 413, 415, 422)},
        openapi_extra=schema.any_way("file", example),
    )(endpoints.explain)

    @app.get("/v1/model", tags=["model"], response_model=schema.Model)
    async def model() -> dict[str, Any]:
        """What the model file says of itself, and its hash."""
        return {
            **dict.fromkeys(("dataset", "dataset_sha256", "project_version"), ""),
            **{key: {} for key in ("params", "metrics")},
            **classifier.metadata,
            "sha256": classifier.sha256,
            "version": endpoints.judge.version,
            "image_size": list(classifier.image_size),
            "label_set_coverage": classifier.coverage,
            "label_set_threshold": classifier.threshold,
        }

    @app.post(
        "/v1/feedback",
        tags=["model"],
        status_code=201,
        response_model=schema.Taken,
        responses=schema.problems(400, 404, 408, 413, 415, 422, 429, 503),
        openapi_extra=schema.any_way("file", example),
    )
    async def feedback(
        request: Request,
        name: Annotated[str, Query(alias="class", description="the right one")],
    ) -> dict[str, str]:
        """Say what the right class of a picture is. The small grey picture that the model saw is kept for a review."""
        if not (taking := endpoints.judge.feedback):
            raise HTTPException(404, "This app takes no feedback.")
        data = await reading.one(request)
        seen = await endpoints.in_turn(lambda: endpoints.judge.see(data))
        who = client(request.client and request.client.host, request.headers)
        try:
            # Not in turn: a slow disk is to hold up nobody else.
            said = await asyncio.to_thread(taking.take, seen, name, who)
        except FeedbackError as error:
            retry = {"retry-after": str(error.wait)} if error.wait else None
            raise HTTPException(error.status, error.message, retry) from None
        return {"class": name, "said": said}

    life: dict[str, Any] = {
        "tags": ["health"],
        "response_class": Response,
        "responses": {200: {"model": schema.Status}},
    }
    app.get("/", **life)(endpoints.healthz)
    app.get("/healthz", **life)(endpoints.healthz)
    app.get("/readyz", **life)(endpoints.readyz)

    @app.get("/metrics", tags=["health"], response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def prometheus() -> Response:
        """Counters and histograms, as Prometheus reads them."""
        return Response(metrics.text(), headers={"content-type": metrics.content_type})

    @app.get("/drift", tags=["health"], response_model=schema.Drift, responses=schema.problems(404))
    async def drift() -> dict[str, Any]:
        """How far what this instance answered lies from the validation split, window by window; 1 is the threshold."""
        monitor = endpoints.judge.monitor
        if isinstance(monitor, str):
            raise HTTPException(404, monitor)
        return monitor.state()

    classic.add(app, endpoints, samples)
    return app


async def _problem(_: Request, error: Exception) -> Response:
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        return problems.answer(422, f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}")
    return problems.of(error)
