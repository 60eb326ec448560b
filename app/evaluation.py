"""Reads the evaluation that ``export`` put beside the model: figures, confusions and reliability curves.

A model folder may come from elsewhere, so nothing in the file is believed before it is checked.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

MOST = 1e9  # no figure of a sound evaluation is larger
METRICS = {  # of evaluation.json, and the largest value each can have
    "accuracy": 1.0,
    "accuracy_low": 1.0,
    "accuracy_high": 1.0,
    "macro_f1": 1.0,
    "log_loss": MOST,
    "log_loss_uncalibrated": MOST,
    "ece": 1.0,
    "ece_uncalibrated": 1.0,
    "label_set_coverage": 1.0,
    "label_set_size": MOST,
}
CURVES = ("calibrated", "uncalibrated")


class EvaluationError(Exception):
    """There is no evaluation to show; the message is a sentence for a person."""


class Point(NamedTuple):
    """One bin of confidence: how sure the model said it was, how often it was right, in how many pictures."""

    confidence: float
    accuracy: float
    pictures: int


class Row(NamedTuple):
    """One class."""

    name: str
    pictures: int
    precision: float
    recall: float
    f1: float


class Evaluation(NamedTuple):
    """What evaluation.json holds. Class names are as the user wrote them: escape them before they meet HTML."""

    metrics: dict[str, float]
    rows: list[Row]
    confusion: list[list[int]]  # [is][said]
    curves: dict[str, list[Point]]


def read(path: Path) -> Evaluation:
    """Reads and checks the file.

    Raises:
        EvaluationError: it is missing or damaged.
    """
    try:
        return _checked(json.loads(path.read_bytes()))
    except FileNotFoundError:
        raise EvaluationError("This model came without its evaluation, so how good it is cannot be shown.") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise EvaluationError(
            "The evaluation that came with this model is damaged, so how good it is cannot be shown."
        ) from None


def _checked(content: Any) -> Evaluation:
    names, confusion, per_class = content["class_names"], content["confusion"], content["per_class"]
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError("no class names")
    if len(per_class) != len(names) or [len(row) for row in confusion] != [len(names)] * len(names):
        raise ValueError("not one row and one column per class")
    evaluation = Evaluation(
        {key: _number(content["metrics"][key], most) for key, most in METRICS.items()},
        [
            Row(name, _count(row["pictures"]), *(_number(row[key]) for key in ("precision", "recall", "f1")))
            for name, row in zip(names, per_class, strict=True)
        ],
        [[_count(cell) for cell in row] for row in confusion],
        {key: [_point(point) for point in content["reliability"][key]] for key in CURVES},
    )
    if not sum(map(sum, evaluation.confusion)):
        raise ValueError("no pictures")
    return evaluation


def _point(point: Any) -> Point:
    return Point(_number(point["confidence"]), _number(point["accuracy"]), _count(point["pictures"]))


def _count(value: Any) -> int:
    return int(_number(value, MOST))


def _number(value: Any, most: float = 1.0) -> float:
    if not 0 <= value <= most:  # nor is NaN; what is no number raises a TypeError
        raise ValueError(f"{value!r} should lie between 0 and {most:g}")
    return value
