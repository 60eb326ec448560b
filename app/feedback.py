"""What users say the right class is: the picture as the model saw it, kept in class folders until somebody reviews it.

    FEEDBACK_DIR/pending/<class>/<hash>.png    grey, of the model's size: no metadata, no file name, no larger picture
    FEEDBACK_DIR/pending/<class>/<hash>.json   when, and what the model said

The same picture under the same class is one file, however often it is sent.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from prometheus_client import CollectorRegistry, Counter

from app.classifier import Classifier

PENDING = "pending"
MOST = 10_000  # pictures that may wait for a review
PER_MINUTE = 60  # pictures from all clients together
PER_CLIENT = 10  # pictures a minute from one
CLIENTS = 1000  # that are told apart at a time


class FeedbackError(Exception):
    """Feedback was not taken.

    Attributes:
        status: of HTTP.
        message: one sentence for a person.
        wait: seconds until another try may succeed; 0 where none will.
    """

    def __init__(self, status: int, message: str, wait: int = 0) -> None:
        super().__init__(message)
        self.status, self.message, self.wait = status, message, wait


class Rate:
    """A token bucket: so many at once, and as many again in a minute."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._left = float(per_minute)
        self._at = time.monotonic()

    def wait(self) -> float:
        """Seconds until there is a token; 0 now."""
        now = time.monotonic()
        self._left = min(self._per_minute, self._left + (now - self._at) * self._per_minute / 60)
        self._at = now
        return max(0.0, 1 - self._left) * 60 / self._per_minute

    def take(self) -> None:
        """Use one."""
        self._left -= 1


class Feedback:
    """Takes what users say, within limits."""

    def __init__(self, folder: Path, classifier: Classifier, version: str, registry: CollectorRegistry) -> None:
        """Args:
        folder: what is called FEEDBACK_DIR above; made if it is not there.
        classifier: what answers, and so knows the classes.
        version: of that model.
        registry: where the counter goes.

        Raises:
            OSError: the folder cannot be written to.
        """
        self._pending = folder / PENDING
        self._pending.mkdir(parents=True, exist_ok=True)
        self._classifier, self._version = classifier, version
        self._all = Rate(PER_MINUTE)
        self._clients: OrderedDict[str, Rate] = OrderedDict()
        self._lock = threading.Lock()
        self._taken = Counter("atelier_feedback", "Pictures whose class users told.", ("label",), registry=registry)
        for name in classifier.class_names:
            self._taken.labels(name)

    def take(self, seen: npt.NDArray[np.uint8], name: str, client: str) -> str:
        """Keep a picture uint8 [H, W], as the model sees it, under the class that `client` says is right.

        Returns:
            The class that the model itself gives.

        Raises:
            FeedbackError: 422 no such class; 429 too many; 503 too many wait for a review, or the disk is full.
        """
        if name not in self._classifier.class_names:
            raise FeedbackError(422, f"The class should be one of {', '.join(self._classifier.class_names)}.")
        with self._lock:
            self._count(client)
        prediction = self._classifier.predict(seen[None])
        said = self._classifier.class_names[int(prediction.probabilities[0].argmax())]
        record = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "model": self._classifier.sha256,
            "version": self._version,
            "said": said,
            "probability": round(float(prediction.probabilities[0].max()), 6),
            "in_distribution": round(float(prediction.in_distribution[0]), 6),
        }
        try:
            self._write(seen, name, record)
        except OSError:
            raise FeedbackError(503, "This cannot be kept at the moment; please try again later.", 60) from None
        self._taken.labels(name).inc()
        return said

    def _count(self, client: str) -> None:
        own = self._clients.pop(client, None) or Rate(PER_CLIENT)
        self._clients[client] = own
        if len(self._clients) > CLIENTS:
            self._clients.popitem(last=False)
        wait = max(self._all.wait(), own.wait())
        if wait > 0:
            seconds = math.ceil(wait)
            raise FeedbackError(429, f"That was much at once; please try again in {seconds} s.", seconds)
        self._all.take()
        own.take()

    def _write(self, seen: npt.NDArray[np.uint8], name: str, record: Mapping[str, object]) -> None:
        folder = self._pending / folder_name(name)
        stem = hashlib.sha256(np.ascontiguousarray(seen).tobytes()).hexdigest()[:16]
        if (folder / f"{stem}.png").exists():
            return
        if sum(1 for _ in self._pending.glob("*/*.png")) >= MOST:
            raise FeedbackError(503, "So much waits for a review that no more is taken at the moment.")
        png = io.BytesIO()
        Image.fromarray(seen).save(png, "PNG")
        folder.mkdir(exist_ok=True)
        # The picture last: what has one is whole.
        _write(folder / f"{stem}.json", json.dumps(record, ensure_ascii=False).encode())
        _write(folder / f"{stem}.png", png.getvalue())


def folder_name(name: str) -> str:
    """A class as the name of a folder: no system lets that hold a slash, which "T-shirt/top" does."""
    return name.replace("/", "-")


def client(host: str | None, headers: Mapping[str, str]) -> str:
    """Who asks: the address of the other end, or, on Cloud Run, what its front adds as the last of the forwarded."""
    forwarded = headers.get("x-forwarded-for", "")
    # Anywhere else the header may be anybody's invention.
    return forwarded.rpartition(",")[2].strip()[:64] if forwarded and os.environ.get("K_SERVICE") else host or ""


def _write(file: Path, data: bytes) -> None:
    scratch = file.with_name(f".{file.name}.part")
    try:
        scratch.write_bytes(data)
        scratch.replace(file)
    finally:
        scratch.unlink(missing_ok=True)
