"""The model card: what the model is, how good, and what it is not for, with the metadata model hubs read."""

import csv
from pathlib import Path
from typing import Any

import yaml

ABOUT = {
    "fashion-mnist": (
        "[Fashion-MNIST](https://github.com/zalandoresearch/fashion-mnist) (Zalando, MIT licence; "
        "Xiao, Rasul, Vollgraf 2017): catalogue pictures, grey, 28x28, light on black."
    ),
    "image-folder": "The user's own pictures, brought to grey, light on black, cropped to the object.",
    "sketches": (
        "Drawn garments: random outlines in the ten classes of Fashion-MNIST. No real picture. The figures below are "
        "measured on more drawings. Of real garments, Fashion-MNIST's test split, it knew 83 % when trained on 24,000."
    ),
}
LIMITS = """- It knows one object a picture, light on a dark ground, and nothing but the classes above: anything else gets one
  of their names too. {unusual}
- {source} Other garments, angles and photographs are judged less well than the figures here.
- The label sets keep their promise for pictures like the ones it was tested on, not for others.
- It judges garments, not people: neither who wears them, nor anything about them. Do not use it for that."""
ORIGIN = {
    "fashion-mnist": "Its pictures are from one shop's catalogue, of one time and place.",
    "image-folder": "Its pictures are those of one collection.",
    "sketches": "Its pictures are drawn, by rules; on real garments it is right less often.",
}
UNUSUAL_PICTURES = """What lies farther from every class than 99 % of the validation pictures counts as unusual; of the
  test split {unusual:.1%} did. Much that is no garment is caught by that, not all of it."""
USE = """import numpy as np, onnxruntime
from PIL import Image
session = onnxruntime.InferenceSession("models/{model}")
picture = np.array(Image.open("models/samples/{sample}").convert("L"), dtype=np.uint8)  # light on black
probabilities, heatmap, distance, projection = session.run(None, {{"image": picture[None]}})"""


def render(
    record: dict[str, Any],
    metrics: dict[str, float],
    per_class: Path,
    calibration: dict[str, float],
    report: dict[str, Any],
    robust: dict[str, Any],
    sample: str,
) -> str:
    """Markdown with a YAML block in front, as model hubs read it.

    Args:
        record: what `train` wrote beside the weights.
        metrics: of `evaluate`.
        per_class: the CSV table of `evaluate`.
        calibration: temperature, coverage and threshold.
        report: of `export`: proof, sizes, accuracies.
        robust: of `evaluate`, on corrupted pictures.
        sample: the name of a picture in models/samples/.
    """
    data, served = record["data"], report["served"]
    own = data["dataset"] == "image-folder"
    block = {
        # The licence of the weights follows the pictures; the user's own carry whatever licence they have.
        "license": "other" if own else "mit",
        "library_name": "onnx",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "onnx", "atelier"],
        "model-index": [
            {
                "name": "atelier",
                "results": [
                    {
                        "task": {"type": "image-classification"},
                        "dataset": {"name": data["dataset"], "type": data["dataset"], "split": "test"},
                        "metrics": [
                            {"type": "accuracy", "value": metrics["accuracy"]},
                            {"type": "f1", "value": metrics["macro_f1"], "args": {"average": "macro"}},
                        ],
                    }
                ],
            }
        ],
    } | ({"datasets": ["fashion_mnist"]} if data["dataset"] == "fashion-mnist" else {})
    with per_class.open(encoding="utf-8", newline="") as file:
        classes = "\n".join(
            f"| {r['class']} | {r['pictures']} | {float(r['precision']):.1%} | {float(r['recall']):.1%} "
            f"| {float(r['f1']):.1%} |"
            for r in csv.DictReader(file)
        )
    kinds = ", ".join(f"{kind} {accuracy:.1%}" for kind, accuracy in robust["kinds"].items())
    counts = ", ".join(f"{sum(classes.values()):,} {split}" for split, classes in data["counts"].items())
    recipe = ", ".join(f"{k} {v}" for k, v in (data["params"] | record["params"]).items())
    served_file = report["int8" if served == "model.int8.onnx" else "fp32"]
    use = USE.format(model=served, sample=sample)
    return f"""---
{yaml.safe_dump(block, sort_keys=False, allow_unicode=True)}---
# Garment classifier

A small residual CNN that names the garment in a picture: {", ".join(data["classes"])}.

## Data
{ABOUT[data["dataset"]]} Pictures: {counts}. SHA-256 of the prepared arrays: `{data["sha256"]}`.

## Recipe
{recipe}.

## Figures
On the {report["proof"]["pictures"]:,} pictures of the test split, one pass each.

| | |
|---|---|
| accuracy | {metrics["accuracy"]:.2%} (95 % interval {metrics["accuracy_low"]:.2%} to {metrics["accuracy_high"]:.2%}) |
| macro F1 | {metrics["macro_f1"]:.2%} |
| log loss, calibrated (before) | {metrics["log_loss"]:.4f} ({metrics["log_loss_uncalibrated"]:.4f}) |
| expected calibration error (before) | {metrics["ece"]:.2%} ({metrics["ece_uncalibrated"]:.2%}) |
| label sets: promised, held, mean size | {calibration["coverage"]:.1%}, {metrics["label_set_coverage"]:.1%}, {metrics["label_set_size"]:.2f} |

| file | accuracy | bytes | served |
|---|---|---|---|
| model.onnx | {report["fp32"]["accuracy"]:.2%} | {report["fp32"]["bytes"]:,} | {"yes" if served == "model.onnx" else ""} |
| model.int8.onnx | {report["int8"]["accuracy"]:.2%} | {report["int8"]["bytes"]:,} | {"yes" if served == "model.int8.onnx" else ""} |

Temperature {calibration["temperature"]:.4f} and label-set threshold {calibration["threshold"]:.4f} were fitted on the validation split.
The exported file gave the same top class as PyTorch on every test picture; no probability differed by more than {report["proof"]["max_difference"]:.1e}.

| class | pictures | precision | recall | F1 |
|---|---|---|---|---|
{classes}

## Corrupted pictures
Accuracy on {robust["pictures"]:,} test pictures, the mean of five severities: {kinds}. On average {robust["mean"]:.1%}, without corruption \
{robust["clean"]:.1%}. It bears **{robust["worst"]}** worst: {robust["worst_accuracy"]:.1%}.

## Limits
{LIMITS.format(source=ORIGIN[data["dataset"]], unusual=UNUSUAL_PICTURES.format(**served_file))}

## Licence
{"The pictures are yours, and so is the choice of a licence for the weights." if own else "MIT."}

## Use
```python
{use}
```
`probabilities` is float32 [N, K] in the order of `class_names` in the file's metadata; `heatmap` is float32 [N, h, w], the evidence for the top class; `distance` is float32 [N], how far the features lie from the nearest class (squared Mahalanobis distance): the metadata's `distances` are its quantiles on the validation split; `projection` is float32 [N, 8], by which the app tells drift.
"""
