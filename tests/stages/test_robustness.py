"""The figures of corrupted pictures, and the folder they are written to."""

import csv
import io

import numpy as np
import torch
from PIL import Image

from stages import batches, corruptions, robustness
from stages.stage import read_json
from tests.conftest import Run


def test_a_guess_that_never_changes_is_right_as_often_as_its_class_comes() -> None:
    images = torch.zeros(100, 28, 28, dtype=torch.uint8)
    split = batches.Split(images, torch.arange(100) % 4, torch.device("cpu"))
    rows = robustness.measure(lambda seen: np.tile([1.0, 0, 0, 0], (len(seen), 1)), split, 1)
    assert len(rows) == 1 + 8 * 5
    assert {row["accuracy"] for row in rows} == {0.25}


def test_the_worst_is_the_one_with_the_least_accuracy() -> None:
    rows = [{"corruption": "none", "severity": 0, "accuracy": 0.9, "pictures": 10}]
    for kind in corruptions.LEVELS:
        accuracy = {"blur": 0.2, "noise": 0.4}.get(kind, 0.8)
        rows += [{"corruption": kind, "severity": s, "accuracy": accuracy, "pictures": 10} for s in (1, 2, 3, 4, 5)]
    found = robustness.summary(rows)
    assert (found["worst"], found["worst_accuracy"], found["clean"]) == ("blur", 0.2, 0.9)
    assert found["mean"] == (0.2 + 0.4 + 6 * 0.8) / 8


def test_the_folder_holds_figures_table_and_picture(run: Run) -> None:
    folder = run.reports / "robustness"
    found = read_json(folder / "metrics.json")
    with (folder / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row.pop("severity") for row in rows] == list("012345")
    assert abs(np.mean([float(row[found["worst"]]) for row in rows[1:]]) - found["worst_accuracy"]) < 1e-5
    assert {float(accuracy) for accuracy in rows[0].values()} == {found["clean"]}  # where every line begins
    Image.open(io.BytesIO((folder / "examples.png").read_bytes())).verify()


def test_the_card_names_the_worst(run: Run) -> None:
    found = read_json(run.reports / "robustness/metrics.json")
    card = (run.models / "README.md").read_text(encoding="utf-8")
    assert f"It bears **{found['worst']}** worst: {found['worst_accuracy']:.1%}." in card
