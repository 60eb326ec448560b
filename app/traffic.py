"""The traffic log: a row a picture that was answered, as Parquet files in a folder, as JSON lines on stdout, or both.

A thread of its own measures and writes. An answer only leaves its picture in a queue, and where the queue is full, for
a disk or a pipe is slow, the row is dropped and counted. No picture is written unless that is asked for.
"""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from prometheus_client import CollectorRegistry, Counter

from app import drift
from app.classifier import PROJECTIONS, Classifier, Prediction
from app.pictures import MB

TICK = 1.0  # seconds between two looks at what has come
ROWS, SECONDS = 2000, 60.0  # a file is written when it would hold so many rows, or when its first row is so old
WAITING = 2048  # pictures that may wait to be measured
LEAVE = 2.0  # seconds that the last file may take when the app ends
NAME = "traffic-*.parquet"

log = logging.getLogger("atelier")
Row = dict[str, Any]


@dataclass(frozen=True)
class _Answered:
    time: float
    request: str
    pictures: npt.NDArray[np.uint8]
    prediction: Prediction


class Traffic:
    """Writes down what was answered."""

    def __init__(
        self,
        classifier: Classifier,
        version: str,
        registry: CollectorRegistry,
        *,
        folder: Path | None,
        lines: bool = False,
        max_bytes: int = 500 * MB,
        keep_pictures: bool = False,
    ) -> None:
        """Args:
        classifier: what answers.
        version: of that model.
        registry: where the counters go.
        folder: for Parquet files; None writes none.
        lines: whether a JSON line a picture goes to stdout.
        max_bytes: of the folder's files together; beyond it, the oldest go.
        keep_pictures: whether a file also holds each picture as the model saw it, as PNG.
        """
        self._classifier, self._version = classifier, version
        self._folder, self._lines, self._max_bytes, self._keep = folder, lines, max_bytes, keep_pictures
        self._queue: deque[_Answered] = deque()
        self._waiting = 0
        self._lock = threading.Lock()
        self._rows: list[Row] = []
        self._since = 0.0
        self._over = threading.Event()
        self._instance = uuid.uuid4().hex[:8]  # several may write into one folder
        self._written = Counter("atelier_traffic_rows", "Rows written to the traffic log.", registry=registry)
        self._dropped = Counter(
            "atelier_traffic_rows_dropped", "Rows not written: the disk was too slow, or failed.", registry=registry
        )
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)
        self._thread.start()

    def observe(self, pictures: npt.NDArray[np.uint8], prediction: Prediction, request: str) -> None:
        """Leave pictures uint8 [N, H, W] and what was said of them to be written down; never waits.

        `request` is the id of the request that brought them.
        """
        with self._lock:
            if self._waiting + len(pictures) > WAITING or self._over.is_set():
                self._dropped.inc(len(pictures))
                return
            self._waiting += len(pictures)
            self._queue.append(_Answered(time.time(), request, pictures, prediction))

    def close(self) -> None:
        """Write what is left, within LEAVE seconds."""
        self._over.set()
        self._thread.join(LEAVE)

    def _run(self) -> None:
        over = False
        while not over:
            over = self._over.wait(TICK)
            try:
                self._look(over)
            except Exception:
                log.exception("The traffic log cannot be written; %d rows are lost.", len(self._rows))
                self._dropped.inc(len(self._rows))
                self._rows = []

    def _look(self, last: bool) -> None:
        with self._lock:
            answered, self._waiting = list(self._queue), 0
            self._queue.clear()
        if answered:
            rows = self._measure(answered)
            if self._lines:
                text = "".join(
                    json.dumps({"severity": "INFO", "message": "answered", "traffic": r}) + "\n" for r in rows
                )
                sys.stdout.write(text)
                sys.stdout.flush()
            if self._folder:
                self._since = self._since if self._rows else answered[0].time
                pictures = np.concatenate([item.pictures for item in answered]) if self._keep else ()
                for row, picture in zip(rows, pictures, strict=False):
                    row["picture"] = _png(picture)
                self._rows += rows
            else:
                self._written.inc(len(rows))
        if self._rows and (last or len(self._rows) >= ROWS or time.time() - self._since >= SECONDS):
            assert self._folder
            # No system minds such a name, and by name is by time.
            name = f"traffic-{stamp(self._since).replace(':', '').replace('-', '')}-{self._instance}.parquet"
            write(self._folder / name, self._rows)
            self._written.inc(len(self._rows))
            self._rows = []
            _tidy(self._folder, self._max_bytes)

    def _measure(self, answered: Sequence[_Answered]) -> list[Row]:
        pictures = np.concatenate([item.pictures for item in answered])
        said = Prediction(
            np.concatenate([item.prediction.probabilities for item in answered]),
            answered[0].prediction.heatmaps[:0],  # of no use here
            np.concatenate([item.prediction.in_distribution for item in answered]),
            np.concatenate([item.prediction.projections for item in answered]),
        )
        found = drift.measure(pictures, said, self._classifier.threshold)
        who = [(item.time, item.request) for item in answered for _ in item.pictures]
        return [
            {
                "time": stamp(when),
                "request_id": request,
                "model": self._classifier.sha256,
                "version": self._version,
                "class": self._classifier.class_names[int(found.classes[k])],
                **{name: round(float(found.ordered[name][k]), 6) for name in drift.ORDERED},
                "label_set_size": int(found.sizes[k]),
                "in_distribution": round(float(said.in_distribution[k]), 6),
                **{f"projection_{d}": round(float(found.projections[k, d]), 5) for d in range(PROJECTIONS)},
            }
            for k, (when, request) in enumerate(who)
        ]


def stamp(seconds: float) -> str:
    """A moment in UTC to the millisecond, as it stands in rows: 2026-11-27T19:00:00.000Z."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1000):03}Z"


def write(file: Path, rows: Sequence[Row]) -> None:
    """Write rows as a Parquet file, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    # Imported here, in the thread that needs it: pandas takes half a second.
    import fastparquet
    import pandas

    file.parent.mkdir(parents=True, exist_ok=True)
    scratch = file.with_name(f".{file.name}.part")
    try:
        frame = pandas.DataFrame(list(rows))
        frame["time"] = pandas.to_datetime(frame["time"]).dt.tz_convert(None)  # UTC, as all of it
        fastparquet.write(str(scratch), frame, compression="SNAPPY")
        scratch.replace(file)
    finally:
        scratch.unlink(missing_ok=True)


def _tidy(folder: Path, max_bytes: int) -> None:
    """Remove the oldest files, by the moment in their names, until the rest fit."""
    files = sorted(folder.glob(NAME), reverse=True)
    total = 0
    for file in files:
        total += file.stat().st_size
        if total > max_bytes:
            file.unlink(missing_ok=True)


def _png(picture: npt.NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()
