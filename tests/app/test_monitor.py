"""Drift in the app, on the tiny model: what changes is named, what does not is quiet, and nothing is kept for ever."""

import json
import logging
import threading
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from app import drift, drift_report, monitor
from app.classifier import Classifier
from app.monitor import Monitor
from tests.app import tiny_model


@pytest.fixture
def classifier(models: Path) -> Classifier:
    return Classifier.from_directory(models)


@pytest.fixture
def watched(classifier: Classifier) -> Monitor:
    return Monitor(tiny_model.reference(classifier), classifier, CollectorRegistry())


def show(watched: Monitor, classifier: Classifier, pictures: np.ndarray, parts: int = 7) -> None:
    for part in np.array_split(pictures, parts):
        watched.observe(part, classifier.predict(part))
    watched.settle()


CLEAN = np.stack(list(tiny_model.shapes().values()) * 10)


@pytest.mark.parametrize(
    "content",
    ["", "{}", "[]", "null", '{"grid": 1}'],
)
def test_a_damaged_reference_is_a_sentence(tmp_path: Path, classifier: Classifier, content: str) -> None:
    (tmp_path / "reference.json").write_text(content)
    said = monitor.create(tmp_path, classifier, CollectorRegistry())
    assert said == "The reference.json that came with this model is damaged: no drift is told."


@pytest.mark.parametrize(("key", "value"), [("window", 1), ("window", 1e9), ("means", [0.5]), ("classes", 4)])
def test_a_reference_that_does_not_fit_is_refused(models: Path, tmp_path: Path, key: str, value: object) -> None:
    content = json.loads((models / "reference.json").read_text()) | {key: value}
    (tmp_path / "reference.json").write_text(json.dumps(content))
    with pytest.raises(drift.ReferenceError):
        drift.Reference.read(tmp_path / "reference.json")


def test_a_reference_of_other_classes_is_refused(classifier: Classifier, models: Path, tmp_path: Path) -> None:
    content = json.loads((models / "reference.json").read_text())
    content["means"].insert(-drift.WAVES, 0.0)
    content["classes"] = 4
    (tmp_path / "reference.json").write_text(json.dumps(content))
    assert "other classes" in str(monitor.create(tmp_path, classifier, CollectorRegistry()))


def test_a_model_without_one_says_so(tmp_path: Path, classifier: Classifier) -> None:
    assert "without reference.json" in str(monitor.create(tmp_path, classifier, CollectorRegistry()))


def test_what_is_written_is_what_is_read(models: Path, classifier: Classifier) -> None:
    read = drift.Reference.read(models / "reference.json")
    made = tiny_model.reference(classifier)
    assert read.to_json() == made.to_json()


def test_the_same_pictures_are_no_drift(watched: Monitor, classifier: Classifier) -> None:
    show(watched, classifier, CLEAN)
    (window,) = watched.state()["windows"]
    assert window["alarms"] == []
    assert all(ratio < 0.01 for ratio in window["ratios"].values())


def test_a_class_that_is_gone_is_named(
    watched: Monitor, classifier: Classifier, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    show(watched, classifier, np.stack([tiny_model.shapes()["Trouser"]] * 30))
    state = watched.state()
    assert state["alarm"]
    assert "class shares" in state["windows"][-1]["alarms"]
    assert "Drift in the last 30 pictures: " in caplog.text
    assert "class shares" in drift_report.render(watched)


def test_darker_pictures_are_named_and_the_alarm_ends_with_them(watched: Monitor, classifier: Classifier) -> None:
    show(watched, classifier, CLEAN // 2)
    assert "brightness" in watched.state()["windows"][-1]["alarms"]
    show(watched, classifier, CLEAN)
    assert not watched.state()["alarm"]
    assert watched._alarm.labels("brightness")._value.get() == 0


def test_windows_are_of_whole_pictures_whatever_the_requests_hold(watched: Monitor, classifier: Classifier) -> None:
    show(watched, classifier, np.concatenate([CLEAN, CLEAN, CLEAN[:25]]), parts=1)
    state = watched.state()
    assert (len(state["windows"]), state["pictures"], state["pictures_waiting"]) == (2, 85, 25)
    assert sum(len(part) for part, _ in watched._open) == 25


def test_only_so_many_windows_are_remembered(watched: Monitor, classifier: Classifier) -> None:
    said = classifier.predict(CLEAN)
    for _ in range(monitor.HISTORY + 5):
        watched.observe(CLEAN, said)
        watched.settle()
    assert len(watched.state()["windows"]) == monitor.HISTORY


def test_windows_that_come_too_fast_are_dropped_and_counted(watched: Monitor, classifier: Classifier) -> None:
    said = classifier.predict(CLEAN)
    gate = threading.Event()
    watched._worker.submit(gate.wait)
    for _ in range(monitor.WAITING + 3):
        watched.observe(CLEAN, said)
    gate.set()
    watched.settle()
    assert len(watched.state()["windows"]) == monitor.WAITING
    assert watched._dropped._value.get() == 3


def test_a_window_that_cannot_be_tested_does_not_reach_the_visitor(
    watched: Monitor, classifier: Classifier, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(drift, "measure", lambda *_: 1 / 0)
    show(watched, classifier, CLEAN)
    assert "could not be tested" in caplog.text
    assert watched._waiting == 0


def test_the_tab_before_the_first_window_says_how_many_more(watched: Monitor, classifier: Classifier) -> None:
    show(watched, classifier, CLEAN[:10], parts=2)
    assert "20 more pictures are wanted" in drift_report.render(watched)
    assert drift_report.render("No drift is told.").count("No drift is told.") == 1
