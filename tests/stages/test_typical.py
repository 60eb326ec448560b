from pathlib import Path

import numpy as np
import pytest

from stages import typical


def clusters(n: int = 600, channels: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three classes as stretched clouds about three places."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    stretch = np.linspace(0.2, 3, channels)
    places = np.eye(3, channels) * 20
    return (places[labels] + rng.normal(size=(n, channels)) * stretch).astype(np.float32), labels


def test_a_channel_that_never_speaks_and_a_class_of_one_picture() -> None:
    features, labels = clusters(31)
    features[:, 3] = 0
    found = typical.fit(features, np.where(np.arange(31) == 30, 7, labels))
    assert found.centres.shape == (4, 8)
    assert np.isfinite(found.distances(features)).all()


def test_all_features_alike() -> None:
    found = typical.fit(np.ones((6, 4), np.float32), np.arange(6) % 2)
    assert np.isfinite(found.distances(np.zeros((2, 4), np.float32))).all()


def test_distances_have_the_mean_they_should() -> None:
    features, labels = clusters(6000)
    mean = typical.fit(features, labels).distances(clusters(6000, seed=1)[0]).mean()
    assert mean == pytest.approx(8, rel=0.1)  # chi-squared: one for every channel


def test_what_lies_between_the_classes_is_far_from_each() -> None:
    features, labels = clusters()
    found = typical.fit(features, labels)
    between = features[labels == 0][:50] / 2 + features[labels == 1][:50] / 2
    assert found.distances(between).min() > np.quantile(found.distances(features), 0.99)


def test_a_stretched_direction_counts_less() -> None:
    features, labels = clusters()
    found = typical.fit(features, labels)
    centre = features[labels == 0].mean(0)
    near, far = centre.copy(), centre.copy()
    near[7] += 3  # along the longest direction
    far[0] += 3  # along the shortest
    along, across = found.distances(np.stack([near, far]))
    assert across > 50 * along


def test_it_learns_from_as_many_of_each_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typical, "LEARNT_FROM", 4)
    assert typical.sample(np.array([0, 0, 0, 0, 5, 0, 5, 5])).tolist() == [0, 1, 4, 6]


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    found = typical.fit(*clusters())
    found.save(tmp_path / "a.npy")
    found.save(tmp_path / "b.npy")
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()
    again = typical.Typical.load(tmp_path / "a.npy")
    assert (again.centres == found.centres).all()
    assert (again.whitening == found.whitening).all()


def test_the_table_rises_from_the_nearest_to_the_farthest() -> None:
    found = typical.table(np.array([5, 1, 3], np.float32))
    assert (found[0], found[len(found) // 2], found[-1]) == (1, 3, 5)
    assert len(found) == typical.LEVELS + 1
    assert found == sorted(found)
