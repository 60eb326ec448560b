"""Sketches: the same bytes from the same state, sound pictures, and classes that can be told apart."""

import hashlib

import numpy as np
import pytest

from stages import sketches

LABELS = range(len(sketches.CLASSES))

# The pictures that cards and figures were made from. A change here changes the data set: train again.
GOLDEN = "9c38bbe3335ed9da55a159888eb2cd320671ff0c678ea128de20939faf04a48e"


def drawn(label: int, count: int, size: int = 28, seed: int = 7) -> np.ndarray:
    rng = np.random.default_rng([seed, label])
    return np.stack([sketches.draw(label, size, rng) for _ in range(count)])


def test_classes_are_fashion_mnists_own() -> None:
    assert len(sketches.CLASSES) == 10
    assert sketches.CLASSES[0] == "T-shirt/top"
    assert sketches.CLASSES[9] == "Ankle boot"


def test_pictures_are_the_ones_on_record() -> None:
    record = hashlib.sha256(b"".join(drawn(label, 4).tobytes() for label in LABELS))
    assert record.hexdigest() == GOLDEN


@pytest.mark.parametrize("label", LABELS)
def test_a_seed_decides_the_picture(label: int) -> None:
    first = drawn(label, 3)
    assert np.array_equal(first, drawn(label, 3))
    assert not np.array_equal(first, drawn(label, 3, seed=8))
    assert not np.array_equal(first[0], first[1])


@pytest.mark.parametrize("size", [16, 28, 64, 128])
@pytest.mark.parametrize("label", LABELS)
def test_every_class_draws_at_every_size(label: int, size: int) -> None:
    picture = drawn(label, 1, size)[0]
    assert picture.shape == (size, size)
    assert picture.dtype == np.uint8
    assert picture.max() > 60


@pytest.mark.parametrize("label", LABELS)
def test_garments_are_light_on_black_and_fill_the_frame(label: int) -> None:
    ink = drawn(label, 40) > 25
    assert ink.mean(axis=(1, 2)).min() > 0.03
    across, down = ink.any(axis=1).sum(axis=1), ink.any(axis=2).sum(axis=1)
    assert np.median(np.maximum(across, down)) >= 27
    corners = ink[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert corners.mean() < 0.3


@pytest.mark.parametrize("label", [-1, 10])
def test_an_unknown_label_is_refused(label: int) -> None:
    with pytest.raises(ValueError, match="label"):
        sketches.draw(label, 28, np.random.default_rng(0))


def test_classes_can_be_told_apart() -> None:
    """Even the nearest class average finds most of unseen sketches' classes; chance is one in ten."""
    centres = np.stack([drawn(label, 60, seed=1).mean(axis=0).ravel() for label in LABELS])
    unseen = np.concatenate([drawn(label, 20, seed=2) for label in LABELS]).reshape(200, -1)
    distances = ((unseen[:, None] - centres[None]) ** 2).sum(axis=2)
    right = (distances.argmin(axis=1) == np.repeat(LABELS, 20)).mean()
    assert right > 0.45
