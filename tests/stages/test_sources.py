import gzip
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import FashionMNIST

from stages import sources
from stages.sources import drawn_sketches, fashion_mnist, image_folder, streaming
from stages.stage import StageError

NOWHERE = "http://127.0.0.1:9/"  # the discard port: nobody answers


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
    return gzip.compress(header + array.tobytes(), mtime=0)


@pytest.fixture
def small_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mirror with the four files in small, as torchvision's class would expect them; no other mirror answers."""
    rng = np.random.default_rng(0)
    shapes = {"train-images": (30, 28, 28), "train-labels": (30,), "t10k-images": (10, 28, 28), "t10k-labels": (10,)}
    folder = tmp_path / "mirror"
    folder.mkdir()
    resources = []
    for part, shape in shapes.items():
        data = idx(rng.integers(0, 10 if "labels" in part else 256, shape, np.uint8))
        name = f"{part}-idx{len(shape)}-ubyte.gz"
        (folder / name).write_bytes(data)
        resources.append((name, hashlib.md5(data, usedforsecurity=False).hexdigest()))
    monkeypatch.setattr(FashionMNIST, "resources", resources)
    monkeypatch.setattr(FashionMNIST, "mirrors", [NOWHERE])
    monkeypatch.setenv(sources.MIRROR_VARIABLE, folder.as_uri())
    return folder


def test_no_network_names_the_mirror_variable_and_the_way_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FashionMNIST, "mirrors", [NOWHERE])
    monkeypatch.delenv(sources.MIRROR_VARIABLE, raising=False)
    with pytest.raises(StageError, match=r"FASHION_MNIST_MIRROR.*dataset=sketches") as error:
        fashion_mnist(28, tmp_path / "downloads")
    assert "\n" not in str(error.value)
    assert list((tmp_path / "downloads").iterdir()) == []


@pytest.mark.parametrize("address", ["nonsense", "file:///does/not/exist", "http://127.0.0.1:9"])
def test_a_mirror_that_is_none_is_named(
    address: str, tmp_path: Path, small_mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(sources.MIRROR_VARIABLE, address)
    with pytest.raises(StageError, match=address):
        fashion_mnist(28, tmp_path / "downloads")


def test_a_file_with_a_wrong_checksum_is_refused_and_not_left_behind(tmp_path: Path, small_mirror: Path) -> None:
    file = small_mirror / "t10k-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes() + b"!")
    with pytest.raises(StageError, match=r"t10k-images.*wrong checksum"):
        fashion_mnist(28, tmp_path / "downloads")
    assert sorted(p.name for p in (tmp_path / "downloads").iterdir()) == [
        "train-images-idx3-ubyte.gz",
        "train-labels-idx1-ubyte.gz",
    ]


def test_a_damaged_download_is_fetched_again(tmp_path: Path, small_mirror: Path) -> None:
    downloads = tmp_path / "downloads"
    before = fashion_mnist(28, downloads)
    (downloads / "train-images-idx3-ubyte.gz").write_bytes(b"damaged")
    after = fashion_mnist(28, downloads)
    every = np.arange(40)
    assert np.array_equal(before.read(every)[0], after.read(every)[0])


def test_a_download_is_not_repeated(tmp_path: Path, small_mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fashion_mnist(28, tmp_path / "downloads")
    monkeypatch.setenv(sources.MIRROR_VARIABLE, NOWHERE)
    assert len(fashion_mnist(28, tmp_path / "downloads").labels) == 40


def test_fashion_mnist_keeps_its_test_split_and_scales(tmp_path: Path, small_mirror: Path) -> None:
    source = fashion_mnist(32, tmp_path / "downloads")
    assert source.test is not None
    assert source.test.tolist() == [False] * 30 + [True] * 10
    pictures, problems = source.read(np.array([0, 39]))
    assert pictures.shape == (2, 32, 32)
    assert pictures.dtype == np.uint8
    assert not problems


def test_the_real_files_are_what_they_should_be(mirror: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(sources.MIRROR_VARIABLE, mirror)
    source = fashion_mnist(28, tmp_path)
    pictures, _ = source.read(np.flatnonzero(~source.test))
    assert pictures.shape == (60000, 28, 28)
    assert np.bincount(source.labels[source.test]).tolist() == [1000] * 10
    assert pictures.mean() / 255 == pytest.approx(0.2860, abs=1e-4)


def save(path: Path, color: object = "white", mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"nowhere is no folder"):
        image_folder(tmp_path / "nowhere", 28)


def test_one_class_is_too_few(tmp_path: Path) -> None:
    save(tmp_path / "shoe/a.png")
    with pytest.raises(StageError, match="holds 1 class folders; a classifier needs at least two"):
        image_folder(tmp_path, 28)


def test_an_empty_class_is_named(tmp_path: Path) -> None:
    save(tmp_path / "shoe/a.png")
    (tmp_path / "hat").mkdir()
    with pytest.raises(StageError, match="hat holds no picture"):
        image_folder(tmp_path, 28)


def test_train_and_test_must_have_the_same_classes(tmp_path: Path) -> None:
    for name in ("train/shoe/a.png", "train/hat/a.png", "test/shoe/a.png", "test/scarf/a.png"):
        save(tmp_path / name)
    with pytest.raises(StageError, match="not in both: hat, scarf"):
        image_folder(tmp_path, 28)


@pytest.mark.parametrize("others", [["val"], ["Valid"], []])
def test_train_without_test_is_no_class(tmp_path: Path, others: list[str]) -> None:
    for name in ("train", *others):
        save(tmp_path / name / "hat/a.png")
        save(tmp_path / name / "shoe/a.png")
    with pytest.raises(StageError, match=r"holds (Valid, )?train(, val)?, which are no classes"):
        image_folder(tmp_path, 28)


def test_pictures_of_any_size_colour_and_format_are_read(tmp_path: Path) -> None:
    save(tmp_path / "Hüte/a.png", (200, 10, 10, 128), "RGBA", (300, 20))
    save(tmp_path / "Hüte/B.JPG", "red", "RGB", (64, 64))
    save(tmp_path / "shoe/c.webp", 7, "L", (9, 90))
    save(tmp_path / "shoe/d.gif", 1, "P", (28, 28))
    (tmp_path / "shoe/notes.txt").write_text("not a picture")
    (tmp_path / "shoe/.DS_Store").write_text("not a picture")
    (tmp_path / "README.md").write_text("not a class")
    source = image_folder(tmp_path, 32)
    assert source.classes == ("Hüte", "shoe")
    assert source.labels.tolist() == [0, 0, 1, 1]
    assert source.test is None
    pictures, problems = source.read(np.arange(4))
    assert pictures.shape == (4, 32, 32)
    assert not problems


def test_a_given_test_split_is_kept(tmp_path: Path) -> None:
    for name in ("train/a/1.png", "train/b/1.png", "test/a/2.png", "test/b/2.png"):
        save(tmp_path / name)
    source = image_folder(tmp_path, 28)
    assert source.test is not None
    assert source.test.tolist() == [False, False, True, True]
    assert source.labels.tolist() == [0, 1, 0, 1]


def test_an_unreadable_picture_is_told_not_raised(tmp_path: Path) -> None:
    save(tmp_path / "a/good.png")
    save(tmp_path / "b/good.png")
    (tmp_path / "b/bad.png").write_bytes(b"no picture")
    pictures, problems = image_folder(tmp_path, 28).read(np.arange(3))
    assert len(pictures) == 3
    assert len(problems) == 1
    assert "bad.png" in problems[0]


def test_sketches_do_not_depend_on_who_draws_them_when() -> None:
    source = drawn_sketches(28, 100, seed=3)
    together, _ = source.read(np.arange(20))
    alone, _ = source.read(np.array([7]))
    assert np.array_equal(together[7], alone[0])
    assert not np.array_equal(together, drawn_sketches(28, 100, seed=4).read(np.arange(20))[0])


def test_workers_give_what_one_process_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(sources, "PAYS", 50)
    source = drawn_sketches(28, 100, seed=3)
    with streaming(source, chunk=30) as stream:
        for order in (np.arange(100)[::-1], np.arange(7)):  # the same workers twice
            streamed = np.concatenate([pictures for pictures, _ in stream(order)])
            assert np.array_equal(streamed, source.read(order)[0])
