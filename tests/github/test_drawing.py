"""The pictures of a report: right numbers at the right places, from what the stages really write."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploy import drawing
from tests.conftest import Run


def test_what_has_no_file_has_no_picture(tmp_path: Path) -> None:
    assert drawing.draw(tmp_path / "reports", tmp_path / "report") == []
    assert list((tmp_path / "report").iterdir()) == []


def test_a_run_is_drawn(run: Run, tmp_path: Path) -> None:
    drawn = drawing.draw(run.reports, tmp_path)
    assert [name for name, _ in drawn] == ["curves.png", "confusion.png", "reliability.png"]
    for name, _ in drawn:
        with Image.open(tmp_path / name) as picture:
            assert min(picture.size) > 300
            assert (tmp_path / name).stat().st_size < 200_000
            # Something stands on the white.
            assert (np.asarray(picture.convert("L")) < 128).mean() > 0.002


def test_the_same_run_gives_the_same_files(run: Run, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        drawing.draw(run.reports, tmp_path / folder)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes(), file.name


def confusion(tmp_path: Path, pairs: list[tuple[str, str]]) -> Path:
    file = tmp_path / "confusion.csv"
    with file.open("w", newline="") as opened:
        csv.writer(opened).writerows([("actual", "predicted"), *pairs])
    return file


def test_rows_are_the_truth_and_columns_what_was_said(tmp_path: Path) -> None:
    pairs = [("bag", "bag")] * 3 + [("bag", "hat")] + [("hat", "hat")] * 1200
    axes = drawing.confusion(confusion(tmp_path, pairs)).axes[0]
    texts = {(text.get_position()): text.get_text() for text in axes.texts}
    assert texts == {(0, 0): "3", (1, 0): "1", (1, 1): "1,200"}  # x, y
    assert axes.get_title() == "1,203 of 1,204 right"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("said", "is")


def test_a_class_that_was_only_ever_said_has_a_row_without_counts(tmp_path: Path) -> None:
    axes = drawing.confusion(confusion(tmp_path, [("bag", "hat")])).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["bag", "hat"]
    assert [text.get_text() for text in axes.texts] == ["1"]


@pytest.mark.parametrize(("classes", "named"), [(drawing.MOST_CLASSES, True), (drawing.MOST_CLASSES + 1, False)])
def test_more_classes_than_can_be_read_are_not_named(classes: int, named: bool, tmp_path: Path) -> None:
    axes = drawing.confusion(confusion(tmp_path, [(f"{k:03}", f"{k:03}") for k in range(classes)])).axes[0]
    assert bool(axes.texts) == named
    assert len(axes.get_xticks()) == (classes if named else 0)


def test_curves_count_epochs_from_one(tmp_path: Path) -> None:
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "loss.tsv").write_text("timestamp\tstep\tloss\n1\t0\t2.5\n2\t1\t1.5\n")
    loss, accuracy = drawing.curves(tmp_path).axes
    assert [line.get_label() for line in loss.lines] == ["train", "val"]
    assert np.asarray(loss.lines[0].get_xydata()).tolist() == [[1, 2.5], [2, 1.5]]
    assert len(accuracy.lines) == 0
