"""The two exported files side by side at batch 1: medians of interleaved rounds, one thread, this machine."""

import statistics
import time
from pathlib import Path

import numpy as np

from app.classifier import Classifier

ROUNDS, CALLS = 30, 50


def main() -> None:
    """Print milliseconds a picture for each file in models/, and the ratio."""
    files = [Path("models/model.onnx"), Path("models/model.int8.onnx")]
    classifiers = [Classifier(file) for file in files]
    picture = np.random.default_rng(0).integers(0, 256, (1, *classifiers[0].image_size), np.uint8)
    times: list[list[float]] = [[], []]
    for _ in range(ROUNDS):
        for classifier, seconds in zip(classifiers, times, strict=True):
            started = time.perf_counter()
            for _ in range(CALLS):
                classifier.predict(picture)
            seconds.append((time.perf_counter() - started) / CALLS)
    medians = [statistics.median(seconds) for seconds in times]
    for file, median in zip(files, medians, strict=True):
        print(f"{file.name:16} {median * 1000:.3f} ms a picture, {file.stat().st_size:,} bytes")
    print(f"int8 is {medians[0] / medians[1]:.2f} times as fast as fp32")


if __name__ == "__main__":
    main()
