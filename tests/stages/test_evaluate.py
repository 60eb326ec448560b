import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages import evaluate as e
from stages.stage import read_json
from tests.conftest import Run


def scores(n: int, k: int = 5, seed: int = 0, sharpness: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Scores whose softmax at sharpness 1 is the truth: labels are drawn from it."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, k))
    cumulated = e.softmax(logits).cumsum(1)
    labels = (rng.random((n, 1)) > cumulated[:, :-1]).sum(1)
    return logits * sharpness, labels


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_sharpness(sharpness: float) -> None:
    logits, labels = scores(20_000, sharpness=sharpness)
    assert e.fit_temperature(logits, labels) == pytest.approx(sharpness, rel=0.05)


def test_the_temperature_stays_in_bounds_where_all_is_right() -> None:
    assert e.fit_temperature(np.eye(3) * 5, np.arange(3)) == pytest.approx(0.25)


@pytest.mark.parametrize("coverage", [0.8, 0.95])
def test_label_sets_hold_what_they_promise_on_new_pictures(coverage: float) -> None:
    held = []
    for seed in range(20):
        logits, labels = scores(2000, seed=seed)
        p = e.softmax(logits)
        threshold = e.fit_threshold(p[:1000], labels[:1000], coverage)
        held.append(e.label_sets(p[1000:], threshold)[np.arange(1000), labels[1000:]].mean())
    assert coverage - 0.01 < np.mean(held) < coverage + 0.02


def test_too_few_pictures_promise_the_full_set() -> None:
    p = np.full((5, 2), 0.5)
    threshold = e.fit_threshold(p, np.zeros(5, int), 0.95)
    assert threshold == 0
    assert e.label_sets(p, threshold).all()


def test_a_set_is_never_empty() -> None:
    assert e.label_sets(np.array([[0.4, 0.35, 0.25]]), 0.9).tolist() == [[True, False, False]]


def test_calibration_error_sees_overconfidence() -> None:
    right = np.zeros(100, int)
    right[:30] = 1  # said class 0 with 90 %, right in 70 of 100
    p = np.tile([0.9, 0.1], (100, 1))
    assert e.calibration_error(p, right) == pytest.approx(0.2)
    assert e.log_loss(p, right) == pytest.approx(-(70 * np.log(0.9) + 30 * np.log(0.1)) / 100)


def test_the_interval_is_that_of_a_binomial() -> None:
    low, high = e.bootstrap_interval(0.9, 1000, seed=1)
    spread = 1.96 * (0.9 * 0.1 / 1000) ** 0.5
    assert low == pytest.approx(0.9 - spread, abs=0.002)
    assert high == pytest.approx(0.9 + spread, abs=0.002)


def test_per_class_figures_by_hand() -> None:
    rows = e.per_class(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]), ["a", "b", "never"][:2])
    assert rows[0] == {
        "class": "a",
        "pictures": 2,
        "precision": 1.0,
        "recall": 0.5,
        "f1": pytest.approx(2 / 3, abs=1e-5),
    }
    never = e.per_class(np.array([0, 1]), np.array([0, 0]), ["a", "b"])[1]
    assert never["precision"] == never["f1"] == 0.0


def test_the_report_agrees_with_itself(run: Run) -> None:
    folder = run.reports / "evaluation"
    metrics = read_json(folder / "metrics.json")
    with (folder / "confusion.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 66
    assert metrics["accuracy"] == pytest.approx(np.mean([r["actual"] == r["predicted"] for r in rows]), abs=1e-6)
    assert metrics["accuracy_low"] <= metrics["accuracy"] <= metrics["accuracy_high"]
    assert read_json(folder / "calibration.json")["coverage"] == 0.9
    for name in ("calibrated", "uncalibrated"):
        with (folder / f"reliability/{name}.csv").open() as file:
            assert sum(int(r["pictures"]) for r in csv.DictReader(file)) == 66
    with Image.open(folder / "mistakes.png") as picture:
        assert picture.width > 500


def test_the_same_inputs_give_the_same_bytes(run: Run, tmp_path) -> None:
    e.evaluate(run.prepared, run.models / "network.pt", tmp_path / "again", seed=1, coverage=0.9)
    first = run.reports / "evaluation"
    for file in filter(Path.is_file, first.rglob("*")):
        assert (tmp_path / "again" / file.relative_to(first)).read_bytes() == file.read_bytes(), file.name
