"""How the network bears corrupted pictures: accuracy on a part of the test split, each kind at each severity."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages import batches, corruptions
from stages.network import load
from stages.stage import log, whole_folder, write_bytes, write_csv, write_json

PICTURES = 2000  # of the test split, drawn once: all of it would take five times as long and move no figure by a point
BATCH = 1000  # pictures at a time
SHOWN = (1, 3, 5)  # severities on the picture of examples
Scores = Callable[[Tensor], NDArray[np.float64]]


def measure(scores: Scores, test: batches.Split, seed: int) -> list[dict[str, Any]]:
    """Accuracy under every corruption.

    Args:
        scores: uint8 [n, S, S] -> class scores [n, K].
        test: the pictures; PICTURES of them are taken.
        seed: of that choice and of the corruptions.

    Returns:
        A row for the clean pictures, which has severity 0, and one for each kind and severity.
    """
    chosen = np.sort(np.random.default_rng([seed, 6]).permutation(len(test))[:PICTURES])
    images, labels = test.take(chosen)
    right = labels.numpy()

    def row(kind: str, severity: int, seen: Tensor) -> dict[str, Any]:
        accuracy = float((scores(seen).argmax(1) == right).mean())
        return {"corruption": kind, "severity": severity, "accuracy": round(accuracy, 6), "pictures": len(right)}

    rows = [row("none", 0, images)]
    for kind in corruptions.LEVELS:
        for severity in corruptions.SEVERITIES:
            rows.append(row(kind, severity, corruptions.corrupt(images, kind, severity, seed)))
    return rows


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Accuracy without corruption, over all of them, of each kind over its severities, and which kind is worst."""
    kinds = {
        kind: round(float(np.mean([row["accuracy"] for row in rows if row["corruption"] == kind])), 6)
        for kind in corruptions.LEVELS
    }
    worst = min(kinds, key=lambda kind: kinds[kind])
    return {
        "pictures": rows[0]["pictures"],
        "clean": rows[0]["accuracy"],
        "mean": round(float(np.mean(list(kinds.values()))), 6),
        "worst": worst,
        "worst_accuracy": kinds[worst],
        "kinds": kinds,
    }


def table(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row a severity, from 0, which is the clean pictures whatever the kind; a column a kind."""
    found = {(row["corruption"], row["severity"]): row["accuracy"] for row in rows}
    return [
        {"severity": severity}
        | {kind: found["none" if severity == 0 else kind, severity] for kind in corruptions.LEVELS}
        for severity in (0, *corruptions.SEVERITIES)
    ]


def examples(test: batches.Split, seed: int) -> bytes:
    """PNG: one test picture as each corruption leaves it, mildly, midway and at its worst."""
    from matplotlib.figure import Figure

    image, _ = test.take(np.array([0]))
    figure = Figure(figsize=(11, 5), layout="constrained")
    figure.suptitle("A test picture under each corruption: severity 1, 3 and 5")
    grid = figure.subplots(len(SHOWN), len(corruptions.LEVELS))
    for column, kind in enumerate(corruptions.LEVELS):
        grid[0][column].set_title(kind)
        for line, severity in enumerate(SHOWN):
            axes = grid[line][column]
            axes.axis("off")
            axes.imshow(corruptions.corrupt(image, kind, severity, seed)[0], cmap="gray", vmin=0, vmax=255)
    png = io.BytesIO()
    figure.savefig(png, dpi=100, metadata={"Software": None})
    return png.getvalue()


def robustness(prepared: Path, network_file: Path, out: Path, *, seed: int) -> None:
    """Measure, and write `out` whole or not at all.

    It holds metrics.json, as `summary` makes it; table.csv, accuracy by severity, a column a kind; examples.png.
    """
    network, _ = load(str(network_file))
    test = batches.read_split(prepared, "test", torch.device("cpu"))

    @torch.no_grad()
    def scores(images: Tensor) -> NDArray[np.float64]:
        return np.concatenate([network(part).double().numpy() for part in torch.split(images, BATCH)])

    rows = measure(scores, test, seed)
    found = summary(rows)
    with whole_folder(out) as folder:
        write_json(folder / "metrics.json", found)
        write_csv(folder / "table.csv", table(rows))
        write_bytes(folder / "examples.png", examples(test, seed))
    log(
        f"corrupted pictures: accuracy {found['mean']:.2%} on average, {found['clean']:.2%} without; worst is "
        f"{found['worst']} with {found['worst_accuracy']:.2%}"
    )
