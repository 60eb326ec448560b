from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.prepare import prepare, split
from stages.sources import Source
from stages.stage import StageError, read_json
from tests.conftest import PREPARE, Run


def source(labels: list[int], test: list[bool] | None = None) -> Source:
    classes = tuple(f"class {k}" for k in range(max(labels) + 1))
    return Source(classes, np.array(labels), None if test is None else np.array(test), lambda i: (i, []), slow=False)


def test_a_class_with_too_few_pictures_is_named_with_its_count() -> None:
    with pytest.raises(StageError, match=r"'class 1' has 2 picture\(s\), too few"):
        split(source([0] * 10 + [1] * 2), 1, 0.1, 0.1)


def test_a_class_without_test_pictures_is_refused() -> None:
    with pytest.raises(StageError, match="class 1"):
        split(source([0, 0, 0, 1, 1, 1], [False, False, True, False, False, False]), 1, 0.1, 0.1)


def test_splits_share_no_picture_and_are_stratified() -> None:
    parts = split(source([0] * 100 + [1] * 50), 1, val_fraction=0.25, test_fraction=0.2)
    labels = np.array([0] * 100 + [1] * 50)
    assert sorted(np.concatenate(list(parts.values()))) == list(range(150))
    assert {name: np.bincount(labels[part]).tolist() for name, part in parts.items()} == {
        "train": [60, 30],
        "val": [20, 10],
        "test": [20, 10],
    }


def test_validation_never_touches_the_sources_test_split() -> None:
    test = [i % 3 == 0 for i in range(90)]
    parts = split(source([i % 2 for i in range(90)], test), 1, 0.2, 0.9)
    assert parts["test"].tolist() == np.flatnonzero(test).tolist()


def test_the_seed_decides_the_split() -> None:
    labels = [i % 3 for i in range(99)]
    first, again, other = (split(source(labels), seed, 0.2, 0.2) for seed in (1, 1, 2))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["val"], other["val"])


def test_arrays_can_be_memory_mapped_and_are_counted(run: Run) -> None:
    meta = read_json(run.prepared / "meta.json")
    for name, size in {"train": 320, "val": 80, "test": 66}.items():
        images = np.load(run.prepared / f"{name}.images.npy", mmap_mode="r")
        labels = np.load(run.prepared / f"{name}.labels.npy")
        assert images.shape == (size, 28, 28)
        assert images.dtype == np.uint8
        assert labels.dtype == np.int64
        assert np.bincount(labels, minlength=10).tolist() == list(meta["counts"][name].values())


def test_the_same_inputs_give_the_same_bytes(run: Run, tmp_path: Path) -> None:
    prepare(tmp_path / "again", **PREPARE)
    for file in run.prepared.iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes(), file.name


def test_unreadable_pictures_are_all_counted_and_twenty_named(tmp_path: Path) -> None:
    for k in range(30):
        folder = tmp_path / "pictures" / "ab"[k % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("L", (28, 28), k).save(folder / f"good{k}.png")
        if k < 25:
            (folder / f"bad{k}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(StageError, match=r"25 picture\(s\) cannot be read") as error:
        prepare(tmp_path / "out", **{**PREPARE, "dataset": "image-folder", "data_dir": str(tmp_path / "pictures")})
    assert len(str(error.value).splitlines()) == 22
    assert str(error.value).endswith("and 5 more")
    assert not (tmp_path / "out").exists()


def test_a_users_folder_keeps_its_path_to_itself(tmp_path: Path) -> None:
    for k in range(20):
        folder = tmp_path / "pictures" / ("hat", "shoe")[k % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20 + k, 40), (k, 90, 200)).save(folder / f"{k}.jpg")
    prepare(tmp_path / "out", **{**PREPARE, "dataset": "image-folder", "data_dir": str(tmp_path / "pictures")})
    meta = (tmp_path / "out/meta.json").read_text()
    assert '"hat"' in meta
    assert tmp_path.name not in meta


# More pictures


def extra(folder: Path, **classes: int) -> str:
    """A folder with so many pictures a class, all grey in their own way."""
    for name, count in classes.items():
        (folder / name).mkdir(parents=True)
        for k in range(count):
            Image.new("L", (28, 28), 100 + k).save(folder / name / f"{k}.png")
    return str(folder)


def test_an_extra_class_that_the_data_does_not_have_is_refused_by_name(tmp_path: Path) -> None:
    folder = extra(tmp_path / "extra", Sandal=1, hat=1)
    with pytest.raises(StageError, match=r"extra/hat is no class of the data.*Sandal"):
        prepare(tmp_path / "out", **{**PREPARE, "extra_dir": folder})
    assert not (tmp_path / "out").exists()


def test_a_folder_of_extra_pictures_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"extra_dir: .*gone is no folder"):
        prepare(tmp_path / "out", **{**PREPARE, "extra_dir": str(tmp_path / "gone")})


def test_an_extra_picture_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    folder = extra(tmp_path / "extra", Sandal=1)
    (tmp_path / "extra/Sandal/bad.png").write_bytes(b"no picture")
    with pytest.raises(StageError, match=r"Sandal/bad\.png"):
        prepare(tmp_path / "out", **{**PREPARE, "extra_dir": folder})


def test_extra_pictures_join_the_train_split_and_leave_the_others_alone(run: Run, tmp_path: Path) -> None:
    folder = extra(tmp_path / "extra", **{"T-shirt-top": 3, "Sandal": 2, "Bag": 0})
    prepare(tmp_path / "out", **{**PREPARE, "extra_dir": folder})
    for name in ("val.images.npy", "val.labels.npy", "test.images.npy", "test.labels.npy"):
        assert (tmp_path / "out" / name).read_bytes() == (run.prepared / name).read_bytes()
    before, after = (read_json(place / "meta.json") for place in (run.prepared, tmp_path / "out"))
    more = {name: after["counts"]["train"][name] - count for name, count in before["counts"]["train"].items()}
    assert {name: count for name, count in more.items() if count} == {"T-shirt/top": 3, "Sandal": 2}
    assert after["params"]["extra"] == 5
    assert "extra" not in before["params"]
    images = np.load(tmp_path / "out/train.images.npy")
    labels = np.load(tmp_path / "out/train.labels.npy")
    flat = images.reshape(len(images), -1)
    grey = (flat == flat[:, :1]).all(1) & (flat[:, 0] >= 100)
    classes = after["classes"]
    assert sorted((classes[k], int(p)) for k, p in zip(labels[grey], flat[grey, 0], strict=True)) == [
        ("Sandal", 100), ("Sandal", 101), ("T-shirt/top", 100), ("T-shirt/top", 101), ("T-shirt/top", 102)
    ]  # fmt: skip
    assert not grey[-5:].all()  # dealt in among the others


def test_a_folder_of_ones_own_takes_extra_pictures_too(tmp_path: Path) -> None:
    own = extra(tmp_path / "own", hat=12, shoe=12)
    more = extra(tmp_path / "more", shoe=3)
    changes = {"dataset": "image-folder", "data_dir": own, "extra_dir": more}
    prepare(tmp_path / "out", **{**PREPARE, **changes})
    counts = read_json(tmp_path / "out/meta.json")["counts"]
    assert counts["train"]["shoe"] == counts["train"]["hat"] + 3
