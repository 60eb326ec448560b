"""Drift while the app serves: every picture answered joins a window, every full window is tested beside the answers."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from prometheus_client import CollectorRegistry, Counter, Gauge

from app import drift
from app.classifier import Classifier, Prediction

HISTORY = 200  # windows that are remembered
WAITING = 4  # full windows that may wait for their test; beyond, they are dropped and counted

log = logging.getLogger("atelier")


class Monitor:
    """Takes what was answered, and tells how far it lies from the validation split.

    A process has a monitor of its own: with several instances, each judges what it answered itself.
    """

    def __init__(self, reference: drift.Reference, classifier: Classifier, registry: CollectorRegistry) -> None:
        """Args:
        reference: of the model that answers.
        classifier: that model.
        registry: where the gauges go.
        """
        if reference.grid.classes != len(classifier.class_names):
            raise drift.ReferenceError("reference.json is of a model with other classes: no drift is told.")
        self.reference = reference
        self._classifier = classifier
        self._lock = threading.Lock()
        self._open: list[tuple[npt.NDArray[np.uint8], Prediction]] = []
        self._count = 0
        self._seen = 0
        self._waiting = 0
        self._windows: deque[dict[str, Any]] = deque(maxlen=HISTORY)
        self._worker = ThreadPoolExecutor(1, "drift")
        self._statistic = Gauge(
            "atelier_drift_statistic", "How far the last window lay from validation.", ("feature",), registry=registry
        )
        self._alarm = Gauge(
            "atelier_drift_alarm", "Whether the last window lay beyond the threshold.", ("feature",), registry=registry
        )
        threshold = Gauge(
            "atelier_drift_threshold", "Beyond it a window is no clean one.", ("feature",), registry=registry
        )
        self._alarms = Counter("atelier_drift_alarms", "Windows beyond the threshold.", ("feature",), registry=registry)
        self._done = Counter("atelier_drift_windows", "Windows tested.", registry=registry)
        self._dropped = Counter("atelier_drift_windows_dropped", "Windows not tested, for want of time.",
                                registry=registry)  # fmt: skip
        for name, value in zip(drift.NAMES, reference.thresholds, strict=True):
            threshold.labels(name).set(float(value))
            self._alarm.labels(name).set(0)
            self._alarms.labels(name)
            self._statistic.labels(name).set(0)

    def observe(self, pictures: npt.NDArray[np.uint8], prediction: Prediction) -> None:
        """Remember pictures uint8 [N, H, W] and what was said of them; a full window is tested in another thread."""
        with self._lock:
            self._seen += len(pictures)
            self._open.append((pictures, _cut(prediction, slice(None))))
            self._count += len(pictures)
            while self._count >= self.reference.window:
                self._close()

    def _close(self) -> None:
        """Take a window's worth off what has come together; what is over begins the next."""
        pictures = np.concatenate([part for part, _ in self._open])
        parts = [prediction for _, prediction in self._open]
        whole = Prediction(
            *(np.concatenate([getattr(part, name) for part in parts]) for name in Prediction.__dataclass_fields__)
        )
        window = self.reference.window
        first, rest = _cut(whole, slice(None, window)), _cut(whole, slice(window, None))
        self._open = [(pictures[window:].copy(), rest)] if len(pictures) > window else []
        self._count -= window
        if self._waiting >= WAITING:
            self._dropped.inc()
            return
        self._waiting += 1
        self._worker.submit(self._test, pictures[:window], first)

    def _test(self, pictures: npt.NDArray[np.uint8], prediction: Prediction) -> None:
        try:
            measured = drift.measure(pictures, prediction, self._classifier.threshold)
            found = self.reference.judge(measured)
            alarms = found > self.reference.thresholds
            for name, value, alarm in zip(drift.NAMES, found, alarms, strict=True):
                self._statistic.labels(name).set(float(value))
                self._alarm.labels(name).set(int(alarm))
                self._alarms.labels(name).inc(int(alarm))
            self._done.inc()
            ratios = dict(zip(drift.NAMES, (found / self.reference.thresholds).round(4).tolist(), strict=True))
            entry = {
                "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                # 1 is the threshold.
                "ratios": ratios,
                "alarms": [name for name, alarm in zip(drift.NAMES, alarms, strict=True) if alarm],
            }
            with self._lock:
                self._windows.append(entry)
            if entry["alarms"]:
                worst = max(ratios, key=lambda name: ratios[name])
                log.warning("Drift in the last %d pictures: %s, most of all %s.", len(pictures),
                            ", ".join(entry["alarms"]), worst)  # fmt: skip
        except Exception:
            log.exception("A window could not be tested for drift.")
        finally:
            with self._lock:
                self._waiting -= 1

    def state(self) -> dict[str, Any]:
        """What is known, oldest window first."""
        with self._lock:
            windows, seen, count = list(self._windows), self._seen, self._count
        last = windows[-1] if windows else None
        return {
            "window": self.reference.window,
            "validation_pictures": self.reference.pictures,
            "pictures": seen,
            "pictures_waiting": count,
            "alarm": bool(last and last["alarms"]),
            "features": list(drift.NAMES),
            "windows": windows,
        }

    def settle(self) -> None:
        """Wait until every full window is tested."""
        self._worker.submit(lambda: None).result()


def _cut(prediction: Prediction, part: slice) -> Prediction:
    # Copies: a view would keep the whole alive.
    return Prediction(
        prediction.probabilities[part].copy(),
        prediction.heatmaps[:0],  # of no use here, and the largest
        prediction.in_distribution[part].copy(),
        prediction.projections[part].copy(),
    )


def create(model_dir: Path, classifier: Classifier, registry: CollectorRegistry) -> Monitor | str:
    """The monitor of a model, or the sentence that says why there is none."""
    try:
        return Monitor(drift.Reference.read(model_dir / "reference.json"), classifier, registry)
    except drift.ReferenceError as error:
        return str(error)
