"""The sample pictures that export put beside the model."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from app.classifier import ModelError


@dataclass(frozen=True)
class Sample:
    """A picture file with its true class."""

    file: Path
    label: str


Samples = dict[str, list[Sample]]  # by split: train, val, test


def read_samples(model_dir: Path) -> Samples:
    """The samples; none where there are none.

    Raises:
        ModelError: labels.json is not as export writes it.
    """
    folder = model_dir / "samples"
    samples: Samples = {}
    try:
        labels = json.loads((folder / "labels.json").read_bytes())
        for name, label in sorted(labels.items()):
            samples.setdefault(name.partition("/")[0], []).append(Sample(folder / name, str(label)))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError):
        raise ModelError(f"{folder / 'labels.json'} cannot be used: `uv run dvc repro` writes it anew") from None
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
