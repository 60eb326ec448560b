"""The sample pictures that export put beside the model."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path

from PIL import Image


@dataclass(frozen=True)
class Sample:
    """A picture file with its true class."""

    file: Path
    label: str


Samples = dict[str, list[Sample]]  # by split: train, val, test


def read_samples(model_dir: Path) -> Samples:
    """The samples in their order; none where there are none."""
    folder = model_dir / "samples"
    try:
        labels = dict(json.loads((folder / "labels.json").read_bytes()))
    except (OSError, ValueError, TypeError, RecursionError):
        labels = {}
    samples: Samples = {}
    for file in sorted(folder.glob("*/*.png")):
        # Without a label, the name of the file has to do: 03-ankle-boot.png.
        label = labels.get(f"{file.parent.name}/{file.name}") or " ".join(file.stem.split("-")[1:]) or file.stem
        samples.setdefault(file.parent.name, []).append(Sample(file, str(label)))
    return samples


def example(samples: Samples) -> bytes:
    """A picture file to show in the schema: a sample, or where there are none, a light bar on black."""
    if samples.get("test"):
        return samples["test"][0].file.read_bytes()
    file = io.BytesIO()
    image = Image.new("L", (28, 28))
    image.paste(255, (9, 2, 19, 26))
    image.save(file, "PNG")
    return file.getvalue()
