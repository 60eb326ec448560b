"""What the page shows beside the model: pictures to try, and how the model did."""

import csv
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stages.batches import Split
from stages.stage import read_json, write_bytes, write_json

SAMPLES = 20  # of each split


def write_samples(folder: Path, splits: dict[str, Split], classes: list[str]) -> str:
    """Write `<split>/<number>-<class>.png`, the classes in turn, and labels.json: file -> class.

    Returns the name of the last split's first picture.
    """
    labels = {}
    for split, pictures in splits.items():
        for number, index in enumerate(firsts(pictures.labels.numpy(), len(classes))):
            images, (label,) = pictures.take(np.array([index]))
            slug = re.sub(r"[^\w]+", "-", classes[label].lower()).strip("-") or "class"
            name = f"{split}/{number:02}-{slug}.png"
            png = io.BytesIO()
            Image.fromarray(images[0].numpy()).save(png, "PNG")
            write_bytes(folder / name, png.getvalue())
            labels[name] = classes[label]
    write_json(folder / "labels.json", labels)
    return next(name for name in labels if name.startswith(f"{split}/"))


def firsts(labels: NDArray[np.int64], classes: int) -> list[int]:
    """Indices of the first pictures of each class, the classes in turn, SAMPLES in all."""
    members = [np.flatnonzero(labels == k)[: max(1, SAMPLES // classes)] for k in range(classes)]
    turns = range(max(map(len, members)))
    return [int(of[turn]) for turn in turns for of in members if turn < len(of)][:SAMPLES]


def summary(evaluation: Path, classes: list[str]) -> dict[str, Any]:
    """The evaluation in one piece: metrics, per_class, confusion [K][K] (is, said) and reliability."""
    confusion = np.zeros((len(classes), len(classes)), int)
    number = {name: k for k, name in enumerate(classes)}
    for row in read_csv(evaluation / "confusion.csv"):
        confusion[number[row["actual"]], number[row["predicted"]]] += 1
    rows = read_csv(evaluation / "per_class.csv")
    per_class = [{k: v if k == "class" else _number(v) for k, v in row.items()} for row in rows]
    curves = {
        name: [{k: _number(v) for k, v in row.items()} for row in read_csv(evaluation / f"reliability/{name}.csv")]
        for name in ("calibrated", "uncalibrated")
    }
    return {
        "metrics": read_json(evaluation / "metrics.json"),
        "class_names": classes,
        "per_class": per_class,
        "confusion": confusion.tolist(),
        "reliability": curves,
    }


def read_csv(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file with a header."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _number(text: str) -> float | int:
    return float(text) if "." in text else int(text)
