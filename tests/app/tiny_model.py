"""A model directory as export writes it, made in milliseconds and without torch.

Its three classes are shapes: an upright bar is a trouser, a flat bar is a sandal, a full frame is a bag.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from app import drift
from app.classifier import Classifier

SIDE = 28
CLASS_NAMES = ["Trouser", "Sandal", "Bag"]
METADATA = {
    "class_names": json.dumps(CLASS_NAMES),
    "dataset": "shapes",
    "dataset_sha256": "0" * 64,
    "params": json.dumps({"seed": 1}),
    "metrics": json.dumps({"accuracy": 0.9}),
    "label_set": json.dumps({"coverage": 0.95, "threshold": 0.07}),
    "distances": json.dumps([0.0, 0.1, 0.2]),
    "project_version": "0.1.0",
}


def shapes() -> dict[str, npt.NDArray[np.uint8]]:
    """A picture uint8 [28, 28] of each class, light on black."""
    pictures = {name: np.zeros((SIDE, SIDE), np.uint8) for name in CLASS_NAMES}
    pictures["Trouser"][:, 9:19] = 255
    pictures["Sandal"][9:19] = 255
    pictures["Bag"][:] = 255
    pictures["Bag"][0, 0] = 254  # else it would have no contrast
    return pictures


def graph(metadata: dict[str, str] | None = None, side: int | str = SIDE) -> onnx.ModelProto:
    """The graph: pixels times templates, softmax; the heat map is the picture in 7 x 7 means.

    The distance is the share of grey: of what is neither black nor white.
    """
    templates = [np.where(picture > 0, 1.0, -1.0).ravel() for picture in shapes().values()]
    weights = np.stack(templates, axis=1).astype(np.float32) * np.float32([1, 1, 0.5]) * 30 / 255 / SIDE**2
    constants = {
        "weights": weights.astype(np.float32),
        "flat": np.array([-1, SIDE * SIDE], np.int64),
        "planes": np.array([-1, 1, SIDE, SIDE], np.int64),
        "map": np.array([-1, 7, 7], np.int64),
        "middle": np.array(127.5, np.float32),
        "from": np.array([400], np.int64),  # eight pixels of one row stand for features
        "to": np.array([408], np.int64),
        "axis": np.array([1], np.int64),
    }
    node = helper.make_node
    nodes = [
        node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        node("Reshape", ["pixels", "flat"], ["rows"]),
        node("MatMul", ["rows", "weights"], ["scores"]),
        node("Softmax", ["scores"], ["probabilities"], axis=1),
        node("Reshape", ["pixels", "planes"], ["maps"]),
        node("AveragePool", ["maps"], ["means"], kernel_shape=[4, 4], strides=[4, 4]),
        node("Reshape", ["means", "map"], ["heatmap"]),
        node("Sub", ["rows", "middle"], ["from_middle"]),
        node("Abs", ["from_middle"], ["extreme"]),
        node("Sub", ["middle", "extreme"], ["grey"]),
        node("Div", ["grey", "middle"], ["greyness"]),
        node("ReduceMean", ["greyness"], ["distance"], axes=[1], keepdims=0),
        node("Slice", ["rows", "from", "to", "axis"], ["corner"]),
        node("Div", ["corner", "middle"], ["projection"]),
    ]
    value = helper.make_tensor_value_info
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "shapes",
            [value("image", TensorProto.UINT8, ["N", side, side])],
            [
                value("probabilities", TensorProto.FLOAT, ["N", len(CLASS_NAMES)]),
                value("heatmap", TensorProto.FLOAT, ["N", 7, 7]),
                value("distance", TensorProto.FLOAT, ["N"]),
                value("projection", TensorProto.FLOAT, ["N", 8]),
            ],
            [numpy_helper.from_array(array, name) for name, array in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    helper.set_model_props(model, METADATA if metadata is None else metadata)
    return model


EVALUATION: dict[str, Any] = {
    "metrics": {
        "accuracy": 0.9,
        "accuracy_low": 0.84,
        "accuracy_high": 0.95,
        "macro_f1": 0.9,
        "log_loss": 0.3,
        "log_loss_uncalibrated": 0.4,
        "ece": 0.02,
        "ece_uncalibrated": 0.08,
        "label_set_coverage": 0.96,
        "label_set_size": 1.25,
    },
    "class_names": CLASS_NAMES,
    "per_class": [
        {"class": "Trouser", "pictures": 30, "precision": 0.965517, "recall": 0.933333, "f1": 0.949153},
        {"class": "Sandal", "pictures": 30, "precision": 0.870968, "recall": 0.9, "f1": 0.885246},
        {"class": "Bag", "pictures": 40, "precision": 0.875, "recall": 0.875, "f1": 0.875},
    ],
    "confusion": [[28, 0, 2], [0, 27, 3], [1, 4, 35]],
    "reliability": {
        "calibrated": [
            {"confidence": 0.55, "accuracy": 0.5, "pictures": 10},
            {"confidence": 0.96, "accuracy": 0.944444, "pictures": 90},
        ],
        "uncalibrated": [
            {"confidence": 0.45, "accuracy": 0.6, "pictures": 20},
            {"confidence": 0.85, "accuracy": 0.975, "pictures": 80},
        ],
    },
}
CARD = """---
license: mit
---
# Garment classifier

Names three [shapes](https://example.org/shapes).

## Figures
| | |
|---|---|
| accuracy | 90.00% |

| class | pictures | precision | recall | F1 |
|---|---|---|---|---|
| Trouser | 30 | 96.6% | 93.3% | 94.9% |

## Use
```python
picture = np.array(Image.open("models/samples/test/00-trouser.png").convert("L"), dtype=np.uint8)  # light on black
```
"""


def write(folder: Path) -> Path:
    """Writes the model directory; returns it."""
    folder.mkdir(parents=True)
    onnx.save(graph(), folder / "model.onnx")
    (folder / "serve.json").write_text('{"file": "model.onnx"}')
    (folder / "evaluation.json").write_text(json.dumps(EVALUATION))
    (folder / "README.md").write_text(CARD, encoding="utf-8")
    Image.new("L", (1100, 1000), 200).save(folder / "mistakes.png")
    labels = {}
    for split in ("train", "val", "test"):
        (folder / "samples" / split).mkdir(parents=True)
        for index, (name, picture) in enumerate(shapes().items()):
            file = f"{split}/{index:02d}-{name.lower()}.png"
            labels[file] = name
            Image.fromarray(picture).save(folder / "samples" / file)
    (folder / "samples/labels.json").write_text(json.dumps(labels))
    (folder / "reference.json").write_text(json.dumps(reference(Classifier(folder / "model.onnx")).to_json()))
    return folder


def reference(classifier: Classifier, window: int = 30) -> drift.Reference:
    """As if the validation split held ten pictures of each shape; a window may lie half as far away as can be."""
    pictures = np.stack(list(shapes().values()) * 10)
    found = drift.measure(pictures, classifier.predict(pictures), classifier.threshold)
    values = {
        name: drift.short(np.append(np.unique(values) + 1e-5, values.min() - 1e-4).astype(np.float64))
        for name, values in found.ordered.items()
    }
    values = {name: np.sort(values[name]) for name in drift.ORDERED}
    projections = found.projections.astype(np.float64)
    centre, scale = drift.short(projections.mean(0)), drift.short(projections.std(0) + 1e-6)
    grid = drift.Grid(values, centre, scale, len(CLASS_NAMES))
    return drift.Reference(window, grid, grid.rows(found).mean(0, dtype=np.float64), np.full(8, 0.5), len(pictures))
