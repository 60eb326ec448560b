"""What the app tells whoever runs it: metrics for Prometheus, a line of log a request, a name for every request.

No picture, file name or body is in any of it.
"""

from __future__ import annotations

import json
import logging
import re
import time
import traceback
import uuid
from contextvars import ContextVar
from typing import Any

import numpy.typing as npt
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.classifier import Classifier

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
SHARES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
REQUEST_ID = b"x-request-id"
ROUTE = "atelier.route"  # in an ASGI scope: what `Front` knows of the route; of the rest FastAPI does
TRUSTED_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")  # anything else from outside is replaced
ROUTINE = ("/healthz", "/readyz", "/metrics", "page")  # not logged while all is well: they would hide the rest

REQUEST: ContextVar[str] = ContextVar("request", default="")  # the id of the request that is being answered

log = logging.getLogger("atelier.request")
# The time that each counter began, as a gauge of its own, is twice the lines for nothing.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """Counters of one application, in a registry of their own."""

    content_type = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(self, classifier: Classifier, version: str = "") -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.requests = Counter(
            "atelier_http_requests", "Requests answered.", ("method", "route", "status"), registry=registry
        )
        self.seconds = Histogram(
            "atelier_http_request_seconds", "Time to the end of the answer.", ("route",), buckets=SECONDS,
            registry=registry,
        )  # fmt: skip
        self.predictions = Counter(
            "atelier_predictions", "Pictures classified, by top class.", ("label",), registry=registry
        )
        self.refusals = Counter("atelier_pictures_refused", "Pictures refused.", ("status",), registry=registry)
        self.confidence = Histogram(
            "atelier_prediction_confidence", "Probability of the top class.", buckets=SHARES, registry=registry
        )
        self.in_distribution = Histogram(
            "atelier_prediction_in_distribution", "Share of validation pictures as unusual.", buckets=SHARES,
            registry=registry,
        )  # fmt: skip
        self.labels = classifier.class_names
        for name in self.labels:
            self.predictions.labels(name)  # a class that was never seen is 0, not absent
        model = {
            "sha256": classifier.sha256,
            "dataset": str(classifier.metadata.get("dataset", "")),
            "version": version or str(classifier.metadata.get("project_version", "")),
        }
        Gauge("atelier_model_info", "The model that answers.", tuple(model), registry=registry).labels(**model).set(1)

    def classified(self, probabilities: npt.NDArray[Any], in_distribution: npt.NDArray[Any]) -> None:
        """Count pictures: probabilities [N, K] and their in_distribution [N]."""
        for row, share in zip(probabilities, in_distribution, strict=True):
            top = int(row.argmax())
            self.predictions.labels(self.labels[top]).inc()
            self.confidence.observe(float(row[top]))
            self.in_distribution.observe(float(share))

    def refused(self, status: int) -> None:
        """Count a picture that was refused."""
        self.refusals.labels(str(status)).inc()

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self.registry)


class Watch:
    """ASGI middleware: request ids in and out, metrics, a line of log a request."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        name = _request_id(scope)
        status = 0
        REQUEST.set(name.decode())

        async def named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (REQUEST_ID, name)]
            await send(message)

        failure = None
        try:
            await self.app(scope, receive, named)
        except Exception as error:
            failure = error
            if not status:
                raise
            # Answered with a 500 already: logged once, below, with the request's id.
        finally:
            self._note(scope, status, time.perf_counter() - started, name.decode(), failure)

    def _note(self, scope: Scope, status: int, seconds: float, name: str, failure: Exception | None) -> None:
        # A route and not a path: of paths from outside there is no end.
        route = scope.get(ROUTE) or getattr(scope.get("route"), "path", "other")
        method = scope["method"] if scope["method"] in ("GET", "POST", "HEAD", "OPTIONS") else "other"
        self.metrics.requests.labels(method, route, str(status)).inc()
        self.metrics.seconds.labels(route).observe(seconds)
        if status < 400 and status and route in ROUTINE:
            return
        path = scope.get("raw_path", b"").decode("latin-1")[:200]
        log.log(
            logging.ERROR if status >= 500 else logging.INFO,
            "%s %s %s %.1f ms", scope["method"], path, status or "gone", seconds * 1000,
            exc_info=failure,
            extra={
                "request_id": name,
                "http": {
                    "requestMethod": scope["method"],
                    "requestUrl": path,
                    "status": status,
                    "latency": f"{seconds:.6f}s",
                },
            },
        )  # fmt: skip


def _request_id(scope: Scope) -> bytes:
    for key, value in scope["headers"]:
        if key == REQUEST_ID and TRUSTED_ID.fullmatch(value):
            return bytes(value)
    return uuid.uuid4().hex.encode()


class JsonLines(logging.Formatter):
    """A JSON object a line, with the field names that Google's Cloud Logging knows."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "severity": record.levelname,
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z",
            "message": record.getMessage(),
        }
        if hasattr(record, "request_id"):
            entry["request_id"] = record.request_id
        if hasattr(record, "http"):
            entry["httpRequest"] = record.http
        if record.exc_info and record.exc_info[0]:
            entry["exception"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(entry, ensure_ascii=False, default=str)


def set_up_logging(style: str) -> None:
    """Log to stderr, as ``text`` for a person at a terminal or as ``json``."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if style == "json" else logging.Formatter("%(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("atelier").setLevel(logging.INFO)
