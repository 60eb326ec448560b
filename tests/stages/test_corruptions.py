"""Eight corruptions: what each must and must not do to a picture."""

import numpy as np
import pytest
import torch

from stages import sketches
from stages.corruptions import LEVELS, SEVERITIES, corrupt


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    rng = np.random.default_rng(3)
    return torch.from_numpy(np.stack([sketches.draw(label, 28, rng) for label in range(10) for _ in range(4)]))


@pytest.mark.parametrize(("kind", "severity"), [("rain", 1), ("blur", 0), ("blur", 6)])
def test_what_there_is_not_is_refused(pictures: torch.Tensor, kind: str, severity: int) -> None:
    with pytest.raises(ValueError, match="the kinds are noise, blur"):
        corrupt(pictures, kind, severity, 1)


@pytest.mark.parametrize("kind", LEVELS)
def test_a_corruption_keeps_the_shape_and_changes_more_as_it_gets_worse(pictures: torch.Tensor, kind: str) -> None:
    before = pictures.clone()
    away = []
    for severity in SEVERITIES:
        seen = corrupt(pictures, kind, severity, 1)
        assert (seen.shape, seen.dtype) == (pictures.shape, torch.uint8)
        away.append(float((seen.float() - pictures.float()).abs().mean()))
    assert torch.equal(pictures, before)
    assert away[0] > 0
    assert away[-1] > away[0]
    if kind != "invert":  # whose half-way point is plain grey
        assert away == sorted(away)


@pytest.mark.parametrize("kind", LEVELS)
def test_the_same_seed_makes_the_same_bits_and_another_does_not(pictures: torch.Tensor, kind: str) -> None:
    once, again, other = (corrupt(pictures, kind, 3, seed) for seed in (1, 1, 2))
    assert torch.equal(once, again)
    if kind in ("noise", "shift", "rotate", "occlusion"):
        assert not torch.equal(once, other)


def test_the_negative_of_a_negative_is_the_picture(pictures: torch.Tensor) -> None:
    assert torch.equal(corrupt(corrupt(pictures, "invert", 5, 1), "invert", 5, 1), pictures)


def test_a_shift_moves_what_is_there_and_brings_black() -> None:
    picture = torch.zeros(40, 28, 28, dtype=torch.uint8)
    picture[:, 10:18, 10:18] = 200
    seen = corrupt(picture, "shift", 4, 1)
    assert (seen.sum((1, 2)) == picture.sum((1, 2))).all()
    assert len({tuple(torch.nonzero(one)[0].tolist()) for one in seen}) > 4  # several directions


def test_an_occlusion_is_one_black_square() -> None:
    seen = corrupt(torch.full((20, 28, 28), 255, dtype=torch.uint8), "occlusion", 3, 1)
    assert ((seen == 0).sum((1, 2)) == 100).all()


def test_half_the_size_leaves_the_middle_and_black_around() -> None:
    seen = corrupt(torch.full((1, 28, 28), 255, dtype=torch.uint8), "scale", 5, 1)[0]
    assert seen[14, 14] == 255
    assert seen[:5].max() == 0
