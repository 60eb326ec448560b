"""The pictures of a report, drawn from DVC's outs: curves of the training, confusion, reliability."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

BLUE, ORANGE, GREY = "#1f5fa8", "#d9730d", "#888888"  # told apart by the colour-blind, too
MOST_CLASSES = 30  # beyond which no name and no count can be read


def draw(reports: Path, folder: Path) -> list[tuple[str, str]]:
    """Draw what `reports` has the files for.

    Args:
        reports: with `training/` and `evaluation/`, as the stages write them.
        folder: where the PNG files go.

    Returns:
        The file name of each picture, and what it shows, in words.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures: list[tuple[str, str, Callable[[Path], Figure], Path]] = [
        ("curves.png", "Loss and accuracy by epoch", curves, reports / "training/plots/metrics"),
        ("confusion.png", "Confusion matrix, test split", confusion, reports / "evaluation/confusion.csv"),
        ("reliability.png", "Reliability, test split", reliability, reports / "evaluation/reliability"),
    ]
    drawn = []
    for name, title, picture, source in pictures:
        if source.exists():
            picture(source).savefig(folder / name, dpi=110, metadata={"Software": None})
            drawn.append((name, title))
    return drawn


def rows(path: Path) -> list[dict[str, str]]:
    """Rows of a file with a header, separated by commas or, in `.tsv`, by tabs."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))


def curves(metrics: Path) -> Figure:
    """Loss and accuracy, train and val, by epoch.

    Args:
        metrics: folder with `train/` and `val/`, in each `loss.tsv` and `accuracy.tsv`.
    """
    figure = Figure((9, 3.4), layout="constrained")
    for axes, name, label in zip(
        figure.subplots(1, 2), ("loss", "accuracy"), ("cross-entropy", "share right"), strict=True
    ):
        for split, colour in (("train", ORANGE), ("val", BLUE)):
            if (file := metrics / split / f"{name}.tsv").exists():
                points = rows(file)
                epochs = [int(row["step"]) + 1 for row in points]
                marker = "o" if len(points) < 30 else None
                axes.plot(
                    epochs, [float(row[name]) for row in points], color=colour, marker=marker, markersize=4, label=split
                )
        _dress(axes, name.capitalize(), "epoch", label)
        axes.xaxis.get_major_locator().set_params(integer=True)
        if axes.lines:
            axes.legend(frameon=False)
    return figure


def confusion(file: Path) -> Figure:
    """Which class was taken for which: shares of the true class, and the counts where they can be read.

    Args:
        file: CSV with `actual` and `predicted`, a row a test picture.
    """
    table = rows(file)
    names = sorted({row[key] for row in table for key in ("actual", "predicted")})
    number = {name: k for k, name in enumerate(names)}
    counts: NDArray[np.int64] = np.zeros((len(names), len(names)), np.int64)
    np.add.at(counts, ([number[row["actual"]] for row in table], [number[row["predicted"]] for row in table]), 1)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = 6.4 if len(names) <= MOST_CLASSES else 7.5
    figure = Figure((side, side), layout="constrained")
    axes = figure.subplots()
    # The root, so that one mistake in a hundred is seen at all.
    axes.imshow(shares**0.5, cmap="Blues", vmin=0, vmax=1)
    _dress(axes, f"{np.trace(counts):,} of {len(table):,} right", "said", "is", grid=False)
    if len(names) > MOST_CLASSES:
        axes.set_xticks([])
        axes.set_yticks([])
        return figure
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right")
    axes.set_yticks(range(len(names)), names)
    for (i, j), count in np.ndenumerate(counts):
        if count:
            axes.text(j, i, f"{count:,}", ha="center", va="center", fontsize=8, color=_ink(shares[i, j]))
    return figure


def reliability(folder: Path) -> Figure:
    """How often it is right where it says how sure it is; the straight line is a promise kept.

    Args:
        folder: with `calibrated.csv` and `uncalibrated.csv`: confidence, accuracy and pictures of each bin.
    """
    figure = Figure((4.6, 4.6), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--")
    for name, colour in (("uncalibrated", ORANGE), ("calibrated", BLUE)):
        if (file := folder / f"{name}.csv").exists():
            bins = rows(file)
            confidence, accuracy = ([float(row[key]) for row in bins] for key in ("confidence", "accuracy"))
            pictures = np.array([float(row["pictures"]) for row in bins])
            # A bin of few pictures says little, and is small.
            axes.scatter(
                confidence,
                accuracy,
                8 + 90 * pictures / pictures.max(),
                color=colour,
                alpha=0.8,
                zorder=3,
                clip_on=False,
            )
            axes.plot(confidence, accuracy, color=colour, linewidth=1, label=name)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    _dress(axes, "Reliability", "mean confidence in the bin", "share right")
    axes.legend(frameon=False, loc="upper left")
    return figure


def _ink(share: float) -> str:
    return "white" if share**0.5 > 0.55 else "#333333"


def _dress(axes: Axes, title: str, x: str, y: str, grid: bool = True) -> None:
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    if grid:
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
