import json

import numpy as np
from PIL import Image

from app.pictures import to_model_input
from stages import exhibits
from stages.stage import read_json
from tests.conftest import Run


def test_fewer_pictures_than_places() -> None:
    assert exhibits.firsts(np.array([2, 0, 2]), 3) == [1, 0, 2]


def test_more_classes_than_places() -> None:
    assert len(exhibits.firsts(np.arange(50), 50)) == exhibits.SAMPLES


def test_the_classes_come_in_turn() -> None:
    assert exhibits.firsts(np.array([1, 1, 0, 0]), 2) == [2, 0, 3, 1]


def test_samples_are_of_their_split_and_their_class(run: Run) -> None:
    labels = json.loads((run.models / "samples/labels.json").read_text(encoding="utf-8"))
    files = sorted(p.relative_to(run.models / "samples").as_posix() for p in run.models.glob("samples/*/*.png"))
    assert sorted(labels) == files
    classes = read_json(run.prepared / "meta.json")["classes"]
    for split in ("train", "val", "test"):
        images = np.load(run.prepared / f"{split}.images.npy")
        numbers = np.load(run.prepared / f"{split}.labels.npy")
        mine = {name: label for name, label in labels.items() if name.startswith(f"{split}/")}
        assert len(mine) == exhibits.SAMPLES
        assert set(mine.values()) == set(classes)
        for name, label in mine.items():
            with Image.open(run.models / "samples" / name) as image:
                picture = to_model_input(image, (28, 28))
            at = np.flatnonzero((images == picture).all((1, 2)))
            assert classes[numbers[at[0]]] == label


def test_the_summary_is_the_evaluation(run: Run) -> None:
    summary = read_json(run.models / "evaluation.json")
    metrics = read_json(run.reports / "evaluation/metrics.json")
    assert summary["metrics"] == metrics
    confusion = np.array(summary["confusion"])
    assert confusion.sum(1).tolist() == [row["pictures"] for row in summary["per_class"]]
    assert round(np.trace(confusion) / confusion.sum(), 6) == metrics["accuracy"]
    assert (np.diag(confusion) / confusion.sum(1)).round(6).tolist() == [row["recall"] for row in summary["per_class"]]
    assert set(summary["reliability"]) == {"calibrated", "uncalibrated"}
    for curve in summary["reliability"].values():
        assert sum(point["pictures"] for point in curve) == confusion.sum()
    assert (run.models / "mistakes.png").read_bytes() == (run.reports / "evaluation/mistakes.png").read_bytes()
