"""reference.json: thresholds that clean windows keep, and that changed ones do not."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from app import drift
from app.classifier import Classifier
from stages import batches, reference
from tests.conftest import Run


@pytest.fixture(scope="module")
def read(run: Run) -> drift.Reference:
    return drift.Reference.read(run.models / "reference.json")


@pytest.fixture(scope="module")
def classifier(run: Run) -> Classifier:
    return Classifier.from_directory(run.models)


def pictures(run: Run) -> np.ndarray:
    return np.load(run.prepared / "val.images.npy")


def test_directions_are_orthonormal_and_always_the_same() -> None:
    found = reference.directions(96)
    assert found.shape == (96, 8)
    assert found.T @ found == pytest.approx(np.eye(8), abs=1e-6)
    assert (found == reference.directions(96)).all()


def test_fewer_channels_than_directions_still_give_eight_numbers() -> None:
    assert reference.directions(4).shape == (4, 8)


def test_the_file_is_small_and_holds_no_picture(run: Run) -> None:
    text = (run.models / "reference.json").read_text()
    assert len(text) < 40_000
    assert set(json.loads(text)["thresholds"]) == set(drift.NAMES)


def test_the_split_itself_lies_nowhere_away(run: Run, read: drift.Reference, classifier: Classifier) -> None:
    own = pictures(run)
    found = read.judge(drift.measure(own, classifier.predict(own), classifier.threshold))
    assert found == pytest.approx(np.zeros(8), abs=1e-4)


def test_it_is_of_the_file_that_is_served(run: Run, read: drift.Reference, classifier: Classifier) -> None:
    split = batches.read_split(run.prepared, "val", torch.device("cpu"))
    again = reference.describe(classifier.predict, split, classifier.threshold)
    assert again == json.loads((run.models / "reference.json").read_text())


def test_clean_windows_are_quiet_and_negatives_are_not(run: Run, read: drift.Reference, classifier: Classifier) -> None:
    own = pictures(run)
    rng = np.random.default_rng(0)

    def alarms(of: np.ndarray) -> np.ndarray:
        rows = read.grid.rows(drift.measure(of, classifier.predict(of), classifier.threshold))
        windows = np.stack([rows[rng.integers(0, len(of), read.window)].mean(0, dtype=np.float64) for _ in range(300)])
        return read.grid.statistics(windows, read.means, read.window) > read.thresholds

    assert alarms(own).any(1).mean() < 0.01
    assert alarms(255 - own)[:, drift.NAMES.index("brightness")].all()


def test_ties_lie_on_one_side_of_a_cell() -> None:
    found = reference.cells(np.array([0.0, 0, 0, 1, 1, 1]))
    assert found.tolist() == [-reference.BELOW, 0.0, 1.0]


def test_the_tail_goes_beyond_what_was_simulated(tmp_path: Path) -> None:
    draws = np.random.default_rng(0).exponential(1, (20_000, 8))
    thresholds = reference.tail(draws)
    expected = np.log(8 * reference.MARGIN / reference.FALSE_ALARMS)  # of an exponential distribution, exactly
    assert thresholds == pytest.approx(np.full(8, expected), rel=0.15)


def test_a_handful_of_what_is_rare_is_no_alarm_and_a_tenth_is() -> None:
    values = {name: np.array([0.0, 1.0]) for name in drift.ORDERED}
    grid = drift.Grid(values, np.zeros(8), np.ones(8), 2)
    means = np.concatenate([np.full(10, 0.5), [0.997, 0.003, 0, 0], [0.5, 0.5], np.zeros(drift.WAVES)])
    floor = reference.least(grid, means)
    assert (floor[:5] == 0).all()  # what has an order is as it was simulated

    def longer(share: float) -> float:
        window = means.copy()
        window[10:12] += (-share, share)
        return float(grid.statistics(window, means, reference.WINDOW)[5])

    assert longer(7 / reference.WINDOW) < floor[5] < longer(0.1)
