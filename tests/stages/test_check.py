"""What `invoke check-data` finds in pictures, before the hours of training."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages import check
from stages.check import FEW, IMBALANCE, NAMED
from stages.stage import StageError
from tests.conftest import ROOT

NONE = str(ROOT / "data/feedback")  # as it comes with the repository: empty
SPLIT = {"seed": 1, "extra_dir": NONE, "sketches": 400, "image_size": 28, "val_fraction": 0.2, "test_fraction": 0.2}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes with pictures enough, no two alike."""
    rng = np.random.default_rng(0)
    for name in ("bag", "hat"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for number in range(20):
            picture(rng, tmp_path / "pictures" / name / f"{number:02}.png")
    return tmp_path / "pictures"


def picture(rng: np.random.Generator, file: Path) -> None:
    """A bright patch on black, of noise."""
    canvas = np.zeros((40, 40), np.uint8)
    canvas[8:32, 8:32] = rng.integers(60, 256, (24, 24))
    Image.fromarray(canvas).save(file)


def found(folder: Path, dataset: str = "image-folder") -> list[str]:
    return check.check(dataset=dataset, data_dir=str(folder), **SPLIT)


def test_pictures_that_are_fit_have_no_problem(folder: Path) -> None:
    assert found(folder) == []


def test_a_class_with_few_pictures_is_named(folder: Path) -> None:
    for number in range(FEW - 1, 20):
        (folder / f"hat/{number:02}.png").unlink()
    assert found(folder) == [
        f"class 'hat' has {FEW - 1} picture(s), fewer than {FEW}: add some, or leave the class out"
    ]


def test_an_uneven_share_is_named(folder: Path) -> None:
    rng = np.random.default_rng(1)
    for number in range(20, IMBALANCE * 10 + 1):
        picture(rng, folder / f"bag/{number}.png")
    for number in range(10, 20):
        (folder / f"hat/{number:02}.png").unlink()
    assert found(folder) == [
        f"class 'bag' has 201 pictures, more than {IMBALANCE} times the 10 of 'hat': even them out"
    ]


def test_an_unreadable_file_is_named_once(folder: Path) -> None:
    (folder / "hat/07.png").write_bytes(b"this is no picture")
    (folder / "hat/08.png").write_bytes(b"nor is this")
    problems = found(folder)
    assert len(problems) == 2
    assert all(problem.startswith("cannot be read: ") for problem in problems)
    assert "07.png" in problems[0]
    assert "08.png" in problems[1]


def test_more_problems_than_anybody_reads_are_counted(folder: Path) -> None:
    for name in ("bag", "hat"):
        for number in range(15):
            (folder / name / f"{number:02}.png").write_bytes(b"no picture")
    problems = found(folder)
    assert len(problems) == NAMED + 1
    assert problems[-1] == f"and {30 - NAMED} more that cannot be read"


def apart(folder: Path) -> Path:
    """The same pictures, with train/ and test/ chosen by hand."""
    for part, numbers in (("train", range(10)), ("test", range(10, 20))):
        for name in ("bag", "hat"):
            (folder / part / name).mkdir(parents=True)
            for number in numbers:
                (folder / name / f"{number:02}.png").rename(folder / part / name / f"{number:02}.png")
    for name in ("bag", "hat"):
        (folder / name).rmdir()
    return folder


def test_the_same_picture_in_train_and_test_is_named(folder: Path) -> None:
    apart(folder)
    with Image.open(folder / "train/bag/03.png") as same:
        same.save(folder / "test/bag/again.webp", lossless=True)  # another file, the same pixels
    assert found(folder) == [
        "the same picture in train and in test: "
        f"{folder.as_posix()}/train/bag/03.png, {folder.as_posix()}/test/bag/again.webp"
    ]


def test_the_same_picture_in_two_classes_is_named(folder: Path) -> None:
    apart(folder)
    (folder / "train/hat/copy.png").write_bytes((folder / "train/bag/03.png").read_bytes())
    assert found(folder) == [
        f"the same picture in two classes: {folder.as_posix()}/train/bag/03.png, {folder.as_posix()}/train/hat/copy.png"
    ]


def test_twice_the_same_picture_in_one_part_and_class_is_no_problem(folder: Path) -> None:
    apart(folder)
    (folder / "train/bag/copy.png").write_bytes((folder / "train/bag/03.png").read_bytes())
    assert found(folder) == []


def test_pictures_that_are_not_there_end_it_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="nowhere") as error:
        found(tmp_path / "nowhere")
    assert "\n" not in str(error.value)


def test_sketches_are_not_looked_through(tmp_path: Path) -> None:
    assert found(tmp_path, "sketches") == []


def test_too_few_for_a_split_is_a_problem_beside_the_others(folder: Path) -> None:
    for file in sorted((folder / "hat").iterdir())[1:]:
        file.unlink()
    problems = found(folder)
    assert "class 'hat' has 1 picture(s)" in problems[0]


@pytest.mark.parametrize(("damaged", "said"), [(False, "fit to train on"), (True, "1 problem(s) with the pictures")])
def test_the_task_says_it(
    damaged: bool, said: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if damaged:
        (folder / "hat/07.png").write_bytes(b"this is no picture")
    monkeypatch.setattr(check.params, "of", lambda _: {"dataset": "image-folder", "data_dir": str(folder), **SPLIT})
    if damaged:
        with pytest.raises(StageError) as error:
            check.main()
        assert str(error.value).startswith(said)
        assert "07.png" in str(error.value)
    else:
        check.main()
        assert said in "".join(capsys.readouterr())


def test_an_extra_picture_that_is_in_the_test_split_is_named(folder: Path, tmp_path: Path) -> None:
    for part in ("train", "test"):
        (folder / part).mkdir()
    rng = np.random.default_rng(2)
    for name in ("bag", "hat"):
        (folder / name).rename(folder / "train" / name)
        (folder / "test" / name).mkdir()
        for number in range(10):
            picture(rng, folder / f"test/{name}/{number}.png")
    extra = tmp_path / "extra/hat/one.png"
    extra.parent.mkdir(parents=True)
    extra.write_bytes((folder / "test/hat/3.png").read_bytes())
    said = check.check(dataset="image-folder", data_dir=str(folder), **{**SPLIT, "extra_dir": str(tmp_path / "extra")})
    assert said == [f"the same picture in train and in test: {folder.as_posix()}/test/hat/3.png, {extra.as_posix()}"]
