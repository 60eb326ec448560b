import numpy as np
import pytest
import torch

from stages import batches

CPU = torch.device("cpu")


def pictures(n: int = 8, side: int = 28) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(1, 256, (n, side, side), np.uint8))


def test_an_epoch_shows_each_picture_at_most_once_in_batches_of_one_size() -> None:
    order = batches.order(seed=1, epoch=0, count=103, batch_size=10)
    assert [len(b) for b in order] == [10] * 10
    assert len(set(np.concatenate(order))) == 100


def test_fewer_pictures_than_a_batch_make_one_batch() -> None:
    assert [len(b) for b in batches.order(1, 0, 7, 256)] == [7]


def test_order_depends_on_seed_and_epoch_alone() -> None:
    first = np.concatenate(batches.order(1, 0, 100, 10))
    assert np.array_equal(first, np.concatenate(batches.order(1, 0, 100, 10)))
    assert not np.array_equal(first, np.concatenate(batches.order(1, 1, 100, 10)))
    assert not np.array_equal(first, np.concatenate(batches.order(2, 0, 100, 10)))


def test_no_augmentation_changes_nothing() -> None:
    images = pictures()
    assert batches.augment(images, np.ones(8, bool), "none", (1,)) is images


def test_shift_is_a_mirror_and_a_shift_of_a_pixel_at_most() -> None:
    images, flip = pictures(64), np.arange(64) % 2 == 0
    out = batches.augment(images, flip, "shift", (1, 2))
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1))
    seen = set()
    for n in range(64):
        source = padded[n].flip(1) if flip[n] else padded[n]
        found = [(y, x) for y in range(3) for x in range(3) if torch.equal(out[n], source[y : y + 28, x : x + 28])]
        assert len(found) == 1, n
        seen |= set(found)
    assert len(seen) == 9


def test_erase_paints_one_grey_rectangle_over_some() -> None:
    images = torch.zeros(400, 28, 28, dtype=torch.uint8)
    out = batches.augment(images, np.zeros(400, bool), "erase", (1,)).numpy()
    painted = [p for p in out if p.any()]
    assert 0.15 * 400 < len(painted) < 0.35 * 400
    for p in painted:
        rows, columns = np.flatnonzero(p.any(1)), np.flatnonzero(p.any(0))
        box = p[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert (box == box[0, 0]).all()
        assert max(box.shape) <= 15


def test_flip_mirrors_those_that_are_asked_for() -> None:
    images, flip = pictures(4), np.array([True, False, True, False])
    out = batches.augment(images, flip, "flip", (1,))
    assert torch.equal(out[flip], images[flip].flip(2))
    assert torch.equal(out[~flip], images[~flip])


def test_augmentation_is_a_function_of_its_key() -> None:
    images, flip = pictures(), np.zeros(8, bool)
    assert torch.equal(batches.augment(images, flip, "erase", (5, 1)), batches.augment(images, flip, "erase", (5, 1)))
    assert not torch.equal(
        batches.augment(images, flip, "shift", (5, 1)), batches.augment(images, flip, "shift", (5, 2))
    )


@pytest.mark.parametrize("level", ["none", "flip", "shift", "erase"])
@pytest.mark.parametrize("part", [slice(0, 13), slice(13, 40), slice(0, 40), slice(39, 40), slice(7, 7)], ids=str)
def test_a_part_of_a_batch_is_augmented_as_in_the_whole(level: str, part: slice) -> None:
    images, flip = pictures(40), np.arange(40) % 3 == 0
    whole = batches.augment(images, flip, level, (5, 1))
    assert torch.equal(batches.augment(images[part], flip, level, (5, 1), part), whole[part])


def test_mirrored_is_about_half() -> None:
    assert batches.mirrored(1, 10_000).mean() == pytest.approx(0.5, abs=0.03)


def test_a_split_is_read_in_its_order_and_by_index(run) -> None:
    split = batches.read_split(run.prepared, "val", CPU)
    images = torch.cat([images for images, _ in split.in_order(batch_size=30)])
    assert len(images) == len(split) == 80
    taken, labels = split.take(np.array([5, 3]))
    assert torch.equal(taken, images[[5, 3]])
    assert torch.equal(labels, split.labels[[5, 3]])
